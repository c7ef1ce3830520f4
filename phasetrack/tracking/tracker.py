"""Tracker: a model under observation, from snapshots to labels and files."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling

from phasetrack.errors import ExpectedError, check_int
from phasetrack.model.geometry import Geometry
from phasetrack.model.losses import Loss
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.phases.card import as_html, as_text
from phasetrack.phases.classifier import Alert, Transition
from phasetrack.phases.history import History
from phasetrack.phases.run_labels import RunLabels
from phasetrack.phases.vocabulary import Vocabulary
from phasetrack.storage.atomic_files import replace_file
from phasetrack.storage.directory import CONFIG, absolute
from phasetrack.storage.history_sink import HINDSIGHT, HISTORY
from phasetrack.storage.lock import RunLock
from phasetrack.storage.sink import Sink
from phasetrack.storage.weight_store import WeightStore
from phasetrack.tracking.attached_config import attached_config, write_config
from phasetrack.tracking.capture import Capture
from phasetrack.tracking.findings import Findings
from phasetrack.tracking.first_samples import FirstSamples
from phasetrack.tracking.guard import FailureGuard, warn
from phasetrack.tracking.guard import TrackingWarning as TrackingWarning  # where users find it
from phasetrack.tracking.history_buffer import HistoryBuffer
from phasetrack.tracking.probes.base import FunctionProbe, Probe, SampledProbe
from phasetrack.tracking.process_group import Processes
from phasetrack.tracking.recorder import Recorder
from phasetrack.tracking.schedules import Schedule
from phasetrack.tracking.sink_group import SinkGroup
from phasetrack.tracking.snapshot import Snapshot
from phasetrack.tracking.snapshot_queue import MAX_STACK, SnapshotQueue
from phasetrack.tracking.tracker_state import current_format, restored, state_of
from phasetrack.tracking.undeclared import Undeclared
from phasetrack.tracking.unseen import PATIENCE

if TYPE_CHECKING:
    from phasetrack.display.drawing import Figure
    from phasetrack.theory.forecast import Forecast


# Every tracker of this process that is still there.
_trackers: weakref.WeakSet[Tracker] = weakref.WeakSet()


class Tracker(Findings):
    """A model under observation; `attach` makes it.

    Attributes:
        logdir: the directory that the run is written to, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss | None,
        view: TwoLayerView,
        geometry: Geometry,
        *,
        undeclared: Undeclared,
        schedule: Schedule,
        probes: Sequence[Probe],
        sinks: Sequence[Sink],
        labels: RunLabels,
        vocabularies: Sequence[Vocabulary] = (),
        forecast: Forecast | None = None,
        on_transition: Callable[[Tracker, Transition], object] | None = None,
        on_alert: Callable[[Tracker, Alert], object] | None = None,
        block: int = MAX_STACK,
        strict: bool = False,
        processes: Processes = "auto",
    ) -> None:
        self._on_transition, self._on_alert = on_transition, on_alert
        self._loss, self._closed, self._emitting = loss, False, False
        self.logdir: Path | None = None
        self._noted: tuple[str, ...] = ()
        self._initial_state: dict[str, Any] | None = None
        self._said_unseen = False
        self._awaiting_resume = False  # files exist, and nothing has said where to resume
        # other threads may read or detach while one trains; callbacks are called outside of it
        self._lock = threading.RLock()
        self._owner = os.getpid()  # a forked child has a copy, and leaves the files alone
        self._guard = FailureGuard(strict)
        # someone waits for each step's readings, or reads the layers as they are at that step
        at_once = strict or bool(on_transition or on_alert) or any(map(_reads_one_state, probes))
        queue = SnapshotQueue(1 if at_once else block)
        sampled = [probe for probe in probes if isinstance(probe, SampledProbe)]
        first_samples = FirstSamples(geometry, max((p.samples for p in sampled), default=0))
        first_samples.take(undeclared.search.reservoir)
        self._undeclared = undeclared
        super().__init__(
            Recorder(probes, labels, self._guard, queue, first_samples, forecast, vocabularies)
        )
        self._sinks = SinkGroup(sinks, self._guard, before_history_lost=lambda: self.history)
        wants_weights = any("weights" in probe.needs for probe in probes)
        self._capture = Capture(
            model,
            optimizer,
            loss,
            view,
            geometry,
            schedule,
            self._receive,
            failed=self._hook_failed,
            say=self._guard.note,
            keep_inputs=any("inputs" in probe.needs for probe in probes),
            keep_weights=lambda step: (
                wants_weights
                or self._sinks.saves_weights_at(step)
                or any(probe.due(step, self._capture.recorded) for probe in sampled)
                or self._undeclared.keeps_weights_at(step)
            ),
            first_samples=first_samples,
            search=undeclared.search,
            processes=processes,
        )
        _trackers.add(self)
        self._at_exit = partial(_write_at_exit, weakref.ref(self))
        atexit.register(self._at_exit)

    @property
    def view(self) -> TwoLayerView:
        """The two layers as they were found."""
        return self._capture.view

    @property
    def step(self) -> int:
        """Optimizer steps counted so far."""
        return self._capture.step

    @property
    def detached(self) -> bool:
        """Whether the model is not followed any more."""
        return self._closed

    def follows(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the steps of an optimizer are counted."""
        return not self._closed and self._capture.optimizer is optimizer

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

    def __repr__(self) -> str:
        """The run so far in a few lines: label, verdict, alerts."""
        first, second = self.view.names
        return as_text(
            f"Tracker of {first!r} and {second!r}", self._state_told(self._at_a_glance(self.step))
        )

    def _repr_html_(self) -> str:
        first, second = self.view.names
        return as_html(f"tracker of {first} and {second}", self._state_told(self.summary()))

    def _state_told(self, summary: dict[str, Any]) -> dict[str, Any]:
        told = {**summary, **self._undeclared.summary()}
        return told if self._closed else {**told, "stopped": "running"}

    def plot(self, *, size: str = "screen", title: str | None = None) -> Figure:
        """Draw the run so far on one page, as `phasetrack plot` does; a notebook shows the figure.

        Args:
            size: ``screen``, or ``paper`` for 7 inches.
            title: above the panels; None is the name of the run's directory.
        """
        from phasetrack.display.plots import run_figure  # matplotlib takes a second to import

        named = (self.logdir.name if self.logdir else "") if title is None else title
        return run_figure(self.history, self.summary(), title=named, size=size)

    # --- in training -------------------------------------------------------------------------

    def loss(self, outputs: Tensor, targets: Tensor, *more: Any, **named: Any) -> Tensor:
        """Call the loss given to `attach` and observe it; for losses that are not modules."""
        if self._loss is None:
            raise ExpectedError(
                "loss",
                "No loss was given to attach().",
                "Pass loss= to attach(), then call it here.",
            )
        value = self._loss(outputs, targets, *more, **named)
        if not isinstance(self._loss, nn.Module) and not is_dynamo_compiling():
            self._capture.observe_loss(outputs, targets, value)
        return value

    def _receive(self, snapshot: Snapshot) -> None:
        """Queue a snapshot, and measure the queue if it is time."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            if self._awaiting_resume:
                self._abandon_files()
            if self.view.notes is not self._noted:
                self._measure()  # warnings about earlier steps come first
                self._warn_of_notes(self.view.notes)
            if not self._said_unseen and self.step >= PATIENCE:
                self._say_unseen()
            self._sinks.save(snapshot)
            self._undeclared.receive(snapshot, self._guard)
            due = self._recorder.queue.append(snapshot)
        if due:
            self._measure_and_write()

    def _measure(self) -> None:
        """Measure everything in the queue; a forked child drops it instead."""
        if os.getpid() == self._owner:
            with self._lock:
                self._guard.run(self._recorder.measure, "this step's record")
        else:
            self._recorder.queue.restart(any_measured=True)

    def _measure_and_write(self) -> None:
        """Measure everything in the queue, and give its records to sinks and callbacks."""
        spoken = self._recorder.vocabularies.values()
        with self._lock:
            known = [(one, len(one.transitions), len(one.alerts)) for one in spoken]
            self._measure()
            self._write()
        # outside the guard: callbacks are the user's own code, and may end the training
        for labels, transitions, alerts in known:
            if self._on_transition is not None:
                for transition in labels.transitions[transitions:]:
                    self._on_transition(self, transition)
            if self._on_alert is not None:
                for alert in labels.alerts[alerts:]:
                    self._on_alert(self, alert)

    def _write(self) -> None:
        """Give the sinks every record that they do not have yet."""
        self._emitting = True  # stays so if a step's writing is broken off
        while (record := self._recorder.next_record()) is not None:
            if self._sinks.sinks:
                self._sinks.write(record)
        self._emitting = False
        self._recorder.history.mark_written()

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

    # --- the end -----------------------------------------------------------------------------

    def release(self) -> None:
        """Detach, and leave the files of an earlier run that was not resumed as they are."""
        self._sinks.leave_files()
        self.detach()

    def detach(self, extra: Mapping[str, Any] | None = None) -> None:
        """Remove all hooks and close all sinks; further calls do nothing.

        Args:
            extra: entries to add to the summary that the sinks are given.
        """
        if self._closed:
            return
        self._closed = True
        if not self._said_unseen:
            self._say_unseen()
        self._capture.close()
        atexit.unregister(self._at_exit)
        if os.getpid() != self._owner:
            return
        with self._lock:  # a step that another thread is recording comes first
            self._measure_and_write()
            if self._recorder.before is not None and not (extra and "stopped" in extra):
                self._look_back()
            summary = {**self.summary(), **(extra or {})}
            self._sinks.close(summary, self.history)

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

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Copy and pickle as None: a copied model is not tracked, and loads without phasetrack."""
        return type(None), ()

    def __enter__(self) -> Self:
        """The tracker itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Detach, also after an exception."""
        if error is None:
            self.detach()
            return
        self._said_unseen = True  # the training did not come to its end
        stopped = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        self.detach({"stopped": stopped, "ended_by": type(error).__name__})

    def __del__(self) -> None:
        """Write the records of a tracker that was not detached."""
        if getattr(self, "_closed", True) is False and hasattr(self, "_at_exit"):
            atexit.unregister(self._at_exit)
            _write_rest(self)
            self._sinks.release(self._sinks.resumable().values())

    def _say_unseen(self) -> None:
        self._said_unseen = True
        self._guard.run(self._capture.say_unseen, "the look at what was not seen")

    # --- warnings ----------------------------------------------------------------------------

    def note(self, line: str) -> None:
        """Keep a sentence about the run, for people, and warn with it."""
        self._guard.note(line)

    def _warn_of_notes(self, notes: tuple[str, ...]) -> None:
        for note in notes[len(self._noted) :]:
            self._guard.note(note)
        self._noted = notes

    def _hook_failed(self, error: Exception) -> None:
        """Warn once that a hook failed; readings of its step are missing, training continues."""
        if self._guard.strict:
            raise error
        self._measure()
        line = f"a hook failed ({error!r}); readings of its step are missing, training continues"
        self._guard.report("hooks", f"failed: {error!r}", line)


def end_earlier(optimizer: torch.optim.Optimizer, folder: Path | None) -> list[Tracker]:
    """Detach the trackers of this process that follow an optimizer or write to a directory; return them."""
    earlier = [
        tracker
        for tracker in list(_trackers)
        if tracker.follows(optimizer)
        or (folder is not None and tracker.logdir == folder and not tracker.detached)
    ]
    for tracker in earlier:
        tracker.detach()
    return earlier


def _write_at_exit(reference: weakref.ref[Tracker]) -> None:
    tracker = reference()
    if tracker is not None:
        _write_rest(tracker)


def _write_rest(tracker: Tracker) -> None:
    """Measure and write what waits, in the process that took it, and let others write to the directory."""
    if os.getpid() == tracker._owner:
        with tracker._lock:
            tracker._measure()
            tracker._write()
            tracker._sinks.leave()


def _reads_one_state(probe: Probe) -> bool:
    return isinstance(probe, FunctionProbe)
