"""PassWatch: waits for a forward pass with gradients, and has it followed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.compiler import is_dynamo_compiling

from phasetrack._picklable import PicklableHook
from phasetrack.model.layer_weight import Weight
from phasetrack.model.pass_outcome import SeenPass
from phasetrack.model.pass_trace import PassTrace, unseen

# Passes that are watched in vain before the watch is given up.
MOST_PASSES = 5


class PassWatch:
    """Waits for one forward pass with gradients, traces it, and takes its hooks away.

    No exception of its own reaches the model.

    Args:
        modules: the modules whose call is such a pass; the first one called counts.
        sites: modules that may be given the first layer's inputs.
        model: the whole model.
        weights: the two weights.
        done: called with the `SeenPass` when the pass has ended.
        failed: called with the reason where no pass could be followed.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module] = (),
        sites: Sequence[nn.Module] = (),
        model: nn.Module | None = None,
        weights: tuple[Weight, Weight] | None = None,
        done: Callable[[SeenPass], object] | None = None,
        failed: Callable[[str], object] | None = None,
    ) -> None:
        self._modules, self._sites, self._model = tuple(modules), tuple(sites), model
        self._weights, self._done, self._failed = weights, done, failed
        self._trace: PassTrace | None = None
        self._entered: nn.Module | None = None
        self._passes = 0
        self._handles = []
        for module in self._modules:
            self._handles += [
                module.register_forward_pre_hook(PicklableHook(self.before), with_kwargs=True),
                module.register_forward_hook(PicklableHook(self.after), always_call=True),
            ]
        for site in self._sites:
            self._handles.append(
                site.register_forward_pre_hook(PicklableHook(self.at_site), with_kwargs=True)
            )

    @property
    def waiting(self) -> bool:
        """Whether the hooks are still there."""
        return bool(self._handles)

    @property
    def tracing(self) -> bool:
        """Whether a pass is followed now; it will tell more than comparisons can."""
        return self._trace is not None

    def remove(self) -> None:
        """Take the hooks away, and the trace with them; further calls do nothing."""
        self._close()
        handles, self._handles = self._handles, []
        for handle in handles:
            handle.remove()

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Begin to follow a pass, if it is one with gradients that is not followed yet."""
        if is_dynamo_compiling() or not self._handles or self._weights is None:
            return
        try:
            if self._trace is not None:
                if not self._trace.stale:
                    return
                self._close()
            if self._passes >= MOST_PASSES or not any(module is each for each in self._modules):
                return
            if not _has_gradients():
                return
            if any(is_compiled(each) or _calls_compiled(each) for each in module.modules()):
                self.remove()
            else:
                self._entered = module
                self._trace = PassTrace(self._weights, sys._getframe(2))
                self._trace.begin(module, args, kwargs)
        except Exception as error:
            self._give_up(f"following the pass failed ({error!r})")

    def at_site(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Note the arguments of the first layer's module in a pass that is followed."""
        if is_dynamo_compiling() or self._trace is None:
            return
        if any(module is each for each in self._sites):
            self._trace.note_arguments(module, args, kwargs)

    def after(self, module: nn.Module, _: Any, output: Any) -> None:
        """End the pass, whatever became of it, and hand over what was seen."""
        if is_dynamo_compiling() or self._trace is None or module is not self._entered:
            return
        trace = self._trace
        self._close()
        self._passes += 1
        if output is None:  # the forward pass raised
            return
        try:
            with unseen():
                seen = trace.seen(self._model or module, output)
                if seen is not None:
                    self.remove()
                    if self._done is not None:
                        self._done(seen)
            if seen is not None:
                return
            if self._passes >= MOST_PASSES:
                self._give_up(trace.failure)
        except Exception as error:
            self._give_up(f"reading the pass failed ({error!r})")

    def _close(self) -> None:
        trace, self._trace, self._entered = self._trace, None, None
        if trace is not None:
            trace.end()

    def _give_up(self, reason: str) -> None:
        self.remove()
        if self._failed is not None:
            self._failed(reason)


def watch_next_pass(
    modules: Sequence[nn.Module],
    model: nn.Module,
    weights: tuple[Weight, Weight],
    done: Callable[[SeenPass], object],
    failed: Callable[[str], object],
) -> PassWatch:
    """Trace the next forward pass with gradients, on which the two weights act.

    Args:
        modules: the modules whose call is a pass, as `layer_search.entries` returns them. Empty for
            compiled models: nothing is watched then.
        model: the whole model, whose parameters and buffers are told by name.
        weights: the two weights, in any order.
        done: called once, within the module's call and after its forward, while the weights are
            those of the pass.
        failed: called with a reason, if several passes did not use both weights.

    Returns:
        A handle; `remove()` ends the watch.
    """
    owners = dict.fromkeys(weight.owner for weight in weights) if modules else ()
    return PassWatch(modules, tuple(owners), model, weights, done, failed)


def _has_gradients() -> bool:
    """Whether a pass is one of training: with gradients, and neither traced nor transformed."""
    if not torch.is_grad_enabled() or torch._C._get_tracing_state() is not None:
        return False
    return torch._C._functorch.peek_interpreter_stack() is None


def _calls_compiled(module: nn.Module) -> bool:
    """Whether a module's forward names a compiled function, which a mode would have compiled anew.

    One that is called further in is compiled once more, for the pass that is followed.
    """
    forward = getattr(type(module).forward, "__wrapped__", type(module).forward)
    names = getattr(getattr(forward, "__code__", None), "co_names", ())
    known = getattr(forward, "__globals__", {})
    used = (*(known.get(name) for name in names), *vars(module).values())
    return any(hasattr(each, "_torchdynamo_orig_callable") for each in used)


def is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile runs the module."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
