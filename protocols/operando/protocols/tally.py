"""What a run has seen and counted: live values, charge, time, and which readings become rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from operando.instruments.conditions import Condition, voltage_bound
from operando.instruments.evaluators import Evaluator
from operando.instruments.on_board import StoredReading
from operando.instruments.recipe import RecordConditions
from operando.instruments.recorder import Recorder
from operando.instruments.samples import AuxReading, Origin, Reading, Regulation, Sample, Status
from operando.protocols.protocol import Outcome
from operando.protocols.steps import Step, elapsed_bound

ELECTRICAL: Final = frozenset(
    ("voltage", "current", "charge", "step_charge", "power", "energy", "elapsed", "time", "cycle",
     "residual")
)  # fmt: skip
"""Live quantities that each reading of the potentiostat renews."""

WRONG_SIGN_FRACTION: Final = 0.02
"""Share of a step's current that may flow the wrong way before it counts: instrument noise."""

NOTHING_FLOWS: Final = 1e-3
"""Share of a step's current below which nothing flows."""

CUTOFF_TOLERANCE: Final = 5e-3
RESTED_AT_VOLTAGE: Final = 20e-3
"""V: how near to the cut-off a reading must be to end a step there, and how near a cell must have
rested to it for a step to begin with no current."""

_USABLE: Final = frozenset((Status.OK, Status.UNSTABLE))
_UNKNOWN_TIME: Final = -math.inf


