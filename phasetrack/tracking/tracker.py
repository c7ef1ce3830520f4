"""attach(): from hooks to phases and files, without touching training."""

from __future__ import annotations

import atexit
import math
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from phasetrack.errors import ExpectedError, check_int, expected_error
from phasetrack.model.geometry import Activation, ClusterGeometry
from phasetrack.model.losses import Loss
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.phases.classifier import (
    Alert,
    Boundary,
    Phase,
    PhaseClassifier,
    Thresholds,
    Transition,
)
from phasetrack.phases.history import History, Record
from phasetrack.phases.summary import summarise
from phasetrack.storage.history_sink import HISTORY, HistorySink
from phasetrack.storage.sink import Resumable, Sink
from phasetrack.storage.weight_store import WeightStore
from phasetrack.tracking.capture import Capture
from phasetrack.tracking.guard import Guard, say
from phasetrack.tracking.guard import TrackingWarning as TrackingWarning  # where users find it
from phasetrack.tracking.history_buffer import Recording
from phasetrack.tracking.probes.default import (
    ForecastProbe,
    FunctionProbe,
    Measurement,
    Probe,
    default_probes,
    reads_blocks,
)
from phasetrack.tracking.readings import Row, add_readings, missing
from phasetrack.tracking.schedules import Schedule, as_schedule
from phasetrack.tracking.sink_group import Outlets
from phasetrack.tracking.snapshot import Block, Snapshot, StepSizes

if TYPE_CHECKING:
    from phasetrack.theory.forecast import Forecast


# Snapshots that are measured in one go, if nothing asks for them before (chosen here: Python's own
# cost of a reading is then shared by so many that the hooks cost more); fewer where they are large
# (`Snapshot.together`).
BLOCK = 128
# Seconds that a snapshot waits at most, if steps go on (chosen here: long enough to fill a block where steps
# take milliseconds, short enough that nobody who watches a run misses it).
LATEST = 1.0
# Of `Tracker.state_dict`; a state of another format is refused.
STATE_FORMAT = 3
# The sinks' state keys in format 2: their class names of then.
CLASS_NAMES = {
    "HistorySink": "history",
    "ClockSink": "clock",
    "TensorBoardSink": "tensorboard",
    "NeuronSink": "neurons",
    "WeightStore": "weights",
}


