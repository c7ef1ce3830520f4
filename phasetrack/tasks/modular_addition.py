"""Addition of residues: a finite set of one-hot pairs with as many classes as residues."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError, check_float, check_int
from phasetrack.model.seeds import seeded
from phasetrack.tasks.philox import uniform

PAIRS = 4  # stream of random bits, after xor_variants.py's
PAIR_BITS = 32  # of a uniform number that becomes the index of a pair


@dataclass(frozen=True)
class ModularAddition:
    """All pairs of residues modulo q with the class (a + b) mod q, split into trained and held-out pairs.

    The task on which grokking was taken apart (Nanda et al., arXiv 2301.05217, q = 113, a share of 0.3; two layers:
    Gromov, arXiv 2301.02679). It is not a `Task`: labels are classes, and clusters there are none.

    Attributes:
        train: inputs (m, 2 q), float32, and labels (m,), int64, on the host.
        held_out: likewise, the pairs that are not trained on.

    Args:
        modulus: q, at least 2.
        share: of the q^2 pairs that are trained on, in (0, 1); rounded to whole pairs, at least one on either
            side. The default is a heuristic of ours.
        seed: of the split.

    Raises:
        ExpectedError: naming the argument.

    Example:
        >>> x, y = ModularAddition(5).train
        >>> x.shape, y[:3].shape, bool((x.sum(dim=1) == 2).all())
        (torch.Size([12, 10]), torch.Size([3]), True)
    """

    modulus: int
    share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check all three."""
        check_int("modulus", self.modulus, minimum=2)
        check_float("share", self.share, above=0.0, maximum=1.0)
        check_int("seed", self.seed, minimum=0, maximum=2**63 - 1)
        if self.share == 1:
            raise ExpectedError("share", "1 leaves no pair held out.", "Pass a share below 1.")

    @cached_property
    def train(self) -> tuple[Tensor, Tensor]:
        """The trained pairs: inputs (m, 2 q) and classes (m,)."""
        return self._encoded(self._order[: self._train_count], torch.float32)

    @cached_property
    def held_out(self) -> tuple[Tensor, Tensor]:
        """The other pairs, likewise."""
        return self._encoded(self._order[self._train_count :], torch.float32)

    def sample(
        self,
        count: int,
        *,
        seed: int,
        step: int,
        start: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Draw samples start .. start + count - 1 of the batch of `step` from the trained pairs, with replacement.

        Sample i of step t under a seed is the same whatever the device or the pieces in which the batch is drawn.

        Returns:
            Inputs (count, 2 q) and classes (count,).
        """
        drawn = uniform(count, 1, PAIR_BITS, PAIRS, seed, step, start)[:, 0]
        chosen = self._order[: self._train_count][(drawn * self._train_count).long()]
        x, y = self._encoded(chosen, dtype)
        return x.to(device), y.to(device)

    def directions(self, frequencies: Sequence[int]) -> Tensor:
        """Unit vectors of input space on which a network of these frequencies rests.

        Args:
            frequencies: k from 1 to q // 2; the embedding of residue r is cos(2 pi k r / q) and the sine.

        Returns:
            float64 (n, 2 q): of each frequency the cosine and sine of the first residue, then of the second;
            q / 2 has no sine.

        Raises:
            ExpectedError: if a frequency is out of range.
        """
        q = self.modulus
        turn = 2 * math.pi / q * torch.arange(q, dtype=torch.float64, device="cpu")
        rows = []
        for k in frequencies:
            check_int("frequencies", k, minimum=1, maximum=q // 2)
            waves = [(k * turn).cos()] if 2 * k == q else [(k * turn).cos(), (k * turn).sin()]
            none = torch.zeros(q, dtype=torch.float64, device="cpu")
            rows += [torch.cat([wave, none]) for wave in waves]
            rows += [torch.cat([none, wave]) for wave in waves]
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)

    @cached_property
    def _order(self) -> Tensor:
        """All pairs a q + b in the order of the split, int64 (q^2,)."""
        generator = seeded(self.seed)
        return torch.randperm(self.modulus**2, generator=generator, device="cpu")

    @property
    def _train_count(self) -> int:
        """Number of trained pairs."""
        pairs = self.modulus**2
        return min(max(round(self.share * pairs), 1), pairs - 1)

    def _encoded(self, pairs: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """One-hot inputs (m, 2 q) and classes (m,) of some pairs."""
        a, b = pairs // self.modulus, pairs % self.modulus
        both = torch.nn.functional.one_hot(torch.stack([a, b], dim=1), self.modulus)
        return both.flatten(1).to(dtype), (a + b) % self.modulus
