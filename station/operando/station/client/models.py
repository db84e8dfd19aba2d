"""What a station and its clients say to each other: plain data, the same on both sides.

Numbers are SI floats; a missing or unknown number is None. Times named `time` are seconds of
laboratory time since the start of the run; a C-rate or text quantity is written as people write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

API_VERSION = 1

State = Literal[
    "idle",
    "preparing",
    "running",
    "paused",
    "held",
    "completed",
    "tripped",
    "aborted",
    "faulted",
    "refused",
    "killed",
]
"""State of a channel: that of its run, of its last run, or "idle" when it has had none.

"killed": the station that ran it died without an end; its record is complete up to then.
"""

UNDER_WAY = frozenset({"preparing", "running", "paused", "held"})
"""States in which a run is not over."""

Output = Literal["off", "on", "unknown"]
"""Output of a channel's potentiostat as far as the station knows. off: read back open. on: a run is
under way and has not opened it. unknown: it could not be read back; assume that it is on."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CellInfo(_Model):
    """The cell on a channel. capacity: C that 1C refers to. active_mass: kg. area: m2."""

    name: str
    capacity: float | None = None
    active_mass: float | None = None
    area: float | None = None
    one_c: str = ""
    metadata: Mapping[str, str | float | int | bool] = Field(default_factory=dict)


class InstrumentInfo(_Model):
    """An instrument of a channel.

    identity: what it said about itself, "" before it answered. problem: why it cannot be used, "".
    """

    name: str
    role: str
    driver: str
    address: str
    identity: str = ""
    problem: str = ""
    simulated: bool = False


class Reading(_Model):
    """The last committed reading of a quantity. value: SI, None when it was not valid.

    time: s since the start of the run. status: "ok", "unstable", "overload", ...
    """

    value: float | None
    time: float
    status: str = "ok"


class LimitInfo(_Model):
    """A limit of a run. action: warn, hold or trip.

    quantity, bound, above: for a plain comparison of one live quantity, what to draw: the bound in
    SI and whether the limit lies above; `magnitude` when both signs are bounded. None otherwise.
    """

    name: str
    when: str
    action: str
    quantity: str | None = None
    bound: float | None = None
    above: bool = True
    magnitude: bool = False


class ChannelStatus(_Model):
    """A channel as it is now.

    output: of its potentiostat. While no run is under way it is what was read back at `output_at`,
    Unix time, s, and nobody has looked since; None when it was not read back by this station.
    reason: why the run is in this state, in words. attention: a trip, fault or killed run that
    nobody has acknowledged; no run starts before that. stopping: the run is to end or has come
    to its end, and the output is not read back yet.
    run: identifier of the run under way or of the last one; its record bears the same name.
    title: of the recipe, or its protocol. started: Unix time, s, of the run's time 0 by the
    laboratory's clock, as in `RunSummary`. elapsed: s of laboratory time since the run began.
    progress: 0 ... 1; time_left: s of laboratory time, both estimated from the nominal capacity.
    step: its label; step_index: from 1; cycle: from 1.
    latest: last committed reading by quantity: voltage, current, charge, pressure, ...
    age: s of laboratory time since the newest of them, while the run is under way.
    rows: committed samples of the run, as far as they were read.
    died: Unix time by the wall's clock of the last that is known of a killed run, s, which may go
    on; obstacle: why it cannot, "" if nothing is known to stand against it. limits: those in force.
    final: latest and rows are the run's last: its record was closed and read to its end. False
    while the run is under way, and after it for as long as the record has not been read to its end.
    """

    name: str
    cell: CellInfo | None
    instruments: tuple[InstrumentInfo, ...]
    simulated: bool
    state: State
    output: Output
    output_at: float | None = None
    reason: str = ""
    attention: bool = False
    stopping: bool = False
    run: str | None = None
    protocol: str = ""
    title: str = ""
    started: float | None = None
    elapsed: float | None = None
    progress: float | None = None
    time_left: float | None = None
    step: str = ""
    step_index: int = 0
    cycle: int = 0
    latest: Mapping[str, Reading] = Field(default_factory=dict)
    age: float | None = None
    stale_after: float | None = None
    rows: int = 0
    final: bool = False
    limits: tuple[LimitInfo, ...] = ()
    died: float | None = None
    obstacle: str = ""


class Snapshot(_Model):
    """The whole station as it is now; pushed when it changes, and at least once a second.

    instance: different for each start of a station. serial: rises with each snapshot. started,
    now: Unix time, s. speed: laboratory seconds a wall second. alarm: what concerns every channel.
    """

    type: Literal["snapshot"] = "snapshot"
    instance: str
    serial: int
    version: str
    bench: str
    simulated: bool
    speed: float
    started: float
    now: float
    channels: tuple[ChannelStatus, ...]
    alarm: str = ""


class Rows(_Model):
    """Newly committed rows of a run that the client follows.

    quantities: by name, times in s and values in SI (None where not valid), every reading that was
    committed since the message before. skipped: some were left out because there were too many or
    the client did not read in time: ask for bins instead of appending.
    """

    type: Literal["rows"] = "rows"
    run: str
    quantities: Mapping[str, tuple[tuple[float, ...], tuple[float | None, ...]]]
    skipped: bool = False


