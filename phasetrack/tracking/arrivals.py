"""Arrivals: the loss calls whose gradient has arrived, and which of them go into the coming step."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import nn

from phasetrack.tracking.backward import backward_pass
from phasetrack.tracking.loss_call import LossCall
from phasetrack.tracking.unseen import PATIENCE


class Arrivals:
    """Keeps the calls whose gradient arrived, until it goes into a step or is thrown away.

    A call counts once the backward pass in which its gradient arrived has written to the layers'
    gradients. It counts no more when those gradients are None or zero again, or when something but
    the tracked optimizer has written to the weights.

    Args:
        parameters: of the two layers.
        stuck: called once something else has written to the weights again and again, and no step came.

    Attributes:
        kept_version: weights whose calls stay, though other weights follow: those before a step with
            a closure.
        is_mixed: whether gradients that other weights made are among those of the coming step.
        other_writes: updates of the weights, since the last step, by something that is not the tracked
            optimizer.
    """

    def __init__(self, parameters: Collection[nn.Parameter], stuck: Callable[[], object]) -> None:
        self._parameters, self._stuck = parameters, stuck
        self._calls: list[LossCall] = []
        self._gradient_versions: dict[nn.Parameter, int] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all calls; the next step begins."""
        self._calls.clear()
        self._gradient_versions.clear()
        self._last_version: int | None = None
        self.kept_version: int | None = None
        self.is_mixed, self.other_writes = False, 0

    def add(self, call: LossCall) -> None:
        """Add a call whose gradient arrives in the backward pass that is running."""
        if self._gradient_versions:
            self.drop_lost()
        calls, same = self._calls, (call.version, self.kept_version)
        if calls or self._last_version not in (None, call.version):
            stale = [one for one in calls if one.version not in same]
            self.is_mixed |= any(one.is_accumulated for one in stale)
            self._calls = [one for one in calls if one.version in same and one is not call]
            if self._last_version is not None and self._last_version not in same:
                self.other_writes += 1
                if self.other_writes == PATIENCE:
                    self._stuck()
        self._last_version = call.version
        self._calls.append(call)

    def add_replayed(self, call: LossCall) -> None:
        """Add a call whose gradients are there already."""
        call.is_accumulated = True
        self._calls.append(call)

    def note_written(self, parameter: nn.Parameter) -> None:
        """Note that the running backward pass wrote to a layer's gradient."""
        task = backward_pass()
        for call in self._calls:
            if call.task == task:
                call.settle()
                call.is_accumulated = True
        if parameter.grad is not None:
            self._gradient_versions[parameter] = parameter.grad._version

    def chosen(self, *, by_gradient: bool) -> list[LossCall]:
        """Return the calls that count, of a loss that was seen or of one to be recognised."""
        if any(parameter.grad is None for parameter in self._gradient_versions):
            self.drop_lost()
        arrived = [call for call in self._calls if call.is_output == by_gradient]
        chosen = [call for call in arrived if self._counts(call)]
        if not chosen and len({call.task for call in arrived}) == 1 and self._has_gradients():
            # of a loop that takes gradients and assigns them: those of its only backward pass
            chosen = arrived
        for call in chosen:
            if not call.is_accumulated:
                call.settle()
        return chosen

    def _counts(self, call: LossCall) -> bool:
        # an optimizer that steps within the backward pass comes before the gradients of other layers
        return call.is_accumulated or call.task == backward_pass() != -1

    def _has_gradients(self) -> bool:
        return any(p.requires_grad and p.grad is not None for p in self._parameters)

    def drop_lost(self) -> None:
        """Drop the calls whose gradients are gone: set to None, or to zero, since they were written."""
        if any(map(self._is_lost, self._gradient_versions)):
            self._gradient_versions.clear()
            self.is_mixed = False
            lost = [c for c in self._calls if c.is_accumulated and c.version != self.kept_version]
            for call in lost:
                call.forget()
            self._calls = [call for call in self._calls if call not in lost]

    def _is_lost(self, parameter: nn.Parameter) -> bool:
        gradient = parameter.grad
        if gradient is None:
            return True
        changed = gradient._version != self._gradient_versions[parameter]
        return changed and not bool(gradient.any())
