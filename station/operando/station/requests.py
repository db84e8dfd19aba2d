"""What a client asks to run: checked field by field, all that is wrong at once.

Pure arithmetic on what was written; no instrument is touched. May be called in any thread.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_type_hints

import tomli_w

from operando.instruments.bench import Bench, CellEntry
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.limits import parse_limits
from operando.instruments.parameters import parameters_from, parameters_schema, unknown_key
from operando.instruments.quantities import Quantity
from operando.instruments.recipe import parse_recipe
from operando.instruments.toml_text import TomlDocument
from operando.instruments.words import quantity_words
from operando.protocols import ProtocolFunction, contradictions
from operando.station.assembly import protocol_function, protocol_functions
from operando.station.client.models import CheckReport, Problem, ProtocolInfo, RunRequest, SheetRow
from operando.station.orders import Order, Settled, cell_of, order_from, resolve
from operando.station.preflight import calibration
from operando.station.sheets import limit_info, limit_lines, plan_rows, unsupported_steps

_KEYS = [
    "protocol", "title", "notes", "twin", "parameters", "limits", "record", "poll", "preflight",
]  # fmt: skip
_TABLES = ("parameters", "limits", "record", "poll", "preflight")
_LONGEST = 64_000
"""Letters of a recipe that is looked at."""
_MOST_PARTS = 32
"""Parts of a dotted key: reading one takes time and memory with the square of them."""
_MOST_PROBLEMS = 8
"""Wrong keys of one limit that are told."""


@dataclass(frozen=True)
class Checked:
    """A request after the check. order, settled: None while there is something wrong."""

    report: CheckReport
    order: Order | None = None
    settled: Settled | None = None


def protocol_infos(scripts: Path | None) -> list[ProtocolInfo]:
    """The protocols that are installed, then those of the bench's folder of scripts."""
    functions, wrong = protocol_functions(scripts)
    return [
        ProtocolInfo(
            name=name,
            summary=function.summary,
            source=function.source,
            parameters=parameters_schema(function.function),
        )
        for name, function in functions.items()
    ] + [
        ProtocolInfo(name=name, summary=f"CANNOT BE USED: {why}", source="", parameters={})
        for name, why in wrong.items()
    ]


def check_request(bench: Bench, channel: str, request: RunRequest) -> Checked:
    """Check a request for a channel. Never raises for what is wrong with the request."""
    try:
        text, table, document = _written(request)
    except BadInputError as error:
        return _refused([Problem(where="", message=str(error))], request.recipe)
    problems = list(_shape(table))
    near = Path(request.recipe_name).parent if Path(request.recipe_name).is_absolute() else None
    function = _protocol(table, problems, near, bench.scripts)
    derived: dict[str, str] = {}
    cell: CellEntry | None = None
    try:
        cell = cell_of(bench, channel).entry
    except BadInputError as error:
        problems.append(Problem(where="", message=str(error)))
    if function is not None:
        parameters = _table(table, "parameters")
        problems += _wrong_parameters(function, parameters)
        if cell is not None:
            derived = _derived(function, parameters, cell)
    problems += _wrong_limits(_table(table, "limits"))
    problems += _wrong_settings(table)
    if document is not None:
        problems = [_with_line(problem, document) for problem in problems]
    if problems:
        return _refused(problems, text, derived)
    return _resolved(bench, channel, text, request.recipe_name, derived)


def _refused(
    problems: list[Problem], recipe: str, derived: Mapping[str, str] | None = None
) -> Checked:
    return Checked(
        CheckReport(ok=False, problems=tuple(problems), derived=derived or {}, recipe=recipe)
    )


