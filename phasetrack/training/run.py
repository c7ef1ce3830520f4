"""The paper's experiment: minibatch SGD with fresh samples, with the probes attached."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from phasetrack.errors import ExpectedError, printable
from phasetrack.model.losses import LogisticLoss
from phasetrack.model.network import FusedTwoLayerNet
from phasetrack.storage.checkpoint import CHECKPOINT, CheckpointSchedule
from phasetrack.storage.directory import absolute, write_json
from phasetrack.storage.file_names import CONFIG, SUMMARY
from phasetrack.storage.lock import RunLock
from phasetrack.storage.sink import Sink
from phasetrack.theory.forecast import Forecast, predict
from phasetrack.theory.settings import RunSettings
from phasetrack.tracking.attach import attach
from phasetrack.tracking.guard import warn
from phasetrack.tracking.probes.default import default_probes
from phasetrack.tracking.schedules import as_schedule
from phasetrack.training.checkpointing import Checkpointing
from phasetrack.training.distributed import Processes, joined
from phasetrack.training.fresh_sample import FRESH_STEP, LEAST_SAMPLE, fresh_sample
from phasetrack.training.matmul import AUTO, Matmul
from phasetrack.training.placement import (
    check_placement,
    choose_matmul,
    resolve_settings,
    task_of,
    torch_threads,
)
from phasetrack.training.progress import shown, tell
from phasetrack.training.run_config import (
    hparams,
    part,
    read_recorded,
    resumed_config,
    run_config,
    run_name,
)
from phasetrack.training.run_directory import locked_run, new_run, take_back
from phasetrack.training.step import stepper
from phasetrack.training.stop_signals import StopSignals
from phasetrack.training.stopping import LOOK_EVERY, End

__all__ = [
    "FRESH_STEP",
    "LEAST_SAMPLE",
    "forecast_of",
    "fresh_sample",
    "resume",
    "run_name",
    "train",
]

# Why a run stops before its last step. Of several processes' reasons the last in this order counts.
STOPS = ("", "interrupted", "terminated", "fitted", "diverged")


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
    progress: bool = False,
) -> dict[str, Any]:
    """Train the paper's network on a task, probes attached, and write a run directory.

    Processes that torchrun started train one run together, each on its part of every batch (see
    `distributed.joined`); the first one writes it and knows its readings.

    Args:
        settings: the run.
        out: folder of runs.
        name: the run's directory in it; None makes one from task, d and seed, with -2, -3, ... behind
            it where that is taken.
        device: ``cpu`` or ``cuda[:i]``; samples and initial weights do not depend on it. Of several
            processes on ``cuda`` each takes a GPU of its machine.
        threads: torch's threads, of each process; None leaves them.
        matmul: how the processor multiplies matrices (`training.matmul`): ``default``, ``onednn``, ``digits``
            where all inputs are signs, or ``auto`` for the fastest whose error is that of float32. The last
            bits of a run depend on it.
        sinks: further sinks, such as the console's.
        predicted: the forecast to show beside the run; computed if None.
        checkpoint_steps: save a checkpoint at every so many-th step.
        checkpoint_seconds: without `checkpoint_steps`, after so many seconds; None means
            `checkpoint.CHECKPOINT_SECONDS`.
        progress: show the run while it trains, as the command line does, and its verdict at the end.

    Returns:
        What ``summary.json`` holds, and where history or summary could not be written whole
        ``unwritten``, their names; ``stopped`` is ``fitted``, ``steps``, ``diverged``,
        ``interrupted`` (SIGINT) or ``terminated`` (SIGTERM, SIGHUP); after the last two the run is complete
        up to there, and `resume` continues it.

    Raises:
        ExpectedError: naming the option at fault; no run directory is left behind.
        ProcessError: if another process of the run has failed; `resume` continues the run.
    """
    schedule = CheckpointSchedule(checkpoint_steps, checkpoint_seconds)
    saving = {"steps": checkpoint_steps, "seconds": checkpoint_seconds}
    with joined() as processes, torch_threads(threads):
        where = processes.agreed(lambda: check_placement(device, settings, processes))
        progress = progress and processes.leads

        def begin() -> _Start:
            chosen, path = resolve_settings(settings, where, matmul, processes.count)
            forecast = predicted or forecast_of(chosen)
            config = run_config(chosen, forecast, device, saving, path, processes.count)
            locks.append(new_run(absolute(out, "out"), name, config, default=run_name(chosen)))
            return _Start(locks[0].folder, chosen, path, forecast)

        locks: list[RunLock] = []  # of the main process, which writes
        with shown(settings, wanted=progress) as screens:
            start = processes.decided(begin)
            try:
                job = _Job(start, where, [*sinks, *screens], processes, *locks, resume=False)
            except BaseException:
                take_back(start.directory, *locks)
                raise
            summary = job.run(schedule)
        if progress:
            tell(summary)
        return summary


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
    """Resume a run from its last checkpoint, or from its beginning if it has none.

    Records beyond the checkpoint are cut off and computed again. With the same device, threads and
    versions the result is that of a run that was never stopped, to the bit. A finished run is
    finished again, with the same result.

    Args:
        run: the run directory.
        device: None takes the run's own.
        threads: None takes the run's own.
        matmul: None takes the run's own path; where this machine lacks it, another, with a warning.
        sinks: further sinks, such as the console's.
        predicted: the forecast of the same settings, if it is at hand.
        checkpoint_steps: as for `train`; None takes the run's own.
        checkpoint_seconds: as for `train`; None takes the run's own.

    Returns:
        What ``summary.json`` holds.

    Raises:
        ExpectedError: if `run` is not a run directory, another process writes to it, or no checkpoint in
            it can be used; the run is left as it is.
        ProcessError: if another process of the run has failed.
    """
    directory = absolute(run, "run")
    with joined() as processes:
        config, settings = processes.decided(lambda: read_recorded(directory))
        if checkpoint_steps is None and checkpoint_seconds is None:
            before = part(config, "checkpoints")
            checkpoint_steps, checkpoint_seconds = before.get("steps"), before.get("seconds")
        schedule = CheckpointSchedule(checkpoint_steps, checkpoint_seconds)
        machine = part(config, "machine")
        device = str(machine.get("device", "cpu")) if device is None else device
        threads = machine.get("threads") if threads is None else threads
        wanted = str(machine.get("matmul", AUTO)) if matmul is None else matmul
        with torch_threads(threads):
            where = processes.agreed(lambda: check_placement(device, settings, processes))

            def begin() -> _Start:
                locks.append(locked_run(directory))
                forecast = predicted or forecast_of(settings)
                path = _recorded_matmul(wanted, settings, where, asked=matmul is not None)
                return _Start(directory, settings, path, forecast)

            locks: list[RunLock] = []  # of the main process, which writes
            try:
                start = processes.decided(begin)
                job = _Job(start, where, sinks, processes, *locks, resume=True)
                job.note_resumption(config, device)
            except BaseException:
                for lock in locks:
                    lock.release()
                raise
            return job.run(schedule)


def forecast_of(settings: RunSettings) -> Forecast:
    """Predict a run from its task's population, as `train` does before it."""
    task = task_of(settings)
    return predict(task.geometry, settings, population=task.population)


