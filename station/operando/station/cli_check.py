"""`operando check`: what a recipe would do on a bench, how it is guarded, and a dry run of it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from operando.instruments.bench import Bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import parse_quantity
from operando.instruments.recipe import load_recipe
from operando.protocols import RunState, SheetLine, contradictions
from operando.records import Record
from operando.station.assembly import driver_info, simulation_of
from operando.station.client.predictions import Prediction
from operando.station.engine import exit_code
from operando.station.orders import Order, Settled, order_from, settle
from operando.station.preflight import host_findings, print_findings
from operando.station.sheets import limit_lines, print_plan, print_sheet
from operando.station.simulate import bench_at, clock_for


def check(
    recipe: Annotated[Path, typer.Argument(help="The recipe file.")],
    bench: Annotated[Path, typer.Option("--bench", help="The bench file.")],
    channel: Annotated[
        str | None, typer.Option("--channel", help="Channel; all of them when left out.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Run it on the simulated twin of the channel, and predict."),
    ] = False,
    at_most: Annotated[
        str, typer.Option(help='Cut the dry run after this much computing, such as "2 min".')
    ] = "",
    output: Annotated[
        Path | None, typer.Option(help="Folder in which the record of the dry run is kept.")
    ] = None,
    draw: Annotated[
        Path | None, typer.Option(help="PNG file for the predicted curves; needs matplotlib.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Validate a recipe on a bench and print what would run and how it is guarded.

    With --dry-run also what would come of it, SIMULATED; the exit code is then that of the run
    that is predicted, 0 if the dry run was cut by --at-most.
    """
    seconds = _budget(at_most, output, draw, dry_run=dry_run)
    described = bench_at(bench, None)
    order = order_from(load_recipe(recipe), described.scripts)
    if not described.channels:
        raise BadInputError(
            f"{described.path.name}: there is no channel; add a table [channels.A1]"
        )
    names = [channel] if channel is not None else list(described.channels)
    if dry_run and len(names) > 1:
        raise BadInputError(
            f"a dry run is of one channel; add --channel, with one of: {', '.join(names)}"
        )
    if any(entry.simulated for entry in described.instruments.values()):
        _build_simulation(described)
    reports = _reports(names, described, order, as_json=as_json)
    prediction: Prediction | None = None
    if dry_run and "limits" in reports[0]:
        prediction = _predict(described, names[0], order, output, seconds, draw)
        reports[0]["prediction"] = prediction.model_dump(mode="json")
    if as_json:
        print(json.dumps(reports))
    _refuse(reports)
    if prediction is None:
        return
    if not as_json:
        from operando.station.print_prediction import print_prediction

        print_prediction(prediction)
        if draw is not None and prediction.steps:
            print(f"SIMULATED curves in {draw}")
    if code := _code(prediction):
        sys.exit(code)


def _reports(
    names: Sequence[str], bench: Bench, order: Order, *, as_json: bool
) -> list[dict[str, Any]]:
    """The limit sheet of each channel, or what is wrong there; printed unless it is for JSON."""
    clock = clock_for(bench)
    reports: list[dict[str, Any]] = []
    for name in names:
        try:
            settled = settle(bench, name, order)
            lines = limit_lines(settled, bench, clock)
        except BadInputError as error:
            reports.append({"channel": name, "problem": str(error)})
            continue
        findings = host_findings(settled, bench, clock, Path("runs"))
        reports.append(
            {
                "channel": name,
                "limits": [asdict(line) for line in lines],
                "preflight": [finding.entry for finding in findings],
            }
        )
        if not as_json:
            _print_check(name, settled, order, bench, lines)
            print_findings(findings)
    return reports


def _refuse(reports: Sequence[dict[str, Any]]) -> None:
    """Raise BadInputError if the recipe cannot run on one of the channels."""
    refused: dict[str, list[str]] = {}
    for report in reports:
        if "problem" in report:
            refused.setdefault(report["problem"], []).append(report["channel"])
    if refused and len(reports) == 1:
        raise BadInputError(next(iter(refused)))
    if refused:
        raise BadInputError(
            "this recipe cannot run on\n"
            + "\n".join(f"  {', '.join(names)}: {why}" for why, names in refused.items())
        )


def _print_check(
    name: str, settled: Settled, order: Order, bench: Bench, lines: Sequence[SheetLine]
) -> None:
    """Print what would run on a channel and how it is guarded."""
    print_plan(name, settled, order)
    for warning in contradictions(settled.limits, settled.settings.protection):
        print(f"this run will be ended by a limit: {warning}")
    for warning in settled.warnings:
        print(f"note: {warning}")
    drivers_of = {n: bench.instruments[n].driver for n in settled.entry.instruments}
    print_sheet(
        lines,
        [
            f"{n} ({driver})"
            for n, driver in drivers_of.items()
            if driver_info(driver).identification == "none"
        ],
    )


def _build_simulation(bench: Bench) -> None:
    """Make the simulated twin and drop it: what is wrong with it is said now."""

    async def build() -> None:
        simulation_of(bench, Clock("virtual"))

    run_coroutine(build(), virtual=True)


# ---- the dry run ---------------------------------------------------------------------------


def _budget(at_most: str, output: Path | None, draw: Path | None, *, dry_run: bool) -> float | None:
    """Wall s that a dry run may take. Raises BadInputError for options that do not go together."""
    if not dry_run:
        alone = {"--at-most": at_most, "--output": output, "--draw": draw}
        for option, value in alone.items():
            if value:
                raise BadInputError(f"{option} is of a dry run; add --dry-run, or leave it out")
        return None
    if not at_most:
        return None
    try:
        seconds = parse_quantity(at_most, "s")
    except BadInputError as error:
        raise BadInputError(f"--at-most: {error}") from None
    if seconds <= 0.0:
        raise BadInputError(f"--at-most: must be more than 0 s, found {at_most}")
    return seconds


def _predict(
    bench: Bench,
    channel: str,
    order: Order,
    output: Path | None,
    at_most: float | None,
    draw: Path | None,
) -> Prediction:
    from operando.evaluation import figures
    from operando.station.dry_run import predict

    if draw is not None and importlib.util.find_spec("matplotlib") is None:
        raise BadInputError(
            "--draw needs matplotlib, which is not installed: pip install 'operando[report]'"
        )

    def drawn(record: Record) -> None:
        if draw is None or not record.steps():
            return
        # Of several sources of pressure any tells how it swings.
        sources = [source for source, quantity in record.quantities() if quantity == "pressure"]
        figures.draw_time_series(record, draw, pressure_source=sources[0] if sources else None)

    return predict(bench, channel, order, output=output, at_most=at_most, watched=True, then=drawn)


def _code(prediction: Prediction) -> int:
    """Exit code of the run that is predicted."""
    if prediction.state == "cut":
        return 0
    if prediction.state == "stopped":
        return exit_code(RunState.ABORTED)
    return exit_code(RunState(prediction.state))
