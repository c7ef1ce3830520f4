"""Weights seen through a span of few directions, at little more than a pass over them."""

from __future__ import annotations

import torch
from torch import Tensor

from phasetrack._precision import unrounded

Columns = slice | Tensor

# Seed of the random span that serves as negative control: fixed, so that runs can be compared.
CONTROL_SEED = 20230915


class Projection:
    """The orthogonal projection on a span, on one device and in one dtype.

    Args:
        basis: orthonormal columns, (d, k).
        besides: further directions to read in the same pass, (d, n).

    Attributes:
        columns: the coordinates in which the span lies; all, unless they are few, as those of
            axis-aligned clusters are.
    """

    def __init__(self, basis: Tensor, besides: Tensor | None = None) -> None:
        self._basis = basis
        read = basis if besides is None else torch.cat([basis, besides], dim=1)
        # as a layer's weights are kept: MKL multiplies by a few of them several times faster
        self._read = read.T.contiguous()
        self.columns, self._others = _support(basis)
        self._inside = basis[self.columns]
        self._window: tuple[int, int] | None = None  # where they begin, and how many they are
        if isinstance(self.columns, slice):
            start, stop, _ = self.columns.indices(len(basis))
            self._window = start, stop - start
        # of a span that fills its coordinates nothing is left in them
        self._filled = bool(self._others) and len(self._inside) == basis.shape[1]

    def coordinates(self, W: Tensor) -> Tensor:
        """W in the basis, and along the further directions: (..., d) to (..., k + n)."""
        return _product(W, self._read)

    def parts(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """`coordinates` and `distance` of W (..., d): (..., k + n) and (...)."""
        coordinates = self.coordinates(W)
        return coordinates, self.distance(W, coordinates)

    def inside(self, rows: Tensor) -> Tensor:
        """The coordinates in which the span lies, of rows (m, d): a copy, (m, .)."""
        if self._window is None:
            return rows[:, self.columns]
        return torch.narrow_copy(rows, 1, *self._window)

    def distance(self, W: Tensor, coordinates: Tensor) -> Tensor:
        """Length of what the projection leaves of each row: (..., d) and (..., k + n) to (...).

        It is that of the residual, not a difference of squares, which would lose half the digits once
        the signal dominates. Of a span in few coordinates that is mostly the others as they stand.
        """
        # a row that is the only one is summed in another order
        if W.ndim > 1 and W.shape[:-1].numel() == 1:
            return self.distance(*(torch.cat([table, table]) for table in (W, coordinates)))[:1]
        lengths = [torch.linalg.vector_norm(W[..., columns], dim=-1) for columns in self._others]
        if not self._filled:
            signal = _product(coordinates[..., : self._basis.shape[1]], self._inside)
            lengths.append(torch.linalg.vector_norm(W[..., self.columns] - signal, dim=-1))
        return lengths[0] if len(lengths) == 1 else _together(lengths)


def with_control(basis: Tensor) -> Projection:
    """On a span, and beside it a random one of its dimension."""
    return Projection(basis, random_span(*basis.shape).to(basis))


def random_span(d: int, k: int) -> Tensor:
    """Orthonormal basis of a random span, always the same, float64 (d, k)."""
    generator = torch.Generator().manual_seed(CONTROL_SEED)
    directions = torch.randn((d, k), generator=generator, dtype=torch.float64, device="cpu")
    basis: Tensor = torch.linalg.qr(directions).Q
    return basis


def _product(rows: Tensor, weights: Tensor) -> Tensor:
    """Rows (..., p, n) by weights as a layer keeps them, (k, n): (..., p, k)."""
    with unrounded(rows):
        if rows.ndim == 2:
            return torch.mm(rows, weights.T)
        # each network by itself: of a batch the last digits depend on how many there are, once threads divide
        # the sums of one but not of several
        networks, turned = rows.reshape(-1, *rows.shape[-2:]).unbind(), weights.T
        products = torch.stack([torch.mm(network, turned) for network in networks])
    return products.view(*rows.shape[:-1], -1)


def _together(lengths: list[Tensor]) -> Tensor:
    whole: Tensor = torch.linalg.vector_norm(torch.stack(lengths), dim=0)
    return whole


def _support(basis: Tensor) -> tuple[Columns, list[Columns]]:
    """The coordinates in which a span lies, if they are few, and the others; else all, and none."""
    d = len(basis)
    support = basis.abs().sum(dim=1).nonzero().squeeze(1)
    if len(support) * 4 >= d:
        return slice(None), []
    low, high = int(support[0]), int(support[-1]) + 1
    if high - low != len(support):
        others = torch.ones(d, dtype=torch.bool, device=basis.device)
        others[support] = False
        return support, [others.nonzero().squeeze(1)]
    # they stand together: views, no copies
    around = (slice(0, low), slice(high, d))
    return slice(low, high), [part for part in around if part.start < part.stop]