def _recorded_matmul(
    wanted: str, settings: RunSettings, device: torch.device, *, asked: bool
) -> Matmul:
    """Return the path that a run multiplied with; another one where this machine lacks it.

    Raises:
        ExpectedError: if it is lacking, and the caller `asked` for it.
    """
    try:
        return choose_matmul(wanted, settings, device)
    except ExpectedError as error:
        if asked:
            raise
        warn(f"the run resumes, and its last bits may differ from the original's ({error})")
        return choose_matmul(AUTO, settings, device)


class _Start(NamedTuple):
    """The main process's decisions before a run begins or resumes."""

    directory: Path
    settings: RunSettings
    matmul: Matmul
    predicted: Forecast | None


class _Job:
    """One run in this process: network, optimizer, tracker and checkpoints.

    Of several processes the main one has the probes and writes; the trackers of the others send it
    their part of the batch.

    Raises:
        ExpectedError: if the directory cannot be written, or no checkpoint in it can be used.
    """

    def __init__(
        self,
        start: _Start,
        device: torch.device,
        sinks: Sequence[Sink],
        processes: Processes,
        lock: RunLock | None = None,
        *,
        resume: bool,
    ) -> None:
        self._started = time.perf_counter()
        directory, settings, self._matmul, predicted = start
        self._directory, self._settings, self._device = directory, settings, device
        self._processes, leads = processes, processes.leads
        self._task = task_of(settings)
        net = FusedTwoLayerNet(settings.d, settings.width, theta=settings.theta, seed=settings.seed)
        net.passes = self._matmul.passes
        self._net = net.to(device)
        self._model = processes.joined_model(self._net, device)
        trained = {"both": net, "first": net.first, "second": net.second}[settings.train]
        self._optimizer = torch.optim.SGD(trained.parameters(), lr=settings.eta * settings.width)
        self._loss = LogisticLoss()
        self._tracker = attach(
            self._model,
            self._optimizer,
            loss=self._loss,
            geometry=self._task.geometry,
            every=settings.every,
            probes=default_probes(gradients=settings.gradient_error) if leads else (),
            sinks=sinks if leads else (),
            thresholds=settings.thresholds(),
            forecast=predicted if leads else None,
            escape_steps=settings.escape_steps,
        )
        # reading a loss would wait for a GPU, and each of several processes knows only its part of it
        self._notes = device.type == "cpu" and processes.count == 1
        self._end = End(self._tracker, settings, suspect=resume or not self._notes)
        self._checkpoints = Checkpointing(
            directory, settings, self._net, self._optimizer, self._tracker
        )
        self._failed: set[str] = set()  # files that could not be written
        try:
            if leads:
                every = settings.snapshots
                self._tracker.write_to(
                    directory,
                    hparams=hparams(settings),
                    snapshots=None if every is None else as_schedule(every, "snapshots"),
                    resume=resume,
                    lock=lock,
                )
            if resume:
                if leads:
                    self._checkpoints.restore()
                    (directory / SUMMARY).unlink(missing_ok=True)  # the run is not at its end
                self._checkpoints.broadcast(processes)
        except BaseException:
            self._tracker.release()
            raise

    def note_resumption(self, config: Mapping[str, Any], device: str) -> None:
        """Write down from which step on this process computes the run, on which machine."""
        if not self._processes.leads:
            return
        content = resumed_config(
            config, self._tracker.step, device, self._matmul, self._processes.count
        )
        self._try(partial(write_json, self._directory / CONFIG, content), CONFIG)

    def run(self, schedule: CheckpointSchedule) -> dict[str, Any]:
        """Take the remaining steps, and write checkpoint and summary."""
        extra: dict[str, Any] = {
            "directory": printable(self._directory),
            "matmul": self._matmul.described(),
            "stopped": "failed",
        }
        with StopSignals() as signals:
            try:
                extra["stopped"] = self._train(schedule, signals)
            finally:
                extra["seconds"] = self._elapsed()
                # where another process failed, the last checkpoint stays
                cut = self._processes.count > 1 and extra["stopped"] == "failed"
                if self._processes.leads and self._tracker.between_steps and not cut:
                    self._try(self._save, CHECKPOINT)
                summary = {**self._tracker.summary(), **extra}
                self._tracker.detach(extra)
                if lost := self._tracker.lost_files:
                    summary["unwritten"] = lost
        return summary

    def _train(self, schedule: CheckpointSchedule, signals: StopSignals) -> str:
        """Take steps until there is a reason to stop, and return the reason."""
        settings, tracker = self._settings, self._tracker
        take_step = stepper(
            settings,
            self._task,
            self._model,
            self._optimizer,
            self._loss,
            device=self._device,
            matmul=self._matmul,
            processes=self._processes,
        )
        try:
            stopped = self._take_steps(take_step, schedule, signals)
            tracker.sync()  # records that wait are written while an interruption is still caught
        except KeyboardInterrupt:  # the second one, or a callback's: within a step
            return "interrupted"
        return stopped

    def _take_steps(
        self, take_step: Callable[[int], Any], schedule: CheckpointSchedule, signals: StopSignals
    ) -> str:
        """Take steps, with checkpoints between them, until there is a reason to stop."""
        for step in range(self._tracker.step, self._settings.step_limit):
            reason = self._reason() if step % LOOK_EVERY == 0 else ""
            if stopped := self._agreed(reason or signals.received):
                return stopped
            saved = step in (0, self._checkpoints.step)
            if self._processes.leads and schedule.due(step) and not saved:
                self._checkpoint(schedule)
            loss = take_step(step)
            if self._notes and step % self._settings.every == 0:
                self._end.note(float(loss))
        return self._agreed(self._reason()) or "steps"

    def _agreed(self, reason: str) -> str:
        """Return the weightiest reason of all processes: all stop at one step."""
        return STOPS[self._processes.highest(STOPS.index(reason))]

    def _reason(self) -> str:
        """Return why no further step should be taken; empty if one should."""
        if not self._processes.leads:
            return ""  # it has no readings
        return self._end.reason()

    def _checkpoint(self, schedule: CheckpointSchedule) -> None:
        # a checkpoint must not count records that no file holds: if a sink failed, the last one stays
        before = time.perf_counter()
        self._tracker.state_dict()  # writes the records that wait, which may find the disk full
        if self._tracker.complete:
            self._try(self._save, CHECKPOINT)
        schedule.saved(time.perf_counter() - before)

    def _save(self) -> None:
        self._checkpoints.save(self._elapsed())

    def _elapsed(self) -> float:
        return self._checkpoints.seconds + time.perf_counter() - self._started

    def _try(self, write: Callable[[], object], what: str) -> None:
        """Write, or warn once that writing failed: training continues without the disk."""
        try:
            self._tracker.write_whole(write)
        except OSError as error:
            if what in self._failed:
                return  # warned already
            self._failed.add(what)
            warn(f"{what} could not be written, training goes on ({error!r})")
