"""The fit of the calibrated rows: `python -m operando.validation.fit`.

It may see `targets/calibrated.toml` and neither of its neighbours: once it runs, an audit hook
refuses to open them, and to start another process that could. The fitted parameters stand in
STAGES. Each stage is a bisection of one number against one or more calibrated rows, in a fixed
order, repeated until nothing moves; nothing is drawn at random, so that the same presets give the
same numbers. Some rows are of pellets, whose preset was given a number by hand from the very number
that the row asks for: no stage sets it, and it is printed as what it is.

It prints what to write into the presets; it writes nothing.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from operando.instruments.errors import BadInputError, OperandoError
from operando.simulators.cell import CellParameters, PelletParameters, Provenance, load_preset
from operando.simulators.cell.parameters import PRESET_FOLDER, read_preset
from operando.validation.direct import (
    CellFailedError,
    DirectCell,
    arc,
    cycling,
    first_cycle,
    titration,
)
from operando.validation.other_cells import PRESETS as OTHER_CELLS
from operando.validation.published import Role, Target, load_targets

Measure = Callable[[CellParameters], float]


def _first_charge(parameters: CellParameters) -> float:
    cell = DirectCell(parameters)
    return cell.specific(first_cycle(cell).charge.charge)


def _first_discharge(parameters: CellParameters) -> float:
    cell = DirectCell(parameters)
    return cell.specific(first_cycle(cell).discharge.charge)


def _first_efficiency(parameters: CellParameters) -> float:
    return 100.0 * first_cycle(DirectCell(parameters)).efficiency


def _retention(parameters: CellParameters) -> float:
    cycles = cycling(DirectCell(parameters), 100, 4.25)
    return 100.0 * cycles[-1].discharge.charge / cycles[0].discharge.charge


MEASURES: Mapping[str, Measure] = {
    "V-01": _first_charge,
    "V-02": _first_discharge,
    "V-03": _first_efficiency,
    "V-08": lambda parameters: arc(DirectCell(parameters)),
    "V-09": _retention,
    "V-15": lambda parameters: titration(DirectCell(parameters)),
}
"""Calibrated rows that the model can give, in the unit of their target."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One free parameter and the row that sets it.

    parameter: name of the field. cases: whose cells share it. row: the target. judged: cases whose
    mean relative deviation in that row is brought to zero. over: a case by whose value those of
    the others are divided first, so that their ratio is fitted; "" fits the values themselves.
    reading: another way to read the first case's published value, which gives the parameter (SI
    units) without a simulation; then the geometric mean of both is taken.
    """

    parameter: str
    cases: tuple[str, ...]
    row: str
    judged: tuple[str, ...]
    over: str = ""
    reading: Callable[[CellParameters, float], float] | None = None

    @property
    def name(self) -> str:
        """For print-outs."""
        return f"{self.parameter} ({', '.join(self.cases)})"


@dataclass(frozen=True, slots=True)
class ByHand:
    """A number of a preset set by hand from the published number of a row, which no stage sets.

    row, case: that number. preset, parameter: where it stands. entry: its value and unit.
    """

    row: str
    case: str
    preset: str
    parameter: str
    entry: Provenance


def set_by_hand(targets: Iterable[Target]) -> tuple[ByHand, ...]:
    """What presets of other kinds of cell, in which targets are measured, call calibrated."""
    found = []
    for target in targets:
        for case in target.published:
            preset = OTHER_CELLS.get(f"{target.id.removesuffix(f'-{case}')} {case}")
            if preset is None:
                continue
            _, provenance = read_preset(PRESET_FOLDER / f"{preset}.toml", PelletParameters)
            found += [
                ByHand(target.id, case, preset, name, entry)
                for name, entry in sorted(provenance.items())
                if entry.basis == "calibrated"
            ]
    return tuple(found)


def diffusivity_by_arithmetic(parameters: CellParameters, published: float) -> float:
    """Particle diffusivity (m2/s) of a titration (cm2/s) evaluated with the geometric area.

    The published length is volume of active material over electrode area; that of a particle is a
    third of its radius.
    """
    p = parameters
    length = p.active_loading / p.crystal_density
    return 1e-4 * published * (p.particle_radius / 3.0 / length) ** 2


ALL = ("caec", "lno", "bare")

STAGES: tuple[Stage, ...] = (
    Stage("potential_stretch", ALL, "V-01", ("caec", "lno")),
    Stage("diffusivity", ALL, "V-15", ("caec",), reading=diffusivity_by_arithmetic),
    Stage("diffusivity_knee", ALL, "V-03", ("caec",)),
    Stage("first_oxidation", ALL, "V-03", ("lno",)),
    Stage("charge_transfer_resistance", ALL, "V-08", ("caec",)),
    Stage("space_charge_resistance", ALL, "V-08", ("lno",)),
    Stage("contact_loss", ALL, "V-09", ("caec",)),
    Stage("coating_adhesion", ("lno",), "V-09", ("lno",)),
    Stage("coating_adhesion", ("bare",), "V-09", ("bare",)),
)
"""Every fitted parameter, in the order in which they are set. Each is searched within the range
that the preset states for it."""

ROUNDS = 3
"""Passes over all stages: a later one moves an earlier one's row a little."""

