"""Capture: the only file that registers hooks, and makes one Snapshot per recorded optimizer step.

The hooks return None, draw no random numbers, and keep references to or copies of detached tensors.
Steps that the schedule leaves out cost a few look-ups and no tensor operation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from phasetrack.errors import ExpectedError
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.losses import Loss
from phasetrack.model.pass_trace import SeenPass
from phasetrack.model.two_layer_view import ACTIVATIONS, TwoLayerView, known_activation
from phasetrack.tracking.batch_collector import BatchCollector, gathered, is_sharing, joined
from phasetrack.tracking.hooks import SwitchableHook, do_nothing
from phasetrack.tracking.schedules import Schedule, following
from phasetrack.tracking.snapshot import LayerState, LossInputs, Snapshot, StepSizes
from phasetrack.tracking.step_counter import StepCounter

# A first layer of at most so many numbers is copied at its step and read with others of its stack,
# which is quicker; larger ones are read at their step. A stack of such copies fits in a cache.
COPIED = 2**15

T = TypeVar("T")


class CaptureState(Enum):
    """The coming step, as a capture sees it."""

    IDLE = "the schedule leaves the coming step out"
    WATCHING = "the coming step is recorded: forward passes and loss calls are collected"
    RECORDING = "a hook of the optimizer is making a snapshot"
    CLOSED = "detached"


class _Before(NamedTuple):
    """The layers before a step whose closure makes the batch, and their version."""

    layers: LayerState
    version: int


class Capture:
    """Watches a model, its loss and its optimizer, and passes each recorded state to `receive`.

    Args:
        model: the model in training.
        optimizer: its optimizer; its steps are counted, not forward passes.
        loss: the loss as the training loop calls it; a hook watches a module, a plain function has
            to be called through `observe_loss`.
        view: the model's two layers.
        geometry: the clusters.
        schedule: the steps that are recorded.
        receive: called with each snapshot before its optimizer step is taken.
        failed: called with the exception of a hook; it must not end the training.
        keep_inputs: hold the inputs of all micro-batches until the step, which costs their memory.
        keep_weights: the steps whose snapshots hold whole copies of the layers.

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
        keep_weights: Schedule = lambda _: False,
    ) -> None:
        self._shared = is_sharing(model)
        _check(optimizer, view, shared_inputs=self._shared and keep_inputs)
        self.geometry, self.optimizer = geometry, optimizer
        self._schedule, self._keep_weights = schedule, keep_weights
        self._receive, self._failed = receive, failed
        # evaluated on host tensors in float64; copied before our own hook is on it
        self.host_loss = copy.deepcopy(loss).cpu().double() if isinstance(loss, nn.Module) else loss
        self._batch = BatchCollector(view, geometry, keep_inputs=keep_inputs)
        self._counter = StepCounter(optimizer, view)
        self._pending: _Before | None = None
        self._next_look = 1  # the step before which the schedule is asked again
        self._state = CaptureState.WATCHING if schedule(0) else CaptureState.IDLE
        self._hooks: list[SwitchableHook] = []
        with ExitStack() as attaching:
            for hook in self._register(loss):
                self._hooks.append(hook)
                attaching.callback(hook.remove)
            self._counting = optimizer.register_step_post_hook(self._on_step_end)
            self._watch = view.watched(model, self._on_seen, self._batch.unseen)
            attaching.pop_all()

    def _register(self, loss: Loss) -> Iterator[SwitchableHook]:
        """Register the hooks of recorded steps, that of the inputs first."""
        view, failed = self.view, self._failed
        yield self._input_hook(view.site)
        yield SwitchableHook(self.optimizer.register_step_pre_hook, self._on_step_begin)
        # bare and tied weights have no module whose output is the block's
        first, second = view.first.owner, view.second.owner
        if view.directions is not None and isinstance(second, nn.Linear) and second is not first:
            yield SwitchableHook(second.register_forward_hook, self._on_submodule, failed)
        if isinstance(loss, nn.Module):
            register = partial(loss.register_forward_hook, with_kwargs=True)
            yield SwitchableHook(register, self._on_loss, failed)

    def _input_hook(self, site: nn.Module) -> SwitchableHook:
        register = partial(site.register_forward_hook, with_kwargs=True)
        return SwitchableHook(register, self._on_forward, self._failed)

    @property
    def view(self) -> TwoLayerView:
        """The model's two layers, with all that is known of them so far."""
        return self._batch.view

    @property
    def step(self) -> int:
        """Optimizer steps counted so far."""
        return self._counter.step

    @property
    def closed(self) -> bool:
        """Whether the hooks are off for good."""
        return self._state is CaptureState.CLOSED

    def step_sizes(self) -> StepSizes:
        """Return the length of the coming step for each layer, from the optimizer's own groups."""
        return self._counter.sizes()

    def observe_loss(self, outputs: Tensor, targets: Tensor) -> None:
        """Take note of a call of a loss that is not a module; never raises."""
        if self._collecting:
            settle = not self._watch.tracing
            self._tried(partial(self._batch.add, outputs, targets, settle=settle))

    def close(self) -> None:
        """Remove every hook of this capture and no other; further calls do nothing.

        While the optimizer goes through its hooks, none may be removed: they then do nothing, and
        are removed at the next forward pass.
        """
        recording, self._state = self._state is CaptureState.RECORDING, CaptureState.CLOSED
        for hook in self._hooks:
            hook.function = do_nothing
        if recording:
            inputs, *_ = self._hooks
            inputs.function = lambda *_: self._remove_hooks()
            inputs.switch(on=True)
        else:
            self._remove_hooks()
        self._batch.reset()

    def _remove_hooks(self) -> None:
        self._watch.remove()
        for hook in self._hooks:
            hook.remove()
        self._counting.remove()

    # --- hooks of the model and the loss -----------------------------------------------------

    @property
    def _collecting(self) -> bool:
        return self._state is CaptureState.WATCHING or self._state is CaptureState.RECORDING

    def _on_seen(self, seen: SeenPass) -> None:
        """Take over what the first pass showed of the layers."""
        site = self.view.site
        self._tried(partial(self._batch.see, seen))
        if self.view.site is not site and not self.closed:
            old, self._hooks[0] = self._hooks[0], self._input_hook(self.view.site)
            old.function = do_nothing
            old.remove()
            self._hooks[0].switch(self._collecting)

    def _on_forward(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> None:
        if self._collecting:
            self._batch.on_forward(args, kwargs, output)

    def _on_submodule(self, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        if self._collecting and not self._watch.tracing:  # the pass itself tells more
            self._batch.on_submodule(output)

    def _on_loss(
        self, _: nn.Module, args: tuple[Any, ...], named: dict[str, Any], __: object
    ) -> None:
        if self._collecting:
            self._batch.on_loss(args, named, settle=not self._watch.tracing)

    # --- hooks of the optimizer --------------------------------------------------------------

    def _on_step_begin(self, _: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record the state, or keep it until the closure has made its batch."""
        self._pending = None
        if not self._collecting:
            return
        self._state = CaptureState.RECORDING
        try:
            if any(map(callable, (*args, *kwargs.values()))):
                self._pending = self._tried(self._layers_before)
                return
            self._hand_over(self._tried(self._snapshot))
            self._batch.reset()
        except BaseException:  # Ctrl-C, for example: the optimizer will not take this step
            self._batch.reset()
            raise
        finally:
            self._watch_on()

    def _on_step_end(self, *_: object) -> None:
        """Count a step that was taken; an exception before the update keeps the optimizer from here."""
        if self._state is CaptureState.CLOSED:
            return
        if self._state is CaptureState.IDLE:
            self._tried(self._counter.count)
            if self._counter.step >= self._next_look:
                self._look_ahead()
            return
        self._state = CaptureState.RECORDING
        try:
            if self._pending is not None:
                self._hand_over(self._tried(partial(self._snapshot_of_closure, self._pending)))
        finally:
            self._pending = None
            # losses that the optimizer evaluated in its step belong to no batch
            self._batch.reset()
            self._tried(self._counter.count)
            self._watch_on()
            self._look_ahead()

    def _watch_on(self) -> None:
        if self._state is CaptureState.RECORDING:  # otherwise closed meanwhile
            self._state = CaptureState.WATCHING

    def _look_ahead(self) -> None:
        """Ask the schedule for the coming step, and put hooks where they see it or take them away."""
        if self._state is CaptureState.CLOSED:
            return
        step = self._counter.step
        self._next_look = following(self._schedule, step)
        self._set_watching(bool(self._schedule(step)))

    def _set_watching(self, watching: bool) -> None:
        self._state = CaptureState.WATCHING if watching else CaptureState.IDLE
        for hook in self._hooks:
            hook.switch(watching)

    def _hand_over(self, snapshot: Snapshot | None) -> None:
        if snapshot is not None:
            # unguarded: a callback may raise on purpose, to end the training
            self._receive(snapshot)

    def _tried(self, make: Callable[[], T]) -> T | None:
        """Return what `make` returns; report the exception and return None where it raises."""
        try:
            return make()
        except Exception as error:
            self._failed(error)
            return None

    # --- the snapshot ------------------------------------------------------------------------

    def _layers_before(self) -> _Before:
        return _Before(self._layers(), self._batch.weights_version())

    def _layers(self) -> LayerState:
        """Copy the weights before the step, still on their device; read large ones at once."""
        view, W = self.view, self.view.first.value
        small = W.numel() <= COPIED
        keep = small or bool(self._keep_weights(self.step))
        layers = LayerState(
            view.A.clone().unsqueeze(0),
            bias=_copied(view.bias),
            head_bias=_copied(view.head_bias),
            W=(W.clone() if keep else W).unsqueeze(0),
        )
        return layers if small else layers.read(self.geometry, keep=keep)

    def _snapshot(self) -> Snapshot:
        return self._snapshot_with(self._layers(), self._batch.collected())

    def _snapshot_of_closure(self, before: _Before) -> Snapshot:
        """The state before the step, and the evaluation that its weights made: the closure's first."""
        return self._snapshot_with(before.layers, self._batch.collected(before.version))

    def _snapshot_with(self, layers: LayerState, pieces: list[LossInputs]) -> Snapshot:
        self._counter.scale = self.view.scale  # the batch may have settled it
        return Snapshot(
            (self._counter.step,),
            (self._counter.time,),
            (self._counter.sizes(),),
            self.geometry,
            self.view.current_formula(),
            layers,
            joined(gathered(pieces) if self._shared else pieces),
            self.host_loss,
            self._batch.detached,
        )

    # --- resuming ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return steps and time counted, and what was found out about the layers."""
        view = self.view
        return {
            "step": self._counter.step,
            "time": self._counter.time,
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
        """Return the layers as they were known when a state was saved.

        Raises:
            ExpectedError: if they are not those of this model.
        """
        found = state["view"]
        turned = [bool(side) for side in found["transposed"]]
        sides = (self.view.first, self.view.second)
        first, second = (replace(w, transposed=t) for w, t in zip(sides, turned, strict=True))
        shapes = [first.shape, second.shape]
        if shapes != [side.shape for side in sides] and not self.view.assumed:
            raise ExpectedError(
                "state",
                f"The saved layers have shapes {shapes}, and the model's are "
                f"{[side.shape for side in sides]}.",
                "Load the state into a model of the same shape.",
            )
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

    def continue_from(self, view: TwoLayerView, step: int, time: float, *, recorded: int) -> None:
        """Count on from a step and time; steps up to `recorded` were recorded already."""
        self._batch.view = view
        self._counter.scale = view.scale
        self._counter.step, self._counter.time = step, time
        self._next_look = step + 1
        self._batch.reset()
        if not self.closed:
            self._set_watching(step > recorded and bool(self._schedule(step)))


def _copied(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.clone().unsqueeze(0)


def _check(optimizer: torch.optim.Optimizer, view: TwoLayerView, *, shared_inputs: bool) -> None:
    hooks = optimizer._optimizer_step_post_hooks.values()
    owners = (getattr(hook, "__self__", None) for hook in hooks)
    if any(isinstance(owner, Capture) and not owner.closed for owner in owners):
        raise ExpectedError(
            "optimizer",
            "The optimizer has a tracker attached already.",
            "Call detach() on that tracker first.",
        )
    if shared_inputs:
        raise ExpectedError(
            "probes",
            "A probe needs the inputs of a model that several processes train.",
            "Leave out the gradient error.",
        )
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in trained for w in (view.first, view.second) for p in w.parameters):
        raise ExpectedError(
            "optimizer",
            f"The optimizer trains neither {view.names[0]} nor {view.names[1]}.",
            "Pass the optimizer that is given these parameters.",
        )
