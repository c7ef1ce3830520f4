"""The paper's experiment: minibatch SGD with fresh samples, with the probes attached."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from phasetrack._version import __version__
from phasetrack.errors import ExpectedError, check_int, expected_error
from phasetrack.model.losses import LogisticLoss
from phasetrack.model.network import FusedTwoLayerNet
from phasetrack.storage.checkpoint import (
    CHECKPOINT,
    CheckpointSchedule,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from phasetrack.storage.directory import (
    CONFIG,
    SUMMARY,
    create_run_directory,
    read_config,
    recorded_settings,
    write_json,
)
from phasetrack.storage.sink import Sink
from phasetrack.tasks.host_drawn import DrawnTask
from phasetrack.tasks.registry import make_task
from phasetrack.theory.forecast import Forecast, predict
from phasetrack.theory.settings import RunSettings
from phasetrack.tracking.attach import attach
from phasetrack.tracking.guard import say
from phasetrack.tracking.probes.default import default_probes
from phasetrack.training.distributed import ALONE, Processes, joined
from phasetrack.training.matmul import AUTO, DEFAULT, DIGITS, Matmul, chosen_matmul
from phasetrack.training.memory import (
    DIGITS_PIECE,
    cached_bytes,
    host_memory,
    keep_freed,
    micro_batch,
)
from phasetrack.training.step import stepper
from phasetrack.training.stop_signals import StopSignals
from phasetrack.training.stopping import LOOK_EVERY, End

# A sample to look back with: enough for two halves to agree on a span (chosen here), and from a step
# that no training reaches.
LEAST_SAMPLE, SAMPLE_PER_DIMENSION = 4096, 16
FRESH_STEP = 2**62
# Threads that may be asked for (chosen here: beyond every machine), by a config.json from elsewhere too.
MOST_THREADS = 2**12
# Why a run stops before its last step. Of several processes' reasons the last in this order holds.
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
) -> dict[str, Any]:
    """Train the paper's network on a task, probes attached, and write a run directory.

    The process keeps up to 256 MiB of what it has freed from then on (`memory.keep_freed`).

    Processes that torchrun started train one run together, each on its part of every batch (see
    `processes.joined`); the first one writes it and knows its readings.

    Args:
        settings: the run.
        out: folder of runs.
        name: the run's directory in it; None makes one from task, d, seed and time.
        device: ``cpu`` or ``cuda[:i]``; samples and initial weights do not depend on it. Of several
            processes on ``cuda`` each takes a GPU of its machine.
        threads: torch's threads, of each process; None leaves them.
        matmul: how the processor multiplies matrices (`products`): ``default``, ``onednn``, ``digits``
            where all inputs are signs, or ``auto`` for the fastest whose error is that of float32. The last
            bits of a run depend on it.
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
        ProcessError: if another process of the run has failed; `resume` goes on with it.
    """
    schedule = CheckpointSchedule(checkpoint_steps, checkpoint_seconds)
    saving = {"steps": checkpoint_steps, "seconds": checkpoint_seconds}
    with joined() as processes:
        where = processes.agreed(lambda: _prepared(device, threads, settings, processes))

        def begin() -> _Start:
            chosen, path = settled(settings, where, matmul, processes.count)
            directory = create_run_directory(Path(out), run_name(chosen) if name is None else name)
            try:
                forecast = predicted or _forecast(chosen)
            except BaseException:
                directory.rmdir()  # nothing is in it yet
                raise
            config = _config(chosen, forecast, device, saving, path, processes.count)
            write_json(directory / CONFIG, config)
            return _Start(directory, chosen, path, forecast)

        start = processes.decided(begin)
        return _Job(start, where, sinks, processes, resume=False).run(schedule)


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
        matmul: None takes that of before, or chooses where that cannot be had, and says so.
        sinks: further sinks, such as the console's.
        predicted: the forecast of the same settings, if it is at hand.
        checkpoint_steps: as for `train`; None takes what was asked for before.
        checkpoint_seconds: likewise.

    Returns:
        What ``summary.json`` holds.

    Raises:
        ExpectedError: if it is no run directory, another process writes to it, or no checkpoint in
            it can be used; the run is left as it is.
        ProcessError: if another process of the run has failed.
    """
    directory = Path(run)
    with joined() as processes:
        config, settings = processes.decided(lambda: _recorded(directory))
        if checkpoint_steps is None and checkpoint_seconds is None:
            before = _part(config, "checkpoints")
            checkpoint_steps, checkpoint_seconds = before.get("steps"), before.get("seconds")
        schedule = CheckpointSchedule(checkpoint_steps, checkpoint_seconds)
        used = _part(config, "machine")
        device = str(used.get("device", "cpu")) if device is None else device
        threads = used.get("threads") if threads is None else threads
        where = processes.agreed(lambda: _prepared(device, threads, settings, processes))
        wanted = str(used.get("matmul", AUTO)) if matmul is None else matmul

        def go_on() -> _Start:
            forecast = predicted or _forecast(settings)
            _warn_of_other_versions(config)
            try:
                path = _chosen_matmul(wanted, settings, where)
            except ExpectedError as error:
                if matmul is not None:
                    raise
                say(f"the run goes on, but not to the bit as it would have ({error})")
                path = _chosen_matmul(AUTO, settings, where)
            return _Start(directory, settings, path, forecast)

        start = processes.decided(go_on)
        return _Job(start, where, sinks, processes, resume=True).run(schedule)


