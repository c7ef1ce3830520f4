"""Many runs of one shape, trained as one: a step of all of them is a few batched products.

For small networks a step's arithmetic is little beside the calls that it takes, which S runs side by
side share. Each member sees the samples and starts from the weights of the same run alone, and is
followed by a tracker of its own, so that its history, labels and summary are those of
`training.train`, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.measures.cluster_moments import cluster_moments
from phasetrack.measures.law_check import gradient_table
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.losses import LogisticLoss
from phasetrack.model.network import TwoLayerNet
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.phases.history import History
from phasetrack.phases.vocabularies import chosen
from phasetrack.tasks.registry import make_task
from phasetrack.theory.forecast import Forecast
from phasetrack.theory.settings import RunSettings
from phasetrack.tracking.findings import Findings
from phasetrack.tracking.first_samples import FIRST_SAMPLES, FirstSamples
from phasetrack.tracking.guard import FailureGuard
from phasetrack.tracking.host_loss import SIGNS, HostLoss
from phasetrack.tracking.probes.default import default_probes
from phasetrack.tracking.probes.forecast import ForecastProbe
from phasetrack.tracking.probes.kernel import KernelProbe
from phasetrack.tracking.recorder import Recorder, new_labels
from phasetrack.tracking.snapshot import Snapshot
from phasetrack.tracking.snapshot_queue import SnapshotQueue
from phasetrack.tracking.step_copies import LayerState, LossInputs, StepSizes
from phasetrack.training.memory import (
    PIECE_BYTES,
    PIECE_SHARE,
    bytes_per_sample,
    host_memory,
)
from phasetrack.training.networks import LEAST_ROWS, Networks
from phasetrack.training.placement import check_device
from phasetrack.training.stopping import LOOK_EVERY, End

# What members have in common; in everything else they may differ.
SHARED = ("task", "d", "width", "batch_size", "every")
LAYERS = ("first", "second")
# Its readings need inputs and whole weights, which the camera keeps.
KERNEL = KernelProbe()


@dataclass(frozen=True)
class Outcome:
    """A member that has come to its end.

    Attributes:
        index: its place in what `train_together` was given.
        settings: its settings.
        history: every recorded step.
        summary: what its ``summary.json`` would hold; ``stopped`` is ``fitted``, ``steps`` or
            ``diverged``.
        network: the network at the end.
    """

    index: int
    settings: RunSettings
    history: History
    summary: dict[str, Any]
    network: TwoLayerNet


def train_together(
    settings: Sequence[RunSettings],
    *,
    forecasts: Sequence[Forecast | None] | None = None,
    device: str = "cpu",
) -> Iterator[Outcome]:
    """Train and measure runs of one shape side by side, and yield each as it ends.

    A member that has ended costs nothing more. Where all do not fit in memory at once, some follow
    others. Nothing is written to disk.

    Args:
        settings: the runs; they share task, d, width, batch and every.
        forecasts: what was predicted for each, to be recorded beside it; None predicts nothing.
        device: ``cpu`` or ``cuda[:i]``.

    Raises:
        ExpectedError: if the runs differ in what they must share, or one asks for what needs a run
            of its own (`gradient_error`, `snapshots`).

    Example:
        >>> runs = [RunSettings(d=8, width=16, steps=3, seed=seed) for seed in range(4)]
        >>> [done.summary["steps"] for done in train_together(runs)]
        [3, 3, 3, 3]
    """
    _check_alike(settings)
    where = check_device(device)
    predicted = [None] * len(settings) if forecasts is None else list(forecasts)
    if len(predicted) != len(settings):
        raise ExpectedError(
            "forecasts",
            f"{len(predicted)} forecasts are given for {len(settings)} runs.",
            "Pass one per run, or None.",
        )
    most = _members_at_once(settings[0]) if settings else 1
    runs = list(zip(settings, predicted, strict=True))
    # checked now, trained as the outcomes are asked for
    return (
        outcome
        for first in range(0, len(runs), most)
        for outcome in _train_group(first, runs[first : first + most], where)
    )


class _Member(Findings):
    """One run of the ensemble: its network, as it began, and the recorder of its readings."""

    def __init__(
        self,
        index: int,
        settings: RunSettings,
        forecast: Forecast | None,
    ) -> None:
        self.index, self.settings, self.time = index, settings, 0.0
        self.net = TwoLayerNet(settings.d, settings.width, theta=settings.theta, seed=settings.seed)
        self.formula = TwoLayerView.of(self.net).formula
        eta = settings.eta * settings.width * self.net.scale
        first, second = (eta * (settings.train in ("both", each)) for each in LAYERS)
        self.sizes = StepSizes(first, second, plain=True)
        recorder = Recorder(
            [*default_probes(), *([ForecastProbe(forecast)] if forecast else [])],
            new_labels(settings.thresholds(), settings.escape_steps, forecast),
            FailureGuard(strict=False),
            SnapshotQueue(patience=math.inf),
            FirstSamples(make_task(settings.task, settings.d).geometry, KERNEL.samples),
            forecast,
            chosen(),
        )
        super().__init__(recorder)
        self.first_samples = recorder.first_samples
        self.end = End(self, settings)

    def record(self, snapshot: Snapshot) -> None:
        """Queue a snapshot, and measure the queue once it is full."""
        if self._recorder.queue.append(snapshot):
            self._measure()

    def _measure(self) -> None:
        super()._measure()
        self._recorder.drop_records()

    def ended(self, steps: int) -> str:
        """Return why the run is over after so many steps, as `train` does; empty if it goes on."""
        last = steps == self.settings.step_limit
        reason = self.end.reason() if last or steps % LOOK_EVERY == 0 else ""
        return reason or ("steps" if last else "")

    def outcome(self, steps: int, stopped: str, W: Tensor, a: Tensor) -> Outcome:
        """Return the run's history, summary, and network with the weights at its end."""
        with torch.no_grad():
            self.net.first.weight.copy_(W)
            self.net.second.weight.copy_(a)
        summary = {**self.summary_at(steps), "stopped": stopped}
        return Outcome(self.index, self.settings, self.history, summary, self.net)


