"""FirstInputs: a fixed sample of inputs, the first ones that went into recorded steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phasetrack.measures.noise import Noise, noise_of
from phasetrack.model.geometry import ClusterGeometry


class FirstInputs:
    """Collects inputs until there are enough.

    Args:
        size: how many; 0 collects none.
        geometry: the clusters.

    Attributes:
        sample: the inputs, (size, d); None until they are complete.
        noise: that of the sample, where it is not as declared; None until the sample is complete.
    """

    def __init__(self, size: int, geometry: ClusterGeometry) -> None:
        self._size, self._parts, self._geometry = size, list[Tensor](), geometry
        self.sample: Tensor | None = None
        self.noise: Noise | None = None

    @property
    def left(self) -> int:
        """How many more inputs are wanted."""
        return 0 if self.sample is not None else self._size - sum(map(len, self._parts))

    def add(self, rows: Sequence[Tensor]) -> None:
        """Take inputs that went into a recorded step, parts of (n, d)."""
        for part in rows:
            if self.left:
                self._parts.append(part[: self.left])
        if self._parts and not self.left:
            self.sample = torch.cat([part.to(self._parts[0]) for part in self._parts])
            self.noise = noise_of(self.sample, self._geometry)
            self._parts.clear()

    def state_dict(self) -> list[Tensor]:
        """Return the inputs so far, on the host."""
        parts = self._parts if self.sample is None else [self.sample]
        return [part.cpu().clone() for part in parts]

    def load_state_dict(self, parts: Sequence[Tensor]) -> None:
        """Continue with the inputs of a state; without any, the sample begins with the next step."""
        self.sample = self.noise = None
        self._parts = [part for part in parts if isinstance(part, Tensor)]
        self.add([])
