"""The only file that registers hooks: from a training loop to one Snapshot an optimizer step.

The hooks look and never touch: they return None, draw no random numbers, and keep references or
copies of detached tensors. Steps that the schedule leaves out cost a few look-ups and no work of tensors.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling

from phasetrack.errors import expected_error
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.losses import Loss
from phasetrack.model.two_layer_view import ACTIVATIONS, TwoLayerView, known_activation
from phasetrack.tracking.hooks import Watch, nothing
from phasetrack.tracking.schedules import Schedule, following
from phasetrack.tracking.snapshot import Layers, Seen, Snapshot, StepSizes
from phasetrack.tracking.step_counter import Pacing

# Forward passes whose inputs are held until a loss tells which of them it belongs to (chosen here).
HELD_PASSES = 4
# Steps back from a loss's outputs in search of their forward pass (chosen here).
SEARCHED_NODES = 256
# A first layer of at most so many numbers is copied at its step and read with others of its block, which
# is quicker; larger ones are read at their step (chosen here: a block of such copies fits in a cache).
COPIED = 2**15
# What losses call their second argument, where it is given by name.
TARGET_NAMES = ("target", "targets", "labels", "label", "y")

T = TypeVar("T")


class _State(NamedTuple):
    """The layers before a step, and which weights they are."""

    layers: Layers
    version: int


class Capture:
    """Watches a model, its loss and its optimizer, and hands each scheduled state to `receive`.

    Args:
        model: the model in training.
        optimizer: its optimizer; states are counted by its steps, not by forward passes.
        loss: the loss as the training loop calls it; a module is watched by a hook, a plain
            function has to be called through `observe_loss`.
        view: the model's two layers.
        geometry: the clusters.
        schedule: which steps are captured.
        receive: called with each snapshot before its optimizer step is taken.
        failed: called with what went wrong in looking, which must not stop the training.
        keep_inputs: hold on to the inputs of all micro-batches until then, which costs their memory.

    Raises:
        ExpectedError: if the optimizer is tracked already, or trains neither layer; if inputs are to
            be kept of a model that several processes train.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        view: TwoLayerView,
        geometry: ClusterGeometry,
        schedule: Schedule,
        receive: Callable[[Snapshot], None],
        *,
        failed: Callable[[Exception], None],
        keep_inputs: bool = False,
    ) -> None:
        self._closed = False
        hooks = optimizer._optimizer_step_post_hooks.values()
        counting = [hook.__self__ for hook in hooks if hasattr(hook, "__self__")]
        tracking = [getattr(c.wake, "__self__", None) for c in counting if isinstance(c, Pacing)]
        if any(isinstance(other, Capture) and not other._closed for other in tracking):
            raise expected_error(
                "optimizer",
                "one that is not tracked",
                "one with a tracker attached",
                "call detach() on that tracker first",
            )
        self.view, self.geometry, self.optimizer = view, geometry, optimizer
        self._schedule, self._receive, self._failed = schedule, receive, failed
        # several processes train one model: each sees a part of the batch
        self._shared = isinstance(model, nn.parallel.DistributedDataParallel)
        if self._shared and keep_inputs:
            raise expected_error(
                "probes",
                "none that needs inputs, where several processes train one model",
                "one that does",
                "leave out the gradient error",
            )
        # evaluated on host tensors in float64; copied before our own hook is on it
        self._host_loss = (
            copy.deepcopy(loss).cpu().double() if isinstance(loss, nn.Module) else loss
        )
        self._armed = bool(schedule(0))
        self._eta = 0.0  # of the coming step, if it is captured
        self._inputs: Tensor | None = None
        # what their pass was computed in, before any cast
        self._precision: torch.dtype | None = None
        # forward passes since the last loss: where their graph begins, and what went in
        self._passes: list[tuple[Any, Tensor]] = []
        self._pieces: list[Seen] = []
        self._versions: list[int] = []  # of the weights that each piece was made with
        self._pending: _State | None = None  # of a step whose closure makes the batch
        self._detached = False  # whether the loss was called on outputs that carry no gradient
        self._keep_inputs = keep_inputs
        self._watched = [*view.first.parameters, *view.second.parameters]
        self._pacing = Pacing(optimizer, view, self._after_step)
        self._pacing.watched = self._armed
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(p) in trained for p in self._watched):
            raise expected_error(
                "optimizer",
                f"one that trains {view.names[0]} or {view.names[1]}",
                "one that does not",
            )
        # whether hooks are where they see a step; at first, so that all are reached
        self._looking = True
        self._stepping = False  # whether the optimizer is going through its hooks
        self._watches: list[Watch] = []
        with ExitStack() as attaching:
            for watch in self._watching(loss):
                self._watches.append(watch)
                attaching.callback(watch.remove)
            # itself, not a Hook around it: optimizers are saved without their hooks
            self._counted = optimizer.register_step_post_hook(self._pacing.count)
            attaching.pop_all()

    def _watching(self, loss: Loss) -> Iterator[Watch]:
        """Look at what belongs to a step that is captured, inputs first."""
        first, second, failed = self.view.first, self.view.second, self._failed
        yield Watch(self.view.site.register_forward_hook, self._see_inputs, failed)
        yield Watch(self.optimizer.register_step_pre_hook, self._before_step)
        # bare and tied weights have no module whose output is the block's
        seen = isinstance(second.owner, nn.Linear) and second.owner is not first.owner
        if self.view.directions is not None and seen:
            yield Watch(second.owner.register_forward_hook, self._see_block, failed)
        if isinstance(loss, nn.Module):
            see = partial(loss.register_forward_hook, with_kwargs=True)
            yield Watch(see, self._see_loss, failed)

    @property
    def step(self) -> int:
        """Optimizer steps counted so far."""
        return self._pacing.step

    @property
    def host_loss(self) -> Loss:
        """The loss as it is evaluated on the host, in float64."""
        return self._host_loss

    def state_dict(self) -> dict[str, Any]:
        """Steps and time counted, and what was found out about the layers."""
        view = self.view
        return {
            "step": self._pacing.step,
            "time": self._pacing.time,
            "view": {
                "scale": view.scale,
                "bias_scaled": view.bias_scaled,
                "assumed": view.assumed,
                "transposed": [view.first.transposed, view.second.transposed],
                "activation": known_activation(view.activation),
                "notes": list(view.notes),
            },
        }

    def view_of(self, state: Mapping[str, Any]) -> TwoLayerView:
        """The layers as they were seen when a state was saved.

        Raises:
            ExpectedError: if they are not those of this model.
        """
        found = state["view"]
        turned = [bool(side) for side in found["transposed"]]
        sides = (self.view.first, self.view.second)
        first, second = (replace(w, transposed=t) for w, t in zip(sides, turned, strict=True))
        shapes = [first.shape, second.shape]
        if shapes != [side.shape for side in sides] and not self.view.assumed:
            was = [side.shape for side in sides]
            raise expected_error("resume", f"the state of layers {was}", f"{shapes}")
        activation = self.view.activation
        if self.view.assumed and found["activation"] is not None:
            activation = ACTIVATIONS[found["activation"]]
        return replace(
            self.view,
            first=first,
            second=second,
            scale=None if found["scale"] is None else float(found["scale"]),
            bias_scaled=bool(found["bias_scaled"]),
            assumed=bool(found["assumed"]),
            activation=activation,
            notes=tuple(str(note) for note in found["notes"]),
        )

    def go_on(self, view: TwoLayerView, step: int, time: float, *, recorded: int) -> None:
        """Count on from a step and time; steps up to `recorded` were captured already."""
        self._settle(view)
        self._pacing.step, self._pacing.time, self._pacing.due = step, time, step + 1
        self._forget()
        self._arm(not self._closed and step > recorded and bool(self._schedule(step)))

    def close(self) -> None:
        """Remove every hook of this capture and no other; may be called again.

        Within the optimizer's own round of hooks, where none may be removed, they do nothing from now
        on and go at the next forward pass.
        """
        self._armed, self._closed = False, True
        self._pacing.watched = True  # so that it counts no further steps
        for watch in self._watches:
            watch.function = nothing
        if self._stepping:
            inputs, *_ = self._watches
            inputs.function = lambda *_: self._remove()
            inputs.switch(on=True)
        else:
            self._remove()
        self._forget()

    def _remove(self) -> None:
        for watch in self._watches:
            watch.remove()
        self._counted.remove()

    def _arm(self, armed: bool) -> None:
        """Look at what comes before the next optimizer step, or leave it alone."""
        self._armed, self._pacing.watched = armed, armed or self._closed
        if armed is not self._looking:
            self._looking = armed
            for watch in self._watches:
                watch.switch(armed)

    def _settle(self, view: TwoLayerView) -> None:
        """Go on with more known of the same layers."""
        self.view = view
        self._pacing.settle(view.scale)

    def _forget(self) -> None:
        self._pieces.clear()
        self._versions.clear()
        self._passes.clear()
        self._inputs, self._detached = None, False

    def observe_loss(self, outputs: Tensor, targets: Tensor) -> None:
        """Note one loss call's arguments, if this step is to be captured."""
        view, inputs = self.view, self._inputs
        if not self._armed or (inputs is None and view.directions is None):
            return
        if not outputs.requires_grad:
            self._detached |= torch.is_grad_enabled()  # otherwise it is an evaluation
            return
        if inputs is None or view.directions is not None:
            self._observe_network(outputs, targets)
            return
        if len(self._passes) > 1:
            inputs = self._inputs_of(outputs, inputs)
        self._passes.clear()
        inputs = inputs if inputs.ndim == 2 else inputs.reshape(-1, inputs.shape[-1])
        rows, values, labels = inputs.shape[0], outputs.numel(), targets.numel()
        if values != rows * view.heads or labels not in (rows, values):
            return
        seen = _rows(outputs, rows, view.heads == 1)
        if not view.settled and seen.isfinite().all():
            # now, while the weights are those that made these outputs
            self._settle(view.calibrated(inputs, seen, self._precision))
        targets = _rows(targets, rows, labels == rows)
        kept = (inputs,) if self._keep_inputs else ()
        self._note(seen, targets, self.geometry.traces(inputs), _sound(seen, inputs), kept)

    def _note(
        self,
        outputs: Tensor,
        targets: Tensor,
        traces: Tensor | None,
        sound: Tensor | None,
        inputs: tuple[Tensor, ...] = (),
    ) -> None:
        # copies: an operation in place further on would overwrite what detach() shares
        targets = (
            targets.clone() if targets.device == outputs.device else targets.to(outputs.device)
        )
        self._pieces.append(Seen(outputs.clone(), targets, traces, sound, inputs))
        self._versions.append(self._version())

    def _inputs_of(self, outputs: Tensor, last: Tensor) -> Tensor:
        """What went into the forward pass that made these outputs; the last pass if that is hidden."""
        begins = {start: inputs for start, inputs in self._passes if start is not None}
        if len(begins) < len(self._passes):
            return last
        found = _first_ancestor(outputs.grad_fn, begins)
        return last if found is None else begins[found]

    def _observe_network(self, outputs: Tensor, targets: Tensor) -> None:
        """A loss call of the network around a block: its samples belong to no cluster."""
        rows = targets.numel()
        if rows == 0 or outputs.numel() % rows:
            return
        seen = outputs.detach().reshape((rows,) if outputs.numel() == rows else (rows, -1))
        self._note(seen, targets.detach().reshape(rows), None, None)

    def _see_block(self, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        """A block's own outputs, which settle what was assumed of it."""
        if self._armed and self._inputs is not None and not self.view.settled:
            measured = self.view.of_block(output.detach().reshape(-1, output.shape[-1]))
            inputs = self._inputs.reshape(-1, self._inputs.shape[-1])
            outputs = measured.squeeze(1) if self.view.heads == 1 else measured
            self._settle(self.view.calibrated(inputs, outputs))

    def step_sizes(self) -> StepSizes:
        """Length of the coming step for each layer, from the optimizer's own groups."""
        return self._pacing.sizes()

    def _see_inputs(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if self._armed and args and torch.is_grad_enabled():
            inputs = args[0]
            self._inputs = inputs.detach() if inputs.requires_grad else inputs
            self._precision = getattr(output, "dtype", None)
            del self._passes[: 1 - HELD_PASSES]
            # a compiled model has no graph yet while it is traced
            start = None if is_dynamo_compiling() else getattr(output, "grad_fn", None)
            self._passes.append((start, self._inputs))

    def _see_loss(
        self, _: nn.Module, args: tuple[Any, ...], named: dict[str, Any], __: Any
    ) -> None:
        if not self._armed:
            return
        if len(args) == 2 and not named:
            self.observe_loss(*args)
            return
        given = dict(named)
        targets = next((given.pop(name) for name in TARGET_NAMES if name in given), None)
        values = [*args, *given.values()] + ([] if targets is None else [targets])
        if len(values) >= 2:
            self.observe_loss(values[0], values[1] if targets is None else targets)

    def _before_step(self, _: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._pending = None
        if not self._armed:
            return
        self._stepping = True
        try:
            self._eta = self._tried(self._pacing.eta) or 0.0
            if any(map(callable, (*args, *kwargs.values()))):
                # a closure evaluates the loss, or its last part, in the step
                self._pending = self._tried(self._state)
                return
            self._hand_over(self._tried(self._snapshot))
        except BaseException:  # Ctrl-C, say: the optimizer will not take this step
            self._forget()
            raise
        finally:
            self._stepping = False
        self._forget()

    def _after_step(self) -> None:
        """A step was taken that was captured, or after which the schedule has to be asked.

        Exceptions before the update keep the optimizer from it and us from here.
        """
        if self._armed:
            self._after_captured()
        elif not self._closed:
            self._look_ahead()

    def _after_captured(self) -> None:
        try:
            if self._pending is not None:
                self._after_closure(self._pending)
        finally:
            self._pending = None
            # also of a step without a closure: some evaluate the loss in one of their own
            self._forget()
            self._pacing.add(self._eta)
            if not self._closed:
                self._look_ahead()

    def _after_closure(self, state: _State) -> None:
        self._stepping = True
        try:
            # it may be called again after the weights have moved: not our state
            fresh = [made == state.version for made in self._versions]
            self._pieces = [p for p, keep in zip(self._pieces, fresh, strict=True) if keep]
            # its first call may have settled the scale
            self._eta = self._tried(self._pacing.eta) or 0.0
            self._hand_over(self._tried(partial(self._snapshot, state.layers)))
        finally:
            self._stepping = False

    def _look_ahead(self) -> None:
        """Ask the schedule for the coming step."""
        step = self._pacing.step
        self._pacing.due = following(self._schedule, step)
        self._arm(bool(self._schedule(step)))

    def _hand_over(self, snapshot: Snapshot | None) -> None:
        if snapshot is not None:
            self._receive(snapshot)  # unguarded: it may raise on purpose, to end the training

    def _tried(self, make: Callable[[], T]) -> T | None:
        """What `make` makes; None, and the failure handed on, where it raises."""
        try:
            return make()
        except Exception as error:
            self._failed(error)
            return None

    def _version(self) -> int:
        version = 0  # a loop, as it is asked at every loss call and a generator takes twice as long
        for parameter in self._watched:
            version += parameter._version
        return version

    def _state(self) -> _State:
        return _State(self._layers(), self._version())

    def _layers(self) -> Layers:
        """The weights before the step, still on their device; large ones seen through the geometry."""
        view, W = self.view, self.view.first.value
        bias, head_bias = view.bias, view.head_bias
        few = W.numel() <= COPIED
        layers = Layers(
            view.A.clone(),
            bias=None if bias is None else bias.clone(),
            head_bias=None if head_bias is None else head_bias.clone(),
            W=W.clone() if few else W,
        )
        return layers if few else layers.read(self.geometry)

    def _snapshot(self, layers: Layers | None = None) -> Snapshot:
        """The state and its batch; with the layers as they are now, if they were not taken before."""
        pieces = _gathered(self._pieces) if self._shared else self._pieces
        return Snapshot(
            self._pacing.step,
            self._pacing.time,
            self._pacing.sizes(),
            self.geometry,
            self._layers() if layers is None else layers,
            _joined(pieces) if pieces else None,
            self._host_loss,
            self.view,
            live=self._pending is None or self._pending.version == self._version(),
            detached=self._detached,
        )


def _rows(values: Tensor, count: int, single: bool) -> Tensor:
    """Values detached, as (count,) or (count, .)."""
    values = values.detach() if values.requires_grad else values
    if values.ndim == (1 if single else 2) and values.shape[0] == count:
        return values
    return values.reshape((count,) if single else (count, -1))


def _sound(outputs: Tensor, inputs: Tensor) -> Tensor | None:
    """Whether no inputs are NaN or infinite, bool (); None where the outputs are known to be finite."""
    # not on a GPU, for which one would wait; and the sum of finite outputs may be too large
    if not outputs.is_cuda and math.isfinite(outputs.sum()):
        return None
    return _finite(outputs) | _finite(inputs)


def _finite(values: Tensor) -> Tensor:
    """Whether all are, bool (); in one pass."""
    if not (values.is_floating_point() and values.numel()):
        return torch.ones((), dtype=torch.bool, device=values.device)
    largest: Tensor = torch.linalg.vector_norm(values, math.inf)
    return largest < math.inf


def _joined(pieces: Sequence[Seen]) -> Seen:
    """Micro-batches as one batch."""
    if len(pieces) == 1:
        return pieces[0]
    outputs, targets, traces, sound, inputs = zip(*pieces, strict=True)
    placed = None if traces[0] is None else torch.cat(traces)
    doubtful = [each.to(outputs[0].device) for each in sound if each is not None]
    whole = torch.stack(doubtful).all() if doubtful else None
    return Seen(torch.cat(outputs), torch.cat(targets), placed, whole, sum(inputs, ()))


def _first_ancestor(start: Any, wanted: Collection[Any]) -> Any:
    """The first of some autograd nodes that is reached from another; None if none is."""
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


def _gathered(pieces: list[Seen]) -> list[Seen]:
    """The micro-batches of all processes, on the host; every process must ask."""
    hosted = [
        Seen(
            p.outputs.cpu(),
            p.targets.cpu(),
            None if p.traces is None else p.traces.cpu(),
            None if p.sound is None else p.sound.cpu(),
        )
        for p in pieces
    ]
    parts: list[list[Seen]] = [[]] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, hosted)
    return [piece for part in parts for piece in part]
