"""The commands that read runs: show, list, plot, compare, report, replay."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phasetrack.errors import ExpectedError, printable

from . import options as opt
from .named_runs import named_runs, read_named
from .output import complain, console, show_summary

if TYPE_CHECKING:
    from phasetrack.phases.classifier import Thresholds

# The panel of `show --help` with the levels to label a run by; without them the run's own stay.
LABELS = "Labels (default: the thresholds of the run)"
# Columns that the names of settings and results take beside the runs.
NAMES_BESIDE = 40


def show(
    run: opt.RunName = None,
    out: opt.Out = Path("runs"),
    as_json: opt.SummaryJson = False,
    zeta: Annotated[
        float | None,
        typer.Option(
            "--zeta",
            "--zeta-enter",
            help="Level of zeta* at or under which SIGNAL_HEAVY begins, > 0 (new runs: 0.8).",
            rich_help_panel=LABELS,
            show_default=False,
        ),
    ] = None,
    zeta_exit: Annotated[
        float | None,
        typer.Option(
            help="Level of zeta* where SIGNAL_HEAVY has its onset, and over which it ends (new runs: 1).",
            show_default=False,
            rich_help_panel=LABELS,
        ),
    ] = None,
    linear_exit: Annotated[
        float | None,
        typer.Option(
            help="Value error at which the linear regime ends, 0 to 1 (new runs: 0.1).",
            show_default=False,
            rich_help_panel=LABELS,
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            "--target",
            "--loss-target",
            help="Training loss per sample at which the run is FITTED (new runs: 0.05, or 0.025 where the loss has no "
            "factor 2).",
            rich_help_panel=LABELS,
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any other field of `phasetrack.Thresholds`; repeatable.",
            show_default=False,
            rich_help_panel=LABELS,
        ),
    ] = None,
) -> None:
    """Show a run with the labels it was given, or label it again with other thresholds."""
    recorded = read_named(run, out)
    chosen = {
        "zeta_enter": zeta,
        "zeta_exit": zeta_exit,
        "linear_exit": linear_exit,
        "loss_target": target,
    }
    changes: dict[str, Any] = {k: v for k, v in chosen.items() if v is not None}
    for text in threshold or ():
        changes |= _threshold(text)
    thresholds = _with_changes(recorded.thresholds, changes)
    summary = recorded.summary
    if changes or not recorded.finished:
        summary = {**summary, **recorded.summarise(thresholds)}
    if not recorded.finished:
        summary["stopped"] = recorded.state
    show_summary(summary | {"directory": printable(recorded.path)}, as_json, recorded.name)


def list_runs(out: opt.Out = Path("runs"), as_json: opt.SummaryJson = False) -> None:
    """List the runs in a folder, oldest first; name unreadable runs on stderr."""
    from phasetrack.storage.results import find_runs, read_results

    from .run_table import list_alerts, listed, run_table
    from .tables import print_table

    shown, told, unreadable = [], {}, []
    for path in find_runs(out):
        try:
            run = read_results(path)
        except ExpectedError as error:
            unreadable.append(str(error))
        else:
            shown.append(listed(run))
            if as_json:
                told[str(path)] = run.told
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    elif shown:
        screen = console()
        print_table(screen, run_table(shown))
        list_alerts(screen, shown)
    else:
        typer.echo(f"no runs in {out}; make one with: phasetrack run xor --out {out}")
    for line in unreadable:
        complain("unreadable", line)


def plot(
    run: opt.RunName = None,
    out: opt.Out = Path("runs"),
    file: Annotated[
        Path | None,
        typer.Option(
            help="File to write, a .png, .pdf or .svg (default: RUN/run.png).",
            show_default=False,
        ),
    ] = None,
    size: opt.Size = "screen",
    panels: opt.Panels = None,
    width: opt.Width = None,
    title: Annotated[
        str | None,
        typer.Option(
            help="Title above the panels (default: the run's name, or none with --size paper).",
            show_default=False,
        ),
    ] = None,
    no_forecast: Annotated[
        bool, typer.Option("--no-forecast", help="Draw without the forecast.")
    ] = False,
    serif: opt.Serif = False,
) -> None:
    """Draw a run on one page: lanes of labels, boundaries, readings beside their forecast."""
    recorded = read_named(run, out)
    from phasetrack.display.plots import save_figure

    figure = recorded.plot(
        size=size,
        title=title,
        panels=opt.panels_of(panels),
        width=width,
        forecast=not no_forecast,
        serif=serif,
    )
    path = file or recorded.path / "run.png"
    save_figure(figure, path, size=size)
    typer.echo(printable(path))


def compare(
    runs: opt.RunsToCompare = None,
    out: opt.Out = Path("runs"),
    file: Annotated[
        Path | None,
        typer.Option(
            help="Also draw the runs over each other, in this .png, .pdf or .svg.",
            show_default=False,
        ),
    ] = None,
    align: Annotated[
        bool,
        typer.Option(
            "--align", help="Count the figure's steps from each run's onset of signal-heaviness."
        ),
    ] = False,
    size: opt.Size = "screen",
    panels: opt.Panels = None,
    width: opt.Width = None,
    title: Annotated[
        str, typer.Option(help="Title above the panels (default: none).", show_default=False)
    ] = "",
    serif: opt.Serif = False,
    as_json: opt.Json = False,
) -> None:
    """Compare runs: the settings that differ, then all results."""
    from phasetrack.storage.directory import read_run

    recorded = [read_run(run) for run in named_runs(runs, out, least=2)]
    from phasetrack.display.run_comparison import compare as compared
    from phasetrack.display.run_comparison import without_shared_folder

    summaries = [run.labelled for run in recorded]
    rows = compared([run.config for run in recorded], summaries)
    names = [printable(run.path) for run in recorded]
    if as_json:
        typer.echo(
            json.dumps({row.name: dict(zip(names, row.values, strict=True)) for row in rows})
        )
    else:
        from .panels import comparison_table

        screen, shown = console(), names
        if screen.is_terminal and len("  ".join(names)) > screen.width - NAMES_BESIDE:
            shown = list(without_shared_folder(names).values())
        screen.print(comparison_table(shown, rows), highlight=False)
    if file is not None:
        from phasetrack.display.plots import comparison_figure, onset_of, save_figure

        pairs = [(run.history, summary) for run, summary in zip(recorded, summaries, strict=True)]
        figure = comparison_figure(
            dict(zip(names, pairs, strict=True)),
            aligned=align,
            size=size,
            panels=opt.panels_of(panels),
            width=width,
            title=title,
            serif=serif,
        )
        save_figure(figure, file, size=size)
        if align:
            for name, (_, summary) in zip(names, pairs, strict=True):
                if onset_of(summary) is None:
                    typer.echo(f"left out of the figure: {name}, which has no onset", err=True)
        typer.echo(printable(file), err=as_json)


def report(
    runs: opt.RunNames = None,
    out: opt.Out = Path("runs"),
    file: Annotated[
        Path | None,
        typer.Option(
            help="File to write (default: report-RUN.html in the current folder).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write runs as one HTML file, in words and charts, that opens offline."""
    from phasetrack.display.html_report import default_file, write_report

    paths = named_runs(runs, out, least=1)
    path = file or Path(default_file([run.resolve().name for run in paths]))
    for problem in write_report(paths, path):
        complain("damaged", problem)
    typer.echo(printable(path))


