"""Validation of parameters: driver settings and the arguments of protocols.

A frozen dataclass or a function's keyword-only parameters say what there is; a TOML table or the
strings of a command line say what was written.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from operando.instruments.errors import BadInputError

T = TypeVar("T")

Where = str | Callable[[str], str]
"""Place of a key for messages: a text put before the key, or a function of the key."""


def unknown_key(key: str, known: Mapping[str, object] | list[str]) -> str:
    """Message for a key that does not exist, with the nearest that does."""
    near = difflib.get_close_matches(key, list(known), n=1)
    if near:
        return f'unknown key; did you mean "{near[0]}"?'
    return f"unknown key; there are {', '.join(sorted(known)) or 'none here'}"


@overload
def parameters_from(  # type: ignore[overload-overlap]  # a class is a callable too
    target: type[T], table: Mapping[str, object], where: Where
) -> T: ...
@overload
def parameters_from(
    target: Callable[..., object] | inspect.Signature, table: Mapping[str, object], where: Where
) -> dict[str, Any]: ...
def parameters_from(
    target: type[T] | Callable[..., object] | inspect.Signature,
    table: Mapping[str, object],
    where: Where,
) -> T | dict[str, Any]:
    """Validate a table against a dataclass (returns an instance) or a function's keyword-only
    parameters (returns them all by name, defaults filled in and validated too).

    where: "recipe.toml line 3: [parameters]" or a function of the key that returns the whole
    place. Raises BadInputError naming place, key and remedy for unknown, missing and wrong ones.
    """
    fields = _fields(target)
    names = list(fields)
    wrong = [
        f"{_place(where, key)}: {unknown_key(key, names)}" for key in table if key not in names
    ]
    if not wrong:
        model = _model(target, fields)
        try:
            valid = model.model_validate(dict(table))
        except ValidationError as error:
            for item in error.errors(include_url=False, include_context=False):
                key = _key(item["loc"])
                pair = key in fields and _is_pair(fields[key][0])
                line = f"{_place(where, key)}: {_message(dict(item), pair)}"
                if line not in wrong:
                    wrong.append(line)
        else:
            values = {name: getattr(valid, _attribute(name)) for name in names}
            if not inspect.isclass(target):
                return values
            try:
                return cast(T, target(**values))
            except ValueError as error:
                raise BadInputError(f"{_place(where, '')}: {error}") from None
    raise BadInputError("\n".join(wrong))


def parameters_model(target: type | Callable[..., object] | inspect.Signature) -> type[BaseModel]:
    """The pydantic model of a dataclass or of a function's keyword-only parameters."""
    return _model(target, _fields(target))


def parameters_schema(
    target: type | Callable[..., object] | inspect.Signature,
) -> dict[str, Any]:
    """JSON schema for forms: each quantity has "unit", descriptions come from the docstring."""
    return parameters_model(target).model_json_schema()


def _model(target: object, fields: Mapping[str, tuple[Any, FieldInfo]]) -> type[BaseModel]:
    definitions: dict[str, Any] = {_attribute(name): field for name, field in fields.items()}
    title = getattr(target, "__name__", "parameters")
    return create_model(
        title,
        __config__=ConfigDict(
            extra="forbid", validate_default=True, arbitrary_types_allowed=True, title=title
        ),
        **definitions,
    )


def _attribute(name: str) -> str:
    # Prefixed: "copy" or "schema" would shadow an attribute of pydantic's own.
    return f"p_{name}"


def _fields(target: object) -> dict[str, tuple[Any, FieldInfo]]:
    """Annotation and pydantic field by parameter name."""
    if isinstance(target, inspect.Signature):
        return _of_signature(target, {}, "")
    if inspect.isclass(target):
        if not dataclasses.is_dataclass(target):
            raise TypeError(f"{target.__name__} is not a dataclass")
        hints = get_type_hints(target, include_extras=True)
        texts = descriptions(target.__doc__ or "", hints)
        fields: dict[str, tuple[Any, FieldInfo]] = {}
        for field in dataclasses.fields(target):
            if not field.init:
                continue
            if field.default_factory is not dataclasses.MISSING:
                info = _info(field.name, texts, default_factory=field.default_factory)
            elif field.default is not dataclasses.MISSING:
                info = _info(field.name, texts, default=field.default)
            else:
                info = _info(field.name, texts)
            fields[field.name] = (hints[field.name], info)
        return fields
    function = inspect.unwrap(cast(Callable[..., object], target))
    hints = get_type_hints(function, include_extras=True)
    return _of_signature(inspect.signature(function), hints, function.__doc__ or "")


