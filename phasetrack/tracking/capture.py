"""Capture: registers the hooks on model, loss and optimizer, and makes one Snapshot per recorded step.

The hooks return None, draw no random numbers, and keep references to or copies of detached tensors.
Steps that the schedule leaves out cost a few look-ups and no tensor operation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, WeakMethod, ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from phasetrack._precision import unrounded
from phasetrack.errors import ExpectedError
from phasetrack.measures.law_check import gradient_table
from phasetrack.model.formula import Formula
from phasetrack.model.geometry import Geometry
from phasetrack.model.layer_search import entries, unwrapped
from phasetrack.model.losses import Loss
from phasetrack.model.pass_trace import SeenPass
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.tracking.batch_collector import NO_LOSS_CALL, BatchCollector
from phasetrack.tracking.first_samples import FirstSamples
from phasetrack.tracking.geometry_search import GeometrySearch
from phasetrack.tracking.hooks import PicklableHook, SwitchableHook, do_nothing
from phasetrack.tracking.host_loss import HostLoss, LossKeeper
from phasetrack.tracking.loss_call import LossCall, joined
from phasetrack.tracking.process_group import BatchExchange, Processes
from phasetrack.tracking.schedules import Schedule, following, schedule_name
from phasetrack.tracking.snapshot import LayerState, Snapshot, StepSizes
from phasetrack.tracking.step_counter import StepCounter
from phasetrack.tracking.step_rounds import StepRounds, has_closure, is_skipped
from phasetrack.tracking.unseen import PATIENCE, Seen, no_steps, unseen
from phasetrack.tracking.view_state import state_of_view

# A first layer of at most so many numbers is copied at its step and read with others of its stack,
# which is quicker; larger ones are read at their step. A stack of such copies fits in a cache.
COPIED = 2**15

# Why samples are in no cluster at the step at which the clusters were found.
FOUND_SINCE = "the clusters were found at this step, after its samples had passed"

T = TypeVar("T")
# What follows an optimizer; a second tracker on one is refused.
_CAPTURES: WeakKeyDictionary[torch.optim.Optimizer, ref[Capture]] = WeakKeyDictionary()


class CaptureState(Enum):
    """The coming step, as a capture sees it."""

    IDLE = "the schedule leaves the coming step out"
    WATCHING = "the coming step is recorded: forward passes and loss calls are collected"
    RECORDING = "a hook of the optimizer is making a snapshot"
    CLOSED = "detached"


class _Before(NamedTuple):
    """The layers before a step whose closure makes the batch, their version and their formula."""

    layers: LayerState
    version: int
    formula: Formula


class Capture:
    """Watches a model, its loss and its optimizer, and passes each recorded state to `receive`.

    Args:
        model: the model in training.
        optimizer: its optimizer; its steps are counted, not forward passes.
        loss: the loss as the training loop calls it, or None; a hook watches a module, `observe_loss`
            is given the calls of a function, and a loss in place is recognised by its gradient.
        view: the model's two layers.
        geometry: the clusters.
        schedule: the steps that are recorded.
        receive: called with each snapshot before its optimizer step is taken.
        failed: called with the exception of a hook; it must not end the training.
        say: called with a sentence for the user.
        keep_inputs: hold the inputs of all micro-batches until the step, which costs their memory.
        keep_weights: the steps whose snapshots hold whole copies of the layers.
        first_samples: is given the first inputs.
        search: finds clusters where none were declared.
        processes: the processes that train the model together (see `BatchExchange`).

    Raises:
        ExpectedError: if the optimizer is tracked already, or trains neither layer; if inputs are to
            be kept of a model that several processes train.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss | None,
        view: TwoLayerView,
        geometry: Geometry,
        schedule: Schedule,
        receive: Callable[[Snapshot], None],
        *,
        failed: Callable[[Exception], None],
        say: Callable[[str], object],
        keep_inputs: bool = False,
        keep_weights: Schedule = lambda _: False,
        first_samples: FirstSamples,
        search: GeometrySearch,
        processes: Processes = "auto",
    ) -> None:
        self.exchange = BatchExchange(
            model,
            processes,
            parameters=[*view.first.parameters, *view.second.parameters],
            schedule=schedule_name(schedule),
            keeps_inputs=keep_inputs,
            say=say,
        )
        _check(optimizer, view, shared_inputs=self.exchange.shared and keep_inputs)
        self.geometry, self.optimizer = geometry, optimizer
        self._schedule, self._keep_weights = schedule, keep_weights
        self._switched: object = None  # what `_set_watching` was asked for last
        self._receive, self._failed, self._say = receive, failed, say
        self._counts = Counter[str]()
        self._no_batch = ""
        self._entry = _entry(model, view)
        self._loss = LossKeeper(loss)  # copied before our own hook is on it
        self._keep_inputs = keep_inputs
        self._batch = BatchCollector(
            view,
            geometry,
            self._loss,
            failed=failed,
            stuck=self._say_no_steps,
            keep_inputs=keep_inputs,
        )
        self.first_samples, self.search = first_samples, search
        self._want_samples()
        self._counter, self._rounds = StepCounter(optimizer, view), StepRounds()
        self._first_step = 0  # where counting began
        self._recorded = -1  # the last step that was recorded
        self._pending: _Before | None = None
        self._next_look = 1  # the step before which the schedule is asked again
        self._state = CaptureState.WATCHING if schedule(0) else CaptureState.IDLE
        self._hooks: list[SwitchableHook] = []
        self._counting: list[RemovableHandle] = []
        with ExitStack() as attaching:
            for hook in self._register(loss):
                self._hooks.append(hook)
                attaching.callback(hook.remove)
            if not self._batch.recognises:
                self._output_hook.remove()
            for register, function in (
                (optimizer.register_step_pre_hook, self._on_step_begin),
                (optimizer.register_step_post_hook, self._on_step_end),
            ):
                # compiled steps are left for the time of the hook: none of ours is compiled
                handle = register(torch.compiler.disable(PicklableHook(function)))  # type: ignore[no-untyped-call]
                self._counting.append(handle)
                attaching.callback(handle.remove)
            self._watch = view.watched(model, self._on_seen, self._batch.unseen)
            self._batch.is_tracing = lambda: self._watch.tracing
            attaching.pop_all()
        _CAPTURES[optimizer] = ref(self)

    def _register(self, loss: Loss | None) -> Iterator[SwitchableHook]:
        """Register the hooks of recorded steps, that of the inputs first."""
        view, failed = self.view, self._failed
        yield self._input_hook(view.site)
        # bare and tied weights have no module whose output is the block's
        first, second = view.first.owner, view.second.owner
        if view.directions is not None and isinstance(second, nn.Linear) and second is not first:
            yield SwitchableHook(second.register_forward_hook, self._on_submodule, failed)
        self._output_hook = SwitchableHook(
            self._entry.register_forward_hook, self._on_output, failed
        )
        yield self._output_hook
        if isinstance(loss, nn.Module):
            register = partial(loss.register_forward_hook, with_kwargs=True)
            yield SwitchableHook(register, self._on_loss, failed)
        layers = (*view.first.parameters[:1], *view.second.parameters[:1])
        self._frozen = list(layers)
        self._watch_trained()

    def _input_hook(self, site: nn.Module) -> SwitchableHook:
        register = partial(site.register_forward_hook, with_kwargs=True)
        return SwitchableHook(register, self._on_forward, self._failed)

    def _trained(self) -> tuple[bool, ...]:
        """Return which of the parameters without a hook are trained."""
        return tuple(parameter.requires_grad for parameter in self._frozen)

    def _watch_trained(self) -> None:
        """Put a hook on the first parameter that is trained, which every backward pass reaches."""
        for place, parameter in enumerate(self._frozen):
            if parameter.requires_grad:
                del self._frozen[place:]
                self._hooks.append(self._gradient_hook(parameter))
                return

    def _gradient_hook(self, parameter: nn.Parameter) -> SwitchableHook:
        # a parameter's hooks are not seen by the garbage collector: they must hold nothing
        here, failed = WeakMethod(self._on_accumulated), WeakMethod(self._fail)
        register = parameter.register_post_accumulate_grad_hook
        return SwitchableHook(register, partial(_call, here), partial(_call, failed))

    def _fail(self, error: Exception) -> None:
        self._failed(error)

    @property
    def host_loss(self) -> HostLoss:
        """The loop's loss as it is now, on the host."""
        return self._loss.current

    @property
    def view(self) -> TwoLayerView:
        """The model's two layers, with all that is known of them so far."""
        return self._batch.view

    @property
    def step(self) -> int:
        """Optimizer steps counted so far."""
        return self._counter.step

    @property
    def recorded(self) -> int:
        """The last step that was recorded; -1 before any."""
        return self._recorded

    @property
    def closed(self) -> bool:
        """Whether the hooks are off for good."""
        return self._state is CaptureState.CLOSED

    def step_sizes(self) -> StepSizes:
        """Return the length of the coming step for each layer, from the optimizer's own groups."""
        return self._counter.sizes()

    def observe_loss(self, outputs: object, targets: object, result: object) -> None:
        """Take note of a call of a loss that is not a module; never raises."""
        if self._collecting:
            self._tried(partial(self._batch.add, outputs, targets, result))

    def close(self) -> None:
        """Remove every hook of this capture and no other; further calls do nothing.

        While the optimizer goes through its hooks, none may be removed: they then do nothing, and
        are removed at the next forward pass.
        """
        recording, self._state = self._state is CaptureState.RECORDING, CaptureState.CLOSED
        for hook in self._hooks:
            hook.function = do_nothing
        self.exchange.leave()
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
        for handle in self._counting:
            handle.remove()

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
        self, _: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: object
    ) -> None:
        if self._collecting:
            self.exchange.on_forward()
            self._batch.on_forward(args, named, output)

    def _on_submodule(self, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        if self._collecting:
            self._batch.on_submodule(output)

    def _on_loss(
        self, _: nn.Module, args: tuple[Any, ...], named: dict[str, Any], result: object
    ) -> None:
        if self._collecting:
            self._batch.on_loss(args, named, result)

    def _on_output(self, _: nn.Module, __: tuple[Any, ...], output: object) -> None:
        if self._collecting and self._batch.recognises:
            self._batch.on_output(output)

    def _on_accumulated(self, parameter: nn.Parameter) -> None:
        if self._collecting:
            self._batch.arrivals.note_written(parameter)

    # --- hooks of the optimizer --------------------------------------------------------------

    def _on_step_begin(self, _: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record the state, or keep it until the closure has made its batch."""
        if not self._rounds.begin() or not self._collecting:
            return
        self._pending = None
        if is_skipped(self.optimizer):
            self._batch.reset()
            return
        self._state = CaptureState.RECORDING
        try:
            if (args or kwargs) and has_closure((*args, *kwargs.values())):
                self._pending = self._tried(self._layers_before)
                self._batch.arrivals.kept_version = self._batch.weights_version()
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
        if not self._rounds.end() or self._state is CaptureState.CLOSED:
            return
        if self._tried(partial(is_skipped, self.optimizer)):
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
        wanted = (watching, self._batch.recognises, self._frozen and self._trained())
        if wanted == self._switched and watching:
            return
        self._switched = wanted
        self._watch_trained()
        for hook in self._hooks:
            hook.switch(watching and (hook is not self._output_hook or self._batch.recognises))

    def _hand_over(self, snapshot: Snapshot | None) -> None:
        # a step that an exception ended is taken again, and was recorded before
        if snapshot is not None and snapshot.steps[0] > self._recorded:
            self._recorded = snapshot.steps[0]
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
        return _Before(self._layers(), self._batch.weights_version(), self.view.current_formula())

    def _layers(self) -> LayerState:
        """Copy the weights before the step, still on their device; read large ones at once."""
        view, W = self.view, self.view.first.value
        small = W.numel() <= COPIED
        keep = small or self.search.is_open or bool(self._keep_weights(self.step))
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

    def _snapshot(self) -> Snapshot:
        calls, reason = self._batch.collected()
        return self._snapshot_with(self._layers(), self.view.current_formula(), calls, reason)

    def _snapshot_of_closure(self, before: _Before) -> Snapshot:
        """The state before the step, and the evaluation that its weights made: the closure's first."""
        calls, reason = self._batch.collected(before.version)
        # the closure's pass may have shown what was not known before
        formula = self.view.current_formula() if before.formula.missing else before.formula
        return self._snapshot_with(before.layers, formula, calls, reason)

    def _snapshot_with(
        self, layers: LayerState, formula: Formula, calls: list[LossCall], reason: str
    ) -> Snapshot:
        parts = self.exchange.gather(self._counter.step, lambda: [c.packed() for c in calls])
        if parts is not None:
            loss = self._loss.current
            calls = [LossCall.unpacked(values, loss) for part in parts for values in part]
        self._counts["recorded"] += 1
        self._sample(calls)  # of all processes together
        if (found := self.search.look()) is not None:
            self._use(found, calls)
            layers = layers.unread()
        if layers.along_mean is None and layers.W is not None:  # the samples may have shown a mean
            layers = layers._replace(along_mean=self._along_mean(layers.W[0]))
        self._counts["batches"] += bool(calls)
        self._no_batch = reason
        if reason == NO_LOSS_CALL:  # the loss that is given may not be the one that is called
            self._batch.recognises = True
        self._counter.scale = self.view.scale  # the batch may have settled it
        sizes = self._counter.sizes()
        if sizes.plain and formula.is_mean_field and not self.geometry.no_clusters:
            layers = layers._replace(gradient=self._gradient(layers))
        return Snapshot(
            (self._counter.step,),
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

    def _gradient(self, layers: LayerState) -> Tensor | None:
        """The gradient that the coming step takes, as `LayerState` has it; None if it is not seen."""
        view, (sign, second_sign) = self.view, self._counter.signs()
        first, second = view.first.gradient, view.second.gradient
        W = view.first.value if layers.W is None else layers.W[0]
        after_step = self._pending is not None and layers.W is None
        if (first is None and second is None) or after_step:
            return None
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
        wanted = self.search.wanted(self._counts["recorded"])
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

    # --- what was not seen -------------------------------------------------------------------

    def say_unseen(self) -> None:
        """Say what was not seen so far."""
        batch = self._batch
        seen = Seen(
            self.step - self._first_step,
            self._counts["recorded"],
            self._counts["batches"],
            batch.total_passes,
            batch.arrivals.other_writes,
            type(self.optimizer).__name__,
            self._no_batch,
        )
        for line in unseen(seen, self.view):
            self._say(line)

    def _say_no_steps(self) -> None:
        instead = f"something else has written to the weights {PATIENCE} times since its last one"
        self._say(no_steps(type(self.optimizer).__name__, instead))

    # --- resuming ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return steps and time counted, and what was found out about the layers."""
        counted = {"step": self._counter.step, "time": self._counter.time}
        return {**counted, "view": state_of_view(self.view)}

    def continue_from(
        self,
        view: TwoLayerView,
        step: int,
        time: float,
        *,
        recorded: int,
        first_samples: FirstSamples | None = None,
        search: GeometrySearch | None = None,
    ) -> None:
        """Count on from a step and time; steps up to `recorded` were recorded already."""
        if first_samples is not None:
            self.first_samples = first_samples
        if search is not None:
            self.search = search
        if self.search.found is not None:
            self._use(self.search.found, ())
        self._want_samples()
        self._batch.view = view
        self._counter.scale = view.scale
        self._counter.step, self._counter.time = step, time
        self._next_look, self._recorded, self._first_step = step + 1, recorded, step
        self._batch.reset()
        if not self.closed:
            self._set_watching(step > recorded and bool(self._schedule(step)))


def _call(method: WeakMethod[Any], argument: object) -> None:
    """Call a method of an object that is still there."""
    function = method()
    if function is not None:
        function(argument)


def _entry(model: nn.Module, view: TwoLayerView) -> nn.Module:
    """Return the smallest module that holds both layers; the whole model around a block."""
    if view.directions is not None or hasattr(model, "_orig_mod"):
        return model
    inner = unwrapped(model)
    called = entries(inner, view.first, view.second, block=True)
    return model if not called or called[0] is inner else called[0]


def _copied(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.clone().unsqueeze(0)


def _check(optimizer: torch.optim.Optimizer, view: TwoLayerView, *, shared_inputs: bool) -> None:
    capture = _CAPTURES.get(optimizer, lambda: None)()
    if capture is not None and not capture.closed:
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
