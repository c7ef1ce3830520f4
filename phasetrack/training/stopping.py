"""When a run is at its end: asked of its tracker only where the loss makes that possible.

A tracker that is asked measures what it holds at once; left alone it measures many steps at little more
than the cost of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from phasetrack.phases.classifier import Alert, Phase, Thresholds
from phasetrack.phases.recent_mean import RecentMean
from phasetrack.theory.settings import RunSettings

# Whether a run is at its end is looked at before every so many-th step (a step's readings are
# then seldom measured by themselves).
LOOK_EVERY = 8
# Room for rounding: the tracker adds up the same losses in its own way.
ROOM = 1e-3
# Room for the target, which the tracker sets by the labels' shares in the run's own first samples.
TARGET_ROOM = 0.1


class Labelled(Protocol):
    """A run that is labelled as it goes; asking for a label may measure what waits."""

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds of the labels."""
        ...

    @property
    def phase(self) -> Phase:
        """The label of the last recorded step."""
        ...

    @property
    def alerts(self) -> Sequence[Alert]:
        """Failure signatures so far."""
        ...


class End:
    """Whether a run has come to its end.

    Args:
        tracker: of the run.
        settings: of the run, which ends once it is fitted, unless it is to take a number of steps.
        suspect: ask the tracker every time: where steps' losses are not all noted.
    """

    def __init__(self, tracker: Labelled, settings: RunSettings, *, suspect: bool = False) -> None:
        self._tracker, self._suspect = tracker, suspect
        self._until_fitted = settings.steps is None
        limits, self._samples = tracker.thresholds, settings.batch_size
        self._recent = RecentMean(limits.least_samples, limits.patience)
        self._first_losses: list[float] = []
        needed = math.ceil(limits.least_samples / self._samples)
        self._first_count = min(needed, limits.patience)

    def note(self, loss: float) -> None:
        """Suspect, from the loss of a recorded step, that the run may be over.

        The mean over the tracker's own window is compared, without its standard error: the tracker
        finds nothing that is not suspected here.
        """
        if self._suspect:
            return
        if not math.isfinite(loss):
            self._suspect = True
            return
        limits = self._tracker.thresholds
        if len(self._first_losses) < self._first_count:
            self._first_losses.append(loss)
        first = sum(self._first_losses) / len(self._first_losses)
        self._recent.add(0, loss, self._samples)
        recent = self._recent.estimate()
        fits = (
            self._until_fitted
            and recent.enough
            and recent.mean <= (1 + TARGET_ROOM) * limits.loss_target
        )
        high = (1 - ROOM) * limits.diverged_factor * first
        self._suspect = fits or recent.mean >= high

    def reason(self) -> str:
        """``diverged`` or ``fitted``; empty if the run goes on."""
        if not self._suspect:
            return ""
        if any(alert.name == "DIVERGED" for alert in self._tracker.alerts):
            return "diverged"
        fitted = self._until_fitted and self._tracker.phase is Phase.FITTED
        return "fitted" if fitted else ""
