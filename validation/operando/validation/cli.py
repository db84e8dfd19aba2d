"""`operando validate`, and the command line that has it beside the station's commands.

The station may not know of validation, which stands on the floor above; so the command is added
here, where the program is put together.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from operando.instruments.errors import BadInputError
from operando.validation.published import Role, Target, load_targets

QUICK_DRAWS, FULL_DRAWS = 6, 200
"""Draws of the prior-predictive intervals."""

EXIT_NOT_ACCEPTABLE = 1

PIPE_WIDTH = 140
"""Columns of the tables where there is no terminal."""


def main() -> None:
    """The command `operando`: the station's commands, and validate."""
    from operando.station import cli

    cli.app.command()(validate)
    cli.main()


def validate(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Row, e.g. V-01; may be repeated.")
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full/--quick", help="More draws (15 min), or few (5 min)."),
    ] = False,
    draws: Annotated[
        int | None, typer.Option(min=0, help="Draws of the prior-predictive intervals.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Folder for a table, figures and the records.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(help="Markdown file in which the table between the marks is replaced."),
    ] = None,
) -> None:
    """Measure the papers' results on the simulated cells, through simulated instruments.

    Exit codes: 0; 1 if a calibrated row missed or more than 10 % of the measured orderings do not
    hold; 2 bad input. Held-out rows have no pass mark, and rows that cannot be measured yet are
    printed with the reason.
    """
    from operando.validation import report as reports
    from operando.validation.lab import Lab
    from operando.validation.verdicts import acceptable
    from operando.validation.verdicts import validate as measure_all

    targets = chosen(only or [])
    if page is not None:
        reports.replaced(page, "")  # what is wrong with it is said before the work
    count = draws if draws is not None else (FULL_DRAWS if full else QUICK_DRAWS)
    notes = Console(stderr=True, highlight=False)
    begun = time.perf_counter()

    def say(text: str) -> None:
        notes.print(f"{time.perf_counter() - begun:6.0f} s  {text}", style="dim", markup=False)

    with contextlib.ExitStack() as stack:
        if report is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="operando-")))
        else:
            folder = report / "records"
            if folder.exists() and any(folder.iterdir()):
                raise BadInputError(f"{report}: holds a report already; choose another folder")
            folder.mkdir(parents=True, exist_ok=True)
        lab = Lab(folder, draws=count, seed=seed, say=say)
        rows = measure_all(lab, targets)
        how = reports.Circumstances(
            mode="full" if full else "quick",
            draws=count,
            seed=seed,
            version=importlib.metadata.version("operando"),
            seconds=time.perf_counter() - begun,
        )
        if report is not None:
            (report / "table.md").write_text(reports.markdown(rows, how), encoding="utf-8")
            data = json.dumps(reports.as_json(rows, how), indent=1)
            (report / "table.json").write_text(data + "\n", encoding="utf-8")
            from operando.validation.figures import draw_all

            for picture in draw_all(lab, report):
                say(f"picture {picture}")
    if page is not None:
        page.write_text(reports.replaced(page, reports.markdown(rows, how)), encoding="utf-8")
    if as_json:
        print(json.dumps(reports.as_json(rows, how)))
    else:
        # A pipe or a file has no width of its own.
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        reports.print_tables(rows, how, Console(width=width))
    if not acceptable(rows):
        sys.exit(EXIT_NOT_ACCEPTABLE)


def chosen(only: list[str]) -> tuple[Target, ...]:
    """The targets of these rows, all without any. Raises BadInputError for an unknown one."""
    targets = tuple(target for role in Role for target in load_targets(role))
    known = [target.id for target in targets]
    for wanted in only:
        if wanted not in known:
            raise BadInputError(f"there is no target {wanted!r}; there are: {', '.join(known)}")
    return tuple(target for target in targets if not only or target.id in only)
