"""attach(): from hooks to phases and files, without touching training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn

from phasetrack._checks import ExpectedError
from phasetrack.capture import Capture
from phasetrack.geometry import Activation, ClusterGeometry
from phasetrack.losses import Loss
from phasetrack.phases import (
    Alert,
    Boundary,
    Phase,
    PhaseClassifier,
    Thresholds,
    Transition,
)
from phasetrack.probes import ForecastProbe, FunctionProbe, Measurement, Probe, default_probes
from phasetrack.records import History, Record, Undefined
from phasetrack.schedules import Schedule, as_schedule
from phasetrack.sinks.base import Sink
from phasetrack.sinks.clock import CLOCK, ClockSink
from phasetrack.sinks.history import HistorySink
from phasetrack.sinks.neurons import NeuronSink
from phasetrack.sinks.tensorboard import TensorBoardSink
from phasetrack.sinks.weights import WeightStore
from phasetrack.snapshot import Batch, Snapshot, StepSizes
from phasetrack.summary import summarise
from phasetrack.views import TwoLayerView

if TYPE_CHECKING:
    from phasetrack.forecast import Forecast


class TrackingWarning(UserWarning):
    """A part of the tracking failed and was switched off; training goes on."""


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
    strict: bool = False,
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
        snapshots: save the two layers at such recorded steps under `logdir`, for `phasetrack.replay.replay`.
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
        strict: raise what a probe or sink raises, instead of warning and switching it off.

    Returns:
        The tracker: a handle, and a context manager that detaches at its end.

    Raises:
        ExpectedError: naming the argument, what was expected and what was given. Nothing is
            attached then.

    Example:
        >>> from phasetrack.losses import LogisticLoss
        >>> from phasetrack.network import TwoLayerNet
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
        raise ExpectedError("snapshots", "a logdir to save weights in", "none", "give logdir=")
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
        strict=strict,
    )
    # files come last: a mistake in the other arguments leaves none behind
    try:
        tracker.add_sinks(_file_sinks(logdir, geometry, hparams))
        if saved is not None and logdir is not None and _rank() == 0:
            tracker.save_weights(WeightStore(Path(logdir)), saved)
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
        strict: bool = False,
    ) -> None:
        if view.W.shape[1] != geometry.dim:
            raise ExpectedError(
                "geometry", f"centres in R^{view.W.shape[1]}, as {view.names[0]} takes", geometry
            )
        if max(view.heads, 2) != geometry.class_count:
            raise ExpectedError(
                "geometry",
                f"labels of {max(view.heads, 2)} classes, as {view.names[1]} tells apart",
                f"{geometry.class_count}",
                "of a block in a larger network, say with readout= which directions are measured"
                if view.directions is None
                else "",
            )
        self.history = History()
        self.phase, self.reason = Phase.UNDETERMINED, "no step was recorded yet"
        self.boundaries: list[Boundary] = []
        self.transitions: list[Transition] = []
        self.alerts: list[Alert] = []
        self.undefined: dict[str, str] = {}
        self._probes, self._sinks = list(probes), list(sinks)
        self._classifier, self._forecast, self._strict = classifier, forecast, strict
        self._on_transition, self._on_alert = on_transition, on_alert
        self._store: WeightStore | None = None
        self._saved: Schedule = lambda _: False
        self._first: Snapshot | None = None
        self._previous: Snapshot | None = None
        self._loss, self._closed = loss, False
        self._noted: tuple[str, ...] = ()
        self._capture = Capture(
            model,
            optimizer,
            loss,
            view,
            geometry,
            schedule,
            self._receive_safely,
            failed=self._looking_failed,
            keep_inputs=any("inputs" in probe.needs for probe in probes),
        )

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

    def add_sinks(self, sinks: Sequence[Sink]) -> None:
        """Give further sinks every record from now on; they are closed by `detach`."""
        self._sinks += sinks

    def save_weights(self, store: WeightStore, schedule: Schedule) -> None:
        """Save the two layers at the recorded steps of a schedule."""
        self._store, self._saved = store, schedule

    def detach(self, extra: Mapping[str, Any] | None = None) -> None:
        """Remove all hooks and close all sinks; further calls do nothing.

        Args:
            extra: entries to add to the summary that the sinks are given.
        """
        if self._closed:
            return
        self._closed = True
        self._capture.close()
        summary = {**self.summary(), **(extra or {})}
        for sink in self._sinks:
            self._guard(
                partial(sink.close, summary, self.history), f"closing {type(sink).__name__}"
            )

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
        """Take a snapshot that was made elsewhere, as one of a training that no hook sees."""
        self._receive_safely(snapshot)

    def _receive_safely(self, snapshot: Snapshot) -> None:
        transitions, alerts = len(self.transitions), len(self.alerts)
        self._guard(lambda: self._receive(snapshot), "this step's record")
        # outside the guard: callbacks are the user's own code, and may end the training
        if self._on_transition is not None:
            for transition in self.transitions[transitions:]:
                self._on_transition(self, transition)
        if self._on_alert is not None:
            for alert in self.alerts[alerts:]:
                self._on_alert(self, alert)

    def _receive(self, snapshot: Snapshot) -> None:
        self._warn_of_notes(snapshot.view.notes)
        self._warn_of_problem(snapshot.problem)
        snapshot = replace(snapshot, previous=self._previous, first=self._first)
        readings, distributions = self._measure(snapshot)
        # one level back is enough: a longer chain would keep every state alive
        self._previous = replace(snapshot, previous=None, first=None, batch=_lean(snapshot.batch))
        self._first = self._first or self._previous
        verdict = self._classifier.update(snapshot.step, readings)
        self.phase, self.reason = verdict.phase, verdict.reason
        self.boundaries += verdict.boundaries
        self.alerts += verdict.alerts
        if verdict.transition:
            self.transitions.append(verdict.transition)
        readings["phase/id"] = float(verdict.phase.id)
        self.history.append(snapshot.step, readings)
        record = Record(
            snapshot.step,
            readings,
            verdict.phase,
            verdict.reason,
            verdict.transition,
            verdict.boundaries,
            verdict.alerts,
            {name: values.numpy() for name, values in distributions.items()},
        )
        self._save(snapshot)
        for sink in list(self._sinks):
            if not self._guard(partial(sink.write, record), type(sink).__name__):
                self._sinks.remove(sink)

    def _save(self, snapshot: Snapshot) -> None:
        if self._store is None or not self._saved(snapshot.step):
            return
        if not snapshot.live:
            moved = "the optimizer's closure moved the weights before they could be saved"
            self.undefined.setdefault("weights", moved)
        elif not self._guard(partial(self._store.save, snapshot.step, snapshot.view), "weights"):
            self._store = None

    def _measure(self, snapshot: Snapshot) -> tuple[dict[str, float], dict[str, Tensor]]:
        measured: dict[str, Tensor | float] = {}
        for probe in list(self._probes):
            if missing := _missing(probe, snapshot):
                self.undefined.setdefault(probe.name, missing)
                continue
            read = partial(_measure_into, measured, probe, snapshot)
            if not self._guard(read, probe.name):
                self._probes.remove(probe)
        distributions = {
            name: value
            for name, value in measured.items()
            if isinstance(value, Tensor) and value.ndim == 1
        }
        readings = _numbers({k: v for k, v in measured.items() if k not in distributions})
        for name, value in readings.items():
            if math.isnan(value) and name not in self.undefined:
                given = measured[name]
                reason = given.reason if isinstance(given, Undefined) else "its value is NaN"
                self.undefined[name] = reason
        return readings, {name: value.detach().cpu() for name, value in distributions.items()}

    def _warn_of_notes(self, notes: tuple[str, ...]) -> None:
        for note in notes[len(self._noted) :]:
            warnings.warn(f"phasetrack: {note}", TrackingWarning, stacklevel=2)
        self._noted = notes

    def _warn_of_problem(self, problem: ExpectedError | None) -> None:
        """Once; the readings that it costs are NaN, with it as their reason."""
        if problem is None:
            return
        if self._strict:
            raise problem
        if "batch" not in self.undefined:
            self.undefined["batch"] = str(problem)
            warnings.warn(f"phasetrack: {problem}", TrackingWarning, stacklevel=2)

    def _looking_failed(self, error: Exception) -> None:
        """A hook failed: say so once; the step's readings are NaN or missing, training goes on."""
        if self._strict:
            raise error
        if "hooks" not in self.undefined:
            self.undefined["hooks"] = f"failed: {error!r}"
            message = f"phasetrack: looking at the training failed; it goes on ({error!r})"
            warnings.warn(message, TrackingWarning, stacklevel=2)

    def _guard(self, action: Callable[[], object], what: str) -> bool:
        """Whether an action went well; if not, raise (strict) or warn once."""
        try:
            action()
        except Exception as error:
            if self._strict:
                raise
            self.undefined.setdefault(what, f"switched off: {error!r}")
            warnings.warn(
                f"phasetrack: {what} failed and is switched off; training goes on ({error!r})",
                TrackingWarning,
                stacklevel=2,
            )
            return False
        return True


