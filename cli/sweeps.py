"""`phasetrack sweep`: many runs, with their progress and what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from phasetrack.theory.settings import RunSettings

from . import options as opt
from .output import console
from .tables import open_table

if TYPE_CHECKING:
    from phasetrack.studies.sweeps.point import Point, PointOutcome
    from phasetrack.studies.sweeps.sweep import Sweep

FAILED, INTERRUPTED = 1, 130
ROOMY = 90  # columns of a terminal that the table fills well
# Seconds over which the pace is averaged for the time that is left.
PACE_SECONDS = 600.0


@opt.settings_options(*opt.SWEEP)
def sweep(
    *,
    context: typer.Context,
    task: opt.Task,
    grid: Annotated[
        list[str],
        typer.Option(
            help="Values of an option of `phasetrack run`, such as d=64,128; repeatable.",
            metavar="NAME=VALUE,...",
        ),
    ],
    seeds: Annotated[
        int, typer.Option(help="Runs per combination, at least 1, with the seeds from --seed on.")
    ] = 1,
    options: dict[str, Any],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of the runs and their table, points.csv; several sweeps may share a folder."
        ),
    ] = Path("sweeps"),
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Worker processes, at least 1 (default: one per core).", show_default=False
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Run on Ray: local, auto, or a cluster's HOST:PORT (needs the extra `ray`).",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        bool,
        typer.Option("--plot", help="Draw OUT/curves.png and, for two axes, OUT/phases.png."),
    ] = False,
) -> None:
    """Train every combination of settings, over several seeds, and tabulate the results.

    Runs that have a result in OUT are not trained again: repeat the command to continue an interrupted
    sweep. Exit codes: 0, all runs ended; 1, some runs failed (the command lists them); 130, interrupted.
    """
    base = RunSettings(task=task, **options)
    from phasetrack.errors import ExpectedError
    from phasetrack.studies.sweeps.grid import Grid, parse_axes
    from phasetrack.studies.sweeps.sweep import Sweep

    axes = parse_axes(grid)
    for name in axes:
        if opt.given(context, name):
            problem = f"{options[name]!r} is fixed, and --grid {name}=... varies it."
            raise ExpectedError(name, problem, "Leave one of the two out.")
    made = Sweep(Grid(base, axes, seeds), out)
    if plot:
        _check_drawable(made)
    screen = console()
    failed, interrupted = _run(made, screen, jobs, ray)
    _tell(made, screen, failed)
    if interrupted:
        typer.echo("sweep: interrupted; the same command continues it", err=True)
        raise typer.Exit(INTERRUPTED)
    if plot:
        _draw(made)
    raise typer.Exit(FAILED if failed else 0)


def _run(
    made: Sweep, screen: Console, jobs: int | None, ray: str | None
) -> tuple[list[PointOutcome], bool]:
    """Compute what is missing under a progress bar; failures, and whether it was interrupted."""
    failed: list[PointOutcome] = []
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[done]}"),
        TimeElapsedColumn(),  # what moves while the first runs are under way
        TimeRemainingColumn(),
        TextColumn("to go", style="progress.remaining"),
        console=screen,
        disable=not screen.is_terminal,
        speed_estimate_period=PACE_SECONDS,
    )
    bar = progress.add_task("", total=1, done="")
    count = done = 0

    def begun(missing: list[Point]) -> None:
        nonlocal count
        count = len(missing)
        known = len(made.points) - count
        line = f"{len(made.points)} runs, {known} of them done before"
        screen.print(line, highlight=False)
        total = sum(_cost(point.settings) for point in missing)
        progress.update(bar, total=total, description="runs", done=f"0/{count}", visible=count > 0)

    with progress:
        try:
            for outcome in made.run(workers=jobs, ray=ray, begun=begun):
                done += 1
                progress.update(bar, advance=_cost(outcome.point.settings), done=f"{done}/{count}")
                if outcome.reason:
                    failed.append(outcome)
                if not screen.is_terminal or outcome.reason:
                    state = f"failed: {outcome.reason}" if outcome.reason else "finished"
                    line = f"{done}/{count}  {outcome.point.name}  {state}"
                    screen.print(line, highlight=False, soft_wrap=True)
        except KeyboardInterrupt:
            return failed, True
    return failed, False


def _cost(settings: RunSettings) -> float:
    """Predicted arithmetic of a run: what its share of the progress bar is."""
    steps = settings.steps or settings.predicted_steps
    return float(steps * settings.batch_size * settings.width * settings.d)


def _tell(made: Sweep, screen: Console, failed: list[PointOutcome]) -> None:
    """Each combination with its means over the seeds, and what failed."""
    from phasetrack.studies.sweeps.summary import COLUMNS, by_combination
    from phasetrack.studies.sweeps.table import TABLE, recorded_points

    # means and intervals go below each other where there is no room beside
    gap = 2 if screen.width >= ROOMY or not screen.is_terminal else 1
    table = open_table(gap=gap)
    for name in (*made.grid.axes, *COLUMNS):
        table.add_column(name, justify="right", min_width=max(map(len, name.split())))
    for chosen, cells in by_combination(made):
        table.add_row(*map(_text, chosen.values()), *cells)
    screen.print(table, highlight=False, soft_wrap=not screen.is_terminal)
    for outcome in failed:
        screen.print(Text(f"failed: {outcome.point.name}: {outcome.reason}", "red"))
    others = len(recorded_points(made.folder, made.points)) - len(made.points)
    more = f" (with {others} runs of other sweeps)" if others else ""
    screen.print(f"table     {made.folder / TABLE}{more}", highlight=False, soft_wrap=True)
    for file in made.removed:
        screen.print(
            f"removed   {file}, which showed another sweep", highlight=False, soft_wrap=True
        )


def _check_drawable(made: Sweep) -> None:
    from phasetrack.errors import ExpectedError

    if not any(len(values) > 1 for values in made.grid.axes.values()):
        raise ExpectedError(
            "plot", "No --grid has two values to draw against.", "Give one, as --grid d=64,128."
        )


def _draw(made: Sweep) -> None:
    from phasetrack.display.plots import save_figure
    from phasetrack.studies.sweeps.figures import curves, phase_diagrams, varying
    from phasetrack.studies.sweeps.sweep import PICTURES
    from phasetrack.studies.sweeps.table import tabulate

    rows = tabulate(made.folder, made.points, {})
    pictures = (curves, phase_diagrams) if len(varying(made.grid.axes)) > 1 else (curves,)
    for name, draw in zip(PICTURES, pictures, strict=False):
        save_figure(draw(rows, made.grid.axes, title=made.grid.base.task), made.folder / name)
        typer.echo(str(made.folder / name))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
