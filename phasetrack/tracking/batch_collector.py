"""BatchCollector: the samples of a step, from forward passes and the loss calls that used their outputs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling

from phasetrack.errors import ExpectedError
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.pass_trace import SeenPass
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.tracking.snapshot import LossInputs

# Forward passes whose inputs are held until a loss call shows which of them it belongs to.
HELD_PASSES = 4
# Autograd nodes visited, from a loss's outputs back, in search of their forward pass.
SEARCHED_NODES = 256
# Names under which losses take their second argument as a keyword.
TARGET_NAMES = ("target", "targets", "labels", "label", "y")


# The arguments of a forward pass of the first layer's module, by place and by name.
_Given = tuple[tuple[Any, ...], Mapping[Any, Any]]


class _Pass(NamedTuple):
    """One forward pass: the autograd node of its first layer's output, and what went in."""

    node: Any
    inputs: _Given


class _Piece(NamedTuple):
    """One loss call, and the version of the weights that made its outputs."""

    seen: LossInputs
    version: int


class BatchCollector:
    """Pairs forward passes with loss calls; knows no optimizer.

    The first complete pair also settles what the view has left open (`TwoLayerView.calibrated`).

    Args:
        view: the model's two layers.
        geometry: the clusters.
        keep_inputs: hold references to the inputs of all micro-batches.

    Attributes:
        view: the layers, with all that is known of them so far.
        detached: whether the loss was called on outputs that carry no gradient.
    """

    def __init__(self, view: TwoLayerView, geometry: ClusterGeometry, *, keep_inputs: bool) -> None:
        self.view, self._geometry, self._keep_inputs = view, geometry, keep_inputs
        self.detached = False
        self._watched = [*view.first.parameters, *view.second.parameters]
        self._inputs: _Given | None = None
        # the dtype that their pass was computed in, before any cast
        self._precision: torch.dtype | None = None
        self._passes: list[_Pass] = []  # since the last loss call
        self._pieces: list[_Piece] = []

    def reset(self) -> None:
        """Forget the batch so far; the next one begins."""
        self._pieces.clear()
        self._passes.clear()
        self._inputs, self.detached = None, False

    def weights_version(self) -> int:
        """Return a number that grows whenever either layer is written to."""
        version = 0  # a loop: asked at every loss call, where a generator takes twice as long
        for parameter in self._watched:
            version += parameter._version
        return version

    def collected(self, version: int | None = None) -> list[LossInputs]:
        """Return the micro-batches so far, or those whose outputs weights of one version made."""
        return [p.seen for p in self._pieces if version is None or p.version == version]

    # --- what the hooks see ------------------------------------------------------------------

    def see(self, seen: SeenPass) -> None:
        """Take over what the first pass showed of the layers."""
        view = self.view.resolved(seen)
        width, dim = view.first.shape[1], self._geometry.dim
        if width != dim:
            raise ExpectedError(
                "geometry",
                f"The centres lie in R^{dim}, and the pass gave {view.names[0]} {width} inputs.",
                f"Pass centres in R^{width}.",
            )
        if view.site is not self.view.site:  # its hook comes too late for this pass
            given: _Given = ((), seen.given)
            self._inputs = given
            self._passes.append(_Pass(None, given))
        self.view = view

    def unseen(self, reason: str) -> None:
        """Take note of why no pass could be followed; the outputs have to tell the layers then."""
        self.view = replace(self.view, notes=(*self.view.notes, reason))

    def on_forward(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> None:
        """Keep the first layer's inputs until a loss call claims them."""
        if not ((args or kwargs) and torch.is_grad_enabled()):
            return
        self._inputs = (args, kwargs)
        self._precision = getattr(output, "dtype", None)
        del self._passes[: 1 - HELD_PASSES]
        # a compiled model has no graph yet while it is traced
        node = None if is_dynamo_compiling() else getattr(output, "grad_fn", None)
        self._passes.append(_Pass(node, self._inputs))

    def on_loss(self, args: tuple[Any, ...], named: dict[str, Any], *, settle: bool = True) -> None:
        """Find outputs and targets among the arguments of a loss call, and add the batch."""
        if len(args) == 2 and not named:
            self.add(*args, settle=settle)
            return
        given = dict(named)
        targets = next((given.pop(name) for name in TARGET_NAMES if name in given), None)
        values = [*args, *given.values()] + ([] if targets is None else [targets])
        if len(values) >= 2:
            self.add(values[0], values[1] if targets is None else targets, settle=settle)

    def on_submodule(self, output: Tensor) -> None:
        """Settle what was assumed of a block in a larger network, by the block's own outputs."""
        if self._inputs is None or self.view.settled or self.view.compared:
            return
        inputs = self.view.inputs_of(*self._inputs)
        if inputs is None:
            return
        measured = self.view.of_block(output.detach().reshape(-1, output.shape[-1]))
        outputs = measured.squeeze(1) if self.view.heads == 1 else measured
        self.view = self.view.calibrated(inputs, outputs)

    def add(self, outputs: Tensor, targets: Tensor, *, settle: bool = True) -> None:
        """Add the arguments of one loss call to the batch, if they belong to a training step.

        Args:
            outputs: of the model.
            targets: of the loss.
            settle: compare the view with the outputs; not within a pass that is followed.
        """
        view, given = self.view, self._inputs
        if given is None and view.directions is None:
            return
        if not outputs.requires_grad:
            self.detached |= torch.is_grad_enabled()  # without gradients it is an evaluation
            return
        if given is None or view.directions is not None or view.hidden_inputs:
            self._add_network(outputs, targets)
            return
        if len(self._passes) > 1:
            given = self._inputs_of(outputs, given)
        self._passes.clear()
        inputs = view.inputs_of(*given)
        if inputs is None:
            return
        rows, values, labels = inputs.shape[0], outputs.numel(), targets.numel()
        if values != rows * view.heads or labels not in (rows, values):
            return
        seen = _rows(outputs, rows, view.heads == 1)
        settle = settle and not view.compared and not is_dynamo_compiling()
        if settle and seen.isfinite().all():
            # now, while the weights are those that made these outputs
            self.view = view.calibrated(inputs, seen, self._precision)
        kept = (inputs,) if self._keep_inputs else ()
        traces = self._geometry.traces(inputs)
        self._append(
            seen, _rows(targets, rows, labels == rows), traces, _finite(seen, inputs), kept
        )

    def _add_network(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a loss call of the network around a block, whose samples belong to no cluster."""
        rows = targets.numel()
        if rows == 0 or outputs.numel() % rows:
            return
        seen = outputs.detach().reshape((rows,) if outputs.numel() == rows else (rows, -1))
        self._append(seen, targets.detach().reshape(rows), None, None)

    def _append(
        self,
        outputs: Tensor,
        targets: Tensor,
        traces: Tensor | None,
        finite: Tensor | None,
        inputs: tuple[Tensor, ...] = (),
    ) -> None:
        # copies: a later in-place operation would overwrite what detach() shares
        targets = (
            targets.clone() if targets.device == outputs.device else targets.to(outputs.device)
        )
        seen = LossInputs(outputs.clone(), targets, traces, finite, (inputs,) if inputs else ())
        self._pieces.append(_Piece(seen, self.weights_version()))

    def _inputs_of(self, outputs: Tensor, last: _Given) -> _Given:
        """Return the inputs of the pass that made these outputs; the last ones if its graph is hidden."""
        begins = {each.node: each.inputs for each in self._passes if each.node is not None}
        if len(begins) < len(self._passes):
            return last
        found = _first_ancestor(outputs.grad_fn, begins)
        return last if found is None else begins[found]


def joined(pieces: Sequence[LossInputs]) -> LossInputs | None:
    """Join the micro-batches of one step, and give them the leading dimension of one state."""
    if not pieces:
        return None
    if len(pieces) == 1:
        (one,) = pieces
        placed = None if one.traces is None else one.traces.unsqueeze(0)
        doubt = None if one.finite is None else one.finite.unsqueeze(0)
        rows = (one.outputs.unsqueeze(0), one.targets.unsqueeze(0))
        return LossInputs(*rows, placed, doubt, one.inputs)
    outputs, targets, traces, finite, inputs = zip(*pieces, strict=True)
    doubts = [flag.to(outputs[0].device) for flag in finite if flag is not None]
    parts = [part for each in inputs for part in each]
    return LossInputs(
        torch.cat(outputs).unsqueeze(0),
        torch.cat(targets).unsqueeze(0),
        None if traces[0] is None else torch.cat(traces).unsqueeze(0),
        torch.stack(doubts).all().unsqueeze(0) if doubts else None,
        (tuple(tensor for part in parts for tensor in part),) if parts else (),
    )


def gathered(pieces: Sequence[LossInputs]) -> list[LossInputs]:
    """Return the micro-batches of all processes, on the host; every process must call it."""
    hosted = [
        LossInputs(*(None if t is None else t.cpu() for t in piece[:4]))  # type: ignore[arg-type]
        for piece in pieces
    ]
    parts: list[list[LossInputs]] = [[]] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, hosted)
    return [piece for part in parts for piece in part]


def is_sharing(model: nn.Module) -> bool:
    """Whether several processes train the model, each on a part of the batch."""
    return isinstance(model, nn.parallel.DistributedDataParallel)


def _rows(values: Tensor, count: int, single: bool) -> Tensor:
    """Return values detached, as (count,) or (count, .)."""
    values = values.detach() if values.requires_grad else values
    if values.ndim == (1 if single else 2) and values.shape[0] == count:
        return values
    return values.reshape((count,) if single else (count, -1))


def _finite(outputs: Tensor, inputs: Tensor) -> Tensor | None:
    """Return whether no input is NaN or infinite, bool (); None where the outputs are finite."""
    # not on a GPU, where the host would wait; and the sum of finite outputs may overflow
    if not outputs.is_cuda and math.isfinite(outputs.sum()):
        return None
    return _all_finite(outputs) | _all_finite(inputs)


def _all_finite(values: Tensor) -> Tensor:
    """Return whether all values are finite, bool (); in one pass."""
    if not (values.is_floating_point() and values.numel()):
        return torch.ones((), dtype=torch.bool, device=values.device)
    largest: Tensor = torch.linalg.vector_norm(values, math.inf)
    return largest < math.inf


def _first_ancestor(start: Any, wanted: Collection[Any]) -> Any:
    """Return the first of some autograd nodes that is reached from another; None if none is."""
    waiting: deque[Any] = deque([start])
    seen: set[Any] = set()
    while waiting and len(seen) < SEARCHED_NODES:
        node = waiting.popleft()
        if node in wanted:
            return node
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting.extend(before for before, _ in node.next_functions)
    return None
