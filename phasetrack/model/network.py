"""The paper's network, as autograd runs it and with both passes written out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.compiler import is_compiling

from phasetrack.errors import check_float, check_int
from phasetrack.model.matmul_backend import PLAIN, Passes
from phasetrack.model.seeds import seeded


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
        generator = seeded(seed)
        directions = torch.randn(width, d, generator=generator, dtype=torch.float64, device="cpu")
        lengths = directions.norm(dim=1, keepdim=True)
        signs = 1 - 2 * torch.randint(0, 2, (1, width), generator=generator, device="cpu")
        with torch.no_grad():
            self.first.weight.copy_(theta * directions / lengths)
            self.second.weight.copy_(theta * signs)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (m,) for inputs (m, d)."""
        outputs: Tensor = self.second(torch.relu(self.first(x)))
        return self.scale * outputs.squeeze(-1)


class FusedTwoLayerNet(TwoLayerNet):
    """`TwoLayerNet` with forward and backward pass written out: the same function, less memory traffic.

    One array of activations serves both passes: the ReLU is applied in place, and the backward pass
    turns it in place into the mask times the slopes. It can therefore go back once through each forward
    pass, and not to second derivatives; `TwoLayerNet` does both.

    Attributes:
        passes: takes the two products of float32 weights, where no gradient by the inputs is wanted.
    """

    passes: Passes = PLAIN

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (m,) for inputs (m, d)."""
        outputs: Tensor = _TwoLayers.apply(  # type: ignore[no-untyped-call]
            x, self.first.weight, self.second.weight, self.scale, self.passes
        )
        return outputs


class _TwoLayers(torch.autograd.Function):
    """f(x) = scale * sum_j a_j relu(w_j . x) and its gradient.

    In the slopes g_i = scale * dl/df(x_i)::

    v_j = sum_i g_i 1[w_j . x_i > 0] x_i,   dl/dw_j = a_j v_j,   dl/da_j = w_j . v_j
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, A: Tensor, scale: float, passes: Passes) -> Tensor:
        """Outputs (m,) for inputs (m, d), W (p, d) and A (1, p)."""
        plain = is_compiling() or ctx.needs_input_grad[0] or W.dtype != torch.float32
        ctx.passes = PLAIN if plain else passes
        x = ctx.passes.prepared(x)
        active = ctx.passes.activated(x, W)
        ctx.save_for_backward(x, W, A, active)
        ctx.scale = scale
        return torch.mv(active, A[0]).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by x, W and A."""
        x, W, A, active = ctx.saved_tensors
        pulls = ctx.passes.pulled(active, slopes.mul(ctx.scale), x)
        # what is left of `active` is the mask times the slopes
        to_x = torch.mm(active, W * A.T) if ctx.needs_input_grad[0] else None
        to_second = torch.linalg.vecdot(W, pulls).unsqueeze(0)
        return to_x, pulls.mul_(A.T), to_second, None, None
