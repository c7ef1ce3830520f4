"""Keep failures of the tracking out of the training loop: warn once, and switch the failing part off."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress

from phasetrack.errors import ExpectedError


class TrackingWarning(UserWarning):
    """A part of the tracking failed, or cannot be read; training continues."""


class FailureGuard:
    """The one channel for what fails: a warning the first time, and the reason for good.

    Args:
        strict: raise failures into the training instead.

    Attributes:
        reasons: metric to the latest reason why it could not be read; probe or sink to the first why it failed.
        off: probes and sinks that failed, as ``probe:NAME`` or ``sink:STATE_KEY``.
        notes: sentences about the run, for people.
    """

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.reasons: dict[str, str] = {}
        self.off: list[str] = []
        self.notes: list[str] = []
        self._remarked: set[str] = set()
        self._refused: set[str] = set()  # readings

    def run(self, action: Callable[[], object], name: str) -> bool:
        """Return whether an action succeeded; report its exception where it did not."""
        try:
            action()
        except Exception as error:
            self.switched_off(name, error)
            return False
        return True

    def switched_off(self, name: str, error: Exception) -> None:
        """Report that a part failed and is used no more."""
        if self.strict:
            raise error
        self.reasons[name] = f"switched off: {_said(error)}"
        warn(f"{name} failed and is switched off; training continues ({_said(error)})")

    def probe_failed(self, name: str, error: Exception) -> str:
        """Report that a probe failed on one state; return the reason why its readings are missing."""
        if self.strict:
            raise error
        reason = f"the probe {name!r} failed: {_said(error)}"
        line = f"{name} failed; its readings of this step are missing, training continues"
        self.report(name, reason, f"{line} ({_said(error)})")
        return reason

    def record_failed(self, step: int, error: Exception) -> None:
        """Report that one state could not be recorded."""
        if self.strict:
            raise error
        reason = f"step {step} could not be recorded: {_said(error)}"
        self.report("records", reason, f"{reason}; training continues")

    def refuse(self, name: str, reason: str) -> None:
        """Keep why a reading was left out though it has a value, and warn the first time."""
        if name not in self._refused:
            self._refused.add(name)
            self.reasons[name] = reason
            warn(reason)

    def report(self, key: str, reason: str, line: object = None) -> None:
        """Keep a reason, and warn with it (or another line) the first time."""
        if key not in self.reasons:
            self.reasons[key] = reason
            warn(reason if line is None else line)

    def remark(self, key: str, line: str) -> None:
        """Keep a sentence about a run in which nothing is wrong, one per key, without a warning."""
        if key not in self._remarked:
            self._remarked.add(key)
            self.notes.append(line)

    def note(self, line: str) -> None:
        """Keep a sentence about the run, and warn with it the first time."""
        if line not in self.notes:
            self.notes.append(line)
            warn(line)

    def forget(self, reason: str) -> None:
        """Drop a reason that holds no more, from every reading that has it."""
        self.reasons = {name: why for name, why in self.reasons.items() if why != reason}

    def explain(self, reasons: Mapping[str, str]) -> None:
        """Keep the latest reason of each reading that is missing, without a warning."""
        self.reasons |= {name: why for name, why in reasons.items() if name not in self._refused}


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, ExpectedError) else repr(error)


def warn(line: object) -> None:
    """Warn in the name of phasetrack; never raises, whatever Python does with warnings.

    Where they are errors (``python -W error``), the line is printed in their place: a failure of the
    tracking does not end the training unless `attach(strict=True)` says so.
    """
    try:
        warnings.warn(f"phasetrack: {line}", TrackingWarning, stacklevel=3)
    except TrackingWarning as refused:
        print_refused(refused)
    except Exception:  # standard error is closed, or a hook of the user's on warnings failed
        return


def print_refused(warning: TrackingWarning) -> None:
    """Print a warning that Python's filters would raise."""
    with suppress(Exception):
        print(warning, file=sys.stderr)
