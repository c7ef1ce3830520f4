"""The paper's network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from phasetrack._checks import check_float, check_int


class TwoLayerNet(nn.Module):
    """f(x) = (1/p) sum_j a_j relu(w_j . x), the network of arXiv 2309.15111; no biases.

    Args:
        d: input dimension.
        width: number of neurons p.
        theta: radius of the sphere on which each w_j is drawn uniformly, and |a_j|, with fair sign.
        seed: of the drawing; the global random state is left alone.

    Example:
        >>> net = TwoLayerNet(d=8, width=4, theta=0.1, seed=0)
        >>> net(torch.ones(3, 8)).shape
        torch.Size([3])
    """

    def __init__(self, d: int, width: int, *, theta: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        check_int("d", d, minimum=1)
        check_int("width", width, minimum=1)
        check_float("theta", theta, above=0.0)
        check_int("seed", seed, minimum=-(2**63), maximum=2**64 - 1)  # what torch takes
        # skip_init: nn.Linear's own initialisation would advance the global random state
        self.first = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, d, width, bias=False
        )
        self.second = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, width, 1, bias=False
        )
        self.scale = 1 / width
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(width, d, generator=generator, dtype=torch.float64)
        lengths = directions.norm(dim=1, keepdim=True)
        signs = 1 - 2 * torch.randint(0, 2, (1, width), generator=generator)
        with torch.no_grad():
            self.first.weight.copy_(theta * directions / lengths)
            self.second.weight.copy_(theta * signs)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (m,) for inputs (m, d)."""
        outputs: Tensor = self.second(torch.relu(self.first(x)))
        return self.scale * outputs.squeeze(-1)
