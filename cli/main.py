"""The `phasetrack` command: parse, call phasetrack, show. No mathematics, and no torch at import."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phasetrack.errors import printable
from phasetrack.theory.settings import RunSettings
from phasetrack.training.launcher_env import Place, ProcessError, place

from . import options as opt
from .claims import claims
from .planning import plan
from .sweeps import sweep

if TYPE_CHECKING:
    from rich.console import Console

    from phasetrack.phases.classifier import Thresholds
    from phasetrack.storage.directory import Run

app = typer.Typer(
    help="Phase diagnostics for two-layer neural networks (arXiv 2309.15111).",
    epilog="First: phasetrack run xor --d 512. Then: phasetrack list, phasetrack tensorboard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

FAILED, INTERRUPTED, TERMINATED = (
    1,
    130,
    143,
)  # what a shell reports after SIGINT (Ctrl-C) and SIGTERM
STOPPED = {"interrupted": INTERRUPTED, "terminated": TERMINATED}
# Seconds by which the process that speaks may come after the others (chosen here: they start together).
LAGGING = 5.0
# What typer says of a value that is none of its kind, without the value, and what is said here.
KINDS = {"valid int": "an integer", "valid float": "a number", "valid number": "a number"}
# Errors of phasetrack name what was wrong; these are called otherwise on the command line.
OPTION_OF = {
    "target_of": "MODULE:FACTORY",
    "model": "MODULE:FACTORY",
    "layers": "--first/--second",
    "task": "TASK",
    "torchrun": "torchrun",
    "run": "RUN",
    "runs": "RUN",
    "aligned": "--align",
    "zeta_enter": "--zeta",
    "loss_target": "--target",
}


@app.callback()
def _check_processes(context: typer.Context) -> None:
    from phasetrack.errors import expected_error

    if context.invoked_subcommand != "run" and place().count > 1:
        allowed = "the command run, which several processes can do together"
        raise expected_error("torchrun", allowed, context.invoked_subcommand)


@app.command()
@opt.settings_options(*opt.SETTINGS)
def run(
    *,
    context: typer.Context,
    task: opt.Task,
    options: dict[str, Any],
    device: opt.Device = "cpu",
    threads: opt.Threads = None,
    matmul: opt.Matmul = "auto",
    out: opt.Out = Path("runs"),
    name: opt.Name = None,
    resume: opt.Resume = None,
    checkpoint_steps: opt.CheckpointSteps = None,
    checkpoint_seconds: opt.CheckpointSeconds = None,
) -> None:
    """Train on a task with the probes attached and write the run to OUT/NAME.

    Exit code 0: the run came to its end; 1: it diverged; 130: interrupted; 143: terminated. After
    the last two it is readable, and --resume goes on with it.
    """
    options = {"task": task, **options}
    if resume is None:
        settings = RunSettings(**options)
    else:
        settings = _repeated(context, resume, options, out / (name or resume.name))
    from phasetrack.display.console_sink import ConsoleSink
    from phasetrack.training import run as training

    title = resume.resolve().name if resume else name
    title = training.run_name(settings) if title is None else title
    expected, console = settings.steps or settings.predicted_steps, _console()
    saving: dict[str, Any] = {
        "checkpoint_steps": checkpoint_steps,
        "checkpoint_seconds": checkpoint_seconds,
    }
    leads = place().leads  # of several processes, one speaks
    view = ConsoleSink(console, title=title, expected=expected) if leads else nullcontext()
    with view as sink:
        sinks = [] if sink is None else [sink]
        if resume is None:
            summary = training.train(
                settings,
                out=out,
                name=title,
                device=device,
                threads=threads,
                matmul=matmul,
                sinks=sinks,
                **saving,
            )
        else:
            summary = training.resume(
                resume,
                device=device if _given(context, "device") else None,
                threads=threads,
                matmul=matmul if _given(context, "matmul") else None,
                sinks=sinks,
                **saving,
            )
    if leads:
        _print_summary(console, summary, title)
        if summary["stopped"] == "diverged":
            typer.echo(f"run: {summary['reason']}", err=True)
        if summary["stopped"] in STOPPED:
            typer.echo(f"to go on: phasetrack run {task} --resume {summary['directory']}", err=True)
    raise typer.Exit({"diverged": 1, **STOPPED}.get(summary["stopped"], 0))


@app.command()
@opt.settings_options(*opt.FORECAST)
def forecast(*, task: opt.Task, options: dict[str, Any], as_json: opt.SummaryJson = False) -> None:
    """Predict a whole run, boundaries and band, without training."""
    settings = RunSettings(task=task, **options)
    from phasetrack.tasks.registry import make_task
    from phasetrack.theory.forecast import predict

    summary = predict(make_task(task, settings.d).geometry, settings).as_summary()
    _show(summary, as_json, f"forecast of {task}, d = {settings.d}")


app.command()(plan)
app.command()(sweep)
app.command()(claims)


@app.command()
def show(
    run: opt.RunPath,
    as_json: opt.SummaryJson = False,
    zeta: Annotated[
        float | None,
        typer.Option(help="Label again: SIGNAL_HEAVY begins at zeta* <= this.", show_default=False),
    ] = None,
    zeta_exit: Annotated[
        float | None,
        typer.Option(help="... and ends, and has its onset, here.", show_default=False),
    ] = None,
    linear_exit: Annotated[
        float | None,
        typer.Option(help="... value error that ends the linear regime.", show_default=False),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(help="... loss at which the run is FITTED.", show_default=False),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="... any other threshold; repeatable.", show_default=False
        ),
    ] = None,
) -> None:
    """Show a run, as it was labelled or labelled again with other thresholds."""
    recorded = _read(run)
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
    _show(summary | {"directory": printable(run)}, as_json, recorded.name)


@app.command("list")
def list_runs(out: opt.Out = Path("runs"), as_json: opt.SummaryJson = False) -> None:
    """List the runs in a folder, oldest first; what cannot be read is said and left out."""
    from phasetrack.errors import ExpectedError
    from phasetrack.storage.directory import find_runs

    from .panels import run_table

    runs, unreadable = [], []
    for path in find_runs(out):
        try:
            runs.append(_read(path))
        except ExpectedError as error:
            unreadable.append(str(error))
    if as_json:
        typer.echo(json.dumps({str(run.path): run.summary for run in runs}, indent=2))
    elif runs:
        _console().print(run_table(runs), highlight=False)
    else:
        typer.echo(f"no runs in {out}; make one with: phasetrack run xor --out {out}")
    for line in unreadable:
        _complain("unreadable", line)


@app.command()
def plot(
    run: opt.RunPath,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Where to; the ending decides: .png, .pdf, .svg (default: RUN/run.png).",
            show_default=False,
        ),
    ] = None,
    size: opt.Size = "screen",
) -> None:
    """Draw a run on one page: phases shaded, boundaries, measured beside predicted."""
    recorded = _read(run)
    from phasetrack.display.plots import run_figure, save_figure

    path = file or run / "run.png"
    summary = recorded.summary or recorded.summarise()
    figure = run_figure(recorded.history, summary, title=recorded.name, size=size)
    save_figure(figure, path, size=size)
    typer.echo(printable(path))


@app.command()
def compare(
    runs: opt.RunPaths,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Draw the runs over each other, too: .png, .pdf or .svg.", show_default=False
        ),
    ] = None,
    align: Annotated[
        bool, typer.Option("--align", help="Count the figure's steps from each run's onset.")
    ] = False,
    size: opt.Size = "screen",
    as_json: opt.Json = False,
) -> None:
    """Lay runs beside each other: the settings that differ, and all results."""
    recorded = [_read(run) for run in runs]
    from phasetrack.display.run_comparison import compare as compared

    summaries = [run.summary or run.summarise() for run in recorded]
    rows = compared([run.config for run in recorded], summaries)
    names = [printable(run.path) for run in recorded]
    if as_json:
        typer.echo(
            json.dumps({row.name: dict(zip(names, row.values, strict=True)) for row in rows})
        )
    else:
        from .panels import comparison_table

        _console().print(comparison_table(names, rows), highlight=False)
    if file is not None:
        from phasetrack.display.plots import comparison_figure, onset_of, save_figure

        pairs = [(run.history, summary) for run, summary in zip(recorded, summaries, strict=True)]
        figure = comparison_figure(dict(zip(names, pairs, strict=True)), aligned=align, size=size)
        save_figure(figure, file, size=size)
        if align:
            for name, (_, summary) in zip(names, pairs, strict=True):
                if onset_of(summary) is None:
                    typer.echo(f"left out of the figure: {name}, which has no onset", err=True)
        typer.echo(printable(file), err=as_json)


@app.command()
def report(
    runs: opt.RunPaths,
    file: Annotated[
        Path | None,
        typer.Option(help="Where to (default: RUN/report.html of the first).", show_default=False),
    ] = None,
) -> None:
    """Write the Phases tab of some runs as one HTML file, which opens without a network."""
    from phasetrack.display.html_report import write_report

    path = file or runs[0] / "report.html"
    write_report(runs, path)
    typer.echo(printable(path))


@app.command()
def replay(run: opt.RunPath, as_json: opt.SummaryJson = False) -> None:
    """Look back at a run's saved weights, against the signal span found at its end."""
    recorded = _read(run)
    from phasetrack.storage.directory import recorded_settings
    from phasetrack.tracking.replay import replay as look_back
    from phasetrack.training.run import fresh_sample

    settings = recorded_settings(recorded.config, run)
    seen = look_back(run, *fresh_sample(asdict(settings)), eta=settings.eta)
    _show(seen.summary, as_json, f"{recorded.name}, in hindsight")
    if seen.span is not None and not as_json:
        trust = seen.span.reason or f"gap {seen.span.gap:.3g}, stability {seen.span.stability:.2f}"
        word = "trustworthy" if seen.span.trustworthy else "NOT TRUSTWORTHY"
        typer.echo(f"span      {seen.span.dim} dimensions, {word}: {trust}")