def replay(
    run: opt.RunName = None, out: opt.Out = Path("runs"), as_json: opt.SummaryJson = False
) -> None:
    """Measure the weights that a run saved again, against the signal span found at its end."""
    recorded = read_named(run, out)
    from phasetrack.storage.directory import recorded_settings
    from phasetrack.tracking.replay import replay as measure_again
    from phasetrack.training.run import fresh_sample

    settings = recorded_settings(recorded.config, recorded.path)
    seen = measure_again(recorded.path, *fresh_sample(asdict(settings)), eta=settings.eta)
    show_summary(seen.summary, as_json, f"{recorded.name}, in hindsight")
    if seen.span is not None and not as_json:
        trust = seen.span.reason or f"gap {seen.span.gap:.3g}, stability {seen.span.stability:.2f}"
        word = "trustworthy" if seen.span.trustworthy else "NOT TRUSTWORTHY"
        typer.echo(f"span      {seen.span.dim} dimensions, {word}: {trust}")


def _threshold(text: str) -> dict[str, Any]:
    """NAME=VALUE as one changed threshold."""
    from phasetrack.phases.classifier import Thresholds

    kinds: dict[str, type] = {name: type(value) for name, value in asdict(Thresholds()).items()}
    name, _, value = text.partition("=")
    if name not in kinds:
        near = get_close_matches(name, kinds, 1)
        known = f"Did you mean {near[0]!r}?" if near else f"NAME is one of {', '.join(kinds)}."
        raise ExpectedError(
            "threshold", f"{text!r} names no threshold.", f"Write NAME=VALUE. {known}"
        )
    try:
        return {name: kinds[name](value)}
    except ValueError:
        raise ExpectedError(
            "threshold", f"{text!r} holds no number.", f"Write {name}=NUMBER."
        ) from None


def _with_changes(thresholds: Thresholds, changes: dict[str, Any]) -> Thresholds:
    try:
        return replace(thresholds, **changes)
    except ExpectedError as error:
        direct = error.argument in ("zeta_enter", "zeta_exit", "linear_exit", "loss_target")
        if direct:
            raise
        raise ExpectedError("threshold", f"{error.argument}: {error.problem}", error.fix) from None