def attach(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    loss: Loss,
    geometry: ClusterGeometry,
    logdir: str | Path | None = None,
    every: int | Schedule = 1,
    probes: Sequence[Probe | Callable[[Snapshot], Measurement]] | None = None,
    sinks: Sequence[Sink] = (),
    thresholds: Thresholds | None = None,
    forecast: Forecast | None = None,
    escape_steps: float | None = None,
    hparams: Mapping[str, object] | None = None,
    snapshots: int | Schedule | None = None,
    layers: tuple[str, str] | None = None,
    scale: float | None = None,
    activation: Activation | None = None,
    readout: Tensor | None = None,
    on_transition: Callable[[Tracker, Transition], object] | None = None,
    on_alert: Callable[[Tracker, Alert], object] | None = None,
    block: int = BLOCK,
    strict: bool = False,
    resume: bool = False,
) -> Tracker:
    """Follow a two-layer model in training, step by step, and leave training as it is.

    Args:
        model: any model with two linear layers, d to p and p to 1 (see `TwoLayerView.of`).
        optimizer: the optimizer that trains it; its steps are what is counted.
        loss: the loss that the training loop calls as ``loss(outputs, targets)``. A module is
            watched by itself; for a plain function call `tracker.loss` in its place.
        geometry: the data's clusters.
        logdir: a directory for ``history.jsonl`` and TensorBoard's event file; None writes none.
        every: record every n-th step, or the steps for which a function of the step is true.
        probes: in place of the default probes; plain functions from Snapshot to readings are fine.
        sinks: further sinks.
        thresholds: of the phase classifier.
        forecast: a predicted run, whose values are recorded beside the measured ones.
        escape_steps: predicted steps until the loss halves, which the SADDLE alert needs; taken
            from `forecast` if that is given.
        hparams: hyperparameters of the run, for TensorBoard's HParams dashboard.
        snapshots: save the two layers at such recorded steps under `logdir`, for `phasetrack.tracking.replay.replay`.
        layers: names of the two layers, where the model has others.
        scale: factor between the second layer's output and the model's (see `TwoLayerView.of`).
        activation: the activation, where the model shows none as a module and it is not ReLU.
        readout: for a block in a larger network, named by `layers`: the direction of its output
            that is measured, (outputs,), or one for each class, (n, outputs). Margins are then those
            of the block alone, and loss and first-order errors those of the whole network.
        on_transition: called with the tracker and each change of label, before the optimizer step
            of the state that carries the new one; what it raises, it raises into the training
            loop, which can end it.
        on_alert: called likewise with each failure signature.
        block: at most so many recorded steps are measured in one go, which on small networks costs
            hardly more than one. Readings are the same to the bit for every value. Files and sinks
            then lag by less than `block` records and by a second while steps go on;
            reading anything of the tracker measures what is pending first. Everything is measured
            at its own step where someone waits for it (`on_transition`, `on_alert`, `strict`),
            where a probe of your own looks at single snapshots, and on large networks.
        strict: raise what a probe or sink raises, instead of warning and switching it off.
        resume: `logdir` may hold a run already. Its files are then left alone until
            `Tracker.load_state_dict` says from where to go on, or `Tracker.start_over` that nothing
            in them is wanted.

    Returns:
        The tracker: a handle, and a context manager that detaches at its end.

    Raises:
        ExpectedError: naming the argument, what was expected and what was given. Nothing is
            attached then.

    Example:
        >>> from phasetrack.model.losses import LogisticLoss
        >>> from phasetrack.model.network import TwoLayerNet
        >>> from phasetrack.tasks import XOR
        >>> task, loss = XOR(d=16), LogisticLoss()
        >>> net = TwoLayerNet(d=16, width=32)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.2 * 32)
        >>> with attach(net, optimizer, loss=loss, geometry=task.geometry) as tracker:
        ...     for step in range(3):
        ...         x, y = task.sample(64, seed=0, step=step)
        ...         optimizer.zero_grad()
        ...         loss(net(x), y).backward()
        ...         optimizer.step()
        >>> tracker.phase.name, tracker.history.steps.tolist()
        ('SIGNAL_FINDING', [0, 1, 2])
    """
    if snapshots is not None and logdir is None:
        raise expected_error("snapshots", "a logdir to save weights in", "none", "give logdir=")
    saved = None if snapshots is None else as_schedule(snapshots, "snapshots")
    tracker = Tracker(
        model,
        optimizer,
        loss,
        TwoLayerView.of(model, layers, scale=scale, activation=activation, readout=readout),
        geometry,
        schedule=as_schedule(every),
        probes=_probes(probes, forecast),
        sinks=sinks,
        classifier=PhaseClassifier(
            thresholds or Thresholds(), _escape_steps(escape_steps, forecast)
        ),
        forecast=forecast,
        on_transition=on_transition,
        on_alert=on_alert,
        block=block,
        strict=strict,
    )
    # files come last: a mistake in the other arguments leaves none behind
    try:
        if logdir is not None and _rank() == 0:  # of several processes, one writes
            tracker.write_to(Path(logdir), hparams=hparams, snapshots=saved, resume=resume)
    except BaseException:
        tracker.detach()
        raise
    return tracker


