"""What was typed for one protocol: its values and limits, and the same from a recipe file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from operando.gui.models.fields import SETTINGS, Field, Kind, Value, fields_of
from operando.instruments.errors import BadInputError
from operando.instruments.parameters import unknown_key
from operando.instruments.recipe import Recipe
from operando.station.client import ProtocolInfo


@dataclass(slots=True)
class LimitRow:
    """A limit as typed. key: its identity in the form, whatever its name.

    own: asked for by the operator; False for one that the station adds by itself. grace,
    stale_after: "" takes the station's.
    """

    key: int
    name: str = ""
    when: str = ""
    action: str = "trip"
    grace: str = ""
    stale_after: str = ""
    own: bool = True

    @property
    def blank(self) -> bool:
        """Nothing was typed: it is left out of the run."""
        return not (self.name.strip() or self.when.strip())

    def table(self) -> dict[str, object]:
        """As in a recipe."""
        optional = {"grace": self.grace, "stale_after": self.stale_after}
        written = {name: text for name, text in optional.items() if text.strip()}
        return {"when": self.when, "action": self.action, **written}


@dataclass(slots=True)
class Draft:
    """What was typed for one protocol. values: by key, only what differs from the default.

    raw: numbers without a unit as a recipe file wrote them, until their text is edited: the
    station judges them like the file. carried: keys of a recipe that have no field here.
    origin: where they come from, "as last started on A2". edited: they were changed since.
    """

    values: dict[str, Value] = field(default_factory=dict)
    raw: dict[str, object] = field(default_factory=dict)
    limits: list[LimitRow] = field(default_factory=list)
    carried: dict[str, object] = field(default_factory=dict)
    origin: str = ""
    edited: bool = False

    @property
    def empty(self) -> bool:
        """Nothing differs from the defaults."""
        return not (self.values or self.carried or any(not row.blank for row in self.limits))


def draft_of(
    recipe: Recipe, table: Mapping[str, object], info: ProtocolInfo, numbers: Iterable[int]
) -> Draft:
    """The texts of a recipe. table: its parsed TOML. numbers: keys for its limits.

    Raises BadInputError naming the line of what has no field or does not fit it.
    """
    draft = Draft()
    fields = {one.name: one for one in fields_of(info.parameters)}
    for name, written in recipe.parameters.items():
        if name not in fields:
            raise BadInputError(f"{recipe.where(name)}: {unknown_key(name, fields)}")
        one = fields[name]
        try:
            value = one.from_recipe(written)
        except ValueError as error:
            raise BadInputError(f"{recipe.where(name)}: {error}") from None
        if value != one.default:
            draft.values[one.key] = value
        if one.to_request(value) != written:
            draft.values[one.key] = value
            draft.raw[one.key] = written
    for key, written in _flat(table, ("poll", "record", "preflight")):
        setting = next((one for one in SETTINGS if one.key == key), None)
        if setting is None:
            draft.carried[key] = written
            continue
        draft.values[key] = setting.from_recipe(written, units=True)
    for one in SETTINGS:
        # What a recipe leaves out means the station's default, which is not the form's.
        if one.key not in draft.values and one.kind is not Kind.BOOLEAN:
            draft.values[one.key] = ("", "") if one.kind is Kind.WINDOW else ""
    draft.values |= {"title": recipe.title, "notes": recipe.notes}
    draft.values = {
        key: value
        for key, value in draft.values.items()
        if key in draft.raw or value != _default(key, fields)
    }
    limits = table.get("limits", {})
    assert isinstance(limits, Mapping)
    draft.limits = [
        replace(_limit_row(name, entry), key=next(iter(numbers))) for name, entry in limits.items()
    ]
    return draft


def _default(key: str, fields: Mapping[str, Field]) -> Value:
    every = {one.key: one for one in (*fields.values(), *SETTINGS)}
    return every[key].default


def _limit_row(name: str, entry: Mapping[str, object]) -> LimitRow:
    def seconds(part: str) -> str:
        written = entry.get(part, "")
        return written if isinstance(written, str) else f"{written} s"

    return LimitRow(
        0, name, str(entry["when"]), str(entry["action"]), seconds("grace"), seconds("stale_after")
    )


def _flat(table: Mapping[str, object], names: Iterable[str]) -> Iterable[tuple[str, object]]:
    """Dotted keys and values of some tables; `record.on_change` is opened, other tables are not."""
    for name in names:
        inner = table.get(name, {})
        assert isinstance(inner, Mapping)
        for key, value in inner.items():
            if isinstance(value, Mapping) and key == "on_change":
                yield from ((f"{name}.{key}.{one}", change) for one, change in value.items())
            else:
                yield f"{name}.{key}", value