TOLERANCE = 1e-4
"""Relative deviation at which a bisection ends."""

_NEIGHBOURS = tuple(os.path.realpath(role.file) for role in Role if role is not Role.CALIBRATED)
_PROCESSES = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.link",
    "os.symlink",
)


def restrain() -> None:
    """From now on refuse this process the targets that a fit may not see. Cannot be undone."""

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path = arguments[0]
            if isinstance(path, str | bytes | os.PathLike):
                found = os.path.realpath(os.fsdecode(path))
                if found in _NEIGHBOURS:
                    raise PermissionError(f"{found}: the fit may open the calibrated targets alone")
        elif event in _PROCESSES:
            raise PermissionError(f"the fit starts no process and links no file ({event})")

    sys.addaudithook(refuse)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a stage found. value: SI units. deviation: that was left, relative."""

    stage: Stage
    value: float
    deviation: float


def fit(
    stages: Sequence[Stage],
    targets: Mapping[str, Target],
    presets: Mapping[str, CellParameters],
    bounds: Mapping[str, tuple[float, float]],
    *,
    rounds: int = ROUNDS,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Fitted], dict[str, CellParameters]]:
    """Fit stages in order, `rounds` times.

    presets: parameters by case, where the search starts. bounds: of every parameter, SI units.
    """
    cells = dict(presets)
    found: list[Fitted] = []
    for turn in range(rounds):
        found = []
        for stage in stages:
            result = _bisect(stage, targets[stage.row], cells, bounds[stage.parameter])
            if stage.reading is not None:
                result = _halfway(stage, targets[stage.row], cells, result)
            for case in stage.cases:
                cells[case] = replace(cells[case], **{stage.parameter: result.value})
            found.append(result)
            judged = ", ".join(stage.judged) + (f" over {stage.over}" if stage.over else "")
            left = f"{stage.row} {judged} {100.0 * result.deviation:+.3f} %"
            say(f"round {turn + 1}: {stage.name} = {result.value:.5g}, {left}")
    return found, cells


def _halfway(
    stage: Stage, target: Target, cells: Mapping[str, CellParameters], simulated: Fitted
) -> Fitted:
    """The geometric mean of what a simulation and another reading of the same number give."""
    assert stage.reading is not None
    case = stage.judged[0]
    published = target.published[case]
    value = math.sqrt(simulated.value * stage.reading(cells[case], published))
    measured = MEASURES[stage.row](replace(cells[case], **{stage.parameter: value}))
    return Fitted(stage, value, measured / published - 1.0)


def _bisect(
    stage: Stage,
    target: Target,
    cells: Mapping[str, CellParameters],
    bounds: tuple[float, float],
) -> Fitted:
    """Bring the mean relative deviation of a stage's row to zero between bounds.

    A row whose deviation has one sign at both bounds is out of reach: the nearer bound is the
    answer, with what is left.
    """
    measure = MEASURES[stage.row]

    def deviation(value: float) -> float:
        def share(case: str) -> float:
            moved = {stage.parameter: value} if case in stage.cases else {}
            parameters = replace(cells[case], **moved)
            return measure(parameters) / target.published[case]

        reference = share(stage.over) if stage.over else 1.0
        shares = [share(case) / reference for case in stage.judged]
        return sum(shares) / len(shares) - 1.0

    low, high = bounds
    at_low, at_high = _or_edge(deviation, low), _or_edge(deviation, high)
    if at_low * at_high > 0.0:
        return Fitted(stage, *min((low, at_low), (high, at_high), key=lambda pair: abs(pair[1])))
    value, left, side = low, at_low, 0
    for _ in range(60):
        # Illinois variant of the secant rule: it keeps the bracket.
        value = high - at_high * (high - low) / (at_high - at_low)
        left = deviation(value)
        if abs(left) <= TOLERANCE or high - low <= 1e-9 * abs(high):
            break
        if left * at_high > 0.0:
            high, at_high = value, left
            at_low *= 0.5 if side > 0 else 1.0
            side = 1
        else:
            low, at_low = value, left
            at_high *= 0.5 if side < 0 else 1.0
            side = -1
    return Fitted(stage, value, left)


def _or_edge(deviation: Callable[[float], float], value: float) -> float:
    """Deviation at a bound of the search, where a cell may fail: nothing is left of it then."""
    try:
        return deviation(value)
    except CellFailedError:
        return -1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit and print.

    Exit codes: 0; 1 if a fitted row is outside its tolerance or a cell failed; 2 for a row that
    no stage fits.
    """
    parser = argparse.ArgumentParser(
        prog="python -m operando.validation.fit",
        description="Fit the calibrated rows; print the numbers to write into the presets.",
    )
    parser.add_argument("--row", action="append", help="only stages of this row; may be repeated")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="passes over all stages")
    parser.add_argument(
        "--hold", action="append", default=[], help="parameter to leave as it is; may be repeated"
    )
    options = parser.parse_args(arguments)
    restrain()
    targets = {target.id: target for target in load_targets(Role.CALIBRATED)}
    stages = tuple(
        stage
        for stage in STAGES
        if stage.parameter not in options.hold and (not options.row or stage.row in options.row)
    )
    if not stages:
        print(f"nothing is left to fit; rows: {', '.join(sorted({s.row for s in STAGES}))}")
        return 2
    names = next(iter(targets.values())).presets
    presets = {case: load_preset(name).parameters for case, name in names.items()}
    rows = sum(len(target.published) for target in targets.values())
    used = {(stage.row, case) for stage in stages for case in stage.judged}
    print(f"{len(stages)} free parameters, set by {len(used)} of {rows} calibrated numbers")
    by_hand = set_by_hand(targets.values())
    numbers = {(hand.row, hand.case) for hand in by_hand}
    print(
        f"{len(by_hand)} parameters set by hand from the same number, {len(numbers)} of the "
        f"{rows}; no stage:"
    )
    for hand in by_hand:
        value = f"{hand.entry.value:.5g} {hand.entry.unit}".removesuffix(" 1")
        print(f"  {hand.row} {hand.case}: {hand.parameter} = {value} ({hand.preset})")
    try:
        found, cells = fit(
            stages, targets, presets, bounds_of(stages, names), rounds=options.rounds, say=print
        )
    except OperandoError as error:
        print(f"the fit failed: {error}")
        return 1
    print("\nto write into the presets:")
    for result in found:
        places = ", ".join(names[case] for case in result.stage.cases)
        print(f"{result.stage.parameter} = {result.value:.5g}  ({places})")
    print("\nwhat the calibrated rows are then:")
    judged = [target for target in targets.values() if not options.row or target.id in options.row]
    return 1 if _print_rows(judged, cells, used, numbers) else 0