@app.command()
def tensorboard(
    out: opt.Out = Path("runs"),
    port: Annotated[
        int, typer.Option(help="Port on localhost, 0 for any free one (6006: TensorBoard's own).")
    ] = 6006,
) -> None:
    """Open TensorBoard on the runs in a folder, on localhost only."""
    from phasetrack.errors import check_int, expected_error

    check_int("port", port, minimum=0, maximum=65535)
    if not out.is_dir():
        raise expected_error("out", "a folder of runs", str(out), "`phasetrack run xor` makes one")
    # -P: the folder that one stands in is no place for packages
    command = [sys.executable, "-P", "-m", "tensorboard.main", "--logdir", str(out)]
    command += ["--host", "localhost", "--port", str(port)]
    try:
        raise typer.Exit(subprocess.call(command))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None  # how a server is stopped


@app.command()
def inspect(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FACTORY", help="Where the model is made: my_module:make_model."
        ),
    ],
    first: Annotated[
        str | None, typer.Option(help="Name of the first layer.", show_default=False)
    ] = None,
    second: Annotated[
        str | None, typer.Option(help="Name of the second layer.", show_default=False)
    ] = None,
) -> None:
    """Show which two layers of a model phasetrack would follow, before anyone trains."""
    from phasetrack.model.two_layer_view import TwoLayerView

    from .inspection import made_model, view_table

    if (first is None) != (second is None):
        from phasetrack.errors import expected_error

        missing = "second" if second is None else "first"
        raise expected_error(missing, "the name of the other layer too", "none")
    model = made_model(target)
    view = TwoLayerView.of(model, (first, second) if first and second else None)
    _console().print(view_table(view), highlight=False)