def _resolved(
    bench: Bench,
    channel: str,
    text: str,
    name: str,
    derived: Mapping[str, str],
) -> Checked:
    """The check of a request whose every field is well formed."""
    settled: Settled | None = None
    try:
        order = order_from(parse_recipe(text, Path(name)), bench.scripts)
        settled, problems = resolve(bench, channel, order)
        if settled is not None:
            problems += unsupported_steps(settled, bench, Clock())
        lines = () if settled is None or problems else limit_lines(settled, bench, Clock())
    except BadInputError as error:
        return _refused([Problem(where="", message=str(error))], text, derived)
    except Exception as error:  # a bug of the protocol, which may be somebody else's
        message = f"the protocol cannot be looked at: {type(error).__name__}: {error}"
        return _refused([Problem(where="", message=message)], text, derived)
    if settled is None or problems:
        return _refused(problems, text, derived)
    ahead = settled.preview
    warnings = [
        f"this run will be ended by a limit: {warning}"
        for warning in contradictions(settled.limits, settled.settings.protection)
    ]
    warnings += settled.warnings
    expired = calibration(settled, bench, Clock())
    if expired.refuses:
        warnings.append(f"this run will be refused: {expired.problem}")
    warnings += (
        f"a problem of the check '{name}' is let pass before the first step: {reason}"
        for name, reason in order.preflight.override.items()
    )
    if not ahead.complete:
        warnings.append(f"only the first {len(ahead.steps)} steps could be looked at")
    report = CheckReport(
        ok=True,
        derived=derived,
        plan=plan_rows(ahead.steps),
        steps=len(ahead.steps),
        complete=ahead.complete,
        duration=ahead.duration if ahead.complete else None,
        sheet=tuple(SheetRow(**asdict(line)) for line in lines),
        limits=tuple(
            limit_info(limit.name, limit.when, limit.action.value) for limit in settled.limits
        ),
        warnings=tuple(warnings),
        recipe=text,
    )
    return Checked(report, order, settled)


# ---- what was written ----------------------------------------------------------------------


def _written(request: RunRequest) -> tuple[str, Mapping[str, object], TomlDocument | None]:
    """Text of the recipe, its table, and the document if the text came from the client."""
    fields = {key: value for key in _KEYS if (value := _plain(getattr(request, key)))}
    if not request.recipe:
        try:
            return tomli_w.dumps(fields), fields, None
        except (TypeError, ValueError) as error:
            raise BadInputError(f"this cannot be written as a recipe: {error}") from None
    if fields:
        raise BadInputError(
            "there is the text of a recipe, and beside it " + ", ".join(fields) + ": send one of "
            "them"
        )
    if len(request.recipe) > _LONGEST:
        raise BadInputError(
            f"the recipe has {len(request.recipe)} letters; at most {_LONGEST} are read"
        )
    if any(part.count(".") > _MOST_PARTS for part in re.split(r"[=,{}\[\]\n]", request.recipe)):
        raise BadInputError(f"the recipe has a key of more than {_MOST_PARTS} dotted parts")
    document = TomlDocument(request.recipe, Path(request.recipe_name))
    return request.recipe, document.table, document


