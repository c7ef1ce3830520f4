"""Errors that a person reads, and the input checks that raise them.

    PhasetrackError
        ExpectedError     the caller passed a wrong value, or a file holds one
        ProcessError      a process of a run that several processes train failed (training)

An `ExpectedError` is two sentences: the problem with the value, and what to do about it. The command
line prints it as one line, with the option in place of the argument, and exits with code 2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from difflib import get_close_matches


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
    def name(self) -> str:
        """The argument at fault, under the name that older callers read."""
        return self.argument

    @property
    def message(self) -> str:
        """Problem and fix, without the argument's name."""
        return f"{self.problem} {self.fix}".rstrip()

    def __str__(self) -> str:
        """The one line that a person reads."""
        return f"{self.argument}: {self.message}"


# A terminal obeys control characters, and marks of direction turn the text around them.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    r"""Escape what a terminal would obey, and what cannot be written as UTF-8: ``\x1b``, ``\udce9``.

    Names of files may hold both.
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), encodable(text))


def encodable(text: object) -> str:
    r"""Escape what cannot be written as UTF-8, ``\udce9``: enough for JSON and HTML."""
    return str(text).encode(errors="backslashreplace").decode()


def check_int(argument: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """Return `value` if it is an integer in [minimum, maximum]; raise ExpectedError otherwise."""
    allowed = f">= {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < minimum
        or (maximum is not None and value > maximum)
    ):
        raise ExpectedError(argument, f"{value!r} is not an integer {allowed}.")
    return value


def check_float(
    argument: str,
    value: object,
    *,
    above: float = -math.inf,
    minimum: float = -math.inf,
    maximum: float = math.inf,
) -> float:
    """Return `value` as a finite float with above < value and minimum <= value <= maximum.

    Raises:
        ExpectedError: if it is not a number, not finite or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        allowed = _allowed(above, minimum, maximum)
        raise ExpectedError(argument, f"{value!r} is not {allowed}.")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond every float
        number = math.inf if value > 0 else -math.inf
    if not math.isfinite(number) or number <= above or not minimum <= number <= maximum:
        allowed = _allowed(above, minimum, maximum)
        raise ExpectedError(argument, f"{number:.15g} is not {allowed}.")
    return number


def _allowed(above: float, minimum: float, maximum: float) -> str:
    """Return the numbers between some bounds in words."""
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in ((">", above), (">=", minimum), ("<=", maximum))
        if math.isfinite(bound)
    ]
    return " ".join(["a finite number", " and ".join(bounds)]).rstrip()


def check_switch(argument: str, value: object) -> bool:
    """Return `value` if it is True or False; raise ExpectedError otherwise."""
    if not isinstance(value, bool):
        raise ExpectedError(argument, f"{value!r} is neither True nor False.")
    return value


def check_choice(argument: str, value: str, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices`; raise ExpectedError naming them all otherwise."""
    if value in choices:
        return value
    close = get_close_matches(value.lower(), choices, 1) if isinstance(value, str) else []
    fix = f"Did you mean {close[0]!r}?" if close else ""
    raise ExpectedError(argument, f"{value!r} is not one of {', '.join(choices)}.", fix)