def bounds_of(stages: Iterable[Stage], names: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """The ranges that the presets state for the parameters of stages. names: presets by case.

    A parameter with several stages has the widest of their ranges. Raises BadInputError for one
    without a range.
    """
    found: dict[str, tuple[float, float]] = {}
    for stage in stages:
        preset = names[stage.cases[0]]
        stated = load_preset(preset).provenance[stage.parameter].plausible
        if stated is None:
            raise BadInputError(
                f"preset {preset}: {stage.parameter} is fitted; state the range in which to look"
            )
        low, high = found.get(stage.parameter, stated)
        found[stage.parameter] = min(low, stated[0]), max(high, stated[1])
    return found


def _print_rows(
    targets: Iterable[Target],
    cells: Mapping[str, CellParameters],
    used: set[tuple[str, str]],
    by_hand: set[tuple[str, str]],
) -> int:
    """Print what the fitted cells give, row by row; returns how many fitted rows missed.

    used, by_hand: row and case of the numbers that stages use, and that were set by hand.
    """
    missed = 0
    for target in targets:
        measure = MEASURES.get(target.id)
        assert target.tolerance is not None
        for case, published in target.published.items():
            of = f"{target.id} {case}"
            if measure is None:
                hand = (target.id, case) in by_hand
                print(f"{of}: {'set by hand from the same number' if hand else 'not in this fit'}")
                continue
            value = measure(cells[case])
            met = target.tolerance.accepts(value, published)
            fitted = (target.id, case) in used
            missed += fitted and not met
            print(
                f"{of}: {value:.5g} against {published:.5g} {target.unit} {target.tolerance}: "
                f"{'met' if met else 'MISSED'}{'' if fitted else ' (no stage fits it)'}"
            )
    return missed


if __name__ == "__main__":
    sys.exit(main())
