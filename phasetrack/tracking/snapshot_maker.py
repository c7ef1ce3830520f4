"""SnapshotMaker: copies layers, batch and gradient of one step into a Snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from phasetrack._precision import unrounded
from phasetrack.measures.law_check import gradient_table
from phasetrack.model.formula import Formula
from phasetrack.model.geometry import Geometry
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.tracking.batch_collector import BatchCollector
from phasetrack.tracking.first_samples import FirstSamples
from phasetrack.tracking.geometry_search import GeometrySearch
from phasetrack.tracking.host_loss import LossKeeper
from phasetrack.tracking.loss_call import LossCall, joined
from phasetrack.tracking.process_group import BatchExchange
from phasetrack.tracking.schedules import Schedule
from phasetrack.tracking.snapshot import Snapshot
from phasetrack.tracking.step_copies import LayerState
from phasetrack.tracking.step_counter import StepCounter

# A first layer of at most so many numbers is copied at its step and read with others of its stack,
# which is quicker; larger ones are read at their step. A stack of such copies fits in a cache.
COPIED = 2**15

# Why samples are in no cluster at the step at which the clusters were found.
FOUND_SINCE = "the clusters were found at this step, after its samples had passed"


class Before(NamedTuple):
    """The layers before a step whose closure makes the batch, their version and their formula."""

    layers: LayerState
    version: int
    formula: Formula


class SnapshotMaker:
    """Makes the snapshot of a step from what was collected for it.

    Args:
        geometry: the clusters.
        batch: the step's loss calls, and the model's two layers.
        loss: keeps a copy of the loop's loss.
        counter: counts the optimizer's steps, and knows their sizes.
        exchange: gathers the batch of all processes.
        first_samples: is given the first inputs.
        search: finds clusters where none were declared.
        keep_weights: the steps whose snapshots hold whole copies of the layers.
        keep_inputs: whether snapshots hold the inputs of the batch.

    Attributes:
        geometry: the clusters that weights are read through now.
        first_samples: the run's first samples.
        search: the search for clusters.
        made: snapshots made so far.
        batches: those of them that hold a batch.
        no_batch: why the last one holds none; empty if it does.
    """

    def __init__(
        self,
        geometry: Geometry,
        batch: BatchCollector,
        loss: LossKeeper,
        counter: StepCounter,
        exchange: BatchExchange,
        first_samples: FirstSamples,
        search: GeometrySearch,
        *,
        keep_weights: Schedule,
        keep_inputs: bool,
    ) -> None:
        self.geometry, self._batch, self._loss = geometry, batch, loss
        self._counter, self._exchange = counter, exchange
        self._keep_weights, self._keep_inputs = keep_weights, keep_inputs
        self.first_samples, self.search = first_samples, search
        self.made = self.batches = 0
        self.no_batch = ""
        self._want_samples()

    @property
    def _view(self) -> TwoLayerView:
        return self._batch.view

    def restore(self, first_samples: FirstSamples | None, search: GeometrySearch | None) -> None:
        """Continue with samples and a search that were saved; None leaves those at hand."""
        self.first_samples = first_samples or self.first_samples
        self.search = search or self.search
        if self.search.found is not None:
            self._use(self.search.found, ())
        self._want_samples()

    def now(self) -> Snapshot:
        """Return the state before a step whose batch is there."""
        calls, reason = self._batch.collected()
        return self._made(self._layers(), self._view.current_formula(), calls, reason)

    def before(self) -> Before:
        """Return what is to be kept of the state before a step whose closure makes the batch."""
        version = self._batch.weights_version()
        return Before(self._layers(), version, self._view.current_formula())

    def of_closure(self, before: Before) -> Snapshot:
        """Return the state before the step, and the evaluation that its weights made: the closure's first."""
        calls, reason = self._batch.collected(before.version)
        # the closure's pass may have shown what was not known before
        formula = self._view.current_formula() if before.formula.missing else before.formula
        return self._made(before.layers, formula, calls, reason, after_step=True)

    def _made(
        self,
        layers: LayerState,
        formula: Formula,
        calls: list[LossCall],
        reason: str,
        *,
        after_step: bool = False,
    ) -> Snapshot:
        step = self._counter.step
        parts = self._exchange.gather(step, lambda: ([c.packed() for c in calls], reason))
        if parts is not None:
            calls, reason = self._whole(parts, calls)
        self.made += 1
        self._sample(calls)  # of all processes together
        if (found := self.search.look(max(self._view.heads, 2))) is not None:
            self._use(found, calls)
            layers = layers.unread()
        if layers.along_mean is None and layers.W is not None:  # the samples may have shown a mean
            layers = layers._replace(along_mean=self._along_mean(layers.W[0]))
        self.batches += bool(calls)
        self.no_batch = reason
        self._counter.scale = self._view.scale  # the batch may have settled it
        sizes = self._counter.sizes()
        # large layers were read before the step, and the gradient at hand may be a later one
        seen = not (after_step and layers.W is None)
        if seen and sizes.plain and formula.is_mean_field and not self.geometry.no_clusters:
            layers = layers._replace(gradient=self._gradient(layers))
        return Snapshot(
            (step,),
            (self._counter.time,),
            (sizes,),
            self.geometry,
            formula,
            layers,
            joined(calls, keep_inputs=self._keep_inputs),
            calls[-1].loss if calls else self._loss.current,
            reason,
            sample=self.first_samples.sample,
            noise=self.first_samples.noise,
        )

    def _whole(
        self, parts: Sequence[tuple[list[dict[str, Any]], str]], own: list[LossCall]
    ) -> tuple[list[LossCall], str]:
        """Return the calls of all processes, or why one of them has none."""
        missing = next((reason for _, reason in parts if reason), "")
        if missing:
            return [], missing
        loss = own[-1].loss if own else self._loss.current  # one that was recognised, for example
        return [LossCall.unpacked(values, loss) for part, _ in parts for values in part], ""

    def _layers(self) -> LayerState:
        """Copy the weights before the step, still on their device; read large ones at once."""
        view = self._view
        W = view.first.value
        small = W.numel() <= COPIED
        keep = small or self.search.is_open or bool(self._keep_weights(self._counter.step))
        layers = LayerState(
            view.A.clone().unsqueeze(0),
            bias=_copied(view.bias),
            head_bias=_copied(view.head_bias),
            W=(W.clone() if keep else W).unsqueeze(0),
            along_mean=self._along_mean(W),
        )
        return layers if small else layers.read(self.geometry, keep=keep)

    def _along_mean(self, W: Tensor) -> Tensor | None:
        """Each neuron's product with the noise's mean, (1, p); None where it has none."""
        noise = self.first_samples.noise
        if noise is None or noise.mean is None:
            return None
        with unrounded(W):
            return (W @ noise.mean.to(W)).unsqueeze(0)

    def _gradient(self, layers: LayerState) -> Tensor | None:
        """The gradient that the coming step takes, as `LayerState` has it; None if it is not seen."""
        view, (sign, second_sign) = self._view, self._counter.signs()
        first, second = view.first.gradient, view.second.gradient
        if first is None and second is None:
            return None
        W = view.first.value if layers.W is None else layers.W[0]
        first = torch.full_like(W, torch.nan) if first is None else first
        second = torch.full_like(W[:, :1], torch.nan) if second is None else second.T
        if sign < 0 or second_sign < 0:
            first, second = sign * first, second_sign * second
        gradient = torch.cat([first, second], dim=1)
        if layers.coordinates is not None:
            gradient = gradient_table(W, gradient, self.geometry)
        return gradient.unsqueeze(0)

    def _sample(self, calls: Sequence[LossCall]) -> None:
        """Take inputs of a recorded step for the fixed sample, and for the reservoir with their targets."""
        seen = [(c.sample, c.targets[: len(c.sample)]) for c in calls if c.sample is not None]
        self.first_samples.add_inputs([rows for rows, _ in seen])
        if self.search.reservoir.size:
            for rows, targets in seen:
                self.search.reservoir.offer(rows, targets)
        self._want_samples()

    def _want_samples(self) -> None:
        wanted = self.search.wanted(self.made)
        self._batch.sample_left = max(self.first_samples.inputs_left, wanted)

    def _use(self, geometry: Geometry, calls: Sequence[LossCall]) -> None:
        """Read the weights through clusters that were found, from this state on."""
        self.geometry = self._batch.geometry = geometry
        self.first_samples.use(geometry)
        for call in calls:
            whole = call.sample is not None and len(call.sample) == len(call.outputs)
            call.traces = (
                geometry.traces(call.sample) if whole and call.sample is not None else None
            )
            call.reason = "" if whole else FOUND_SINCE


def _copied(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.clone().unsqueeze(0)
