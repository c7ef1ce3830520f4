"""Capture: follows an optimizer step by step, and hands over one Snapshot per recorded step.

The hooks return None, draw no random numbers, and keep references to or copies of detached tensors.
Steps that the schedule leaves out cost a few look-ups and no tensor operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from phasetrack.model.geometry import Geometry
from phasetrack.model.layer_search import is_compiled_around
from phasetrack.model.losses import Loss
from phasetrack.model.pass_outcome import SeenPass
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.tracking.batch_collector import BatchCollector
from phasetrack.tracking.first_samples import FirstSamples
from phasetrack.tracking.geometry_search import GeometrySearch
from phasetrack.tracking.hooks import PicklableHook
from phasetrack.tracking.host_loss import HostLoss, LossKeeper
from phasetrack.tracking.model_attributes import (
    CHANGED,
    ModelAttributes,
    attribute_root,
    compute_alike,
)
from phasetrack.tracking.process_group import BatchExchange, Processes
from phasetrack.tracking.schedules import Schedule, following, schedule_name
from phasetrack.tracking.snapshot import Snapshot
from phasetrack.tracking.snapshot_maker import Before, SnapshotMaker
from phasetrack.tracking.standing_layers import StandingLayers
from phasetrack.tracking.step_counter import StepCounter
from phasetrack.tracking.step_rounds import StepRounds, has_closure, is_skipped
from phasetrack.tracking.unseen import PATIENCE, Seen, no_steps, replaced_layer, unseen
from phasetrack.tracking.view_state import state_of_view
from phasetrack.tracking.watch_hooks import Watchers, WatchHooks
from phasetrack.tracking.watchable import check_watchable

T = TypeVar("T")
# What follows an optimizer; a second tracker on one is refused.
_CAPTURES: WeakKeyDictionary[torch.optim.Optimizer, ref[Capture]] = WeakKeyDictionary()


class CaptureState(Enum):
    """The coming step, as a capture sees it."""

    IDLE = "the schedule leaves the coming step out"
    WATCHING = "the coming step is recorded: forward passes and loss calls are collected"
    RECORDING = "a hook of the optimizer is making a snapshot"
    CLOSED = "detached"


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
        capture = _CAPTURES.get(optimizer, lambda: None)()
        check_watchable(
            optimizer,
            view,
            tracked=capture is not None and not capture.closed,
            shared_inputs=self.exchange.shared and keep_inputs,
        )
        self.optimizer = optimizer
        self._schedule, self._receive = schedule, receive
        self._failed, self._say = failed, say
        self._loss = LossKeeper(loss)  # copied before our own hook is on it
        self._batch = BatchCollector(
            view,
            geometry,
            self._loss,
            failed=failed,
            stuck=self._say_no_steps,
            keep_inputs=keep_inputs,
        )
        self._model, self._standing = model, StandingLayers(model, view)
        self._attributes, self._before_change = ModelAttributes(attribute_root(model, view)), view
        self._counter, self._rounds = StepCounter(optimizer, view), StepRounds()
        self._maker = SnapshotMaker(
            geometry,
            self._batch,
            self._loss,
            self._counter,
            self.exchange,
            first_samples,
            search,
            keep_weights=keep_weights,
            keep_inputs=keep_inputs,
        )
        self._first_step = 0  # where counting began
        self._recorded = -1  # the last step that was recorded
        self._said_no_steps = False
        self._pending: Before | None = None
        self._next_look = 1  # the step before which the schedule is asked again
        self._state = CaptureState.WATCHING if schedule(0) else CaptureState.IDLE
        self._counting: list[RemovableHandle] = []
        with ExitStack() as attaching:
            calls = Watchers(
                self._on_forward,
                self._on_submodule,
                self._on_output,
                self._on_loss,
                self._on_accumulated,
                self._fail,
            )
            self._hooks = WatchHooks(model, view, loss, calls, output=self._batch.recognises)
            attaching.callback(self._hooks.remove)
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
            # no pass of a compiled model is followed: its outputs are compared, and again after a change
            self._as_attached = view if is_compiled_around(model, view.first, view.second) else None
            self._compares_again = self._as_attached is not None
            attaching.pop_all()
        _CAPTURES[optimizer] = ref(self)

    def _fail(self, error: Exception) -> None:
        self._failed(error)

    @property
    def geometry(self) -> Geometry:
        """The clusters: those declared, or those found so far."""
        return self._maker.geometry

    @property
    def search(self) -> GeometrySearch:
        """The search for clusters where none were declared."""
        return self._maker.search

    @property
    def first_samples(self) -> FirstSamples:
        """The run's first samples so far."""
        return self._maker.first_samples

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

    def observe_loss(self, args: tuple[Any, ...], named: Mapping[str, Any], result: object) -> None:
        """Take note of a call of a loss that is not a module; never raises."""
        if self._collecting:
            self._tried(partial(self._batch.on_loss, args, named, result))

    def close(self) -> None:
        """Remove every hook of this capture and no other; further calls do nothing.

        While the optimizer goes through its hooks, none may be removed: they then do nothing, and
        are removed at the next forward pass.
        """
        recording, self._state = self._state is CaptureState.RECORDING, CaptureState.CLOSED
        self._hooks.silence()
        self.exchange.leave()
        if recording:
            self._hooks.at_next_pass(self._remove_hooks)
        else:
            self._remove_hooks()
        self._batch.reset()

    def _remove_hooks(self) -> None:
        self._watch.remove()
        self._hooks.remove()
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
        alike = self._tried(partial(compute_alike, self.view, self._before_change))
        self._attributes.remember(same_formula=bool(alike))
        if self.view.site is not site and not self.closed:
            self._hooks.move(self.view.site, on=self._collecting)

    def _look_again(self, changed: str) -> None:
        """Doubt the formula, and have the next pass show it anew."""
        if not self._watch.waiting and self._as_attached is None:
            self._before_change = self.view
            self._watch = self.view.watched(self._model, self._on_seen, self._batch.unseen)
        reason = CHANGED.format(name=changed)
        if self._as_attached is None:
            self._batch.view = replace(self.view, doubt=reason)
        else:
            self._before_change, self._compares_again = self.view, True
            self._batch.view = self._as_attached
        self._say(reason)

    def _note_comparison(self) -> None:
        """Remember the attributes of a compiled model once its outputs have been compared."""
        if self.view.compared:
            alike = self._tried(partial(compute_alike, self.view, self._before_change))
            self._attributes.remember(same_formula=bool(alike))
            self._compares_again = False

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
            if replaced := self._tried(self._standing.replaced):
                self._say(replaced_layer(replaced, self.step))
                self.close()
                return
            if self._compares_again:
                self._tried(self._note_comparison)
            elif changed := self._tried(self._attributes.changed):
                self._tried(partial(self._look_again, changed))
            if (args or kwargs) and has_closure((*args, *kwargs.values())):
                self._pending = self._tried(self._maker.before)
                self._batch.arrivals.kept_version = self._batch.weights_version()
                return
            self._hand_over(self._tried(self._maker.now))
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
                self._hand_over(self._tried(partial(self._maker.of_closure, self._pending)))
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
        self._hooks.switch(watching, output=self._batch.recognises)

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

    # --- what was not seen -------------------------------------------------------------------

    def say_unseen(self) -> None:
        """Say what was not seen so far."""
        batch = self._batch
        seen = Seen(
            self.step - self._first_step,
            self._maker.made,
            self._maker.batches,
            batch.total_passes,
            batch.is_repeated,
            any(getattr(m, "_compiled_call_impl", None) for m in self._model.modules()),
            batch.arrivals.other_writes,
            self._maker.no_batch,
        )
        for line in unseen(seen, self.view, self.optimizer):
            if seen.steps or not self._said_no_steps:
                self._say(line)

    def _say_no_steps(self) -> None:
        instead = f"something else has written to the weights {PATIENCE} times since its last one"
        self._say(no_steps(self.optimizer, instead))
        self._said_no_steps = True

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
        self._maker.restore(first_samples, search)
        self._batch.view = view
        self._counter.scale = view.scale
        self._counter.step, self._counter.time = step, time
        self._next_look, self._recorded, self._first_step = step + 1, recorded, step
        self._batch.reset()
        if not self.closed:
            self._set_watching(step > recorded and bool(self._schedule(step)))