class Tally:
    """Counts one run.

    start: laboratory time of the start of the run, s; `time` is counted from it.
    values: live quantities by name, SI units. predicted: voltage of a twin, see `RunSettings`.
    charge, step_charge: net, C. energy: net, J.
    """

    def __init__(
        self, start: float, utc_offset: float, record: RecordConditions, recorder: Recorder
    ) -> None:
        self.start = start
        self.values: dict[str, float] = {}
        self.time = 0.0
        self.charge = 0.0
        self.energy = 0.0
        self.step_count = 0
        self.step_id = 0
        self.cycle = 1
        self.step_charge = 0.0
        self.elapsed = 0.0
        self.reason = ""
        self.label = ""
        self.last_time = start
        self.charge_before = 0.0
        self.current_bound = 0.0
        self.rest_voltage = math.nan
        self.predicted: Callable[[int, float, float], float] | None = None
        self._utc_offset = utc_offset
        self._recorder = recorder
        self._record = record
        self._set_record(record)
        self._recorded_values: dict[str, float] = {}
        self._last_row = _UNKNOWN_TIME
        self._last_aux: dict[tuple[str, str], tuple[float, float]] = {}
        self._pending: Reading | None = None
        self._valid_at: dict[str, float] = {}
        self._until: tuple[tuple[Condition, Evaluator], ...] = ()
        self._condition: Condition | None = None
        self._cutoff: Condition | None = None
        self._cutoff_voltage = math.nan
        self._carried = 0.0
        self._attempt_start = start
        self._last_current = math.nan
        self._last_power = math.nan
        self._driving = False
        self._active = False
        self._magnitude = math.nan
        self._step_energy = 0.0
        self._elapsed_bound: float | None = None
        self._aux_until: tuple[tuple[Condition, Evaluator], ...] = ()

    def _set_record(self, record: RecordConditions) -> None:
        self._every = record.every
        self._changes = tuple(record.on_change.items())

    @property
    def elapsed_bound(self) -> float | None:
        """s after which the present step ends whatever else happens; None when there is none."""
        return self._elapsed_bound

    # ---- steps ---------------------------------------------------------------------------

    def pass_over(self, step: Step) -> None:
        """Count a step that was over before this program began."""
        self.step_count += 1
        self.cycle = step.cycle or self.cycle

    def take_up(self, charge: float, energy: float, last_time: float, now: float) -> None:
        """Go on at a laboratory time (s) from what a record holds of the run: C, J, and s of the
        run of its last row.
        """
        self.charge, self.energy = charge, energy
        self.last_time = self.start + last_time
        self.time = last_time
        self._attempt_start = now  # nothing is stale yet that this program has not asked for

    def carry(self, elapsed: float, charge: float, energy: float) -> None:
        """What the present step has had already: s, C, J."""
        self.elapsed, self.step_charge, self._step_energy = elapsed, charge, energy
        self.values.update(elapsed=elapsed, step_charge=charge)

    def begin_step(self, step: Step, step_id: int) -> None:
        """Start counting a new step."""
        self.record_last()
        self.step_count += 1
        self.step_id = step_id
        self.label = step.label
        self.cycle = step.cycle or self.cycle
        self.step_charge = 0.0
        self._step_energy = 0.0
        self.elapsed = 0.0
        self._carried = 0.0
        self._cutoff = step.cutoff
        self._cutoff_voltage = math.nan
        if self._cutoff is not None:
            self._cutoff_voltage = voltage_bound((self._cutoff,), step.direction) or 0.0
        self._condition = None
        self.reason = ""
        self.charge_before = 0.0
        self._last_row = _UNKNOWN_TIME
        # Those of the step before must not end this one.
        self.values.update(elapsed=0.0, step_charge=0.0, cycle=self.cycle)
        conditions = tuple((c, c.evaluator()) for c in step.until)
        self._until = tuple((c, e) for c, e in conditions if c.quantities & ELECTRICAL)
        self._aux_until = tuple((c, e) for c, e in conditions if c.quantities - ELECTRICAL)
        self._elapsed_bound = elapsed_bound(step.until)
        self._set_record(step.record or self._record)

    def begin_attempt(self, start: float, bound: float, ended: float | None = None) -> None:
        """The set-point of the step went on at laboratory time `start`, s.

        bound: highest current of the set-point, A, magnitude. ended: laboratory time at which the
        set-point before it ended, s; `start` if None. What that one passed since its last reading
        is counted with its last current.
        """
        if self._driving and not math.isnan(self._last_current):
            tail = max(0.0, (start if ended is None else ended) - self.last_time)
            self.charge_before = self._last_current * tail
            self.charge += self.charge_before
            self.energy += self._last_power * tail
        self._carried = self.elapsed
        self._attempt_start = start
        self.last_time = start
        self._last_current = math.nan
        self._last_power = math.nan
        self._magnitude = math.nan
        self._driving = self._active = True
        self.current_bound = bound
        for _, evaluator in self._until + self._aux_until:
            evaluator.reset()

    def end_attempt(self, opened: float) -> float:
        """The circuit was found open at laboratory time `opened`; nothing flows until it closes.

        What passed since the last reading is counted with its current and returned, C.
        """
        self.record_last()
        passed = 0.0
        if self._driving and not math.isnan(self._last_current):
            tail = max(0.0, opened - self.last_time)
            passed = self._last_current * tail
            self.charge += passed
            self.energy += self._last_power * tail
            if self._active:
                self.step_charge += passed
                self._step_energy += self._last_power * tail
                self.elapsed += tail
        self._driving = self._active = False
        return passed

    def skip_gap(self, end: float, utc_offset: float) -> None:
        """Count nothing over an unobserved stretch that ended at laboratory time `end`.

        utc_offset: s from laboratory time to Unix time, which a suspend changes.
        """
        self.last_time = end
        self._last_current = math.nan
        self._last_power = math.nan
        self._utc_offset = utc_offset

    def outcome(self) -> Outcome:
        """How the step ended; voltage and current are NaN when nothing was read in it."""
        return Outcome(
            index=self.step_count,
            reason=self.reason,
            condition=self._condition,
            duration=self.elapsed,
            charge=self.step_charge,
            energy=self._step_energy,
            voltage=self.values.get("voltage", math.nan),
            current=self.values.get("current", math.nan),
            time=self.time,
        )

    def end(self, reason: str, condition: Condition | None = None) -> None:
        """The step ends for a reason that no reading gave, such as a spectrum that is complete."""
        self.reason, self._condition = reason, condition
        self._active = False
        self.record_last()

    def next_due(self, due: float, interval: float, now: float) -> float:
        """Laboratory time of the next poll: the grid, or the end of a timed step before it."""
        due += interval
        if due < now:
            due += interval * math.ceil((now - due) / interval)
        if self._elapsed_bound is not None:
            end = self._attempt_start + self._elapsed_bound - self._carried
            if now < end < due:
                return end
            if end <= now:  # the reading at its end was from before it: read again soon
                return min(due, now + 0.1 * interval)
        return due

    # ---- readings ------------------------------------------------------------------------

    def take(self, reading: Reading) -> None:
        """Count a reading of the potentiostat and record it if a record condition says so."""
        at, _, voltage, current, _, _ = reading
        values = self.values
        time = at - self.start
        power = voltage * current
        if current == current and voltage == voltage:  # neither is NaN  # noqa: PLR0124
            step = at - self.last_time
            before = self._last_current
            if math.isnan(before):  # the first reading of an attempt stands for its beginning
                before, self._last_power = current, power
            passed = 0.5 * (before + current) * step
            worked = 0.5 * (self._last_power + power) * step
            self.charge += passed
            self.step_charge += passed
            self.energy += worked
            self._step_energy += worked
            self._last_current = current
            self._last_power = power
            self.last_time = at
            self._valid_at["voltage"] = at
        self.time = time
        self.elapsed = elapsed = self._carried + at - self._attempt_start
        values["voltage"] = voltage
        values["current"] = current
        values["power"] = power
        values["charge"] = self.charge
        values["step_charge"] = self.step_charge
        values["energy"] = self.energy
        values["elapsed"] = elapsed
        values["time"] = time
        values["cycle"] = self.cycle
        if self.predicted is not None:
            expected = self.predicted(self.step_count, self.step_charge, elapsed)
            values["residual"] = voltage - expected
        self._pending = reading
        if reading.regulation is Regulation.OPEN and voltage == voltage:  # noqa: PLR0124
            self.rest_voltage = voltage
        if time - self._last_row >= self._every - 1e-9 or self._changed():
            self.record_last()

    def _changed(self) -> bool:
        values, recorded = self.values, self._recorded_values
        for name, delta in self._changes:
            if abs(values.get(name, 0.0) - recorded.get(name, 0.0)) >= delta:
                return True
        return False

    def record_last(self) -> None:
        """Record the latest reading unless that has been done: ends and trips are always rows."""
        reading = self._pending
        if reading is None:
            return
        self._pending = None
        time = self.time
        self._last_row = time
        if self._changes:
            for name, _ in self._changes:
                self._recorded_values[name] = self.values.get(name, 0.0)
        self._recorder.sample(
            Sample(
                time,
                reading.time + self._utc_offset,
                reading.uncertainty,
                reading.voltage,
                reading.current,
                self.charge,
                self.step_charge,
                self.energy,
                self.elapsed,
                self.step_count,
                self.step_id,
                self.cycle,
                reading.regulation,
                reading.status,
                Origin.POLL,
            )
        )

    def take_aux(self, reading: AuxReading) -> None:
        """Take a reading of a monitor; `reading.time` is laboratory time."""
        source, quantity, at, _, value, status = reading
        if status in _USABLE and value == value:  # noqa: PLR0124 - not NaN
            self.values[quantity] = value
            self._valid_at[quantity] = at
        else:
            self.values[quantity] = math.nan
        time = at - self.start
        last_time, last_value = self._last_aux.get((source, quantity), (_UNKNOWN_TIME, math.nan))
        due = time - last_time >= self._every - 1e-9
        if not due:
            for name, delta in self._changes:
                if name == quantity and abs(value - last_value) >= delta:
                    due = True
        if due:
            self.record_aux(reading)
        for condition, evaluator in self._aux_until if self._active else ():
            if evaluator.update(time, self.values, (quantity,)) and self._condition is None:
                self._condition = condition

    def record_aux(self, reading: AuxReading) -> None:
        """Record a monitor's reading."""
        time = reading.time - self.start
        key = (reading.source, reading.quantity)
        if self._last_aux.get(key, (_UNKNOWN_TIME, 0.0))[0] == time:
            return
        self._last_aux[key] = (time, reading.value)
        self._recorder.aux(reading._replace(time=time))

    # ---- steps on board ------------------------------------------------------------------

    def settle(self, charge: float, energy: float, elapsed: float) -> None:
        """The instrument's own sums of the step replace what was counted from readings.

        charge: C. energy: J. elapsed: s. What is behind the last reading is not counted.
        """
        self.charge += charge - self.step_charge
        self.energy += energy - self._step_energy
        self.step_charge, self._step_energy, self.elapsed = charge, energy, elapsed
        self._last_current = self._last_power = math.nan

    def record_stored(
        self, rows: Sequence[StoredReading], began: float, uncertainty: float
    ) -> None:
        """Record what the instrument stored of the step, after `settle`, as the record asks.

        began: laboratory time of the beginning of the step, known within `uncertainty`, s.
        """
        self.record_last()
        charge, energy = self.charge - self.step_charge, self.energy - self._step_energy
        time, changes = began - self.start, dict(self._changes)
        kept: StoredReading | None = None
        for row in rows:
            if (
                kept is not None
                and row is not rows[-1]
                and row.elapsed - kept.elapsed < self._every - 1e-9
                and not abs(row.voltage - kept.voltage) >= changes.get("voltage", math.inf)
                and not abs(row.current - kept.current) >= changes.get("current", math.inf)
            ):
                continue
            kept = row
            self._recorder.sample(
                Sample(
                    time + row.elapsed,
                    began + row.elapsed + self._utc_offset,
                    uncertainty,
                    row.voltage,
                    row.current,
                    charge + row.charge,
                    row.charge,
                    energy + row.energy,
                    row.elapsed,
                    self.step_count,
                    self.step_id,
                    self.cycle,
                    row.regulation,
                    Status.OK,
                    Origin.INSTRUMENT,
                )
            )

    def end_on_board(
        self, last: StoredReading, condition: Condition | None, *, cutoff: bool
    ) -> None:
        """The instrument ended the step. last: its last row. cutoff: at its own cut-off."""
        self.values.update(voltage=last.voltage, current=last.current)
        self._condition, self.reason = condition, "cut-off" if cutoff else "condition"
        self._active = False

    # ---- judgements ----------------------------------------------------------------------

    def step_ended(self, reading: Reading) -> bool:
        """Whether the latest reading ends the step; `reason` and the outcome then say why."""
        if self._condition is None:
            time, values = self.time, self.values
            for condition, evaluator in self._until:
                if evaluator.update(time, values, ELECTRICAL):
                    self._condition = condition
                    break
        if self._condition is not None:
            self.reason = "condition"
        elif self._at_cutoff(reading):
            # The instrument itself stopped the current at the cut-off.
            self._condition, self.reason = self._cutoff, "cut-off"
        else:
            return False
        self._active = False
        self.record_last()
        return True

    def _at_cutoff(self, reading: Reading) -> bool:
        """Whether the instrument holds the cut-off of a constant current."""
        if self._cutoff is None or reading.regulation is not Regulation.VOLTAGE:
            return False
        level = self._cutoff_voltage
        return abs(reading.voltage - level) <= max(CUTOFF_TOLERANCE, 2e-3 * abs(level))

    def stopped_flowing(self, reading: Reading, step: Step) -> str:
        """What to say when no current flows in a step that drives one, else nothing.

        An open lead looks like the end of a charge: the source sits at its voltage, and nothing
        flows. A cell's current falls slowly; it does not stop between two readings.
        """
        magnitude, before = abs(reading.current), self._magnitude
        self._magnitude = magnitude
        bound = self.current_bound
        if not step.direction or not magnitude < NOTHING_FLOWS * bound:
            return ""
        if before == before:  # noqa: PLR0124 - not the first reading of the attempt
            stopped = before > 10.0 * NOTHING_FLOWS * bound
        else:
            # At the first reading only a cell that rested at the step's voltage may take nothing.
            stopped = not abs(self.rest_voltage - reading.voltage) <= RESTED_AT_VOLTAGE
        if not stopped:
            return ""
        return (
            f"step '{step.label}': no current flows at {reading.voltage:.4f} V although the output "
            "is on: a lead is open. Check the contacts."
        )

    def wrong_direction(self, reading: Reading, step: Step) -> str:
        """What to say when the current flows against the step, else nothing."""
        direction = step.direction
        if direction and reading.current * direction < -WRONG_SIGN_FRACTION * self.current_bound:
            return (
                f"step '{step.label}' must {'charge' if direction > 0 else 'discharge'} the cell, "
                f"but {reading.current:.3e} A flows the other way at {reading.voltage:.4f} V: the "
                "cell is beyond its cut-off or the leads are reversed"
            )
        return ""

    def ages(self, now: float) -> dict[str, float]:
        """Seconds since the last valid value of each live quantity; electrical ones together."""
        ages = {quantity: now - at for quantity, at in self._valid_at.items()}
        electrical = ages.get("voltage", now - self._attempt_start)
        return ages | dict.fromkeys(ELECTRICAL, electrical)
