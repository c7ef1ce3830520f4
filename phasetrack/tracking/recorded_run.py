"""RecordedRun: what a tracker records of a run, in memory and in files, saved and resumed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from phasetrack.errors import ExpectedError, check_int
from phasetrack.model.losses import Loss
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.phases.history import History
from phasetrack.storage.atomic_files import replace_file
from phasetrack.storage.directory import absolute
from phasetrack.storage.file_names import CONFIG, HINDSIGHT, HISTORY
from phasetrack.storage.lock import RunLock
from phasetrack.storage.sink import Sink
from phasetrack.storage.weight_store import WeightStore
from phasetrack.tracking.attached_config import attached_config, write_config
from phasetrack.tracking.capture import Capture
from phasetrack.tracking.findings import Findings
from phasetrack.tracking.guard import FailureGuard, warn
from phasetrack.tracking.history_buffer import HistoryBuffer
from phasetrack.tracking.recorder import Recorder
from phasetrack.tracking.schedules import Schedule
from phasetrack.tracking.sink_group import SinkGroup
from phasetrack.tracking.tracker_state import current_format, restored, state_of
from phasetrack.tracking.undeclared import Undeclared


class RecordedRun(Findings):
    """The records of a run, its files, and the state that it is resumed from.

    Args:
        recorder: measures and labels the run.
        guard: reports what fails.
        sinks: are given every record.
        undeclared: what is found out about the data where nothing was declared.
        loss: the loop's loss, or None.

    Attributes:
        logdir: the directory that the run is written to, or None.
    """

    _capture: Capture  # follows the model; the tracker makes it

    def __init__(
        self,
        recorder: Recorder,
        guard: FailureGuard,
        sinks: Sequence[Sink],
        undeclared: Undeclared,
        loss: Loss | None,
    ) -> None:
        super().__init__(recorder)
        self._guard, self._undeclared, self._loss = guard, undeclared, loss
        self._sinks = SinkGroup(sinks, guard, before_history_lost=lambda: self.history)
        self.logdir: Path | None = None
        self._noted: tuple[str, ...] = ()
        self._summary: dict[str, Any] | None = None  # since `detach`
        self._initial_state: dict[str, Any] | None = None
        self._closed = self._emitting = False
        self._awaiting_resume = False  # files exist, and nothing has said where to resume
        # other threads may read or detach while one trains; callbacks are called outside of it
        self._lock = threading.RLock()
        self._owner = os.getpid()  # a forked child has a copy, and leaves the files alone

    @property
    def view(self) -> TwoLayerView:
        """The two layers as they were found."""
        return self._capture.view

    @property
    def step(self) -> int:
        """Optimizer steps counted so far."""
        return self._capture.step

    @property
    def writes_files(self) -> bool:
        """Whether this process writes the run's files: the first of those that train the model."""
        return self._capture.exchange.is_first

    @property
    def lost_files(self) -> list[str]:
        """The run's files that do not hold all of it: history or summary, if they could not be written."""
        return self._sinks.lost_files

    @property
    def complete(self) -> bool:
        """Whether everything that writes the run's files has succeeded so far."""
        self._measure()
        return not any(name.startswith("sink:") for name in self._guard.off)

    def summary(self) -> dict[str, Any]:
        """Return the contents of ``summary.json``: phase, boundaries, alerts, final readings, forecast."""
        with self._lock:
            if self._summary is not None:  # detached: the records may lie in a file alone
                return dict(self._summary)
            return {**self.summary_at(self.step), **self._undeclared.summary()}

    @property
    def history(self) -> History:
        """Every recorded step, as columns.

        In memory from the first access on, at 8 bytes per reading; until then a run with a `logdir`
        leaves its records to ``history.jsonl``.
        """
        with self._lock:
            return super().history

    @property
    def hindsight(self) -> History:
        """The states that `detach` read again along the span that it found; empty where it trusted none."""
        return self._undeclared.history

    # --- recording ----------------------------------------------------------------------------

    def _measure(self) -> None:
        """Measure everything in the queue; a forked child drops it instead."""
        if os.getpid() == self._owner:
            with self._lock:
                self._guard.run(self._recorder.measure, "this step's record")
        else:
            self._recorder.queue.restart(any_measured=True)

    def _measure_and_write(self) -> None:
        """Measure everything in the queue, and give its records to the sinks."""
        with self._lock:
            self._measure()
            self._write()

    def _write(self) -> None:
        """Give the sinks every record that they do not have yet."""
        self._emitting = True  # stays so if a step's writing is broken off
        while (record := self._recorder.next_record()) is not None:
            if self._sinks.sinks:
                self._sinks.write(record)
        self._emitting = False
        self._recorder.history.mark_written()

    def write_rest(self) -> None:
        """Measure and write what waits, in the process that took it, and let others write to the directory."""
        if os.getpid() == self._owner:
            with self._lock:
                self._measure()
                self._write()
                self._sinks.leave()

    def _look_back(self) -> None:
        """Look back on a run without clusters, and write the states that were read again."""
        last = self._recorder.before
        loss = self._capture.host_loss if last is None else last.loss
        time = self._capture.state_dict()["time"]

        def look() -> None:
            self._undeclared.look_back(
                (self.step, self.view.frozen()),
                loss,
                self._recorder.labels.thresholds,
                eta=time / self.step if time > 0 else 1.0,
                guard=self._guard,
            )
            rows, write = self._undeclared.rows(), self._sinks.write_whole
            if rows and self.logdir is not None and self.complete:
                write(partial(replace_file, self.logdir / HINDSIGHT, rows))

        self._guard.run(look, "the look back")

    # --- files, resuming ---------------------------------------------------------------------

    def write_to(
        self,
        logdir: str | os.PathLike[str],
        *,
        hparams: Mapping[str, object] | None = None,
        snapshots: Schedule | None = None,
        resume: bool = False,
        lock: RunLock | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the run into a directory from now on, and keep other processes from writing there.

        Args:
            logdir: the directory.
            hparams: hyperparameters of the run, for TensorBoard.
            snapshots: recorded steps whose layers are saved.
            resume: whether the directory may hold a run already.
            lock: the directory's lock, where the caller holds it already; `detach` releases it.
            overwrite: delete an earlier run in it.

        Raises:
            ExpectedError: if the directory cannot be written, holds a run already (unless `resume` or
                `overwrite`), or another process writes to it.
        """
        folder = absolute(logdir)
        self._awaiting_resume = resume and (folder / HISTORY).exists()
        self._measure_and_write()
        self._sinks.open(folder, hparams, resume, lock, overwrite)
        self.logdir = folder
        config = attached_config(
            self.view,
            self._capture.geometry,
            self._recorder.vocabularies,
            optimizer=self._capture.optimizer,
            loss=self._loss,
            forecast=self._recorder.forecast,
            hparams=hparams,
            hindsight=self._undeclared.config(),
        )
        self._guard.run(partial(write_config, folder, config, self._guard.note), CONFIG)
        if snapshots is not None:
            self._sinks.save_weights(WeightStore(folder), snapshots)
        if not self._recorder.history.count:
            self._recorder.history = HistoryBuffer(source=self._sinks.history_sink)
        if resume:
            self._initial_state = self.state_dict()

    def write_whole(self, write: Callable[[], object]) -> None:
        """Write a file into the run's directory, as long as that is the one that the run began in.

        Raises:
            OSError: if it cannot be written.
        """
        self._sinks.write_whole(write)

    def sync(self) -> None:
        """Have on the disk everything that was recorded so far, so that a power cut spares it."""
        self._measure_and_write()
        self._sinks.sync()

    @property
    def between_steps(self) -> bool:
        """Whether `state_dict` can be called: no recording of a step was broken off."""
        return not (self._emitting or self._closed)

    def state_dict(self) -> dict[str, Any]:
        """Return all that later readings and labels depend on, and how far the files are written.

        Save it beside the model's and the optimizer's state, between two steps. `torch.load` reads it
        with ``weights_only=True``: tensors, numbers, text, lists and mappings. Where a history file is
        written, the records are there and not in the state.

        Raises:
            ExpectedError: after `detach`, or if the recording of a step was broken off.
        """
        if self._closed:
            raise ExpectedError(
                "tracker",
                "The tracker is detached, and its state is gone.",
                "Call state_dict() before detach().",
            )
        with self._lock:
            if self._emitting:
                raise ExpectedError(
                    "tracker",
                    "The recording of a step was broken off.",
                    "Call state_dict() between two optimizer steps.",
                )
            self._measure_and_write()
            state = state_of(self._capture, self._recorder, self._sinks.state_dicts())
            return {**state, "undeclared": self._undeclared.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state: later records, in memory and in files, are taken back.

        Load the model's and the optimizer's own states beside it.

        Args:
            state: a result of `state_dict` for such a model, probes and sinks.

        Raises:
            ExpectedError: if it is not such a state, or the files do not hold the records that it
                counts. Nothing was changed then.
        """
        try:
            state = current_format(state)
            kept = self._sinks.check_states(state["sinks"], state["off"])
            stopped = [w for key, w in self._sinks.resumable().items() if key not in kept]
            undeclared = self._undeclared.restored(state.get("undeclared"))
            geometry = undeclared.search.found or self._capture.geometry
            found = restored(state, self._capture, geometry, self._recorder.labels, kept)
        except ExpectedError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise ExpectedError(
                "state",
                f"The value is not the state of a tracker ({error!r}).",
                "Pass a result of Tracker.state_dict().",
            ) from None
        for key, sink in kept.items():
            sink.load_state_dict(state["sinks"][key])
        self._undeclared = undeclared
        self._recorder.resume(found, HistoryBuffer(found.history, self._sinks.history_sink))
        self._noted, self._emitting, self._awaiting_resume = found.view.notes, False, False
        last = found.history.last_step
        self._capture.continue_from(
            found.view,
            found.step,
            found.time,
            recorded=last,
            first_samples=found.first_samples,
            search=undeclared.search,
        )
        self._sinks.release(stopped)

    def start_at(self, step: int) -> None:
        """Count from a step on, such as that of a checkpoint without a tracker's state.

        Args:
            step: optimizer steps taken before the coming one, which is recorded with this number.

        Raises:
            ExpectedError: if `step` is not an integer >= 0, or a step was taken or loaded already.
        """
        check_int("step", step, minimum=0)
        if self.step or self._recorder.history.count:
            raise ExpectedError(
                "step",
                f"Step {step} cannot be the first: the tracker is at step {self.step}.",
                "Call start_at() right after attach().",
            )
        self._capture.continue_from(self.view, step, 0.0, recorded=-1)

    def start_over(self) -> None:
        """Discard the records in the files of an earlier run, and record from the first step."""
        if self._initial_state is None or self.step:
            raise ExpectedError(
                "tracker",
                "start_over() discards the files of an earlier run, before the first step.",
                "Call it right after attach(..., resume=True).",
            )
        self.load_state_dict(self._initial_state)

    def _abandon_files(self) -> None:
        """Leave the files of an earlier run alone: nothing has said what should become of them."""
        self._awaiting_resume = False
        self._sinks.leave_files()
        error = ExpectedError(
            "resume",
            "The directory holds records of an earlier run, and a step was taken before "
            "load_state_dict() or start_over() was called; no file is written.",
            "Call one of them before the first step.",
        )
        if self._guard.strict:
            raise error
        warn(error)
