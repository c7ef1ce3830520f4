"""`phasetrack run` and `phasetrack forecast`: train, resume, or predict one run."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import typer

from phasetrack.errors import ExpectedError, printable
from phasetrack.theory.settings import RunSettings
from phasetrack.training.launcher_env import place

from . import options as opt
from .exit_codes import FAILED, STOPPED, UNWRITTEN
from .named_runs import named_run
from .output import console, print_summary, show_summary


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
    """Train the paper's network on a task, phases tracked, and write the run to OUT/NAME.

    Exit codes: 0, the run reached its end; 1, it diverged; 3, its history or summary could not be
    written; 130, interrupted; 143, terminated. After the last three --resume continues the run.
    """
    options = {"task": task, **options}
    if resume is None:
        settings = RunSettings(**options)
    else:
        resume = named_run(resume, out)
        settings = _repeated(context, resume, options, out / (name or resume.name))
    from phasetrack.display.console_sink import ConsoleSink
    from phasetrack.training import run as training
    from phasetrack.training.memory import keep_freed

    title = resume.resolve().name if resume else name
    title = f"{task}, d = {settings.d}, seed {settings.seed}" if title is None else title
    expected, screen = settings.steps or settings.predicted_steps, console()
    saving: dict[str, Any] = {
        "checkpoint_steps": checkpoint_steps,
        "checkpoint_seconds": checkpoint_seconds,
    }
    leads = place().leads  # of several processes, one speaks
    display = ConsoleSink(screen, title=title, expected=expected) if leads else nullcontext()
    keep_freed()  # a step at d = 512 otherwise spends a fifth of its time returning memory
    with display as sink:
        sinks = [] if sink is None else [sink]
        if resume is None:
            summary = training.train(
                settings,
                out=out,
                name=name,
                device=device,
                threads=threads,
                matmul=matmul,
                sinks=sinks,
                **saving,
            )
        else:
            summary = training.resume(
                resume,
                device=device if opt.given(context, "device") else None,
                threads=threads,
                matmul=matmul if opt.given(context, "matmul") else None,
                sinks=sinks,
                **saving,
            )
    if leads:
        print_summary(screen, summary, Path(summary["directory"]).name)
        if summary["stopped"] == "diverged":
            typer.echo(f"run: {summary['reason']}", err=True)
        if summary["stopped"] in STOPPED:
            place_of_run = shlex.quote(printable(summary["directory"]))
            typer.echo(f"to resume: phasetrack run {task} --resume {place_of_run}", err=True)
        for file in summary.get("unwritten", ()):
            typer.echo(f"run: {file} could not be written whole; make room and --resume", err=True)
    code = UNWRITTEN if summary.get("unwritten") else 0
    if summary["stopped"] == "diverged":
        code = code or FAILED
    raise typer.Exit(STOPPED.get(summary["stopped"], code))


@opt.settings_options(*opt.FORECAST)
def forecast(*, task: opt.Task, options: dict[str, Any], as_json: opt.SummaryJson = False) -> None:
    """Predict a run before training: its boundaries, each with a band of 10 to 90 percent."""
    settings = RunSettings(task=task, **options)
    from phasetrack.tasks.registry import make_task
    from phasetrack.theory.forecast import predict

    made = make_task(task, settings.d)
    summary = predict(made.geometry, settings, population=made.population).as_summary()
    show_summary(summary, as_json, f"forecast of {task}, d = {settings.d}")


def _repeated(
    context: typer.Context, run: Path, options: dict[str, Any], place: Path
) -> RunSettings:
    """Return the settings of a run to resume; options that are given again must agree with them."""
    from phasetrack.storage.directory import recorded_settings
    from phasetrack.storage.results import read_config

    settings = recorded_settings(read_config(run), run)
    for name, value in options.items():
        recorded = getattr(settings, name)
        if opt.given(context, name) and value != recorded:
            raise ExpectedError(
                name,
                f"{value!r} differs from the run's own value, {recorded!r}.",
                "Leave the option out when you resume.",
            )
    for name in ("out", "name"):
        if opt.given(context, name) and place.resolve() != run.resolve():
            raise ExpectedError(
                name,
                f"{str(place)!r} is not the run that is resumed, {str(run)!r}.",
                "Leave the option out when you resume.",
            )
    return settings
