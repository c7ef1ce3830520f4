"""What fails in the tracking must not end the training: it is said once, and switched off."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from phasetrack.errors import ExpectedError


class TrackingWarning(UserWarning):
    """A part of the tracking failed and was switched off; training goes on."""


class Guard:
    """Runs what may fail.

    Args:
        strict: raise what fails into the training instead.

    Attributes:
        reasons: metric, probe or sink to the first reason why it could not be read or written.
        off: probes and sinks that failed, as ``probe:NAME`` or ``sink:NAME``.
    """

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.reasons: dict[str, str] = {}
        self.off: list[str] = []

    def __call__(self, action: Callable[[], object], what: str) -> bool:
        """Whether an action went well; if not, raise (strict) or warn once."""
        try:
            action()
        except Exception as error:
            if self.strict:
                raise
            reason = str(error) if isinstance(error, ExpectedError) else repr(error)
            self.reasons.setdefault(what, f"switched off: {reason}")
            say(f"{what} failed and is switched off; training goes on ({reason})")
            return False
        return True


def say(line: object) -> None:
    """Warn, in the name of phasetrack."""
    warnings.warn(f"phasetrack: {line}", TrackingWarning, stacklevel=3)