def _lean(batch: Batch | None) -> Batch | None:
    """A batch without its inputs, which nobody asks for once the step is measured."""
    return replace(batch, inputs=()) if batch and batch.inputs else batch


def _measure_into(measured: dict[str, Tensor | float], probe: Probe, snapshot: Snapshot) -> None:
    # a probe that makes no readings fails here, where it costs nobody else's
    measured.update({name: _reading(name, x) for name, x in dict(probe.measure(snapshot)).items()})


def _reading(name: str, value: object) -> Tensor | float:
    if isinstance(value, Tensor) and value.ndim <= 1:
        return value
    if isinstance(value, int | float):
        return value if isinstance(value, Undefined) else float(value)
    allowed = "a number, or a tensor of one dimension at most"
    shape = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    raise ExpectedError(name, allowed, shape)


def _numbers(measured: Mapping[str, Tensor | float]) -> dict[str, float]:
    """All readings as floats, with one transfer for those that are tensors."""
    tensors = [value.double() for value in measured.values() if isinstance(value, Tensor)]
    moved = iter(torch.stack(tensors).tolist() if tensors else ())
    return {
        name: next(moved) if isinstance(value, Tensor) else float(value)
        for name, value in measured.items()
    }


def _missing(probe: Probe, snapshot: Snapshot) -> str:
    """Why a probe cannot read a snapshot; empty if it can."""
    if probe.needs & {"batch", "inputs"} and snapshot.batch is None:
        if snapshot.problem:
            return str(snapshot.problem)
        return (
            "no loss call was seen in this step: call the loss module given to attach(), "
            "or tracker.loss(outputs, targets)"
        )
    if "previous" in probe.needs and snapshot.previous is None:
        return "it needs an earlier recorded step"
    return ""


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


def _rank() -> int:
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return 0
    return int(distributed.get_rank())


def _file_sinks(
    logdir: str | Path | None, geometry: ClusterGeometry, hparams: Mapping[str, object] | None
) -> list[Sink]:
    if logdir is None or _rank() > 0:  # of several processes, one writes
        return []
    folder = Path(logdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        history, clock = HistorySink(folder / "history.jsonl"), ClockSink(folder / CLOCK)
    except OSError as error:
        raise ExpectedError(
            "logdir", "a directory to write to, without a run in it", f"{error}"
        ) from None
    return [
        history,
        clock,
        TensorBoardSink(folder, clusters=geometry.names, hparams=hparams),
        NeuronSink(folder),
    ]