class _Start(NamedTuple):
    """What the first process decides on before a run begins or goes on."""

    directory: Path
    settings: RunSettings
    matmul: Matmul
    predicted: Forecast | None


class _Job:
    """One run in this process: everything that trains, and what is saved of it.

    Of several processes the first one has the probes and writes; the trackers of the others hand it
    their part of the batch.

    Raises:
        ExpectedError: if the directory cannot be written, or nothing in it be taken up.
    """

    def __init__(
        self,
        start: _Start,
        device: torch.device,
        sinks: Sequence[Sink],
        processes: Processes,
        *,
        resume: bool,
    ) -> None:
        self._started, self._seconds = time.perf_counter(), 0.0
        directory, settings, self._matmul, predicted = start
        self._directory, self._settings, self._device = directory, settings, device
        self._processes, leads = processes, processes.leads
        self._task = _task(settings)
        net = FusedTwoLayerNet(settings.d, settings.width, theta=settings.theta, seed=settings.seed)
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
            logdir=directory,
            every=settings.every,
            probes=default_probes(gradients=settings.gradient_error) if leads else (),
            sinks=sinks if leads else (),
            thresholds=settings.thresholds(),
            forecast=predicted if leads else None,
            # the closed form is XOR's; where there is no forecast SADDLE has no yardstick
            escape_steps=settings.escape_steps if settings.forecastable else None,
            hparams=_hparams(settings),
            snapshots=settings.snapshots,
            resume=resume,
        )
        # to look at a loss is to wait for a GPU, and of several processes each knows its part of it
        self._notes = device.type == "cpu" and processes.count == 1
        self._end = End(self._tracker, settings, suspect=resume or not self._notes)
        self._saved = -1  # the step of the last checkpoint
        self._failed: set[str] = set()  # files that could not be written
        if resume:
            try:
                if leads:
                    self._take_up()
                    (directory / SUMMARY).unlink(missing_ok=True)  # it goes on
                self._follow_first()
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
        with StopSignals() as signals:
            try:
                extra["stopped"] = self._train(schedule, signals)
            finally:
                extra["seconds"] = self._elapsed()
                # what another process has cut short is gone on with from the last checkpoint
                cut = self._processes.count > 1 and extra["stopped"] == "failed"
                if self._processes.leads and self._tracker.between_steps and not cut:
                    self._try(self._save, CHECKPOINT)
                summary = {**self._tracker.summary(), **extra}
                if self._processes.leads:
                    self._try(lambda: write_json(self._directory / SUMMARY, summary), SUMMARY)
                self._tracker.detach(extra)
        return summary

    def _train(self, schedule: CheckpointSchedule, signals: StopSignals) -> str:
        """Take steps until there is a reason to stop; return it."""
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
            for step in range(tracker.step, settings.step_limit):
                reason = self._reason() if step % LOOK_EVERY == 0 else ""
                if stopped := self._agreed(reason or signals.received):
                    return stopped
                if self._processes.leads and schedule.due(step) and step not in (0, self._saved):
                    self._checkpoint(schedule)
                loss = take_step(step)
                if self._notes:
                    self._end.note(float(loss))
            return self._agreed(self._reason()) or "steps"
        except KeyboardInterrupt:  # the second one, or a callback's: within a step
            return "interrupted"

    def _agreed(self, reason: str) -> str:
        """The weightiest reason of all processes to stop: all stop at one step."""
        return STOPS[self._processes.highest(STOPS.index(reason))]

    def _reason(self) -> str:
        """Why no further step is to be taken; empty if there is no reason."""
        if not self._processes.leads:
            return ""  # it has no readings
        return self._end.reason()

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
                say(line)
            return
        mend = "delete the checkpoints to start the run from its beginning"
        raise expected_error("resume", "a checkpoint to go on from", "; ".join(problems), mend)

    def _load(self, state: Mapping[str, Any]) -> None:
        """Go back to a checkpoint.

        Raises:
            ExpectedError: if it is not one of this run.
        """
        try:
            if (found := state["settings"]) != _comparable(self._settings):
                raise expected_error("resume", f"a checkpoint of the settings in {CONFIG}", found)
            step, seconds = int(state["step"]), float(state["seconds"])
            if failed := [name for name in state["tracker"]["off"] if name.startswith("sink:")]:
                allowed = "a checkpoint of a run whose files are whole"
                raise expected_error("resume", allowed, f"one after {', '.join(failed)} had failed")
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
            raise expected_error("resume", "a checkpoint of such a run", line[:200]) from None
        self._saved, self._seconds = step, seconds

    def _follow_first(self) -> None:
        """Give all processes what the first one has loaded: the weights, and which step comes next."""
        processes = self._processes
        if processes.count == 1:
            return
        processes.copy_first(list(self._net.parameters()))
        taken = processes.decided(self._taken)
        if not processes.leads:
            self._tracker.load_state_dict({**self._tracker.state_dict(), **taken})

    def _taken(self) -> dict[str, Any]:
        """What another process's tracker needs of ours: steps taken, and the last one recorded."""
        history, state = self._tracker.history, self._tracker.state_dict()
        steps = torch.from_numpy(history.steps[-1:])
        columns = {"phase/id": torch.from_numpy(history["phase/id"][-1:])} if len(steps) else {}
        last = {"steps": steps, "columns": columns}
        return {"capture": state["capture"], "history": last, "records": len(steps)}

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
            say(f"{what} could not be written, training goes on ({error!r})")


