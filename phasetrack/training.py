"""The paper's experiment: minibatch SGD with fresh samples, with the probes attached."""

from __future__ import annotations

import copy
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from phasetrack._checks import ExpectedError, check_int
from phasetrack._signals import StopSignals
from phasetrack._version import __version__
from phasetrack.checkpoint import (
    CHECKPOINT,
    CheckpointSchedule,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from phasetrack.forecast import Forecast, predict
from phasetrack.losses import LogisticLoss
from phasetrack.memory import cached_bytes, host_memory, micro_batch
from phasetrack.network import FusedTwoLayerNet
from phasetrack.phases import Phase
from phasetrack.probes import default_probes
from phasetrack.products import AUTO, Matmul, chosen_matmul
from phasetrack.run_directory import (
    CONFIG,
    SUMMARY,
    create_run_directory,
    read_config,
    recorded_settings,
    write_json,
)
from phasetrack.settings import RunSettings
from phasetrack.sinks.base import Sink
from phasetrack.tasks.base import Task
from phasetrack.tasks.catalogue import make_task
from phasetrack.tracker import TrackingWarning, attach

# A sample to look back with: enough for two halves to agree on a span (chosen here), and from a step
# that no training reaches.
LEAST_SAMPLE, SAMPLE_PER_DIMENSION = 4096, 16
FRESH_STEP = 2**62
# Threads that may be asked for (chosen here: beyond every machine), by a config.json from elsewhere too.
MOST_THREADS = 2**12
# Whether a run is at its end is looked at before every so many-th step (chosen here: readings are made
# in blocks, and looking at each step would make each a block of one).
LOOK_EVERY = 8


def train(
    settings: RunSettings,
    *,
    out: str | Path = "runs",
    name: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    matmul: str = AUTO,
    sinks: Sequence[Sink] = (),
    predicted: Forecast | None = None,
    checkpoint_steps: int | None = None,
    checkpoint_seconds: float | None = None,
) -> dict[str, Any]:
    """Train the paper's network on a task, probes attached, and write a run directory.

    Args:
        settings: the run.
        out: folder of runs.
        name: the run's directory in it; None makes one from task, d, seed and time.
        device: ``cpu`` or ``cuda[:i]``; samples and initial weights do not depend on it.
        threads: torch's threads; None leaves them.
        matmul: how the processor multiplies matrices (`products`): ``default``, ``onednn``, or ``auto``
            for the fastest whose error is that of float32. The last bits of a run depend on it.
        sinks: further sinks, such as the console's.
        predicted: the forecast to show beside the run; computed if None.
        checkpoint_steps: save a checkpoint at every so many-th step.
        checkpoint_seconds: without `checkpoint_steps`, after so many seconds; None means
            `checkpoint.CHECKPOINT_SECONDS`.

    Returns:
        What ``summary.json`` holds; ``stopped`` is ``fitted``, ``steps``, ``diverged``,
        ``interrupted`` (SIGINT) or ``terminated`` (SIGTERM); after the last two the run is complete
        up to there, and `resume` goes on with it.

    Raises:
        ExpectedError: naming the option at fault; no run directory is left behind.
    """
    where = _checked_device(device)
    schedule = CheckpointSchedule(checkpoint_steps, checkpoint_seconds)
    saving = {"steps": checkpoint_steps, "seconds": checkpoint_seconds}
    if threads is not None:
        torch.set_num_threads(check_int("threads", threads, minimum=1, maximum=MOST_THREADS))
    settings = with_micro_batch(settings, where)
    path = _chosen_matmul(matmul, settings)
    directory = create_run_directory(Path(out), run_name(settings) if name is None else name)
    try:
        predicted = predicted or _forecast(settings)
    except BaseException:
        directory.rmdir()  # nothing is in it yet
        raise
    write_json(directory / CONFIG, _config(settings, predicted, device, saving, path))
    job = _Job(directory, settings, where, path, predicted, sinks, resume=False)
    return job.run(schedule)


def resume(
    run: str | Path,
    *,
    device: str | None = None,
    threads: int | None = None,
    matmul: str | None = None,
    sinks: Sequence[Sink] = (),
    predicted: Forecast | None = None,
    checkpoint_steps: int | None = None,
    checkpoint_seconds: float | None = None,
) -> dict[str, Any]:
    """Go on with a run from its last checkpoint, or from its beginning if it has none.

    What the run's files hold beyond the checkpoint is cut off and computed again. With the device,
    the threads and the versions of before, the result is that of a run that was never stopped, to
    the bit. A run that has come to its end is finished again, with the same result.

    Args:
        run: the run directory.
        device: None takes that of before.
        threads: None takes those of before.
        matmul: None takes that of before.
        sinks: further sinks, such as the console's.
        predicted: the forecast of the same settings, if it is at hand.
        checkpoint_steps: as for `train`; None takes what was asked for before.
        checkpoint_seconds: likewise.

    Returns:
        What ``summary.json`` holds.

    Raises:
        ExpectedError: if it is no run directory, another process writes to it, or no checkpoint in
            it can be used; the run is left as it is.
    """
    directory = Path(run)
    config = read_config(directory)
    settings = recorded_settings(config, directory)
    if checkpoint_steps is None and checkpoint_seconds is None:
        before = _part(config, "checkpoints")
        checkpoint_steps, checkpoint_seconds = before.get("steps"), before.get("seconds")
    schedule = CheckpointSchedule(checkpoint_steps, checkpoint_seconds)
    used = _part(config, "machine")
    where = _checked_device(str(used.get("device", "cpu")) if device is None else device)
    threads = used.get("threads") if threads is None else threads
    if threads is not None:
        torch.set_num_threads(check_int("threads", threads, minimum=1, maximum=MOST_THREADS))
    path = _chosen_matmul(str(used.get("matmul", AUTO)) if matmul is None else matmul, settings)
    predicted = predicted or _forecast(settings)
    _warn_of_other_versions(config)
    return _Job(directory, settings, where, path, predicted, sinks, resume=True).run(schedule)


class _Job:
    """One run in one process: everything that trains, and what is saved of it.

    Raises:
        ExpectedError: if the directory cannot be written, or nothing in it be taken up.
    """

    def __init__(
        self,
        directory: Path,
        settings: RunSettings,
        device: torch.device,
        matmul: Matmul,
        predicted: Forecast | None,
        sinks: Sequence[Sink],
        *,
        resume: bool,
    ) -> None:
        self._started, self._seconds = time.perf_counter(), 0.0
        self._directory, self._settings, self._device = directory, settings, device
        self._matmul = matmul
        self._task = _task(settings)
        net = FusedTwoLayerNet(settings.d, settings.width, theta=settings.theta, seed=settings.seed)
        self._net = net.to(device)
        trained = {"both": net, "first": net.first, "second": net.second}[settings.train]
        self._optimizer = torch.optim.SGD(trained.parameters(), lr=settings.eta * settings.width)
        self._loss = LogisticLoss()
        self._tracker = attach(
            net,
            self._optimizer,
            loss=self._loss,
            geometry=self._task.geometry,
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
            resume=resume,
        )
        self._saved = -1  # the step of the last checkpoint
        self._failed: set[str] = set()  # files that could not be written
        if resume:
            try:
                self._take_up()
                (directory / SUMMARY).unlink(missing_ok=True)  # it goes on
            except BaseException:
                self._tracker.release()
                raise

    def run(self, schedule: CheckpointSchedule) -> dict[str, Any]:
        """Take the steps that are left, and write what is left to say."""
        extra: dict[str, Any] = {
            "directory": str(self._directory),
            "matmul": self._matmul.described(),
            "stopped": "failed",
        }
        try:
            extra["stopped"] = self._train(schedule)
        finally:
            extra["seconds"] = self._elapsed()
            if self._tracker.between_steps:
                self._try(self._save, CHECKPOINT)
            summary = {**self._tracker.summary(), **extra}
            self._try(lambda: write_json(self._directory / SUMMARY, summary), SUMMARY)
            self._tracker.detach(extra)
        return summary

    def _train(self, schedule: CheckpointSchedule) -> str:
        """Take steps until there is a reason to stop; return it."""
        settings, tracker = self._settings, self._tracker
        try:
            with StopSignals() as signals:
                for step in range(tracker.step, settings.step_limit):
                    if step % LOOK_EVERY == 0 and (reason := self._reason()):
                        return reason
                    if signals.received:
                        return signals.received
                    if schedule.due(step) and step not in (0, self._saved):
                        self._checkpoint(schedule)
                    self._step(step)
                return self._reason() or "steps"
        except KeyboardInterrupt:  # the second one, or a callback's: within a step
            return "interrupted"

    def _reason(self) -> str:
        """Why no further step is to be taken; empty if there is no reason."""
        if any(alert.name == "DIVERGED" for alert in self._tracker.alerts):
            return "diverged"
        fitted = self._settings.steps is None and self._tracker.phase is Phase.FITTED
        return "fitted" if fitted else ""

    def _step(self, step: int) -> None:
        take_step(
            self._settings,
            self._task,
            self._net,
            self._optimizer,
            self._loss,
            step,
            device=self._device,
            matmul=self._matmul,
        )

    def _checkpoint(self, schedule: CheckpointSchedule) -> None:
        # one that speaks of records which no file holds could not be gone on from: the last stays
        before = time.perf_counter()
        self._tracker.state_dict()  # records that wait are written now, and may find the disk full
        if self._tracker.complete:
            self._try(self._save, CHECKPOINT)
        schedule.saved(time.perf_counter() - before)

    def _save(self) -> None:
        self._tracker.sync()
        state = {
            "step": self._tracker.step,
            "seconds": self._elapsed(),
            "settings": _comparable(self._settings),
            "model": self._net.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "tracker": self._tracker.state_dict(),
        }
        save_checkpoint(self._directory, state)
        self._saved = self._tracker.step

    def _take_up(self) -> None:
        """Load the last checkpoint that can be used.

        Raises:
            ExpectedError: if there are some, and none can be.
        """
        found = list(checkpoints(self._directory))
        if not found:
            self._tracker.start_over()
            return
        problems = []
        for path in found:
            try:
                self._load(load_checkpoint(path))
            except ExpectedError as error:
                problems.append(f"{path.name}: {error}")
                continue
            if problems:
                line = f"going on from {path.name}, step {self._saved}, for {'; '.join(problems)}"
                warnings.warn(f"phasetrack: {line}", TrackingWarning, stacklevel=2)
            return
        mend = "delete the checkpoints to start the run from its beginning"
        raise ExpectedError("resume", "a checkpoint to go on from", "; ".join(problems), mend)

    def _load(self, state: Mapping[str, Any]) -> None:
        """Go back to a checkpoint.

        Raises:
            ExpectedError: if it is not one of this run.
        """
        try:
            if (found := state["settings"]) != _comparable(self._settings):
                raise ExpectedError("resume", f"a checkpoint of the settings in {CONFIG}", found)
            step, seconds = int(state["step"]), float(state["seconds"])
            if failed := [name for name in state["tracker"]["off"] if name.startswith("sink:")]:
                allowed = "a checkpoint of a run whose files are whole"
                raise ExpectedError("resume", allowed, f"one after {', '.join(failed)} had failed")
            before = copy.deepcopy((self._net.state_dict(), self._optimizer.state_dict()))
            try:
                self._net.load_state_dict(state["model"])
                self._optimizer.load_state_dict(state["optimizer"])
                self._tracker.load_state_dict(state["tracker"])
            except BaseException:
                self._net.load_state_dict(before[0])
                self._optimizer.load_state_dict(before[1])
                raise
        except ExpectedError:
            raise
        except Exception as error:  # whatever a file that is not ours makes torch raise
            line = (str(error) or repr(error)).splitlines()[0]
            raise ExpectedError("resume", "a checkpoint of such a run", line[:200]) from None
        self._saved, self._seconds = step, seconds

    def _elapsed(self) -> float:
        return self._seconds + time.perf_counter() - self._started

    def _try(self, write: Callable[[], object], what: str) -> None:
        """Write, or say that it failed: the training's result is not lost with the disk."""
        try:
            write()
        except OSError as error:
            if what in self._failed:
                return  # said once
            self._failed.add(what)
            line = f"phasetrack: {what} could not be written, training goes on ({error!r})"
            warnings.warn(line, TrackingWarning, stacklevel=2)


def take_step(
    settings: RunSettings,
    task: Task,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: LogisticLoss,
    step: int,
    *,
    device: torch.device,
    matmul: Matmul,
) -> None:
    """One SGD step on a fresh batch, in micro-batches whose gradients add up to the batch's."""
    batch, piece = settings.batch_size, settings.piece
    optimizer.zero_grad()
    with matmul.used():
        for start in range(0, batch, piece):
            count = min(piece, batch - start)
            x, y = task.sample(count, seed=settings.seed, step=step, start=start, device=device)
            (loss(net(x), y) * (count / batch)).backward()
    optimizer.step()


def with_micro_batch(settings: RunSettings, device: torch.device) -> RunSettings:
    """The settings with `micro_batch` chosen from d, width, batch and the device's cache or memory.

    A number that was given stays. The one chosen is recorded in ``config.json``, so that a run can be
    repeated to the bit elsewhere.
    """
    if settings.micro_batch is not None:
        return settings
    d, width, batch = settings.d, settings.width, settings.batch_size
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        chosen = micro_batch(d, width, batch, memory)
    else:
        chosen = micro_batch(d, width, batch, host_memory(), budget=cached_bytes(d, width))
    return replace(settings, micro_batch=chosen)


def _chosen_matmul(wanted: str, settings: RunSettings) -> Matmul:
    return chosen_matmul(wanted, settings.piece, settings.width, settings.d)


def _task(settings: RunSettings) -> Task:
    return make_task(settings.task, settings.d, shuffle_labels=settings.shuffle_labels)


def _forecast(settings: RunSettings) -> Forecast | None:
    """The forecast of a run, where it holds."""
    return predict(_task(settings).geometry, settings) if settings.forecastable else None


def fresh_sample(settings: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """A sample of a recorded run's task that no run has trained on: inputs (m, d), labels (m,).

    Args:
        settings: as ``config.json`` holds them.

    Raises:
        ExpectedError: if the sample, in float32, would take more than half of the memory there is.
    """
    d, shuffled = settings["d"], settings["shuffle_labels"]
    task = make_task(settings.get("task", "xor"), d, shuffle_labels=shuffled)
    count = max(LEAST_SAMPLE, SAMPLE_PER_DIMENSION * d)
    size, memory = 4 * count * d, host_memory()
    if memory is not None and size > memory / 2:
        room = f"{memory / 2e9:.3g} GB, half of the memory"
        given = f"{size / 1e9:.3g} GB at d = {d}"
        raise ExpectedError("run", f"a sample to look back with of at most {room}", given)
    return task.sample(count, seed=settings["seed"], step=FRESH_STEP)


def run_name(settings: RunSettings) -> str:
    """A run's default name: task, d, seed and time."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return f"{settings.task}-d{settings.d}-s{settings.seed}-{stamp}"


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


def _config(
    settings: RunSettings,
    predicted: Forecast | None,
    device: str,
    saving: Mapping[str, Any],
    matmul: Matmul,
) -> dict[str, Any]:
    return {
        "settings": {**asdict(settings), "batch": settings.batch_size},
        "thresholds": asdict(settings.thresholds()),
        "escape_steps": settings.escape_steps if settings.forecastable else None,
        "step_limit": settings.step_limit,
        "forecast": predicted.bands() if predicted else {},
        "checkpoints": dict(saving),
        "machine": {
            "device": device,
            "threads": torch.get_num_threads(),
            "matmul": matmul.path,
        },
        "versions": _versions(),
    }


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping in a run's configuration; empty if older versions wrote none."""
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def _versions() -> dict[str, str]:
    return {
        "phasetrack": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _warn_of_other_versions(config: Mapping[str, Any]) -> None:
    then, now = _part(config, "versions"), _versions()
    if changed := [name for name in now if then.get(name, now[name]) != now[name]]:
        line = ", ".join(f"{name} {then[name]} then, {now[name]} now" for name in changed)
        text = f"phasetrack: the run goes on, but maybe not to the bit as it would have ({line})"
        warnings.warn(text, TrackingWarning, stacklevel=2)


def _comparable(settings: RunSettings) -> dict[str, Any]:
    return {**asdict(settings), "batch": settings.batch_size}
