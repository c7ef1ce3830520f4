"""The `phasetrack` command."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from phasetrack.forecast import Forecast
    from phasetrack.settings import RunSettings

app = typer.Typer(
    help="Phase diagnostics for two-layer neural networks (arXiv 2309.15111).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Task = Annotated[str, typer.Argument(help="The task: xor.")]
Dim = Annotated[int, typer.Option("--d", help="Input dimension, >= 2.")]
Width = Annotated[int, typer.Option(help="Number of neurons p (512: theory.md 7).")]
Batch = Annotated[int | None, typer.Option(help="Fresh samples a step; default 4 d.")]
Eta = Annotated[float, typer.Option(help="Step of each neuron; lr is eta * width.")]
Theta = Annotated[float, typer.Option(help="Radius of the initial sphere.")]
Steps = Annotated[
    int | None,
    typer.Option(help="Exactly so many steps; default: to the target or a predicted limit."),
]
Seed = Annotated[int, typer.Option(help="Seed of weights and samples.")]
Train = Annotated[str, typer.Option(help="Which layers: both, first or second.")]
Target = Annotated[float, typer.Option(help="Loss at which the run is FITTED.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def run(
    task: Task,
    d: Dim = 512,
    width: Width = 512,
    batch: Batch = None,
    eta: Eta = 0.2,
    theta: Theta = 0.1,
    steps: Steps = None,
    seed: Seed = 0,
    train: Train = "both",
    target: Target = 0.05,
    every: Annotated[int, typer.Option(help="Record every n-th step.")] = 1,
    micro_batch: Annotated[int | None, typer.Option(help="Samples in memory at once.")] = None,
    shuffle_labels: Annotated[bool, typer.Option("--shuffle-labels", help="No signal.")] = False,
    gradient_error: Annotated[
        bool, typer.Option("--gradient-error", help="Also read the gradient error.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda[:index].")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Threads of torch.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="The run's directory in it.")] = None,
) -> None:
    """Train on a task with the probes attached and write OUT/NAME."""
    from phasetrack.settings import RunSettings

    settings = RunSettings(
        task=task,
        d=d,
        width=width,
        batch=batch,
        eta=eta,
        theta=theta,
        steps=steps,
        seed=seed,
        train=train,
        every=every,
        target=target,
        micro_batch=micro_batch,
        shuffle_labels=shuffle_labels,
        gradient_error=gradient_error,
    )
    from phasetrack.training import train as run_training

    summary = run_training(settings, out=out, name=name, device=device, threads=threads)
    _print_summary(summary)
    if summary["stopped"] == "diverged":
        typer.echo(f"run: {summary['reason']}", err=True)
    raise typer.Exit({"diverged": 1, "interrupted": 130}.get(summary["stopped"], 0))


@app.command()
def forecast(
    task: Task,
    d: Dim = 512,
    width: Width = 512,
    batch: Batch = None,
    eta: Eta = 0.2,
    theta: Theta = 0.1,
    steps: Steps = None,
    seed: Seed = 0,
    train: Train = "both",
    target: Target = 0.05,
    as_json: Json = False,
) -> None:
    """Predict a run without training."""
    from phasetrack.settings import RunSettings

    settings = RunSettings(
        task=task,
        d=d,
        width=width,
        batch=batch,
        eta=eta,
        theta=theta,
        steps=steps,
        seed=seed,
        train=train,
        target=target,
    )
    summary = _forecast_summary(settings)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        _print_summary(summary)


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    as_json: Json = False,
    zeta: Annotated[float | None, typer.Option(help="Label again: entry threshold.")] = None,
    zeta_exit: Annotated[float | None, typer.Option(help="... exit threshold.")] = None,
    linear_exit: Annotated[float | None, typer.Option(help="... value error.")] = None,
) -> None:
    """Show a run, labelled as it was or again with other thresholds."""
    from phasetrack.run_directory import read_run

    recorded = read_run(run)
    changed = {"zeta_enter": zeta, "zeta_exit": zeta_exit, "linear_exit": linear_exit}
    chosen: dict[str, Any] = {k: v for k, v in changed.items() if v is not None}
    summary = dict(recorded.summary)
    if chosen or not summary:
        verdicts = recorded.relabel(replace(recorded.thresholds, **chosen))
        boundaries = [asdict(b) for _, verdict in verdicts for b in verdict.boundaries]
        phase = verdicts[-1][1].phase.name if verdicts else "UNDETERMINED"
        summary |= {"phase": phase, "boundaries": boundaries}
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        _print_summary(summary)


@app.command("list")
def list_runs(
    out: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("runs"),
) -> None:
    """List the runs in a folder, oldest first."""
    from phasetrack.run_directory import find_runs, read_run

    for path in find_runs(out):
        summary = read_run(path).summary
        typer.echo(f"{path}  {summary.get('phase', 'not finished')}")


@app.command()
def tensorboard(
    out: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("runs"),
    port: Annotated[int, typer.Option(help="Port on localhost.")] = 6006,
) -> None:
    """Open TensorBoard on the runs, on localhost."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(out)]
    raise typer.Exit(subprocess.call([*command, "--host", "localhost", "--port", str(port)]))


def main() -> None:
    """Run the command; a mistake in its options is one line and exit code 2."""
    from phasetrack._checks import ExpectedError

    try:
        app()
    except ExpectedError as error:
        typer.echo(f"--{error.name.replace('_', '-')}{str(error)[len(error.name) :]}", err=True)
        sys.exit(2)


def _forecast_summary(settings: RunSettings) -> dict[str, Any]:
    from phasetrack.forecast import METRICS
    from phasetrack.forecast import forecast as predict
    from phasetrack.tasks import XOR

    predicted: Forecast = predict(XOR(settings.d).geometry, settings)
    verdicts = predicted.verdicts()
    return {
        "phase": verdicts[-1][1].phase.name,
        "boundaries": [asdict(b) for _, verdict in verdicts for b in verdict.boundaries],
        "alerts": [],
        "final": {metric: float(predicted.median(metric)[-1]) for metric in METRICS},
        "forecast": {name: asdict(band) for name, band in predicted.summary().items()},
    }


def _print_summary(summary: dict[str, Any]) -> None:
    """Phase, boundaries, forecast and alerts, a line each."""
    if "directory" in summary:
        typer.echo(f"run       {summary['directory']}")
    typer.echo(f"phase     {summary.get('phase')}  {summary.get('reason', '')}".rstrip())
    for boundary in summary.get("boundaries", []):
        line = f"boundary  {boundary['name']}: onset {boundary['onset']:.1f}"
        typer.echo(f"{line}, detected at step {boundary['detected']}")
    if "loss_halving_step" in summary:
        typer.echo(f"loss      halved at step {summary['loss_halving_step']:.1f}")
    for name, band in summary.get("forecast", {}).items():
        numbers = f"{band['value']:.1f} [{band['low']:.1f}..{band['high']:.1f}]"
        typer.echo(f"forecast  {name} {numbers}")
    for phase, rates in summary.get("growth", {}).items():
        numbers = f"measured {rates['measured']:.3f}, predicted {rates['predicted']:.3f}"
        typer.echo(f"growth    {phase}: {numbers}")
    for alert in summary.get("alerts", []):
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in alert["evidence"].items())
        typer.echo(f"alert     {alert['name']} at step {alert['step']} ({numbers})")