class RunRequest(_Model):
    """What to run: the fields of a recipe file, or its text.

    parameters, limits, record, poll, preflight: as the tables of a recipe. recipe: TOML text of a
    recipe instead of all of them; recipe_name: what messages call it, by its last part. Where it is
    an absolute path on the station's computer, a script that `protocol` names is looked for beside
    it; without that in the bench's folder of scripts alone.
    """

    protocol: str = ""
    title: str = ""
    notes: str = ""
    twin: str = ""
    parameters: Mapping[str, object] = Field(default_factory=dict)
    limits: Mapping[str, Mapping[str, object]] = Field(default_factory=dict)
    record: Mapping[str, object] = Field(default_factory=dict)
    poll: Mapping[str, object] = Field(default_factory=dict)
    preflight: Mapping[str, object] = Field(default_factory=dict)
    recipe: str = ""
    recipe_name: str = "recipe"


class NewLimit(_Model):
    """A change of a limit. when: the condition at which it is to act, as in a recipe."""

    when: str = Field(max_length=1000)


class Problem(_Model):
    """Something that is wrong with a request.

    where: the field, dotted: "parameters.charge_rate", "limits.over_voltage", "limits.NAME.when",
    "poll.interval", "record.every", or "" for the whole.
    """

    where: str
    message: str


class SheetRow(_Model):
    """A line of the limit sheet: a limit, or what an instrument carries out by itself.

    latency: s; None where nothing has to act, `when` is then what is carried out. without_host,
    without_link: what is left if the computer dies, and while the instrument is not reached.
    """

    name: str
    when: str
    action: str
    layers: tuple[str, ...]
    latency: float | None
    without_host: str
    without_link: str = ""


class PlanRow(_Model):
    """Steps ahead that look alike. setpoint, ends: in words with units. times: how many."""

    label: str
    setpoint: str
    ends: str
    times: int


class CheckReport(_Model):
    """What a request would do, or why it is refused. Nothing was touched.

    derived: by field ("parameters.charge_rate"), what it means for this cell ("1.569 mA").
    duration: s, estimated from the nominal capacity. warnings: it would start, but read this.
    recipe: the same as the text of a recipe file. limits: as they would be watched, defaults too.
    """

    ok: bool
    problems: tuple[Problem, ...] = ()
    derived: Mapping[str, str] = Field(default_factory=dict)
    plan: tuple[PlanRow, ...] = ()
    steps: int = 0
    complete: bool = True
    duration: float | None = None
    sheet: tuple[SheetRow, ...] = ()
    limits: tuple[LimitInfo, ...] = ()
    warnings: tuple[str, ...] = ()
    recipe: str = ""


class Started(_Model):
    """A run that was started. run: its identifier."""

    run: str


class Done(_Model):
    """What became of a command.

    ok: it is done, and an abort is done when the output has been read back off. message: in words.
    """

    ok: bool
    message: str


class ProtocolInfo(_Model):
    """A protocol. parameters: JSON schema; each quantity has "unit", "quantity", "examples"."""

    name: str
    summary: str
    source: str
    parameters: Mapping[str, object]


class RunSummary(_Model):
    """A record in the station's folder.

    started: Unix time of the run's time 0 by the laboratory's clock, s. That of a simulated bench
    which runs faster than the wall clock gets ahead of it, hours into the future. made: Unix time,
    s, at which the record was made by the wall clock of the station's computer; the newest record
    is the one that was made last. None: not known. duration: s of laboratory time.
    """

    run: str
    channel: str
    cell: str
    protocol: str
    state: str
    simulated: bool
    started: float
    made: float | None = None
    duration: float | None = None
    folder: str = ""


class StepInfo(_Model):
    """A step of a run, see `operando.records.Step`. charge: C. end, reason: None while it runs."""

    index: int
    cycle: int
    label: str
    kind: str
    setpoint: str = ""
    start: float
    end: float | None = None
    reason: str | None = None
    condition: str | None = None
    duration: float | None = None
    charge: float | None = None


class JournalLine(_Model):
    """An entry of the journal in words. time: s. unix_time: s. kind: see `Entry`."""

    seq: int
    time: float | None
    unix_time: float | None
    kind: str
    text: str


class GapInfo(_Model):
    """A time in which nothing was observed, s. charge_bound: C that may have passed at most."""

    start: float
    end: float
    reason: str
    charge_bound: float | None = None


class RunDetail(_Model):
    """A run with everything but its curves.

    quantities: those that it recorded ("voltage", "pressure", ...). start, end: times of the first
    and last committed reading, s.
    """

    summary: RunSummary
    reason: str = ""
    quantities: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    cell: CellInfo | None = None
    steps: tuple[StepInfo, ...] = ()
    journal: tuple[JournalLine, ...] = ()
    gaps: tuple[GapInfo, ...] = ()
    limits: tuple[LimitInfo, ...] = ()


class CycleRow(_Model):
    """A cycle of a run. Capacities: C, magnitudes. coulombic_efficiency: fraction.

    specific capacities follow from the cell's active mass. flags: what speaks against using it.
    """

    cycle: int
    charge_capacity: float | None
    discharge_capacity: float | None
    coulombic_efficiency: float | None
    constant_voltage_time: float | None = None
    mean_polarisation: float | None = None
    pressure_swing: float | None = None
    flags: tuple[str, ...] = ()