# click's error for wrong usage, which typer may bring along under a private name
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command; a mistake in its options is one line and exit code 2."""
    from phasetrack.errors import ExpectedError

    before = warnings.formatwarning
    # a line for people, without the line of code that it came from
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"
    try:
        code = app(prog_name="phasetrack", standalone_mode=False)
    except ExpectedError as error:
        code = _complain(_option(error.argument), error.message)
    except UsageError as error:
        code = _complain_of_usage(error)
    except ProcessError as error:
        _complain("run", str(error))
        code = FAILED
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        code = _complain(str(error.filename)[:80], f"expected a shorter path ({error.strerror})")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    finally:
        warnings.formatwarning = before
    if _place().count > 1:
        # gloo's threads outlive the model that they served (torch 2.13) and, rarely, abort the
        # process while it is taken down; all files are closed by now
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
    sys.exit(code)


def _complain(name: str, message: str) -> int:
    # one line, whatever the message quotes, and however many processes say it
    if _place().leads:
        typer.echo(printable(f"{name}: {' '.join(message.split())}"), err=True)
    else:  # torchrun ends them all once one has failed: the one that speaks comes first
        with suppress(KeyboardInterrupt):
            time.sleep(LAGGING)
    return 2


def _place() -> Place:
    try:
        return place()
    except ValueError:  # nobody knows: every process says what is wrong with its environment
        return Place()


def _complain_of_usage(error: Any) -> int:
    parameter = getattr(error, "param", None)
    if parameter is not None:
        name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
        kind = next((kind for word, kind in KINDS.items() if word in (error.message or "")), "")
        if kind and (given := _typed(parameter.opts)) is not None:
            return _complain(name, f"expected {kind}, got {given[:80]!r}")
        return _complain(name, error.message or "expected a value, got none")
    if error.ctx is not None and not sys.argv[1:]:  # no command: the help text is the message
        error.show()
        return 2
    command = error.ctx.command_path if error.ctx else "phasetrack"
    return _complain(command, f"{error.format_message().rstrip('.')}; see {command} --help")


def _typed(names: list[str]) -> str | None:
    """What was typed as the value of an option; None if it was not given."""
    words = sys.argv[1:]
    for word, following in zip(words, [*words[1:], None], strict=True):
        option, equals, value = word.partition("=")
        if option in names:
            return value if equals else following
    return None


def _option(name: str) -> str:
    return OPTION_OF.get(name, f"--{name.replace('_', '-')}")


def _given(context: typer.Context, name: str) -> bool:
    """Whether an option was given, and not left at its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _repeated(
    context: typer.Context, run: Path, options: dict[str, Any], place: Path
) -> RunSettings:
    """The settings of a run that is taken up; what was given again must be what it was."""
    from phasetrack.errors import expected_error
    from phasetrack.storage.directory import read_config, recorded_settings

    settings = recorded_settings(read_config(run), run)
    for name, value in options.items():
        recorded = getattr(settings, name)
        if _given(context, name) and value != recorded:
            was = "none" if recorded is None else recorded
            raise expected_error(name, f"{was}, as {run} was started with", value, "leave it out")
    for name in ("out", "name"):
        if _given(context, name) and place.resolve() != run.resolve():
            raise expected_error(name, f"the folder and name of {run}", place, "leave it out")
    return settings


