"""BatchCollector: the samples of a step, from the loss calls whose gradient reaches the two layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from phasetrack._precision import unrounded
from phasetrack.errors import ExpectedError
from phasetrack.measures.cluster_moments import cluster_moments
from phasetrack.model.formula import UNKNOWN_LINK
from phasetrack.model.geometry import Geometry
from phasetrack.model.pass_outcome import SeenPass
from phasetrack.model.products import heads_last
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.tracking.arrivals import Arrivals
from phasetrack.tracking.backward import backward_pass, gradients_are_there, is_transformed
from phasetrack.tracking.first_samples import FIRST_SAMPLES
from phasetrack.tracking.host_loss import HostLoss, LossKeeper
from phasetrack.tracking.loss_arguments import USUAL, Form, argument, form_of, value_of
from phasetrack.tracking.loss_call import (
    INPUTS_OVERWRITTEN,
    NOT_THE_OUTPUT,
    PASS_NOT_SEEN,
    ROWS_DIFFER,
    KeptInputs,
    LossCall,
)
from phasetrack.tracking.loss_recognition import recognised, usual_losses
from phasetrack.tracking.missing_batch import (
    DETACHED,
    NO_GRADIENT,
    NO_SAMPLES,
    NOT_RECOGNISED,
    OTHER_WEIGHTS,
    OTHERS_OUTPUTS,
    UNDER_CHECKPOINT,
    UNDER_TRANSFORM,
    not_called,
)
from phasetrack.tracking.pass_marks import Origin, Pass, PassMarks
from phasetrack.tracking.samples import as_samples, finite
from phasetrack.tracking.sparse_tries import SparseTries
from phasetrack.tracking.unseen import PATIENCE
from phasetrack.tracking.weights_version import WeightsVersion

# Vectors beside the two weights that are watched for writes, at most.
MOST_BESIDE = 8


class BatchCollector:
    """Follows loss calls back to the two layers, and their gradients into the coming step.

    Passes are marked in the graph (`PassMarks`), a call lives with its graph (`LossCall`), and counts
    once its gradient has arrived and reached the layers (`Arrivals`). Knows no optimizer.

    The first complete pair also settles what the view has left open (`TwoLayerView.calibrated`).

    Args:
        view: the model's two layers.
        geometry: the clusters.
        loss: keeps a copy of the loop's loss.
        failed: called with an exception of a hook.
        stuck: called once something else has written to the weights again and again, and no step came.
        keep_inputs: hold references to the inputs of all micro-batches.

    Attributes:
        view: the layers, with all that is known of them so far.
        geometry: the clusters.
        sample_left: how many inputs of each call to copy, for a fixed sample.
        calls: loss calls of these layers seen since the last step.
        total_passes: forward passes seen so far.
        is_repeated: whether passes ran without gradients, and again within a backward pass.
        recognises: whether the loss is to be recognised by the gradient at the network's outputs.
        weights_version: numbers the states of the two layers.
    """

    def __init__(
        self,
        view: TwoLayerView,
        geometry: Geometry,
        loss: LossKeeper,
        *,
        failed: Callable[[Exception], object],
        stuck: Callable[[], object],
        keep_inputs: bool,
    ) -> None:
        self.view, self.geometry, self._keep_inputs = view, geometry, keep_inputs
        self._loss, self._failed = loss, failed
        self.calls = self.total_passes = self.sample_left = 0
        self._detached = self._transformed = self._others = self.is_repeated = False
        watched = [*view.first.parameters, *view.second.parameters]
        self.weights_version = WeightsVersion([*watched, *_beside(view)])
        self._marks = PassMarks(view.first.parameters, view.second.parameters)
        self.arrivals = Arrivals(watched, stuck)
        # whether a pass is followed now, which tells more than outputs do
        self.is_tracing: Callable[[], bool] = lambda: False
        self.recognises = loss.given is None or not isinstance(loss.given, nn.Module)
        self._usual: dict[bool, list[HostLoss]] = {}
        self._takes_tensors = True  # and no dictionaries, for example
        self._samples_placed = 0
        self._samples_left = FIRST_SAMPLES  # whose inputs are compared with the clusters
        self._guesses = SparseTries(PATIENCE)
        self._told: set[bool] = set()  # where the first of them has been recognised
        self._parts = 1  # the most calls of a step whose loss was recognised

    def reset(self) -> None:
        """Forget the batch so far; the next one begins."""
        self._marks.reset()
        self.arrivals.reset()
        self._samples_left -= self._samples_placed  # a step's calls are all looked at, or none
        self.calls = self._samples_placed = 0
        self._detached = self._transformed = self._others = False

    def collected(self, version: int | None = None) -> tuple[list[LossCall], str]:
        """Return the calls whose gradients are in the coming step, or why there are none.

        Args:
            version: of the weights that made the outputs, where a closure made others since; by
                default that of now, and calls of other weights leave no batch.
        """
        chosen = self.arrivals.chosen(by_gradient=False)
        if not chosen and not self.calls:
            chosen, reason = self._recognised_calls()
            if reason:
                return [], reason
        if not chosen:
            return [], self._nothing_seen()
        now = self.weights_version() if version is None else version
        fresh = [call for call in chosen if call.version == now]
        mixed = version is None and (self.arrivals.is_mixed or len(fresh) < len(chosen))
        return ([], OTHER_WEIGHTS) if mixed or not fresh else (fresh, "")

    def _recognised_calls(self) -> tuple[list[LossCall], str]:
        """Return the calls whose loss is recognised by its gradient, or why none is."""
        chosen = self.arrivals.chosen(by_gradient=True)
        if chosen and not self._told and not self._guesses.are_due():
            return [], NOT_RECOGNISED
        for call in chosen:
            assert call.gradient is not None
            many = call.targets.ndim > 1
            given = self._loss.current
            if many not in self._usual:
                self._usual[many] = usual_losses(many)
            own = [given] if given.function is not None and self._takes_tensors else []
            tried = [*own, *self._usual[many]]
            # a module that is not called may not be what the loop uses
            known = len(own) + 1 if many in self._told else 0
            if own and not isinstance(self._loss.given, nn.Module):
                known = max(known, 1)
            args = call.targets, call.gradient, tried
            # the last step of an epoch may have fewer parts than the loop divides by
            sizes = dict.fromkeys((len(chosen), self._parts))
            ways = (recognised(*args, known=known, parts=n) for n in sizes)
            found = next((way for way in ways if way is not None), None)
            if found is None:
                return [], NOT_RECOGNISED
            self._told.add(many)
            self._parts = max(self._parts, len(chosen))
            self._keep_first(many, found.loss)
            is_linked = call.outputs is not call.targets
            call.loss = found.loss.of_logits(self.view.link) if is_linked else found.loss
            call.targets, call.value = found.targets, found.value
        return chosen, ""

    def _keep_first(self, many: bool, loss: HostLoss) -> None:
        """Try a recognised loss before all others, and as the same object, from now on."""
        rest = [one for one in self._usual[many] if one.function is not loss.function]
        self._usual[many] = [loss, *rest]

    def _nothing_seen(self) -> str:
        if self._detached:
            return DETACHED
        if self.calls:
            return NO_GRADIENT
        if self._transformed:
            return UNDER_TRANSFORM
        if self.is_repeated and not self.total_passes:
            return UNDER_CHECKPOINT
        self.recognises = True  # the loss that is given may not be the one that is called
        return OTHERS_OUTPUTS if self._others else not_called(self._loss.given)

    # --- what the hooks see ------------------------------------------------------------------

    def on_forward(self, args: tuple[Any, ...], named: Mapping[str, Any], output: object) -> None:
        """Mark the pass, so that a loss call finds the first layer's inputs."""
        inputs = args[0] if args else None
        if not isinstance(inputs, Tensor):
            inputs = next((v for v in (*args, *named.values()) if isinstance(v, Tensor)), None)
        if inputs is None or not torch.is_grad_enabled() or not inputs.numel():
            return
        if backward_pass() != -1:  # computed again
            self.is_repeated = True
            return
        self.total_passes += 1
        if is_transformed(inputs):
            self._transformed = True
            return
        known = output if isinstance(output, Tensor) else None
        precision = None if known is None else known.dtype
        seen = Pass(args, named, KeptInputs.of(inputs), precision)
        self._marks.add(seen, None if known is None else known.grad_fn)

    def on_submodule(self, output: Tensor) -> None:
        """Settle what was assumed of a block in a larger network, by the block's own outputs."""
        view, seen = self.view, self._marks.last
        if seen is None or view.settled or view.compared or self.is_tracing():
            return
        inputs = view.inputs_of(seen.args, seen.named)
        if inputs is None:
            return
        measured = self.view.of_block(output.detach().reshape(-1, output.shape[-1]))
        outputs = measured.squeeze(1) if self.view.heads == 1 else measured
        self.view = view.calibrated(inputs, outputs)

    def on_loss(self, args: tuple[Any, ...], named: Mapping[str, Any], result: object) -> None:
        """Find outputs and targets among the arguments of a loss call, and add it."""
        form = form_of(args, named, result)
        if form is not None:
            outputs, targets = (argument(args, named, key) for key in form[:2])
            self.add(outputs, targets, value_of(result), form)

    def on_output(self, output: object) -> None:
        """Follow the network's outputs, where no loss call is seen, to the gradient that arrives there."""
        if backward_pass() != -1 or self.calls:
            return
        found = ((f, self._origin(f)) for f in _output_tensors(output) if not is_transformed(f))
        f, origin = next(((f, origin) for f, origin in found if origin.is_ours), (None, None))
        if f is None or origin is None:
            return
        outputs = self._as_rows(f).clone()
        # until the targets are found the network's own outputs stand in their place
        version, loss = self.weights_version(), self._loss.current
        call = LossCall(outputs, outputs, None, None, None, version, loss, is_output=True)
        self._on_gradient(f, partial(self._note_slopes, call, origin.seen))

    def _as_rows(self, values: Tensor) -> Tensor:
        """Return outputs or their gradient, detached, (m,) or (m, n)."""
        values = heads_last(values.detach(), self.view.heads)
        columns = values.shape[-1] if values.ndim > 1 else 1
        return values.reshape((-1,) if self._is_single or columns == 1 else (-1, columns))

    def _note_slopes(self, call: LossCall, seen: Pass | None, gradient: Tensor) -> None:
        """Note the gradient that arrived at the network's outputs."""
        if call.task == -1:  # by now the first pass has been followed to its end
            self._place(call, seen or self._marks.claimed())
        call.receive(self._as_rows(gradient).clone(), backward_pass())
        self.arrivals.add(call)

    def _note_weight(self, call: LossCall, gradient: Tensor) -> None:
        """Note the gradient that arrived at a loss call's value."""
        call.receive(gradient.detach(), backward_pass())
        self.arrivals.add(call)

    def _on_gradient(self, values: Tensor, note: Callable[[Tensor], None]) -> None:
        """Have a gradient noted when it arrives; nothing of ours is raised within the backward pass."""

        def hook(gradient: Tensor) -> None:
            try:
                note(gradient)
            except Exception as error:
                self.arrivals.reset()
                self._failed(error)

        hook.__torch_unserializable__ = True  # type: ignore[attr-defined]
        values.register_hook(hook)  # type: ignore[no-untyped-call]

    # --- one loss call -----------------------------------------------------------------------

    def add(self, outputs: object, targets: object, result: object, form: Form = USUAL) -> None:
        """Add one loss call; it counts once its gradient reaches the layers.

        Args:
            outputs: what the loss was called on.
            targets: the targets beside them.
            result: the loss, a scalar or of each sample.
            form: how the loop calls the loss.
        """
        if not isinstance(outputs, Tensor):
            self._takes_tensors = False
            return
        if not torch.is_grad_enabled():
            return
        if not outputs.numel() or is_transformed(outputs):
            return
        if not outputs.requires_grad:
            self._detached = True
            return
        origin = self._origin(outputs)
        if not origin.is_ours:
            self._others = True
            return
        self.calls += 1
        self._loss.called_as(form)
        call = self._call(outputs, targets, result, origin.seen)
        if gradients_are_there():
            self.arrivals.add_replayed(call)
        elif isinstance(result, Tensor) and result.requires_grad:
            self._on_gradient(result, partial(self._note_weight, call))

    def _call(
        self, outputs: Tensor, targets: object, result: object, seen: Pass | None
    ) -> LossCall:
        loss = self._loss.current
        value = result.detach().clone() if isinstance(result, Tensor) else None
        version = self.weights_version()
        found = as_samples(outputs, targets, single=self._is_single, loss=loss.function)
        if found is None:
            nothing = outputs.new_empty(0)
            return LossCall(nothing, nothing, None, None, value, version, loss, reason=NO_SAMPLES)
        f, aims = found
        if aims.ndim == 1 and f.ndim == 1:
            loss = self._loss.with_targets(aims)
        # copies: a later in-place operation would overwrite what detach() shares
        aims = aims.clone() if aims.device == f.device else aims.to(f.device)
        call = LossCall(f.clone(), aims, None, None, value, version, loss)
        self._place(call, seen)
        return call

    def _place(self, call: LossCall, seen: Pass | None) -> None:
        """Find the clusters of a call's samples, and settle by them what the view has left open."""
        view = self.view
        if view.directions is not None:
            call.reason = PASS_NOT_SEEN
            return
        rows = None if seen is None else view.inputs_of(seen.args, seen.named)
        if seen is None or rows is None:
            call.reason = view.hidden_inputs or PASS_NOT_SEEN
        elif len(rows) != len(call.outputs):
            call.reason = ROWS_DIFFER
        elif not self._may_be_output(call.outputs):
            call.reason = NOT_THE_OUTPUT
        elif not seen.inputs.are_whole:
            call.reason = INPUTS_OVERWRITTEN
        else:
            self._compare(call, rows, seen.precision)
            if self.view.link == UNKNOWN_LINK:
                call.reason = NOT_THE_OUTPUT
                return
            call.traces = self.geometry.traces(rows)
            call.finite = finite(call.outputs, rows)
            if self._samples_left > 0 and not self.geometry.no_clusters:
                self._samples_placed += len(rows)
                clusters = self.geometry.nearest(call.traces)
                call.moments = cluster_moments(rows, clusters, self.geometry)
            if self.sample_left:
                call.sample = rows[: self.sample_left].detach().clone()
            if self._keep_inputs:
                call.inputs = KeptInputs(rows, seen.inputs.version)

    @property
    def _is_single(self) -> bool:
        """Whether the network has one output per sample; around a block it may have any number."""
        return self.view.heads == 1 and self.view.directions is None

    def _may_be_output(self, outputs: Tensor) -> bool:
        """Whether values have as many columns as the network; of two logits their difference is one."""
        columns = outputs.shape[1] if outputs.ndim > 1 else 1
        return columns == self.view.heads or (columns, self.view.heads) == (1, 2)

    def _compare(self, call: LossCall, rows: Tensor, precision: torch.dtype | None) -> None:
        """Compare the formula with the outputs, and take the layers' own where a link lies between."""
        f, view = call.outputs, self.view
        heads = 1 if f.ndim == 1 else f.shape[1]
        if heads != view.heads:
            return
        if not (view.compared or self.is_tracing()) and f.isfinite().all():
            # now, while the weights are those that made these outputs
            self.view = view = view.calibrated(rows, f, precision)
        if view.link not in ("identity", UNKNOWN_LINK) and not view.current_formula().missing:
            with torch.no_grad(), torch._C.DisableTorchFunction(), unrounded(rows):
                call.outputs = view.frozen().outputs(rows.to(view.W))
            call.loss = call.loss.of_logits(view.link)

    # --- what the first pass showed ----------------------------------------------------------

    def see(self, seen: SeenPass) -> None:
        """Take over what the first pass showed of the layers.

        Raises:
            ExpectedError: if the first layer's inputs have another size than the geometry's centres.
        """
        view = self.view.resolved(seen)
        width = view.first.shape[1]
        if not self.geometry.takes(width):
            raise ExpectedError(
                "geometry",
                f"The geometry lies in R^{self.geometry.dim}, and the pass gave {view.names[0]} {width} inputs.",
                f"Pass a geometry in R^{width}.",
            )
        if view.site is not self.view.site:  # its hook comes too late for this pass
            inputs = view.inputs_of((), seen.site.given)
            if inputs is not None:
                self._marks.replace_last(Pass((), seen.site.given, KeptInputs.of(inputs), None))
        self._marks.follow(view.first.parameters, view.second.parameters)
        self.view = view

    def unseen(self, reason: str) -> None:
        """Note why no pass could be followed; the outputs have to tell the layers then."""
        self.view = replace(self.view, notes=(*self.view.notes, reason))

    def _origin(self, outputs: Tensor) -> Origin:
        """Return the pass that made some outputs; the network around a block is too large to search."""
        if self.view.directions is not None:
            return Origin(None, is_ours=True)
        return self._marks.origin(outputs)


def _beside(view: TwoLayerView) -> list[nn.Parameter]:
    """Return the vectors and scalars beside the two weights, such as their biases."""
    owners = dict.fromkeys((view.first.owner, view.second.owner))
    small = [p for owner in owners for p in owner.parameters(recurse=False) if p.ndim < 2]
    layers = {id(p) for weight in (view.first, view.second) for p in weight.parameters}
    return [p for p in small if id(p) not in layers][:MOST_BESIDE]


def _output_tensors(output: object) -> Iterator[Tensor]:
    """Yield the outputs among what a network returns: tensors with a gradient, the logits first."""
    if isinstance(output, Tensor):
        if output.requires_grad and output.numel() and output.ndim:
            yield output
        return
    if isinstance(output, list | tuple):
        values: Iterable[object] = output
    else:
        named = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
        values = [named["logits"]] if named.get("logits") is not None else named.values()
    for value in values:
        if isinstance(value, Tensor | list | tuple | Mapping):
            yield from _output_tensors(value)
