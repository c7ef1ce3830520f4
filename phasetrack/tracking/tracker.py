"""Tracker: a model under observation, from snapshots to labels and files."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling

from phasetrack.errors import ExpectedError
from phasetrack.model.geometry import Geometry
from phasetrack.model.losses import Loss
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.phases.card import as_html, as_text
from phasetrack.phases.classifier import Alert, Transition
from phasetrack.phases.run_labels import RunLabels
from phasetrack.phases.vocabulary import Vocabulary
from phasetrack.storage.sink import Sink
from phasetrack.tracking.capture import Capture
from phasetrack.tracking.first_samples import FirstSamples
from phasetrack.tracking.guard import FailureGuard
from phasetrack.tracking.guard import TrackingWarning as TrackingWarning  # where users find it
from phasetrack.tracking.history_buffer import UnreadHistory
from phasetrack.tracking.probes.base import FunctionProbe, Probe, SampledProbe
from phasetrack.tracking.process_group import Processes
from phasetrack.tracking.recorded_run import RecordedRun
from phasetrack.tracking.recorder import Recorder
from phasetrack.tracking.schedules import Schedule
from phasetrack.tracking.snapshot import Snapshot
from phasetrack.tracking.snapshot_queue import MAX_STACK, SnapshotQueue
from phasetrack.tracking.undeclared import Undeclared
from phasetrack.tracking.unseen import PATIENCE

if TYPE_CHECKING:
    from phasetrack.display.drawing import Figure
    from phasetrack.theory.forecast import Forecast


# Every tracker of this process that is still there.
_trackers: weakref.WeakSet[Tracker] = weakref.WeakSet()


class Tracker(RecordedRun):
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
        self._said_unseen = False
        guard = FailureGuard(strict)
        # someone waits for each step's readings, or reads the layers as they are at that step
        at_once = strict or bool(on_transition or on_alert) or any(map(_reads_one_state, probes))
        queue = SnapshotQueue(1 if at_once else block)
        sampled = [probe for probe in probes if isinstance(probe, SampledProbe)]
        first_samples = FirstSamples(geometry, max((p.samples for p in sampled), default=0))
        first_samples.take(undeclared.search.reservoir)
        super().__init__(
            Recorder(probes, labels, guard, queue, first_samples, forecast, vocabularies),
            guard,
            sinks,
            undeclared,
            loss,
        )
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
    def detached(self) -> bool:
        """Whether the model is not followed any more."""
        return self._closed

    def follows(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the steps of an optimizer are counted."""
        return not self._closed and self._capture.optimizer is optimizer

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
            self._capture.observe_loss((outputs, targets, *more), named, value)
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

    def _measure_and_write(self) -> None:
        """Measure everything in the queue, and give its records to sinks and callbacks."""
        spoken = self._recorder.vocabularies.values()
        with self._lock:
            known = [(one, len(one.transitions), len(one.alerts)) for one in spoken]
            super()._measure_and_write()
        # outside the guard: callbacks are the user's own code, and may end the training
        for labels, transitions, alerts in known:
            if self._on_transition is not None:
                for transition in labels.transitions[transitions:]:
                    self._on_transition(self, transition)
            if self._on_alert is not None:
                for alert in labels.alerts[alerts:]:
                    self._on_alert(self, alert)

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
            self._summary = {**self._last_summary(self.step), **self._undeclared.summary()}
            summary = {**self._summary, **(extra or {})}
            held = self._recorder.history.all_held
            history = self.history if held else UnreadHistory(lambda: self.history)
            self._sinks.close(summary, history)

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
            self.write_rest()
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
        tracker.write_rest()


def _reads_one_state(probe: Probe) -> bool:
    return isinstance(probe, FunctionProbe)