def _read(path: Path) -> Run:
    from phasetrack.storage.directory import read_run

    return read_run(path)


def _threshold(text: str) -> dict[str, Any]:
    """NAME=VALUE as one changed threshold."""
    from phasetrack.errors import expected_error
    from phasetrack.phases.classifier import Thresholds

    kinds: dict[str, type] = {name: type(value) for name, value in asdict(Thresholds()).items()}
    name, _, value = text.partition("=")
    if name not in kinds:
        raise expected_error("threshold", f"NAME=VALUE, NAME one of {', '.join(kinds)}", repr(text))
    try:
        return {name: kinds[name](value)}
    except ValueError:
        raise expected_error("threshold", f"{name}=NUMBER", repr(text)) from None


def _with_changes(thresholds: Thresholds, changes: dict[str, Any]) -> Thresholds:
    from phasetrack.errors import ExpectedError

    try:
        return replace(thresholds, **changes)
    except ExpectedError as error:
        direct = error.argument in ("zeta_enter", "zeta_exit", "linear_exit", "loss_target")
        if direct:
            raise
        raise ExpectedError("threshold", f"{error.argument}: {error.problem}", error.fix) from None


def _console() -> Console:
    from rich.console import Console

    return Console()


def _show(summary: dict[str, Any], as_json: bool, title: str) -> None:
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        _print_summary(_console(), summary, title)


def _print_summary(console: Console, summary: dict[str, Any], title: str) -> None:
    from .panels import print_summary

    print_summary(console, summary, title)
