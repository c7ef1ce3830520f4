"""How float32 matrices are multiplied on the processor: the fastest path that stays float32.

PyTorch multiplies through its BLAS library, or through oneDNN once its float32 precision is set to
"bf16". That setting allows bfloat16 and does not ask for it: oneDNN computes in bfloat16 where the
processor has matrix units for it (AMX) and in float32 elsewhere, on some processors at twice the
speed of the BLAS. Where there are such units, inputs that are signs are multiplied in bytes
(`int8_matmul`). Errors are measured against float64, never assumed.
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

from phasetrack._precision import can_choose, float32_products
from phasetrack.errors import ExpectedError, check_choice
from phasetrack.model.matmul_backend import PLAIN, Passes
from phasetrack.training import int8_matmul as digits

DEFAULT, ONEDNN, DIGITS, AUTO = "default", "onednn", "digits", "auto"

# Another path is taken if its relative error is at most this multiple of the default's, measured on the
# shapes of the run (another order of summation costs a factor of about 2, bfloat16
# one of thousands) ...
ERROR_FACTOR = 4.0
# ... and, for oneDNN, if it is faster by this factor: a clear gain, so that the choice, on which the last
# bits of a run depend, is the same whenever it is made on one machine ...
SPEED_FACTOR = 1.25
# ... and digits where they are known to gain, whatever the hour of a shared machine says: a quarter of the
# products' time at the least of these sizes, more than half at d = p = 512 and 8192 rows. Every piece of a batch
# makes them anew, in 30 bytes a weight.
FEWEST_ROWS, FEWEST_COLUMNS, FEWEST_INNER, MOST_WEIGHTS = 2048, 256, 256, 2**22
CHECKED_ROWS = 500  # of the products whose error is measured in digits
DIGITS_NEED = "digits take a processor with AMX, inputs that are signs, and d a multiple of 64"
# Products with fewer multiplications take well under a millisecond by any path: not measured, and the
# default is taken.
LEAST_WORK = 2**26
# Of the shape that is measured; larger products go at the same speed.
MOST_ROWS, MOST_COLUMNS = 1024, 2048
REPETITIONS = 5


@dataclass(frozen=True)
class Matmul:
    """A way to multiply float32 matrices on the processor, and what was measured of it.

    Attributes:
        path: ``default``, ``onednn`` or ``digits``.
        error: its relative error against float64 (Frobenius norms); None if it was not measured.
        speed: how many times as fast as the default it was; None likewise, and for digits.
    """

    path: str
    error: float | None = None
    speed: float | None = None

    def described(self) -> dict[str, object]:
        """Its fields, for a file."""
        return asdict(self)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Multiply by oneDNN within, if that is the path: the setting is the process's, for a while."""
        if self.path == ONEDNN:
            with float32_products("cpu", "bf16"):
                yield
        else:
            yield

    @property
    def passes(self) -> Passes:
        """What `FusedTwoLayerNet.passes` is to be; in digits other inputs than signs give wrong results."""
        return digits.SignDigits() if self.path == DIGITS else PLAIN


def chosen_matmul(
    wanted: str, rows: int, columns: int, inner: int, *, signs: bool = False
) -> Matmul:
    """The path to use for products (rows, inner) by (inner, columns) and the like.

    Args:
        wanted: ``auto`` measures, the others are taken as they are.
        rows: of the first matrix, samples.
        columns: of the second, neurons.
        inner: what they have in common, the input dimension.
        signs: whether the first matrix holds signs alone, as ``digits`` need it.

    Raises:
        ExpectedError: if `wanted` is not a path, or this machine lacks it.
    """
    fit = signs and digits.fit(rows, columns, inner)
    present = tuple(path for path in available() if fit or path != DIGITS)
    many = rows >= FEWEST_ROWS and columns >= FEWEST_COLUMNS and inner >= FEWEST_INNER
    gained = wanted == AUTO and many and columns * inner <= MOST_WEIGHTS
    if DIGITS in present and (wanted == DIGITS or gained):
        found = _in_digits(columns, inner)
        if found is not None:
            return found
    if wanted == DIGITS:
        others = ", ".join(path for path in (AUTO, *present) if path != DIGITS)
        raise ExpectedError(
            "matmul", f"This run cannot use {DIGITS!r}: {DIGITS_NEED}.", f"Choose one of {others}."
        )
    check_choice("matmul", wanted, (AUTO, *present))
    if wanted != AUTO:
        return Matmul(wanted)
    if ONEDNN not in present or rows * columns * inner < LEAST_WORK:
        return Matmul(DEFAULT)
    return _measured(min(rows, MOST_ROWS), min(columns, MOST_COLUMNS), min(inner, MOST_COLUMNS))


def available() -> tuple[str, ...]:
    """The paths that this PyTorch and this processor have."""
    present = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    others = {ONEDNN: present and can_choose("cpu"), DIGITS: present and digits.available()}
    return (DEFAULT, *(path for path, there in others.items() if there))


@cache
def _in_digits(columns: int, inner: int) -> Matmul | None:
    """Digits, if both products of a step come out in them as in float32."""
    digit, floats = _errors_in_digits(columns, inner)
    return Matmul(DIGITS, digit) if digit <= ERROR_FACTOR * floats else None


def _errors_in_digits(columns: int, inner: int) -> tuple[float, float]:
    """The larger relative error of a step's two products in digits, and that of the default's."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(CHECKED_ROWS, inner, generator=generator, device="cpu").sign()
    W = torch.randn(columns, inner, generator=generator, device="cpu")
    slopes = torch.randn(CHECKED_ROWS, generator=generator, device="cpu")
    exact = torch.mm(x.double(), W.double().T).relu_()
    # one mask for both: a sample at the edge of a neuron counts whole or not at all
    mask = (exact > 0).float()
    exact_pulls = torch.mm(mask.double().mul_(slopes.double().unsqueeze(1)).T, x.double())
    errors = []
    for passes in (digits.SignDigits(), PLAIN):
        prepared = passes.prepared(x)
        active = passes.activated(prepared, W)
        pulls = passes.pulled(mask.clone(), slopes, prepared)
        errors.append(max(_relative(active, exact), _relative(pulls, exact_pulls)))
    digit, floats = errors
    return digit, floats


@cache
def _measured(rows: int, columns: int, inner: int) -> Matmul:
    """The better of both paths on matrices of a size."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(rows, inner, generator=generator, device="cpu")
    right = torch.randn(inner, columns, generator=generator, device="cpu")
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
        return _relative(torch.mm(left, right), exact)


def _relative(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def _seconds(path: Matmul, left: Tensor, right: Tensor) -> float:
    with path.used():
        started = time.perf_counter()
        torch.mm(left, right)
        return time.perf_counter() - started