def _train_group(
    first: int, runs: Sequence[tuple[RunSettings, Forecast | None]], device: torch.device
) -> Iterator[Outcome]:
    shape, _ = runs[0]
    geometry = make_task(shape.task, shape.d).geometry
    members = [
        _Member(index, settings, forecast)
        for index, (settings, forecast) in enumerate(runs, start=first)
    ]
    networks = Networks([member.settings for member in members], device)
    yield from _take_steps(members, networks, _Camera(geometry), shape.every)


def _take_steps(
    members: list[_Member], networks: Networks, camera: _Camera, every: int
) -> Iterator[Outcome]:
    """Train until every member has ended, and yield each that has."""
    step = 0
    while members:
        recorded = step % every == 0
        due = KERNEL.due(step, step - every if step else -1)
        state = camera.layers(networks, keep=due) if recorded else None
        gradient = networks.gradient_of_step(step, camera.see if recorded else None)
        if state is not None:
            camera.record(members, camera.with_gradient(state, networks, *gradient), step)
        networks.move(*gradient)
        step += 1
        going = []
        for place, member in enumerate(members):
            member.time += member.sizes.eta
            if stopped := member.ended(step):
                yield member.outcome(step, stopped, networks.W[place], networks.a[place])
            else:
                going.append(place)
        if len(going) < len(members):
            members = [members[place] for place in going]
            networks.keep(going)