def settled(
    settings: RunSettings, device: torch.device, matmul: str = AUTO, processes: int = 1
) -> tuple[RunSettings, Matmul]:
    """The settings with `micro_batch` chosen, and how the processor multiplies matrices.

    Args:
        settings: of the run.
        device: where it is trained.
        matmul: see `train`.
        processes: how many share the batch.

    Raises:
        ExpectedError: if `matmul` cannot be had.
    """
    # by what it would take at once each path is judged, as when the run goes on
    digits = with_micro_batch(settings, device, processes, DIGITS)
    chosen = _chosen_matmul(matmul, digits, device)
    if chosen.path == DIGITS:
        return digits, chosen
    floats = with_micro_batch(settings, device, processes)
    return floats, _chosen_matmul(matmul, floats, device)


def with_micro_batch(
    settings: RunSettings, device: torch.device, processes: int = 1, path: str = DEFAULT
) -> RunSettings:
    """The settings with `micro_batch` chosen from d, width, batch, path, and the device's cache or memory.

    A number that was given stays. The one chosen is recorded in ``config.json``, so that a run can be
    repeated to the bit elsewhere with the same `matmul`.

    Args:
        settings: of the run.
        device: where it is trained.
        processes: how many share the batch, and the host's memory.
        path: how the processor multiplies; by digits `DIGITS_PIECE` times as many samples at once.
    """
    if settings.micro_batch is not None:
        return settings
    d, width, batch = settings.d, settings.width, -(-settings.batch_size // processes)
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        chosen = micro_batch(d, width, batch, memory)
    else:
        there = host_memory()
        share = None if there is None else there // processes
        budget = cached_bytes(d, width) * (DIGITS_PIECE if path == DIGITS else 1)
        chosen = micro_batch(d, width, batch, share, budget=budget)
    return replace(settings, micro_batch=chosen)


def _prepared(
    device: str, threads: int | None, settings: RunSettings, processes: Processes
) -> torch.device:
    """The device, with the process's threads and memory set; what several processes cannot do is refused."""
    where = _checked_device(device, processes)
    keep_freed()
    if threads is not None:
        torch.set_num_threads(check_int("threads", threads, minimum=1, maximum=MOST_THREADS))
    if processes.count > 1:
        if settings.batch_size < processes.count:
            allowed = f"a sample for each of {processes.count} processes"
            raise expected_error("batch", allowed, settings.batch_size)
        if settings.gradient_error:
            got = f"a run in {processes.count} processes"
            raise expected_error("gradient_error", "a run in one process", got, "leave it out")
    return where


def _recorded(directory: Path) -> tuple[dict[str, Any], RunSettings]:
    config = read_config(directory)
    return config, recorded_settings(config, directory)


def _chosen_matmul(wanted: str, settings: RunSettings, device: torch.device) -> Matmul:
    if wanted == AUTO and device.type != "cpu":
        return Matmul(DEFAULT)  # there is nothing to choose: the paths are the processor's
    signs = device.type == "cpu" and _task(settings).signs
    return chosen_matmul(wanted, settings.piece, settings.width, settings.d, signs=signs)


def _task(settings: RunSettings) -> DrawnTask:
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
        raise expected_error("run", f"a sample to look back with of at most {room}", given)
    return task.sample(count, seed=settings["seed"], step=FRESH_STEP)


def run_name(settings: RunSettings) -> str:
    """A run's default name: task, d, seed and time."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return f"{settings.task}-d{settings.d}-s{settings.seed}-{stamp}"


def _checked_device(device: str, processes: Processes = ALONE) -> torch.device:
    try:
        where = torch.device(device)
    except RuntimeError:
        raise expected_error("device", "cpu or cuda[:index]", repr(device)) from None
    if where.type not in ("cpu", "cuda"):
        raise expected_error("device", "cpu or cuda[:index]", repr(device))
    if where.type == "cuda" and processes.count > 1:
        if where.index is not None:
            allowed = f"cuda, of which each of {processes.count} processes takes its own"
            raise expected_error("device", allowed, device)
        where = torch.device("cuda", processes.place.local)
    if where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA devices here"
        raise expected_error("device", "a CUDA device that is present", f"{where} ({found})")
    if where.type == "cuda" and processes.count > 1:
        torch.cuda.set_device(where)
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
    processes: int,
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
            "processes": processes,
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
        say(f"the run goes on, but maybe not to the bit as it would have ({line})")


def _comparable(settings: RunSettings) -> dict[str, Any]:
    return {**asdict(settings), "batch": settings.batch_size}