def _of_signature(
    signature: inspect.Signature, hints: Mapping[str, Any], doc: str
) -> dict[str, tuple[Any, FieldInfo]]:
    texts = descriptions(doc, signature.parameters)
    fields: dict[str, tuple[Any, FieldInfo]] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        annotation = hints.get(name, parameter.annotation)
        if annotation is inspect.Parameter.empty or isinstance(annotation, str):
            raise TypeError(f"parameter {name} needs an annotation that can be read at run time")
        if parameter.default is inspect.Parameter.empty:
            fields[name] = (annotation, _info(name, texts))
        else:
            fields[name] = (annotation, _info(name, texts, default=parameter.default))
    return fields


def _info(name: str, texts: Mapping[str, str], **default: Any) -> FieldInfo:
    made = Field(alias=name, title=name.replace("_", " "), description=texts.get(name), **default)
    return cast(FieldInfo, made)


def descriptions(doc: str, names: Iterable[str]) -> dict[str, str]:
    """What a docstring says of each name: "name: text" or "name, name: text", up to the next.

    A name begins a line or a sentence ("m2. unit: of the display"); the last ends at a blank line.
    """
    name = "|".join(map(re.escape, names))
    if not name:
        return {}
    begins = rf"(?:^\s*|(?<=[.)] ))((?:{name})(?:, (?:{name}))*):\s"
    parts = re.split(begins, inspect.cleandoc(doc), flags=re.MULTILINE)
    return {
        one: " ".join(said.partition("\n\n")[0].split())
        for listed, said in zip(parts[1::2], parts[2::2], strict=True)
        for one in listed.split(", ")
    }


def _key(location: tuple[int | str, ...]) -> str:
    return str(location[0]) if location else ""


def _place(where: Where, key: str) -> str:
    return where(key) if callable(where) else f"{where} {key}".strip()


def _is_pair(annotation: Any) -> bool:
    """Whether a parameter is two values: `Voltages`, or `tuple[Volts, Volts]`."""
    inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return get_origin(inner) is tuple and len(get_args(inner)) == 2 and ... not in get_args(inner)


_OF_KIND = (
    ("int", "is not a whole number", "a whole number"),
    ("float", "is not a number", "a number"),
)
_PAIR_ERRORS = ("missing", "too_short", "too_long", "tuple_type")


def _message(error: dict[str, Any], pair: bool) -> str:
    """What is wrong with a value, in words. pair: the parameter is a lower and an upper value."""
    kind, written = str(error["type"]), error["input"]
    if pair and kind in _PAIR_ERRORS and (len(error["loc"]) > 1 or kind != "missing"):
        return 'write two values, such as "2.5 V, 4.25 V"'
    if kind == "missing":
        return "is missing and has no default"
    names = ("lower", "upper") if pair else ()
    parts = [
        part if isinstance(part, str) else names[part] if pair else f"value {part + 1}"
        for part in error["loc"][1:]
    ]
    found = f'"{written}"' if isinstance(written, str) else repr(written)
    text = str(error["msg"])
    text = text[:1].lower() + text[1:]
    for start, wrong, wanted in _OF_KIND:
        if kind.startswith(start + "_"):
            text = f"{found} {wrong}" if written != "" else f"is empty; write {wanted}"
            break
    else:
        if kind.startswith("bool_"):
            text = "must be true or false"
        elif kind.startswith("string_"):
            text = "must be a text in quotes"
        if kind not in ("quantity", "window"):
            text = f"{text.replace('input should be', 'must be')}, found {found}"
    return ": ".join([*map(str, parts), text])
