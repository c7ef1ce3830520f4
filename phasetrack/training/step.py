"""One SGD step of a run: call by call, or played again from a CUDA graph where that is faster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from phasetrack.model.network import FusedTwoLayerNet
from phasetrack.tasks.host_drawn import DrawnTask
from phasetrack.tasks.task import Task
from phasetrack.theory.settings import RunSettings
from phasetrack.training.cuda_graph import GraphedStep
from phasetrack.training.distributed import ALONE, Processes
from phasetrack.training.matmul import Matmul


def stepper(
    settings: RunSettings,
    task: DrawnTask,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: nn.Module,
    *,
    device: torch.device,
    matmul: Matmul,
    processes: Processes = ALONE,
) -> Callable[[int], Tensor]:
    """What takes the steps of a run, by their numbers, and tells their losses; any way with the same result.

    A GPU plays a graph, unless the network is another one (such as one that several processes train), the
    batch goes through in micro-batches (then there is work enough in each call), or a probe keeps its inputs.
    """
    whole = settings.piece == settings.batch_size and not settings.gradient_error
    if device.type == "cuda" and whole and isinstance(net, FusedTwoLayerNet):
        return GraphedStep(settings, task, net, optimizer, loss, device)
    return partial(
        take_step,
        settings,
        task,
        net,
        optimizer,
        loss,
        device=device,
        matmul=matmul,
        processes=processes,
    )


def take_step(
    settings: RunSettings,
    task: Task,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: nn.Module,
    step: int,
    *,
    device: torch.device,
    matmul: Matmul,
    processes: Processes = ALONE,
) -> Tensor:
    """One SGD step on a fresh batch, in micro-batches whose gradients add up to the batch's.

    Of several processes each takes its part of the batch, and the gradients become their mean: each
    sample therefore weighs `processes.count` times as much within its part.

    Returns:
        The batch's mean loss before the step, a scalar; of one's part alone where there are several.
    """
    batch, piece = settings.batch_size, settings.piece
    first, end = processes.part(batch)
    losses: list[Tensor] = []
    optimizer.zero_grad()
    with matmul.used():
        for start in range(first, end, piece):
            count = min(piece, end - start)
            x, y = task.sample(count, seed=settings.seed, step=step, start=start, device=device)
            share = processes.count * count / batch
            with processes.adding(net, last=start + count == end):
                part = loss(net(x), y) * share
                part.backward()
            losses.append(part.detach())
    optimizer.step()
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
