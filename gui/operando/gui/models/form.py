"""The form that starts a run: what is typed, what the station says of it, whether it may start.

Every text is kept as it was typed; the station alone judges it. Keys of fields are those of
`Problem.where`: "parameters.charge_rate", "poll.interval", "limits.NAME.when".
"""

from __future__ import annotations

import enum
import itertools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from operando.gui.models.fields import SETTINGS, Field, Kind, Value, fields_of
from operando.instruments.errors import BadInputError
from operando.instruments.parameters import unknown_key
from operando.instruments.recipe import Recipe, parse_recipe
from operando.station.client import CheckReport, LimitInfo, Problem, ProtocolInfo, RunRequest

ACTIONS = ("warn", "hold", "trip")
"""What a limit can do, the mildest first."""

DEFAULT_MARK = " (default)"
"""Ends the name of a limit that the station adds by itself."""

_LIMIT_PARTS = ("name", "when", "action", "grace", "stale_after")


class FormState(enum.Enum):
    """Where the form is on its way to a run."""

    EDITING = "editing"
    """Texts that the station has not been asked about."""
    CHECKING = "checking"
    """The station was asked and has not answered."""
    REFUSED = "refused"
    """The station has found problems."""
    READY = "ready"
    """The station would start exactly these texts."""
    STARTING = "starting"
    """The start was asked for and is not answered."""
    STARTED = "started"
    FAILED = "failed"
    """The start was refused; `refusal` says why. The texts are as they were."""


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
    """

    values: dict[str, Value] = field(default_factory=dict)
    raw: dict[str, object] = field(default_factory=dict)
    limits: list[LimitRow] = field(default_factory=list)
    carried: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """A question to the station. revision: of the texts that it is about."""

    revision: int
    channel: str
    request: RunRequest


class StartForm:
    """The form of one channel at a time; remembers a draft for each protocol."""

    def __init__(self, protocols: Iterable[ProtocolInfo] = ()) -> None:
        self.channel = ""
        self.revision = 0
        self.state = FormState.EDITING
        self.refusal = ""
        self.trouble = ""
        self._numbers = itertools.count(1)
        self._protocols: dict[str, ProtocolInfo] = {}
        self._fields: dict[str, Field] = {}
        self._drafts: dict[str, Draft] = {}
        self._defaults: dict[str, LimitRow] = {}
        self._protocol = ""
        self._report: CheckReport | None = None
        self._answered = -1
        self._inexpressible = False
        self._checked: dict[str, Value] = {}
        self._problems: dict[str, list[str]] = {}
        self._limit_problems: dict[int, dict[str, list[str]]] = {}
        self.set_protocols(protocols)

    # What there is to choose

    @property
    def protocols(self) -> tuple[ProtocolInfo, ...]:
        """Those of the station."""
        return tuple(self._protocols.values())

    def set_protocols(self, protocols: Iterable[ProtocolInfo]) -> None:
        """Take the station's protocols. The chosen one stays when it is still there."""
        self._protocols = {info.name: info for info in protocols}
        if self._protocol not in self._protocols:
            self._protocol = next(iter(self._protocols), "")
        self._enter()

    @property
    def protocol(self) -> str:
        """Name of the chosen protocol, "" while there is none."""
        return self._protocol

    @property
    def info(self) -> ProtocolInfo | None:
        """The chosen protocol."""
        return self._protocols.get(self._protocol)

    def choose(self, protocol: str) -> None:
        """Choose a protocol by name; its last texts are taken up again."""
        if protocol in self._protocols and protocol != self._protocol:
            self._protocol = protocol
            self._enter()

    def set_channel(self, channel: str) -> None:
        """Choose a channel. What was derived for another cell is forgotten."""
        if channel != self.channel:
            self.channel = channel
            self._defaults = {}
            self._forget_report()

    def reopen(self) -> None:
        """Begin anew with the texts of the last time."""
        if self.state is FormState.STARTED:
            self.state = FormState.EDITING
        self._forget_report()

    # Fields

    @property
    def fields(self) -> tuple[Field, ...]:
        """The parameters of the chosen protocol."""
        return tuple(one for key, one in self._fields.items() if key.startswith("parameters."))

    @property
    def settings(self) -> tuple[Field, ...]:
        """What every run has: polling, recording, the check of the open circuit, title, notes."""
        return SETTINGS

    def value(self, key: str) -> Value:
        """What stands in a field."""
        return self._draft.values.get(key, self._fields[key].default)

    def set(self, key: str, value: Value) -> bool:
        """Take what was typed; whether it differs from before."""
        if value == self.value(key):
            return False
        draft = self._draft
        draft.raw.pop(key, None)
        if value == self._fields[key].default:
            draft.values.pop(key, None)
        else:
            draft.values[key] = value
        self._edited()
        return True

    def changed(self, key: str) -> bool:
        """Whether a field differs from its default."""
        return key in self._draft.values

    @property
    def any_changed(self) -> bool:
        """Whether anything differs from the defaults of the protocol and of the form."""
        draft = self._draft
        return bool(draft.values or draft.carried or draft.limits)

    def reset(self) -> None:
        """Back to the defaults; own limits go too."""
        self._drafts[self._protocol] = Draft()
        self._edited()

    @property
    def carried(self) -> Mapping[str, object]:
        """What a loaded recipe says that has no field here; part of the request."""
        return dict(self._draft.carried)

    # Limits

    @property
    def limits(self) -> tuple[LimitRow, ...]:
        """Own limits first, then those that the station adds for what they leave unguarded."""
        return (*self._draft.limits, *self._defaults.values())

    def add_limit(self) -> LimitRow:
        """A new, blank limit; it counts as soon as something is typed into it."""
        row = LimitRow(next(self._numbers))
        self._draft.limits.append(row)
        self._edited()
        return row

    def edit_limit(self, key: int, **texts: str) -> None:
        """Change name, when, action, grace or stale_after. A default limit becomes an own one."""
        row = self._row(key)
        for part in texts:
            if part not in _LIMIT_PARTS:
                raise ValueError(f"a limit has {', '.join(_LIMIT_PARTS)}, not {part}")
        if all(getattr(row, part) == text for part, text in texts.items()):
            return
        if not row.own:
            self._defaults = {
                name: other for name, other in self._defaults.items() if other.key != key
            }
            row.own = True
            self._draft.limits.append(row)
        for part, text in texts.items():
            setattr(row, part, text)
        self._edited()

    def remove_limit(self, key: int) -> None:
        """Take an own limit out; the station adds a default for what it leaves unguarded."""
        draft = self._draft
        kept = [row for row in draft.limits if row.key != key]
        if len(kept) < len(draft.limits):
            draft.limits[:] = kept
            self._edited()

    def limit_problems(self, key: int) -> Mapping[str, str]:
        """What is wrong with a limit, by its part ("when", ...); "" for the whole."""
        found = self._limit_problems.get(key, {})
        return {part: "\n".join(messages) for part, messages in found.items()}

    # What the station says

    @property
    def report(self) -> CheckReport | None:
        """The last answer, if it came; `current` says whether it is about the present texts."""
        return self._report

    @property
    def outcome(self) -> CheckReport | None:
        """The report, if it says that the run would start."""
        report = self._report
        return report if report is not None and report.ok and not self._inexpressible else None

    @property
    def current(self) -> bool:
        """Whether the report is about the present texts."""
        return self._report is not None and self._answered == self.revision

    @property
    def can_start(self) -> bool:
        """The station would start exactly what stands here."""
        ready = self.state in (FormState.READY, FormState.FAILED)
        return ready and self.current and self.outcome is not None

    def problem(self, key: str) -> str:
        """What is wrong with a field in the station's words, ""."""
        return "\n".join(self._problems.get(key, ()))

    @property
    def general(self) -> tuple[str, ...]:
        """Problems of the whole."""
        return tuple(self._problems.get("", ()))

    def places(self) -> tuple[str, ...]:
        """Titles of the fields and limits that have problems."""
        names = [one.title for key, one in self._fields.items() if self._problems.get(key)]
        rows = [row for row in self.limits if self._limit_problems.get(row.key)]
        return (*names, *(row.name.strip() or "a limit" for row in rows))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be read before the start."""
        return self._report.warnings if self._report is not None else ()

    def derived(self, key: str) -> str:
        """What a field means for this cell ("1.569 mA"); "" while that is not known."""
        if self._report is None or self._checked.get(key) != self.value(key):
            return ""
        return self._report.derived.get(key, "")

    def begin_check(self) -> Check | None:
        """The question to ask now; None while there is nothing to ask about."""
        if not self._protocol or not self.channel:
            return None
        if self.state in (FormState.STARTING, FormState.STARTED):
            return None
        self.state = FormState.CHECKING
        return Check(self.revision, self.channel, self.request())

    def take_report(self, check: Check, report: CheckReport) -> bool:
        """Take an answer. One to an older text is dropped; False then."""
        if check.revision != self.revision or self.state is not FormState.CHECKING:
            return False
        self._report = report
        self._answered = check.revision
        self._checked = {key: self.value(key) for key in self._fields}
        self.trouble = ""
        self._take_defaults(report)
        self._sort(report.problems)
        self._inexpressible = self._local_problems()
        self.state = FormState.REFUSED if self.outcome is None else FormState.READY
        return True

    def check_failed(self, check: Check, message: str) -> bool:
        """The station did not answer: nothing is known of these texts. False when dropped."""
        if check.revision != self.revision or self.state is not FormState.CHECKING:
            return False
        self.trouble = message
        self.state = FormState.EDITING
        return True

    def begin_start(self) -> Check:
        """The start to ask for. Raises BadInputError when the form is not ready."""
        if not self.can_start:
            raise BadInputError("these texts were not found good by the station; mend them first")
        self.state = FormState.STARTING
        self.refusal = ""
        return Check(self.revision, self.channel, self.request())

    def start_done(self) -> None:
        """The run was started."""
        self.state = FormState.STARTED

    def start_refused(self, message: str, problems: Iterable[Problem] = ()) -> None:
        """The start was refused. Everything typed stays; it may be tried again.

        With problems the last report is no longer believed: ask for another.
        """
        self.state = FormState.FAILED
        self.refusal = message
        found = tuple(problems)
        if found:
            self._answered = -1
            self._sort(one for one in found if one.where or one.message not in message)

    def request(self) -> RunRequest:
        """What stands here, every parameter written out."""
        top: dict[str, dict[str, object]] = {"poll": {}, "record": {}, "preflight": {}}
        for one in SETTINGS:
            value = self.value(one.key)
            if one.left_out(value):
                continue
            _put(top, one.key, one.to_request(value))
        for key, carried in self._draft.carried.items():
            _put(top, key, carried)
        names: dict[str, Mapping[str, object]] = {}
        for row in self._draft.limits:
            if not row.blank:
                names.setdefault(row.name.strip(), row.table())
        return RunRequest(
            protocol=self._protocol,
            title=str(self.value("title")),
            notes=str(self.value("notes")),
            parameters={
                one.name: self._draft.raw.get(one.key, one.to_request(self.value(one.key)))
                for one in self.fields
            },
            limits=names,
            record=top["record"],
            poll=top["poll"],
            preflight=top["preflight"],
        )

    # Recipes

    def load_recipe(self, source: str, path: Path) -> None:
        """Fill the form from the text of a recipe. path: what messages call it.

        Raises BadInputError naming file and line; nothing is changed then.
        """
        recipe = parse_recipe(source, path)
        info = self._protocols.get(recipe.protocol)
        if info is None:
            line = recipe.lines.get(("protocol",))
            there = ", ".join(self._protocols) or "none"
            raise BadInputError(
                f"{path.name} line {line}: this station has no protocol "
                f'"{recipe.protocol}"; it has: {there}'
            )
        draft = _draft_of(recipe, tomllib.loads(source), info, self._numbers)
        self._drafts[recipe.protocol] = draft
        self._protocol = recipe.protocol
        self._enter()

    # ---- below -----------------------------------------------------------------------------

    @property
    def _draft(self) -> Draft:
        return self._drafts.setdefault(self._protocol, Draft())

    def _enter(self) -> None:
        info = self.info
        own = fields_of(info.parameters) if info is not None else ()
        self._fields = {one.key: one for one in (*own, *SETTINGS)}
        draft = self._draft
        draft.values = {key: value for key, value in draft.values.items() if key in self._fields}
        self._defaults = {}
        self._forget_report()

    def _edited(self) -> None:
        self.revision += 1
        # A start that is not answered stays one, whatever happens to the texts meanwhile.
        if self.state is not FormState.STARTING:
            self.state = FormState.EDITING
        self.refusal = ""

    def _forget_report(self) -> None:
        self._edited()
        self.trouble = ""
        self._report = None
        self._inexpressible = False
        self._problems = {}
        self._limit_problems = {}

    def _row(self, key: int) -> LimitRow:
        return next(row for row in self.limits if row.key == key)

    def _take_defaults(self, report: CheckReport) -> None:
        # A refused request may not have come as far as its limits: then nothing new is known.
        if not report.limits and not report.ok:
            return
        added = [limit for limit in report.limits if limit.name.endswith(DEFAULT_MARK)]
        self._defaults = {limit.name: self._default_row(limit) for limit in added}

    def _default_row(self, limit: LimitInfo) -> LimitRow:
        name = limit.name.removesuffix(DEFAULT_MARK)
        before = self._defaults.get(limit.name)
        key = before.key if before is not None else next(self._numbers)
        return LimitRow(key, name, limit.when, limit.action, own=False)

    def _local_problems(self) -> bool:
        """Find what no request can express: limits without a name or with the same one."""
        seen: set[str] = set()
        wrong = False
        for row in self._draft.limits:
            name = row.name.strip()
            if row.blank:
                continue
            message = ""
            if not name:
                message = "give the limit a name, such as over_pressure"
            elif name in seen:
                message = f"another limit is called {name} already; give this one its own name"
            seen.add(name)
            if message:
                self._limit_problems.setdefault(row.key, {})["name"] = [message]
                wrong = True
        return wrong

    def _sort(self, problems: Iterable[Problem]) -> None:
        self._problems, self._limit_problems = {}, {}
        for problem in problems:
            limit = self._limit_at(problem.where)
            if limit is not None:
                row, part = limit
                found = self._limit_problems.setdefault(row.key, {})
                found.setdefault(part, []).append(problem.message)
                continue
            self._problems.setdefault(self._field_at(problem.where), []).append(problem.message)

    def _field_at(self, where: str) -> str:
        """The field that a place is in, "" for none: "parameters.window.0" is in the window."""
        while where and where not in self._fields:
            where = where.rpartition(".")[0]
        return where

    def _limit_at(self, where: str) -> tuple[LimitRow, str] | None:
        if not where.startswith("limits."):
            return None
        rest = where.removeprefix("limits.")
        for row in self.limits:
            name = row.name.strip() if row.own else row.name + DEFAULT_MARK
            if rest == name:
                return row, ""
            for part in _LIMIT_PARTS:
                if rest == f"{name}.{part}":
                    return row, part
        return None


def _put(tables: dict[str, dict[str, object]], key: str, value: object) -> None:
    """Put a value at a dotted key, making tables on the way."""
    if "." not in key:
        return  # title and notes are no tables
    first, *middle, last = key.split(".")
    table = tables[first]
    for part in middle:
        inner = table.setdefault(part, {})
        assert isinstance(inner, dict)
        table = inner
    table[last] = value


def _draft_of(
    recipe: Recipe, table: Mapping[str, object], info: ProtocolInfo, numbers: Iterable[int]
) -> Draft:
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
