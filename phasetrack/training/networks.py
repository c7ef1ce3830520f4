"""Networks: S of the paper's networks in one tensor, which take their steps together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from phasetrack.model.network import TwoLayerNet
from phasetrack.tasks.registry import make_task
from phasetrack.theory.settings import RunSettings
from phasetrack.training.matmul import AUTO, chosen_matmul
from phasetrack.training.memory import PIECE_BYTES, bytes_per_sample, cached_bytes, micro_batch

# Samples of each network in hand at once, at least.
LEAST_ROWS = 64

See = Callable[[Tensor, Tensor, Tensor], object]


class Networks:
    """S of the paper's networks, W (S, p, d) and a (S, p), float32, that take their steps together.

    Args:
        settings: one a network, of one shape; seed and theta draw the weights as in `TwoLayerNet`,
            eta and train say how they move.
        device: where they are.
    """

    def __init__(self, settings: Sequence[RunSettings], device: torch.device | str = "cpu") -> None:
        nets = [TwoLayerNet(s.d, s.width, theta=s.theta, seed=s.seed) for s in settings]
        self.settings = list(settings)
        self.W = torch.stack([net.first.weight.detach() for net in nets]).to(device)
        self.a = torch.stack([net.second.weight.detach()[0] for net in nets]).to(device)
        self.scale = nets[0].scale
        rates = [
            [s.eta * s.width * (s.train != frozen) for s in settings]
            for frozen in ("second", "first")
        ]
        self._rates = torch.tensor(rates, dtype=self.W.dtype, device=device)
        self._piece = _piece(self.settings, self.W.device)
        shape = self.settings[0]
        self._matmul = chosen_matmul(AUTO, self._piece, shape.width, shape.d)

    def outputs(self, x: Tensor) -> Tensor:
        """Each network's outputs at its own inputs, (S, m, d) to (S, m), or at shared ones, (m, d)."""
        with self._matmul.used():
            return self._read(torch.matmul(x, self.W.mT).relu_())

    def _read(self, active: Tensor) -> Tensor:
        return torch.matmul(active, self.a.unsqueeze(-1)).squeeze(-1).mul_(self.scale)

    def gradient(self, x: Tensor, y: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs (S, m), and what these samples add to the gradient of the batch's mean loss.

        With g_i = scale * dl/df(x_i) / batch the gradient of w_j is a_j v_j and that of a_j is
        w_j . v_j, v_j being the sum of g_i x_i over the samples with w_j . x_i > 0.

        Args:
            x: inputs (S, m, d).
            y: labels (S, m) in {-1, +1}.
            batch: samples in the whole batch.
        """
        active = torch.bmm(x, self.W.mT).relu_()
        outputs = self._read(active)
        slopes = torch.sigmoid(-y * outputs).mul_(y).mul_(-2 * self.scale / batch)
        pulls = torch.bmm(active.sign_().mul_(slopes.unsqueeze(-1)).mT, x)
        to_second = torch.linalg.vecdot(self.W, pulls)
        return outputs, pulls.mul_(self.a.unsqueeze(-1)), to_second

    def gradient_of_step(self, step: int, see: See | None = None) -> tuple[Tensor, Tensor]:
        """The gradient by W (S, p, d) and a (S, p) on each network's batch of a step.

        Args:
            step: the step, which with a network's seed says what its samples are.
            see: called with inputs (S, m, d), labels (S, m) and outputs (S, m) of each part of the
                batches, one part after the other.
        """
        batch = self.settings[0].batch_size
        to_first, to_second = torch.zeros_like(self.W), torch.zeros_like(self.a)
        for start in range(0, batch, self._piece):
            count = min(self._piece, batch - start)
            x, y = draw(self.settings, step, start, count, self.W.device)
            with self._matmul.used():
                outputs, first, second = self.gradient(x, y, batch)
            to_first.add_(first)
            to_second.add_(second)
            if see is not None:
                see(x, y, outputs)
        return to_first, to_second

    def move(self, to_first: Tensor, to_second: Tensor) -> None:
        """One step of SGD, each network at its own rate."""
        first, second = self._rates
        self.W.addcmul_(to_first, first[:, None, None], value=-1)
        self.a.addcmul_(to_second, second[:, None], value=-1)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with some of the networks alone."""
        chosen = torch.tensor(places, dtype=torch.long, device=self.W.device)
        self.W, self.a = self.W[chosen], self.a[chosen]
        self._rates = self._rates[:, chosen]
        self.settings = [self.settings[place] for place in places]


def draw(
    settings: Sequence[RunSettings], step: int, start: int, count: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """The samples `start` and following of each run's batch: inputs (S, m, d), labels (S, m)."""
    drawn: dict[tuple[int, bool], tuple[Tensor, Tensor]] = {}
    for s in settings:
        key = (s.seed, s.shuffle_labels)
        if key not in drawn:
            task = make_task(s.task, s.d, shuffle_labels=s.shuffle_labels)
            drawn[key] = task.sample(count, seed=s.seed, step=step, start=start, device=device)
    both = [drawn[s.seed, s.shuffle_labels] for s in settings]
    return torch.stack([x for x, _ in both]), torch.stack([y for _, y in both])


def _piece(settings: Sequence[RunSettings], device: torch.device) -> int:
    """Samples of each run in hand at once: what was asked for, or what suits all of them together."""
    shape = settings[0]
    if shape.micro_batch:
        return shape.micro_batch
    d, width = shape.d, shape.width
    budget = cached_bytes(d, width) if device.type == "cpu" else PIECE_BYTES
    # few rows at a time would cost more calls than the cache saves
    least = LEAST_ROWS * bytes_per_sample(d, width)
    return micro_batch(d, width, shape.batch_size, budget=max(least, budget / len(settings)))
