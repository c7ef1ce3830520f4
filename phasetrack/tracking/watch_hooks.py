"""WatchHooks: the hooks on model, loss and layers, which are there at recorded steps only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakMethod

from torch import nn

from phasetrack.model.layer_search import entries, is_compiled_around, unwrapped
from phasetrack.model.losses import Loss
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.tracking.hooks import SwitchableHook, do_nothing


class Watchers(NamedTuple):
    """What the hooks call.

    Attributes:
        on_forward: on arguments and output of the module that the first layer's inputs go into.
        on_submodule: on the output of the module that ends with the second layer.
        on_output: on the network's output.
        on_loss: on arguments and result of the loss module.
        on_accumulated: on a parameter whose gradient was written; a method, held weakly.
        failed: on the exception of any of them; a method, held weakly.
    """

    on_forward: Callable[..., object]
    on_submodule: Callable[..., object]
    on_output: Callable[..., object]
    on_loss: Callable[..., object]
    on_accumulated: Callable[[nn.Parameter], object]
    failed: Callable[[Exception], object]


class WatchHooks:
    """Registers the hooks, switches them with the schedule, and removes them.

    Args:
        model: the model in training.
        view: its two layers.
        loss: the loss as the training loop calls it; a module is watched.
        call: the functions that are called.
        output: whether the network's output is watched from the start.
    """

    def __init__(
        self,
        model: nn.Module,
        view: TwoLayerView,
        loss: Loss | None,
        call: Watchers,
        *,
        output: bool,
    ) -> None:
        self._call = call
        self._switched: object = None  # what `switch` was asked for last
        self._frozen = [*view.first.parameters[:1], *view.second.parameters[:1]]
        self._inputs: SwitchableHook | None = None
        self._output: SwitchableHook | None = None
        self._others: list[SwitchableHook] = []
        try:
            self._register(model, view, loss, output=output)
        except BaseException:
            self.remove()
            raise

    def _register(
        self, model: nn.Module, view: TwoLayerView, loss: Loss | None, *, output: bool
    ) -> None:
        call = self._call
        self._inputs = self._on_inputs_of(view.site)
        # bare and tied weights have no module whose output is the block's
        first, second = view.first.owner, view.second.owner
        if view.directions is not None and isinstance(second, nn.Linear) and second is not first:
            self._add(second.register_forward_hook, call.on_submodule)
        register = _entry(model, view).register_forward_hook
        self._output = SwitchableHook(register, call.on_output, call.failed)
        if not output:
            self._output.remove()
        if isinstance(loss, nn.Module):
            self._add(partial(loss.register_forward_hook, with_kwargs=True), call.on_loss)
        self._watch_trained()

    @property
    def _all(self) -> list[SwitchableHook]:
        return [hook for hook in (self._inputs, self._output, *self._others) if hook is not None]

    def _add(self, register: Callable[..., Any], function: Callable[..., object]) -> None:
        self._others.append(SwitchableHook(register, function, self._call.failed))

    def _on_inputs_of(self, site: nn.Module) -> SwitchableHook:
        register = partial(site.register_forward_hook, with_kwargs=True)
        return SwitchableHook(register, self._call.on_forward, self._call.failed)

    def _watch_trained(self) -> None:
        """Put a hook on the first parameter that is trained, which every backward pass reaches."""
        for place, parameter in enumerate(self._frozen):
            if parameter.requires_grad:
                del self._frozen[place:]
                # a parameter's hooks are not seen by the garbage collector: they must hold nothing
                here, failed = WeakMethod(self._call.on_accumulated), WeakMethod(self._call.failed)
                hook = partial(_call, here), partial(_call, failed)
                register = parameter.register_post_accumulate_grad_hook
                self._others.append(SwitchableHook(register, *hook))
                return

    def switch(self, watching: bool, *, output: bool) -> None:
        """Put the hooks where they see the coming step, or take them away.

        Args:
            watching: whether the coming step is recorded.
            output: whether the network's output is watched too.
        """
        trained = tuple(parameter.requires_grad for parameter in self._frozen)
        wanted = (watching, output, trained)
        if wanted == self._switched and watching:
            return
        self._switched = wanted
        self._watch_trained()
        for hook in self._all:
            hook.switch(watching and (output or hook is not self._output))

    def move(self, site: nn.Module, *, on: bool) -> None:
        """Watch the inputs of another module from now on, and its output after them."""
        if self._inputs is not None:
            self._inputs.function = do_nothing
            self._inputs.remove()
        self._inputs = self._on_inputs_of(site)
        self._inputs.switch(on)
        if self._output is not None:
            self._output.move_to_end()

    def silence(self) -> None:
        """Have the hooks do nothing, where they cannot be removed yet."""
        for hook in self._all:
            hook.function = do_nothing

    def at_next_pass(self, function: Callable[[], object]) -> None:
        """Call a function at the next forward pass, of hooks that were silenced."""
        if self._inputs is not None:
            self._inputs.function = lambda *_: function()
            self._inputs.switch(on=True)

    def remove(self) -> None:
        """Remove the hooks."""
        for hook in self._all:
            hook.remove()


def _call(method: WeakMethod[Any], argument: object) -> None:
    """Call a method of an object that is still there."""
    function = method()
    if function is not None:
        function(argument)


def _entry(model: nn.Module, view: TwoLayerView) -> nn.Module:
    """Return the smallest module that holds both layers; the whole model around a block or a compiled part."""
    compiled = is_compiled_around(model, view.first, view.second)
    if view.directions is not None or compiled:  # hooks inside a compiled graph are not called
        return model
    inner = unwrapped(model)
    called = entries(inner, view.first, view.second, block=True)
    return model if not called or called[0] is inner else called[0]
