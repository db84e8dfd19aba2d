"""The form that starts a run: what is typed, what the station says of it, whether it may start.

Every text is kept as it was typed; the station alone judges it. Keys of fields are those of
`Problem.where`: "parameters.charge_rate", "poll.interval", "limits.NAME.when".
"""

from __future__ import annotations

import enum
import itertools
import secrets
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from operando.gui.models.draft import Draft, LimitRow, draft_of
from operando.gui.models.fields import SETTINGS, Field, Value, fields_of
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import parse_recipe
from operando.instruments.words import condition_text_words
from operando.station.client import CheckReport, LimitInfo, Problem, ProtocolInfo, RunRequest

ACTIONS = ("warn", "hold", "trip")
"""What a limit can do, the mildest first."""

DEFAULT_MARK = " (default)"
"""Ends the name of a limit that the station adds by itself."""

_LIMIT_PARTS = ("name", "when", "action", "grace", "stale_after")

USUAL = "cccv"
"""Protocol that a fresh form shows, where it is installed: what most cells get first."""


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


@dataclass(frozen=True, slots=True)
class Check:
    """A question to the station. revision: of the texts that it is about.

    request_id: of a start, by which the station knows it when it is asked for again.
    """

    revision: int
    channel: str
    request: RunRequest
    request_id: str = ""


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
        self._unanswered: Check | None = None
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
            first = next(iter(self._protocols), "")
            self._protocol = USUAL if USUAL in self._protocols else first
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
            for draft in self._drafts.values():
                if not draft.empty and not draft.origin:
                    draft.origin, draft.edited = f"as typed for {self.channel}", False
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
        draft.edited = True
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

    @property
    def origin(self) -> str:
        """Where texts that were not typed for this channel come from; "" when there are none."""
        draft = self._draft
        if draft.empty or not draft.origin:
            return ""
        return f"{draft.origin}, then edited" if draft.edited else draft.origin

    @property
    def changes(self) -> tuple[str, ...]:
        """What differs from the defaults, in words: "Charge rate 1C", "limit high: ..., trip"."""
        said = []
        for key, value in self._draft.values.items():
            if key == "notes":
                said.append("notes")
            elif isinstance(value, bool):
                said.append(f"{self._fields[key].title} {'on' if value else 'off'}")
            else:
                shown = " to ".join(value) if isinstance(value, tuple) else value
                said.append(f"{self._fields[key].title} {shown.strip() or 'empty'}")
        said += [
            f"limit {row.name.strip()}: {condition_text_words(row.when)}, {row.action}"
            for row in self._draft.limits
            if not row.blank
        ]
        return (*said, *(f"{key} = {value}" for key, value in self._draft.carried.items()))

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
        self._draft.edited = True
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
        for part, text in texts.items():
            setattr(row, part, text)
        if not row.own:
            self.adopt_limit(key)
        self._draft.edited = True
        self._edited()

    def adopt_limit(self, key: int) -> None:
        """Make a limit that the station adds an own one, to be edited."""
        row = self._row(key)
        if row.own:
            return
        self._defaults = {n: other for n, other in self._defaults.items() if other.key != key}
        row.own = True
        self._draft.limits.append(row)
        self._draft.edited = True
        self._edited()

    def remove_limit(self, key: int) -> None:
        """Take an own limit out; the station adds a default for what it leaves unguarded."""
        draft = self._draft
        kept = [row for row in draft.limits if row.key != key]
        if len(kept) < len(draft.limits):
            draft.limits[:] = kept
            draft.edited = True
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
        """The start to ask for. Raises BadInputError when the form is not ready.

        The same start again, if the last one was lost and was the same.
        """
        if not self.can_start:
            raise BadInputError("these texts were not found good by the station; mend them first")
        self.state = FormState.STARTING
        self.refusal = ""
        start = Check(self.revision, self.channel, self.request(), secrets.token_hex(8))
        lost = self._unanswered
        if lost is not None and (lost.channel, lost.request) == (start.channel, start.request):
            start = replace(start, request_id=lost.request_id)
        self._unanswered = start
        return start

    def start_done(self) -> None:
        """The run was started."""
        self._unanswered = None
        self.state = FormState.STARTED
        self._draft.origin, self._draft.edited = f"as last started on {self.channel}", False

    def start_refused(self, message: str, problems: Iterable[Problem] = ()) -> None:
        """The start was refused. Everything typed stays; it may be tried again.

        With problems the last report is no longer believed: ask for another.
        """
        self.start_lost(message)
        self._unanswered = None
        found = tuple(problems)
        if found:
            self._answered = -1
            self._sort(one for one in found if one.where or one.message not in message)

    def start_lost(self, message: str) -> None:
        """The start was not answered: the same, tried again, begins no second run."""
        self.state = FormState.FAILED
        self.refusal = message

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
        draft = draft_of(recipe, tomllib.loads(source), info, self._numbers)
        draft.origin = f"as in {path.name}"
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
