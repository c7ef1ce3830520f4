"""Tasks by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable

from phasetrack.errors import ExpectedError, check_choice
from phasetrack.tasks import boolean_functions as functions
from phasetrack.tasks import quadratic
from phasetrack.tasks import xor_variants as variants
from phasetrack.tasks.boolean_functions import BooleanFunction
from phasetrack.tasks.host_drawn import DrawnTask
from phasetrack.tasks.xor import XOR

TASKS: dict[str, Callable[[int], DrawnTask]] = {
    "xor": XOR,
    "and": lambda d: BooleanFunction(d, 2, functions.conjunction),
    "or": lambda d: BooleanFunction(d, 2, functions.disjunction),
    "majority": lambda d: BooleanFunction(d, 3, functions.majority),
    "parity3": lambda d: BooleanFunction(d, 3, functions.parity),
    "parity4": lambda d: BooleanFunction(d, 4, functions.parity),
    "staircase": lambda d: BooleanFunction(d, 3, functions.staircase),
    "two-xors": functions.TwoXORs,
    "equal-xors": lambda d: quadratic.MixedXORs(d, first=0.5),
    "unequal-xors": quadratic.MixedXORs,
    "quadratic": lambda d: BooleanFunction(d, 4, quadratic.quadratic),
    "unbalanced": variants.UnbalancedXOR,
    "noisy": variants.NoisyXOR,
    "rotated": variants.RotatedXOR,
    "gaussian": variants.GaussianXOR,
}


def make_task(name: str, d: int, *, shuffle_labels: bool = False) -> DrawnTask:
    """A task in dimension d.

    Args:
        name: a key of `TASKS`.
        d: input dimension.
        shuffle_labels: labels that say nothing of their samples; of XOR alone.

    Raises:
        ExpectedError: if there is no such task, d is too small for it, or its labels cannot be
            shuffled.
    """
    check_choice("task", name, TASKS)
    if shuffle_labels:
        if name != "xor":
            raise ExpectedError(
                "shuffle_labels",
                f"The task {name!r} has no version with shuffled labels.",
                "Choose the task xor.",
            )
        return XOR(d, shuffle_labels=True)
    return TASKS[name](d)
