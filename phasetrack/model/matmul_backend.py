"""The two products that a step of the paper's network is made of, and who takes them."""

from __future__ import annotations

import torch
from torch import Tensor


class Passes:
    """The two products of a step, as PyTorch multiplies matrices."""

    def prepared(self, x: Tensor) -> Tensor:
        """Inputs (m, d) as both products want them."""
        return x

    def activated(self, x: Tensor, W: Tensor) -> Tensor:
        """relu(w_j . x_i), (m, p), of inputs as prepared and W (p, d)."""
        return torch.mm(x, W.T).relu_()

    def pulled(self, active: Tensor, slopes: Tensor, x: Tensor) -> Tensor:
        """sum_i g_i 1[active_ij > 0] x_i, (p, d), of slopes g (m,) and inputs as prepared.

        Uses `active` up: here it is g_i 1[active_ij > 0] then.
        """
        return torch.mm(active.sign_().mul_(slopes.unsqueeze(1)).T, x)


PLAIN = Passes()