class Tracker:
    """A model under observation; made by `attach`.

    Attributes:
        history: every recorded step, as columns.
        phase: the label of the last recorded step.
        reason: why that label is UNDETERMINED; empty otherwise.
        boundaries: boundaries detected so far.
        transitions: changes of label so far.
        alerts: failure signatures so far.
        undefined: metric or probe name to the first reason why it could not be read.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        view: TwoLayerView,
        geometry: ClusterGeometry,
        *,
        schedule: Schedule,
        probes: Sequence[Probe],
        sinks: Sequence[Sink],
        classifier: PhaseClassifier,
        forecast: Forecast | None = None,
        on_transition: Callable[[Tracker, Transition], object] | None = None,
        on_alert: Callable[[Tracker, Alert], object] | None = None,
        block: int = BLOCK,
        strict: bool = False,
    ) -> None:
        check_int("block", block, minimum=1)
        if view.W.shape[1] != geometry.dim:
            raise expected_error(
                "geometry", f"centres in R^{view.W.shape[1]}, as {view.names[0]} takes", geometry
            )
        if max(view.heads, 2) != geometry.class_count:
            raise expected_error(
                "geometry",
                f"labels of {max(view.heads, 2)} classes, as {view.names[1]} tells apart",
                f"{geometry.class_count}",
                "of a block in a larger network, say with readout= which directions are measured"
                if view.directions is None
                else "",
            )
        self._recording = Recording()
        self._phase, self._reason = Phase.UNDETERMINED, "no step was recorded yet"
        self._boundaries: list[Boundary] = []
        self._transitions: list[Transition] = []
        self._alerts: list[Alert] = []
        self._guard = Guard(strict)
        self._outlets = Outlets(sinks, self._guard, losing=lambda: self.history)
        self._probes, self._classifier, self._forecast = list(probes), classifier, forecast
        self._on_transition, self._on_alert = on_transition, on_alert
        self._pending: deque[Snapshot] = deque()  # taken and not measured yet
        self._since = self._last = -math.inf  # when the first and the last of them were taken
        self._room = 1  # how many may be pending, as the first of them is large
        self._measuring = False
        self._first: Snapshot | None = None
        self._before: Block | None = None
        self._loss, self._closed = loss, False
        self._noted: tuple[str, ...] = ()
        self._begin: dict[str, Any] | None = None  # the state before the first step
        self._owner = os.getpid()  # a forked child has this tracker too, and leaves the files alone
        self._within = False  # whether records are being handed out
        self._waiting = False  # whether files were taken up and nobody said from where to go on
        self._capture = Capture(
            model,
            optimizer,
            loss,
            view,
            geometry,
            schedule,
            self._receive,
            failed=self._looking_failed,
            keep_inputs=any("inputs" in probe.needs for probe in probes),
        )
        at_once = (
            strict
            or (on_transition or on_alert) is not None
            or not all(reads_blocks(probe) for probe in probes)
        )
        self._block = 1 if at_once else block
        self._at_exit = partial(_measure_at_exit, weakref.ref(self))
        atexit.register(self._at_exit)

    @property
    def history(self) -> History:
        """Every recorded step, as columns.

        In memory from the first time that it is asked for: 8 bytes a reading. Until then a run with a
        `logdir` leaves its records to ``history.jsonl``.
        """
        self._flush()
        try:
            return self._recording.whole()
        except (ExpectedError, OSError) as error:
            if self._guard.strict:
                raise
            rest = self._recording.rest()
            line = f"the history cannot be read back from its file; only the last records are left ({error})"
            self._guard.reasons.setdefault("history", line)
            say(line)
            return rest

    @property
    def phase(self) -> Phase:
        """The label of the last recorded step."""
        self._flush()
        return self._phase

    @property
    def reason(self) -> str:
        """Why that label is UNDETERMINED; empty otherwise."""
        self._flush()
        return self._reason

    @property
    def boundaries(self) -> list[Boundary]:
        """Boundaries detected so far."""
        self._flush()
        return self._boundaries

    @property
    def transitions(self) -> list[Transition]:
        """Changes of label so far."""
        self._flush()
        return self._transitions

    @property
    def alerts(self) -> list[Alert]:
        """Failure signatures so far."""
        self._flush()
        return self._alerts

    @property
    def undefined(self) -> dict[str, str]:
        """Metric or probe name to the first reason why it could not be read."""
        self._flush()
        return self._guard.reasons

    @property
    def view(self) -> TwoLayerView:
        """The two layers as they were found."""
        return self._capture.view

    @property
    def thresholds(self) -> Thresholds:
        """The classifier's thresholds."""
        return self._classifier.thresholds

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss given to `attach`, called and observed; for losses that are no modules."""
        value = self._loss(outputs, targets)
        if not isinstance(self._loss, nn.Module):
            self._capture.observe_loss(outputs, targets)
        return value

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` holds: phase, boundaries, alerts, final readings, forecast."""
        return summarise(
            self.history,
            phase=self.phase,
            reason=self.reason,
            boundaries=self.boundaries,
            alerts=self.alerts,
            undefined=self.undefined,
            steps=self._capture.step,
            thresholds=self.thresholds,
            forecast=None if self._forecast is None else self._forecast.bands(),
        )

    @property
    def step(self) -> int:
        """Optimizer steps counted so far."""
        return self._capture.step

    @property
    def complete(self) -> bool:
        """Whether nothing that writes the run's files has failed."""
        self._flush()
        return not any(name.startswith("sink:") for name in self._guard.off)

    @property
    def between_steps(self) -> bool:
        """Whether `state_dict` can be had: no recording of a step was broken off."""
        return not (self._within or self._closed)

    def state_dict(self) -> dict[str, Any]:
        """All that later readings and labels depend on, and how far the files are written.

        Save it beside the model's and the optimizer's state, between two steps. It holds what
        `torch.load` reads with ``weights_only=True``: tensors, numbers, text, lists and mappings.
        Where a history file is written, the records are in it and not in the state.

        Raises:
            ExpectedError: after `detach`, or if the recording of a step was broken off.
        """
        if self._closed:
            mend = "call state_dict() before detach()"
            raise expected_error("tracker", "one that is attached", "one that was detached", mend)
        if self._within:
            got = "one whose recording of a step was broken off"
            raise expected_error("tracker", "a state between two steps", got)
        self._flush()
        sinks = self._outlets.state_dicts()
        kept = any(name.split()[0] == HistorySink.state_key for name in sinks)
        return {
            "format": STATE_FORMAT,
            "capture": self._capture.state_dict(),
            "classifier": self._classifier.state_dict(),
            "phase": self.phase.name,
            "reason": self.reason,
            "boundaries": [asdict(boundary) for boundary in self.boundaries],
            "transitions": [[t.step, t.before.name, t.after.name] for t in self.transitions],
            "alerts": [[a.name, a.step, dict(a.evidence)] for a in self.alerts],
            "undefined": dict(self.undefined),
            "off": list(self._guard.off),
            "previous": self._before and self._before.snapshots[-1].state_dict(),
            "first": self._first and self._first.state_dict(),
            "records": self._recording.count,
            "history": None if kept else _columns(self.history),
            "sinks": sinks,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: what was recorded since, in memory and in files, is taken back.

        Load the model's and the optimizer's own states beside it.

        Args:
            state: what `state_dict` gave for such a model, probes and sinks.

        Raises:
            ExpectedError: if it is no such state, or the files do not hold what it speaks of.
                Nothing was changed then.
        """
        try:
            if state["format"] == 2:
                state = _with_state_keys(state)
            if state["format"] != STATE_FORMAT:
                raise expected_error("resume", f"a state of format {STATE_FORMAT}", state["format"])
            kept = self._outlets.check_states(state["sinks"], state["off"])
            stopped = [w for name, w in self._outlets.resumable().items() if name not in kept]
            self._restore(state, kept)
            self._outlets.drop(stopped)
        except ExpectedError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise expected_error("resume", "the state of a tracker", f"{error!r}") from None

    def start_over(self) -> None:
        """Discard what the files of a run that was taken up hold, and record from the first step."""
        if self._begin is None or self.step:
            raise expected_error("resume", "attach(..., resume=True), before any step", "another")
        self.load_state_dict(self._begin)

    def sync(self) -> None:
        """Have on the disk what was recorded so far, so that a power cut spares it."""
        self._flush()
        self._outlets.sync()

    def write_to(
        self,
        logdir: Path,
        *,
        hparams: Mapping[str, object] | None = None,
        snapshots: Schedule | None = None,
        resume: bool = False,
    ) -> None:
        """Write the run into a directory from now on, and keep others from writing there.

        Raises:
            ExpectedError: if it cannot be written, holds a run already (unless `resume`), or
                somebody else writes to it.
        """
        self._waiting = resume and (logdir / HISTORY).exists()
        self._flush()
        self._outlets.open(logdir, self._capture.geometry, hparams, resume)
        if snapshots is not None:
            self.save_weights(WeightStore(logdir), snapshots)
        if not self._recording.count:
            self._recording = Recording(source=self._outlets.history_sink)
        if resume:
            self._begin = self.state_dict()

    def add_sinks(self, sinks: Sequence[Sink]) -> None:
        """Give further sinks every record from now on; they are closed by `detach`."""
        self._flush()
        self._outlets.sinks += sinks

    def save_weights(self, store: WeightStore, schedule: Schedule) -> None:
        """Save the two layers at the recorded steps of a schedule."""
        self._outlets.save_weights(store, schedule)

    def release(self) -> None:
        """Detach, and leave the files of a run that was not taken up as they are."""
        self._outlets.drop(self._outlets.resumable().values())
        self.detach()

    def detach(self, extra: Mapping[str, Any] | None = None) -> None:
        """Remove all hooks and close all sinks; further calls do nothing.

        Args:
            extra: entries to add to the summary that the sinks are given.
        """
        if self._closed:
            return
        self._closed = True
        self._capture.close()
        atexit.unregister(self._at_exit)
        if os.getpid() != self._owner:
            return
        summary = {**self.summary(), **(extra or {})}
        self._outlets.close(summary, self.history)

    def __enter__(self) -> Self:
        """The tracker itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Detach, whatever happened."""
        self.detach()

    def step_sizes(self) -> StepSizes:
        """Length of the coming step for each layer."""
        return self._capture.step_sizes()

    def receive(self, snapshot: Snapshot) -> None:
        """Take a snapshot that was made elsewhere, as one of a training that no hook sees.

        It is measured once a block is full, or someone asks.
        """
        self._receive(snapshot, latest=math.inf)

    def __del__(self) -> None:
        """Measure what is pending of a tracker that nobody detached."""
        if getattr(self, "_pending", None):
            atexit.unregister(self._at_exit)
            self._flush()

    def _receive(self, snapshot: Snapshot, latest: float | None = None) -> None:
        """Take a snapshot, and measure what is pending if it is time: after `LATEST` or as asked."""
        if os.getpid() != self._owner:
            return
        if self._waiting:
            self._leave_files()
        if snapshot.view.notes is not self._noted:
            self._flush()  # what is said of earlier steps comes first
            self._warn_of_notes(snapshot.view.notes)
        self._outlets.save(snapshot)
        now = time.monotonic()
        if not self._pending:
            self._since, self._room = now, min(self._block, snapshot.together)
        self._pending.append(snapshot)
        # the next one will come about as long after this one as this one came after the last
        waited, self._last = now - self._since + now - self._last, now
        late = waited >= (LATEST if latest is None else latest)
        if late or len(self._pending) >= self._room or self._first is None:
            self._measure_and_tell()

    def _measure_and_tell(self) -> None:
        """Measure what is pending, and call back what is new; that is the user's own code, and may raise."""
        transitions, alerts = len(self._transitions), len(self._alerts)
        self._flush()
        # outside the guards: callbacks are the user's own code, and may end the training
        if self._on_transition is not None:
            for transition in self._transitions[transitions:]:
                self._on_transition(self, transition)
        if self._on_alert is not None:
            for alert in self._alerts[alerts:]:
                self._on_alert(self, alert)

    def _flush(self) -> None:
        """Measure all that is pending; whoever is given a record may look at the tracker."""
        if self._measuring or not self._pending:
            return
        if os.getpid() != self._owner:
            self._pending.clear()
            return
        self._measuring = True
        try:
            while self._pending:
                first = self._pending[0]
                # the first of all stands alone: nothing comes before it
                count = 1 if self._first is None else first.together
                alike = takewhile(first.alike, self._pending)
                snapshots = [s for s, _ in zip(alike, range(count), strict=False)]
                self._guard(partial(self._record, snapshots), "this step's record")
        finally:
            self._measuring = False

    def _record(self, snapshots: Sequence[Snapshot]) -> None:
        """Measure some of what is pending, and hand out their records one by one."""
        block = Block(snapshots, self._before, self._first)
        rows = self._measured_alone(block) if len(snapshots) == 1 else self._measured(block)
        if rows is None:  # one by one, as if each had been measured at its own step
            for snapshot in snapshots:
                self._record([snapshot])
            return
        done, self._within = 0, True
        try:
            for snapshot, row in zip(snapshots, rows, strict=True):
                self._pending.popleft()
                done += 1
                self._first = self._first or snapshot.lean()
                self._hand_out(snapshot.step, *row)
            self._within = False
        finally:
            # interrupted in between, the rest is measured another time
            block.before = None
            self._before = block if done == len(rows) else Block(snapshots[:done])

    def _measured(self, block: Block) -> list[Row] | None:
        """What the probes make of several snapshots; None where one has a problem or a probe fails."""
        try:
            return self._measure(block) if block.flawless else None
        except Exception:
            return None

    def _measured_alone(self, block: Block) -> list[Row]:
        """What the probes make of one snapshot, after what is to be said of it."""
        try:
            self._warn_of_problem(block.snapshots[0].problem)
            return self._measure(block)
        except BaseException:
            self._pending.popleft()  # it would fail again
            raise

    def _hand_out(
        self,
        step: int,
        readings: dict[str, float],
        distributions: dict[str, NDArray[np.float64]],
        reasons: Mapping[str, str],
    ) -> None:
        """Label one step, and give its record to history and sinks."""
        for name, reason in reasons.items():
            self._guard.reasons.setdefault(name, reason)
        verdict = self._classifier.update(step, readings)
        self._phase, self._reason = verdict.phase, verdict.reason
        self._boundaries += verdict.boundaries
        self._alerts += verdict.alerts
        if verdict.transition:
            self._transitions.append(verdict.transition)
        readings["phase/id"] = float(verdict.phase.id)
        self._recording.append(step, readings)
        if not self._outlets.sinks:
            return
        record = Record(
            step,
            readings,
            verdict.phase,
            verdict.reason,
            verdict.transition,
            verdict.boundaries,
            verdict.alerts,
            distributions,
        )
        self._outlets.write(record)
        self._recording.written()

    def _leave_files(self) -> None:
        """Nobody said what is to become of the run in the log directory: it stays as it is."""
        self._waiting = False
        self._outlets.drop(self._outlets.resumable().values())
        got = "neither load_state_dict() nor start_over() before the first step"
        error = expected_error("resume", "to be told where to go on", got, "no file is written")
        if self._guard.strict:
            raise error
        say(error)

    def _restore(self, state: Mapping[str, Any], sinks: Mapping[str, Resumable]) -> None:
        capture, geometry, loss = self._capture, self._capture.geometry, self._capture.host_loss
        history = self._recorded(state, sinks)
        boundaries = [Boundary(**boundary) for boundary in state["boundaries"]]
        changes = [(int(s), Phase[old], Phase[new]) for s, old, new in state["transitions"]]
        alerts = [Alert(str(name), int(s), dict(why)) for name, s, why in state["alerts"]]
        phase, off = Phase[state["phase"]], [str(name) for name in state["off"]]
        undefined = {str(name): str(reason) for name, reason in state["undefined"].items()}
        classifier = PhaseClassifier(self.thresholds, self._classifier.escape_steps)
        classifier.load_state_dict(state["classifier"])
        view = capture.view_of(state["capture"])
        step, time = int(state["capture"]["step"]), float(state["capture"]["time"])
        previous, first = (
            None if state[name] is None else Snapshot.of_state(state[name], view, geometry, loss)
            for name in ("previous", "first")
        )
        # from here on nothing fails but the disk
        for name, sink in sinks.items():
            sink.load_state_dict(state["sinks"][name])
        self._pending.clear()
        self._recording = Recording(history, self._outlets.history_sink)
        self._classifier = classifier
        self._phase, self._reason = phase, str(state["reason"])
        self._boundaries, self._alerts = boundaries, alerts
        self._transitions = [Transition(*change) for change in changes]
        self._before, self._first = None if previous is None else Block((previous,)), first
        self._guard.off, self._guard.reasons = off, undefined
        self._noted = view.notes
        self._probes = [probe for probe in self._probes if f"probe:{probe.name}" not in off]
        capture.go_on(view, step, time, recorded=history.last_step)
        self._within = self._waiting = False

    def _recorded(self, state: Mapping[str, Any], sinks: Mapping[str, Resumable]) -> History:
        """The records that a state speaks of, from the history file or from itself."""
        if state["history"] is not None:
            history = _history(state["history"])
        else:
            (name, sink), *_ = ((n, s) for n, s in sinks.items() if isinstance(s, HistorySink))
            history = sink.records(state["sinks"][name])
        if history.count != state["records"]:
            allowed = f"a history of {state['records']} records"
            raise expected_error("resume", allowed, f"{history.count}")
        return history

    def _measure(self, block: Block) -> list[Row]:
        """What the probes make of each snapshot of a block.

        Of a single one, what fails is switched off; of several, it raises.
        """
        rows = [Row({}, {}, {}) for _ in block.snapshots]
        readable = []
        for probe in self._probes:
            if reason := missing(probe, block):
                rows[0].reasons.setdefault(probe.name, reason)
            else:
                readable.append(probe)
        if len(rows) > 1:
            add_readings(rows, readable, block, self._guard.reasons)
            return rows
        for probe in readable:
            read = partial(add_readings, rows, [probe], block, self._guard.reasons)
            if not self._guard(read, probe.name):
                self._probes.remove(probe)
                self._guard.off.append(f"probe:{probe.name}")
        return rows

    def _warn_of_notes(self, notes: tuple[str, ...]) -> None:
        for note in notes[len(self._noted) :]:
            say(note)
        self._noted = notes

    def _warn_of_problem(self, problem: ExpectedError | None) -> None:
        """Once; the readings that it costs are NaN, with it as their reason."""
        if problem is None:
            return
        if self._guard.strict:
            raise problem
        if "batch" not in self._guard.reasons:
            self._guard.reasons["batch"] = str(problem)
            say(problem)

    def _looking_failed(self, error: Exception) -> None:
        """A hook failed: say so once; the step's readings are NaN or missing, training goes on."""
        if self._guard.strict:
            raise error
        self._flush()
        if "hooks" not in self._guard.reasons:
            self._guard.reasons["hooks"] = f"failed: {error!r}"
            say(f"looking at the training failed; it goes on ({error!r})")


def _measure_at_exit(reference: weakref.ref[Tracker]) -> None:
    tracker = reference()
    if tracker is not None:
        tracker._flush()


def _probes(
    probes: Sequence[Probe | Callable[[Snapshot], Measurement]] | None, forecast: Forecast | None
) -> list[Probe]:
    given = default_probes() if probes is None else probes
    chosen: list[Probe] = [
        FunctionProbe(probe) if not hasattr(probe, "measure") else cast(Probe, probe)
        for probe in given
    ]
    return chosen if forecast is None else [*chosen, ForecastProbe(forecast)]


def _escape_steps(given: float | None, forecast: Forecast | None) -> float | None:
    if given is not None or forecast is None:
        return given
    predicted = forecast.loss_halving_step.value
    return forecast.settings.escape_steps if math.isnan(predicted) else predicted


def _columns(history: History) -> dict[str, Any]:
    columns = {name: torch.from_numpy(history[name]) for name in history}
    return {"steps": torch.from_numpy(history.steps), "columns": columns}


def _history(state: Mapping[str, Any]) -> History:
    history = History()
    columns = {str(name): values.numpy() for name, values in state["columns"].items()}
    if any(len(values) != len(state["steps"]) for values in columns.values()):
        raise expected_error("resume", "columns of one length", "others")
    history.extend(state["steps"].numpy(), columns)
    return history


def _with_state_keys(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state of format 2 as one of format 3: sinks by their state keys in place of class names."""

    def key(name: str) -> str:
        kind, _, number = name.partition(" ")
        return f"{CLASS_NAMES.get(kind, kind)} {number}".rstrip()

    sinks = {key(str(name)): state for name, state in state["sinks"].items()}
    off = [
        f"sink:{key(name.removeprefix('sink:'))}" if name.startswith("sink:") else name
        for name in map(str, state["off"])
    ]
    return {**state, "format": STATE_FORMAT, "sinks": sinks, "off": off}


def _rank() -> int:
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return 0
    return int(distributed.get_rank())
