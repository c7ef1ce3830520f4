"""The paper's experiment: minibatch SGD with fresh samples, with the probes attached."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from phasetrack._checks import ExpectedError, check_int
from phasetrack._version import __version__
from phasetrack.forecast import Forecast, predict
from phasetrack.losses import LogisticLoss
from phasetrack.memory import host_memory, micro_batch
from phasetrack.network import TwoLayerNet
from phasetrack.phases import Phase
from phasetrack.probes import default_probes
from phasetrack.run_directory import CHECKPOINT, CONFIG, SUMMARY, create_run_directory, write_json
from phasetrack.settings import RunSettings
from phasetrack.sinks.base import Sink
from phasetrack.tasks.base import Task
from phasetrack.tasks.catalogue import make_task
from phasetrack.tracker import Tracker, attach

# A sample to look back with: enough for two halves to agree on a span (chosen here), and from a step
# that no training reaches.
LEAST_SAMPLE, SAMPLE_PER_DIMENSION = 4096, 16
FRESH_STEP = 2**62


def train(
    settings: RunSettings,
    *,
    out: str | Path = "runs",
    name: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    sinks: Sequence[Sink] = (),
    predicted: Forecast | None = None,
) -> dict[str, Any]:
    """Train the paper's network on a task, probes attached, and write a run directory.

    Args:
        settings: the run.
        out: folder of runs.
        name: the run's directory in it; None makes one from task, d, seed and time.
        device: ``cpu`` or ``cuda[:i]``; samples and initial weights do not depend on it.
        threads: torch's threads; None leaves them.
        sinks: further sinks, such as the console's.
        predicted: the forecast to show beside the run; computed if None, where it holds.

    Returns:
        What ``summary.json`` holds; ``stopped`` is ``fitted``, ``steps``, ``diverged`` or
        ``interrupted`` (the run then is complete up to there).

    Raises:
        ExpectedError: naming the option at fault; no run directory is left behind.
    """
    where = _checked_device(device)
    if threads is not None:
        torch.set_num_threads(check_int("threads", threads, minimum=1))
    settings = with_micro_batch(settings, where)
    task = make_task(settings.task, settings.d, shuffle_labels=settings.shuffle_labels)
    directory = create_run_directory(Path(out), name or run_name(settings))
    started = time.perf_counter()
    try:
        if predicted is None and settings.forecastable:
            predicted = predict(task.geometry, settings)
    except BaseException:
        directory.rmdir()  # nothing is in it yet
        raise
    write_json(directory / CONFIG, _config(settings, predicted))
    net = TwoLayerNet(settings.d, settings.width, theta=settings.theta, seed=settings.seed)
    net.to(where)
    trained = {"both": net, "first": net.first, "second": net.second}[settings.train]
    optimizer = torch.optim.SGD(trained.parameters(), lr=settings.eta * settings.width)
    loss = LogisticLoss()
    tracker = attach(
        net,
        optimizer,
        loss=loss,
        geometry=task.geometry,
        logdir=directory,
        every=settings.every,
        probes=default_probes(gradients=settings.gradient_error),
        sinks=sinks,
        thresholds=settings.thresholds(),
        forecast=predicted,
        # the closed form is XOR's; where there is no forecast SADDLE has no yardstick
        escape_steps=settings.escape_steps if settings.forecastable else None,
        hparams=_hparams(settings),
        snapshots=settings.snapshots,
    )
    extra: dict[str, Any] = {"directory": str(directory), "stopped": "failed"}
    try:
        extra["stopped"] = _run(settings, task, net, optimizer, loss, tracker, where)
    finally:
        extra["seconds"] = time.perf_counter() - started
        _save(directory / CHECKPOINT, net, optimizer, tracker)
        summary = {**tracker.summary(), **extra}
        write_json(directory / SUMMARY, summary)
        tracker.detach(extra)
    return summary


def with_micro_batch(settings: RunSettings, device: torch.device) -> RunSettings:
    """The settings with `micro_batch` chosen from d, width, batch and the device's memory.

    A number that was given stays. The one chosen is recorded in ``config.json``, so that a run can be
    repeated to the bit elsewhere.
    """
    if settings.micro_batch is not None:
        return settings
    if device.type == "cuda":
        memory: int | None = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = host_memory()
    chosen = micro_batch(settings.d, settings.width, settings.batch_size, memory)
    return replace(settings, micro_batch=chosen)


def fresh_sample(settings: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """A sample of a recorded run's task that no run has trained on: inputs (m, d), labels (m,).

    Args:
        settings: as ``config.json`` holds them.
    """
    d, shuffled = settings["d"], settings["shuffle_labels"]
    task = make_task(settings["task"], d, shuffle_labels=shuffled)
    count = max(LEAST_SAMPLE, SAMPLE_PER_DIMENSION * d)
    return task.sample(count, seed=settings["seed"], step=FRESH_STEP)


def run_name(settings: RunSettings) -> str:
    """A run's default name: task, d, seed and time."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return f"{settings.task}-d{settings.d}-s{settings.seed}-{stamp}"


def _run(
    settings: RunSettings,
    task: Task,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: LogisticLoss,
    tracker: Tracker,
    device: torch.device,
) -> str:
    """Take the steps; return why they ended."""
    try:
        for step in range(settings.step_limit):
            _step(settings, task, net, optimizer, loss, step, device)
            if any(alert.name == "DIVERGED" for alert in tracker.alerts):
                return "diverged"
            if settings.steps is None and tracker.phase is Phase.FITTED:
                return "fitted"
    except KeyboardInterrupt:
        return "interrupted"
    return "steps"


def _step(
    settings: RunSettings,
    task: Task,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: LogisticLoss,
    step: int,
    device: torch.device,
) -> None:
    """One SGD step on a fresh batch, in micro-batches whose gradients add up to the batch's."""
    batch, piece = settings.batch_size, settings.micro_batch or settings.batch_size
    optimizer.zero_grad()
    for start in range(0, batch, piece):
        count = min(piece, batch - start)
        x, y = task.sample(count, seed=settings.seed, step=step, start=start, device=device)
        (loss(net(x), y) * (count / batch)).backward()
    optimizer.step()


def _checked_device(device: str) -> torch.device:
    try:
        where = torch.device(device)
    except RuntimeError:
        raise ExpectedError("device", "cpu or cuda[:index]", repr(device)) from None
    if where.type not in ("cpu", "cuda"):
        raise ExpectedError("device", "cpu or cuda[:index]", repr(device))
    if where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA devices here"
        raise ExpectedError("device", "a CUDA device that is present", f"{device} ({found})")
    return where


def _hparams(settings: RunSettings) -> dict[str, object]:
    """The settings that decide a run, for TensorBoard's table."""
    names = ("task", "d", "width", "batch", "eta", "theta", "train", "shuffle_labels", "seed")
    values = {**asdict(settings), "batch": settings.batch_size}
    return {name: values[name] for name in names}


def _config(settings: RunSettings, predicted: Forecast | None) -> dict[str, Any]:
    return {
        "settings": {**asdict(settings), "batch": settings.batch_size},
        "thresholds": asdict(settings.thresholds()),
        "escape_steps": settings.escape_steps if settings.forecastable else None,
        "step_limit": settings.step_limit,
        "forecast": predicted.bands() if predicted else {},
        "versions": {
            "phasetrack": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _save(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, tracker: Tracker) -> None:
    """Write the checkpoint so that a reader never sees a part of one."""
    scratch = path.with_name(f".{path.name}")
    steps = int(tracker.summary()["steps"])
    state = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "step": steps}
    torch.save(state, scratch)
    scratch.replace(path)