class _Camera:
    """Takes snapshots of all members, by a few batched products and one transfer."""

    def __init__(self, geometry: ClusterGeometry) -> None:
        self._geometry = geometry
        self._loss = replace(HostLoss.of(LogisticLoss()), levels=SIGNS)
        self._each = LogisticLoss("none").forward
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []
        self._inputs: list[Tensor] = []  # of each part of the batches, as many as a sample needs
        self._moments: list[Tensor] = []
        self._samples_left = FIRST_SAMPLES

    def layers(self, networks: Networks, *, keep: bool) -> LayerState:
        """Return all networks as they are now, tables of (S, p, ...) on the host; with W itself if `keep`."""
        # (S, 1, p): second layers as a model holds them
        head = networks.a.to("cpu", copy=True).unsqueeze(1)
        coordinates, perp = self._geometry.read(networks.W)
        W = networks.W.to("cpu", copy=True) if keep else None
        return LayerState(head, coordinates.cpu(), perp.cpu(), W=W)

    def with_gradient(
        self, state: LayerState, networks: Networks, first: Tensor, second: Tensor
    ) -> LayerState:
        """Add what the measures take of the step's gradient by W (S, p, d) and a (S, p)."""
        gradient = torch.cat([first, second.unsqueeze(-1)], dim=-1)
        table = gradient_table(networks.W, gradient, self._geometry)
        return state._replace(gradient=table.cpu())

    def see(self, x: Tensor, y: Tensor, outputs: Tensor) -> None:
        """Keep what the snapshots need of a part of the batches."""
        traces = self._geometry.traces(x.flatten(0, 1)).view(*y.shape, -1)
        self._seen.append((outputs, y, traces))
        self._inputs.append(x[:, : KERNEL.samples].cpu())
        if self._samples_left > 0:
            self._moments.append(
                cluster_moments(x, self._geometry.nearest(traces), self._geometry).cpu()
            )

    def record(self, members: Sequence[_Member], state: LayerState, step: int) -> None:
        """Give each member its snapshot."""
        seen = zip(*self._seen, strict=True)
        outputs, targets, traces = (torch.cat(columns, dim=1).cpu() for columns in seen)
        inputs = torch.cat(self._inputs, dim=1)
        moments = torch.stack(self._moments).sum(dim=0) if self._moments else None
        self._samples_left -= targets.shape[1]
        for kept in (self._seen, self._inputs, self._moments):
            kept.clear()
        losses = self._each(outputs, targets).double().mean(dim=1).tolist()
        assert state.coordinates is not None and state.perp is not None
        for place, (member, loss) in enumerate(zip(members, losses, strict=True)):
            here = slice(place, place + 1)
            member.first_samples.add_inputs([inputs[place]])
            member.end.note(loss)
            member.record(
                Snapshot(
                    (step,),
                    (member.time,),
                    (member.sizes,),
                    self._geometry,
                    member.formula,
                    LayerState(
                        state.head[here],
                        state.coordinates[here],
                        state.perp[here],
                        W=None if state.W is None else state.W[here],
                        gradient=None if state.gradient is None else state.gradient[here],
                    ),
                    LossInputs(
                        outputs[here],
                        targets[here],
                        traces[here],
                        moments=None if moments is None else moments[here],
                    ),
                    self._loss,
                    sample=member.first_samples.sample,
                    noise=member.first_samples.noise,
                )
            )


def _members_at_once(shape: RunSettings) -> int:
    """How many members fit: weights, gradients and their parts, and some of the batch each."""
    rows = min(shape.micro_batch or LEAST_ROWS, shape.batch_size)
    each = rows * bytes_per_sample(shape.d, shape.width) + 16 * shape.d * shape.width
    return int(max(1, min(PIECE_BYTES, PIECE_SHARE * (host_memory() or math.inf)) // each))


def _check_alike(settings: Sequence[RunSettings]) -> None:
    for name in SHARED:
        values = sorted({getattr(s, name) for s in settings})
        if len(values) > 1:
            raise ExpectedError(
                name.removesuffix("_size"),
                f"The runs differ in it: {values}.",
                "Train runs together that share task, d, width, batch and every.",
            )
    for s in settings:
        for name in ("gradient_error", "snapshots"):
            if getattr(s, name):
                raise ExpectedError(
                    name,
                    f"{getattr(s, name)!r} needs a run of its own.",
                    "Leave it out, or train the run alone.",
                )