def _plain(value: object) -> Any:
    """Without nulls, which TOML does not have: a field that was left empty."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value if part is not None]
    return value


def _table(table: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = table.get(key, {})
    return found if isinstance(found, Mapping) else {}


def _with_line(problem: Problem, document: TomlDocument) -> Problem:
    """The problem with the line of a text that the client wrote."""
    place = document.where(*_split(problem.where))
    return problem.model_copy(update={"message": f"{place}: {problem.message}"})


def _split(where: str) -> tuple[str, ...]:
    return tuple(where.split(".")) if where else ()


# ---- field by field ------------------------------------------------------------------------


def _shape(table: Mapping[str, object]) -> Iterator[Problem]:
    for key, value in table.items():
        if key not in _KEYS:
            yield Problem(where=key, message=unknown_key(key, _KEYS))
        elif key in _TABLES and not isinstance(value, Mapping):
            yield Problem(where=key, message=f"must be a table, found {value!r}")
        elif key not in _TABLES and not isinstance(value, str):
            yield Problem(where=key, message=f"must be a text in quotes, found {value!r}")


def _protocol(
    table: Mapping[str, object], problems: list[Problem], near: Path | None, scripts: Path | None
) -> ProtocolFunction | None:
    name = table.get("protocol")
    if not name:
        problems.append(Problem(where="protocol", message='is missing; write protocol = "cccv"'))
    if not name or not isinstance(name, str):
        return None
    try:
        return protocol_function(name, near=near, scripts=scripts)
    except BadInputError as error:
        problems.append(Problem(where="protocol", message=str(error)))
        return None


_START, _END = "\x1e", "\x1f"
"""Put around a key, so that it can be found again in the message of a refusal."""
_MARKED = re.compile(f"{_START}([^{_END}]*){_END}: ?([^{_START}]*)")


def _marked(key: str) -> str:
    return f"{_START}{key}{_END}"


def _told(prefix: str, check: Callable[[], object]) -> list[Problem]:
    """The problems that a check raises with marked keys, by field."""
    try:
        check()
    except BadInputError as error:
        problems: list[Problem] = []
        outer = ""
        for key, message in _MARKED.findall(str(error)):
            if not message.strip():  # a place within a place: the outer one is nearer
                outer = outer or key
                continue
            where = f"{prefix}.{outer or key}" if outer or key else prefix
            problems.append(Problem(where=where, message=message.strip()))
            outer = ""
        return problems or [Problem(where=prefix, message=str(error))]
    return []


def _wrong_parameters(
    function: ProtocolFunction, parameters: Mapping[str, object]
) -> list[Problem]:
    known = list(_known_parameters(function.function))
    # Unknown keys would hide what is wrong with the others, so they are taken out first.
    problems = [
        Problem(where=f"parameters.{key}", message=unknown_key(key, known))
        for key in parameters
        if key not in known
    ]
    good = {key: value for key, value in parameters.items() if key in known}
    return problems + _told("parameters", lambda: parameters_from(function.function, good, _marked))


def _wrong_limits(limits: Mapping[str, object]) -> list[Problem]:
    problems: list[Problem] = []
    for name, entry in limits.items():
        tried = entry
        for _ in range(_MOST_PROBLEMS):
            found = _told("limits", lambda n=name, t=tried: parse_limits({n: t}, _marked))  # type: ignore[misc]
            problems += found
            key = found[0].where.removeprefix(f"limits.{name}.") if found else ""
            if not isinstance(tried, Mapping) or key not in tried:
                break
            # Mend what was told, to find what is wrong beside it.
            harmless = {"when": "time > 1 s", "action": "warn"}
            tried = {k: v for k, v in tried.items() if k != key}
            tried |= {key: harmless[key]} if key in harmless else {}
    return problems


def _wrong_settings(table: Mapping[str, object]) -> list[Problem]:
    """What is wrong in [record], [poll] and [preflight], one key at a time."""
    problems: list[Problem] = []
    for section in ("record", "poll", "preflight"):
        written = _table(table, section)
        found: list[Problem] = []
        for path, part in _leaves(written):
            found += _in_section(section, path, part)
        if not found and written:
            found = _in_section(section, (), dict(written))
        problems += found
    return problems


def _leaves(table: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], dict[str, object]]]:
    """Each value of a table alone: where it stands, and a table of it alone."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            for name, part in value.items():
                yield (key, str(name)), {key: {name: part}}
        else:
            yield (key,), {key: value}


def _in_section(section: str, path: tuple[str, ...], part: dict[str, object]) -> list[Problem]:
    try:
        text = tomli_w.dumps({"protocol": "-", section: part})
        parse_recipe(text, Path("request"))
    except BadInputError as error:
        # "request line 4: [record] every: must ..." without its place, which is made up.
        message = re.sub(r"^request(?: line \d+)?: (?:\[[^\]]*\] )?", "", str(error))
        key = path[-1] if path else re.split(r"[:\s]", message, maxsplit=1)[0]
        where = ".".join((section, *(path or ((key,) if key in part else ()))))
        return [Problem(where=where, message=message.removeprefix(f"{key}: "))]
    return []


# ---- what it means for this cell -----------------------------------------------------------


def _derived(
    function: ProtocolFunction, parameters: Mapping[str, object], cell: CellEntry
) -> dict[str, str]:
    """Currents and charges of this cell for what was written as a rate or a specific value."""
    factors = {
        "C": (cell.capacity, "A"),
        "A/m2": (cell.area, "A"),
        "A/kg": (cell.active_mass, "A"),
        "As/m2": (cell.area, "As"),
        "As/kg": (cell.active_mass, "As"),
    }
    derived: dict[str, str] = {}
    for name, (quantity, default) in _quantities(function.function).items():
        size, unit = factors.get(quantity.unit, (0.0, ""))
        if not size:
            continue
        with contextlib.suppress(BadInputError):  # told as a problem of its field
            value = quantity.parse(parameters.get(name, default))
            derived[f"parameters.{name}"] = quantity_words(value * size, unit)
    return derived


@lru_cache(maxsize=64)
def _quantities(function: Callable[..., object]) -> dict[str, tuple[Quantity, object]]:
    """Parameters of a protocol that are one quantity each, with their defaults."""
    hints = get_type_hints(function, include_extras=True)
    return {
        name: (quantity, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        for quantity in getattr(hints.get(name), "__metadata__", ())
        if isinstance(quantity, Quantity)
    }


@lru_cache(maxsize=64)
def _known_parameters(function: Callable[..., object]) -> tuple[str, ...]:
    return tuple(parameters_schema(function)["properties"])
