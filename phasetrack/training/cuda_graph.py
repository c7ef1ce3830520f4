"""The passes of a training step as one CUDA graph.

A GPU is through with a small network's step long before the host has asked for each operation of it: in
a graph the host asks once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from phasetrack.model.network import FusedTwoLayerNet
from phasetrack.tasks.host_drawn import DrawnTask
from phasetrack.tasks.philox import readable, sent
from phasetrack.theory.settings import RunSettings
from phasetrack.tracking.backward import with_gradients

# Passes before those of the graph, in which libraries set themselves up.
WARM_UP = 2


class _Passes(NamedTuple):
    """What a forward and a backward pass made; overwritten each time the graph is played."""

    x: Tensor
    y: Tensor
    outputs: Tensor
    loss: Tensor
    gradients: list[Tensor | None]


class GraphedStep:
    """Takes SGD steps on fresh batches, each batch in one piece.

    What is random about a batch is drawn on the host and travels packed. Samples, outputs, loss and
    gradients are made of it by the operations of `step.take_step`, to the bit. The network and
    its loss are then called once more, without computing anything: hooks on them see the step. What
    they see is overwritten by the next one.

    Args:
        settings: of the run.
        task: what is drawn from.
        net: whose forward calls no submodules, since hooks on those would see nothing; its weights stay
            where they are in memory.
        optimizer: of its weights.
        loss: of (outputs, labels).
        device: a GPU.
    """

    def __init__(
        self,
        settings: RunSettings,
        task: DrawnTask,
        net: FusedTwoLayerNet,
        optimizer: torch.optim.Optimizer,
        loss: nn.Module,
        device: torch.device,
    ) -> None:
        self._settings, self._task, self._net = settings, task, net
        self._optimizer, self._loss = optimizer, loss
        self._device = device

    def __call__(self, step: int) -> Tensor:
        """Take one step; the first one makes the graph. Returns its loss, until the next one."""
        for place, part in zip(self._drawn, self._draw(step), strict=True):
            place.copy_(readable(part, place.device), non_blocking=True)
        play, (x, y, outputs, loss, gradients) = self._graph
        play()
        for parameter, gradient in zip(self._net.parameters(), gradients, strict=True):
            parameter.grad = gradient
        with with_gradients(), _returning(self._net, outputs), _returning(self._loss, loss):
            self._loss(self._net(x), y)
        self._optimizer.step()
        return loss.detach()

    @cached_property
    def _drawn(self) -> list[Tensor]:
        """Where the graph finds what was drawn."""
        return [sent(part, self._device) for part in self._draw(0)]

    @cached_property
    def _graph(self) -> tuple[Callable[[], None], _Passes]:
        return _captured(self._passes, self._device)

    def _draw(self, step: int) -> tuple[Tensor, ...]:
        settings = self._settings
        return self._task.draw(settings.batch_size, seed=settings.seed, step=step)

    def _passes(self) -> _Passes:
        """Forward and backward, past all hooks."""
        parameters = list(self._net.parameters())
        for parameter in parameters:
            parameter.grad = None
        x, y = self._task.made(self._drawn, torch.float32)
        outputs = self._net.forward(x)
        loss = self._loss.forward(outputs, y)
        loss.backward()
        return _Passes(x, y, outputs, loss, [parameter.grad for parameter in parameters])


def _captured(
    passes: Callable[[], _Passes], device: torch.device
) -> tuple[Callable[[], None], _Passes]:
    """What plays some operations again, and what they make."""
    here, beside = torch.cuda.current_stream(device), _stream(device)
    beside.wait_stream(here)
    with torch.cuda.stream(beside):
        for _ in range(WARM_UP):
            passes()
    here.wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    # left to itself PyTorch captures on the GPU of the process's first graph
    with torch.cuda.graph(graph, stream=beside):
        made = passes()
    return graph.replay, made


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all graphs of a device: libraries keep a workspace for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def _returning(module: nn.Module, result: Tensor) -> Iterator[None]:
    """Within, calling a module runs its hooks on a result that is there already."""
    vars(module)["forward"] = lambda *_: result
    try:
        yield
    finally:
        del vars(module)["forward"]
