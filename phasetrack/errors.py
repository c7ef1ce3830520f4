"""Input checks with one wording: "<name>: expected ..., got ...".

Every error of phasetrack that is the caller's to mend is an `ExpectedError`; it names what was
given, what is allowed and, where there is one, the mend. The command line turns it into one line
and exit code 2, naming the option after `ExpectedError.name`.
"""

from __future__ import annotations

import math
from collections.abc import Collection


class PhasetrackError(Exception):
    """Base class of every exception that phasetrack raises on purpose."""


class ExpectedError(PhasetrackError, ValueError):
    """A value is wrong in a way that the caller can fix.

    Attributes:
        argument: the library's argument at fault, such as ``"d"``.
        problem: what is wrong with which value, as a sentence.
        fix: what to do about it, as a sentence; empty where `problem` already says so.
    """

    def __init__(self, argument: str, problem: str, fix: str = "") -> None:
        self.argument, self.problem, self.fix = argument, problem, fix
        super().__init__(argument, problem, fix)

    @property
    def message(self) -> str:
        """Problem and fix, without the argument's name."""
        return f"{self.problem} {self.fix}".rstrip()

    def __str__(self) -> str:
        """The one line that a person reads."""
        return f"{self.argument}: {self.message}"


def expected_error(name: str, expected: str, got: object, mend: str = "") -> ExpectedError:
    """Build an error in the old wording; goes once every message is a sentence."""
    line = f"expected {expected}, got {got}"
    return ExpectedError(name, f"{line}; {mend}" if mend else line)


def printable(text: object) -> str:
    r"""Text that can be written as UTF-8: what cannot, as in some files' names, shows as ``\udce9``."""
    return str(text).encode(errors="backslashreplace").decode()


def check_int(name: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """Return `value` if it is an integer in [minimum, maximum]; raise ExpectedError otherwise."""
    allowed = f"an integer >= {minimum}"
    if maximum is not None:
        allowed += f" and <= {maximum}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise expected_error(name, allowed, repr(value))
    if value < minimum or (maximum is not None and value > maximum):
        raise expected_error(name, allowed, value)
    return value


def check_float(
    name: str,
    value: object,
    *,
    above: float = -math.inf,
    minimum: float = -math.inf,
    maximum: float = math.inf,
) -> float:
    """Return `value` as a finite float with above < value, minimum <= value <= maximum.

    Raises:
        ExpectedError: if it is no number, not finite or out of range.
    """
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in ((">", above), (">=", minimum), ("<=", maximum))
        if math.isfinite(bound)
    ]
    allowed = "a finite number" + (" " + " and ".join(bounds) if bounds else "")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise expected_error(name, allowed, repr(value))
    try:
        number = float(value)
    except OverflowError:  # an integer beyond every float
        number = math.inf if value > 0 else -math.inf
    if not math.isfinite(number) or number <= above or not minimum <= number <= maximum:
        raise expected_error(name, allowed, f"{number:g}")
    return number


def check_switch(name: str, value: object) -> bool:
    """Return `value` if it is True or False; raise ExpectedError otherwise."""
    if not isinstance(value, bool):
        raise expected_error(name, "True or False", repr(value))
    return value


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices`; raise ExpectedError naming them all otherwise."""
    if value not in choices:
        raise expected_error(name, "one of " + ", ".join(choices), repr(value))
    return value
