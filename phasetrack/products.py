"""How float32 matrices are multiplied on the processor: the fastest path that stays float32.

PyTorch multiplies through its BLAS library, or through oneDNN once its float32 precision is set to
"bf16". That setting allows bfloat16 and does not ask for it: oneDNN computes in bfloat16 where the
processor has matrix units for it (AMX) and in float32 elsewhere, on some processors at twice the
speed of the BLAS. So the error is measured against float64, never assumed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache

import torch
from torch import Tensor

from phasetrack._checks import check_choice
from phasetrack._precision import can_choose, float32_products

DEFAULT, ONEDNN, AUTO = "default", "onednn", "auto"
MATMULS = (AUTO, DEFAULT, ONEDNN)

# oneDNN is taken if its relative error is at most this multiple of the default's, measured on the
# shapes of the run (chosen here: another order of summation costs a factor of about 2, bfloat16
# one of thousands) ...
ERROR_FACTOR = 4.0
# ... and if it is faster by this factor: a clear gain, so that the choice, on which the last bits
# of a run depend, is the same whenever it is made on one machine (chosen here).
SPEED_FACTOR = 1.25
# Products with fewer multiplications take well under a millisecond by any path: not measured, and the
# default is taken (chosen here).
LEAST_WORK = 2**26
# Of the shape that is measured; larger products go at the same speed (chosen here).
MOST_ROWS, MOST_COLUMNS = 1024, 2048
REPETITIONS = 5


@dataclass(frozen=True)
class Matmul:
    """A way to multiply float32 matrices on the processor, and what was measured of it.

    Attributes:
        path: ``default`` or ``onednn``.
        error: its relative error against float64 (Frobenius norms); None if it was not measured.
        speed: how many times as fast as the default it was; None likewise.
    """

    path: str
    error: float | None = None
    speed: float | None = None

    def described(self) -> dict[str, object]:
        """Its fields, for a file."""
        return asdict(self)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Multiply so within, and as before afterwards. The setting is the process's, for a while."""
        if self.path == DEFAULT:
            yield
            return
        with float32_products("cpu", "bf16"):
            yield


def chosen_matmul(wanted: str, rows: int, columns: int, inner: int) -> Matmul:
    """The path to use for products (rows, inner) by (inner, columns) and the like.

    Args:
        wanted: ``auto`` measures, the others are taken as they are.
        rows: of the first matrix.
        columns: of the second.
        inner: what they have in common.

    Raises:
        ExpectedError: if `wanted` is no path, or this PyTorch has not got it.
    """
    present = available()
    check_choice("matmul", wanted, (AUTO, *present))
    if wanted != AUTO:
        return Matmul(wanted)
    if ONEDNN not in present or rows * columns * inner < LEAST_WORK:
        return Matmul(DEFAULT)
    return _measured(min(rows, MOST_ROWS), min(columns, MOST_COLUMNS), min(inner, MOST_COLUMNS))


def available() -> tuple[str, ...]:
    """The paths that this PyTorch has."""
    present = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return (DEFAULT, ONEDNN) if present and can_choose("cpu") else (DEFAULT,)


@cache
def _measured(rows: int, columns: int, inner: int) -> Matmul:
    """The better of both paths on matrices of a size."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(rows, inner, generator=generator)
    right = torch.randn(inner, columns, generator=generator)
    exact = left.double() @ right.double()
    default, onednn = Matmul(DEFAULT), Matmul(ONEDNN)
    errors = [_error(path, left, right, exact) for path in (default, onednn)]
    # in turns, so that what the machine does besides falls on both alike
    pairs = [
        [_seconds(path, left, right) for path in (default, onednn)] for _ in range(REPETITIONS)
    ]
    speed = statistics.median(slow / fast for slow, fast in pairs)
    if errors[1] <= ERROR_FACTOR * errors[0] and speed >= SPEED_FACTOR:
        return Matmul(ONEDNN, errors[1], speed)
    return Matmul(DEFAULT, errors[0], 1.0)


def _error(path: Matmul, left: Tensor, right: Tensor, exact: Tensor) -> float:
    with path.used():
        return float((torch.mm(left, right) - exact).norm() / exact.norm())


def _seconds(path: Matmul, left: Tensor, right: Tensor) -> float:
    with path.used():
        started = time.perf_counter()
        torch.mm(left, right)
        return time.perf_counter() - started
