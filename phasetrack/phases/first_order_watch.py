"""FirstOrderWatch: value error and slope drift over enough samples, and the exit from the linear regime."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from phasetrack.phases.crossings import Onset, local_crossing, surrounding
from phasetrack.phases.recent_mean import RecentMean
from phasetrack.phases.thresholds import Thresholds

METRICS = (
    "linearization/value_error",
    "linearization/slope_drift",
    "linearization/loss_change",
    "held_out/value_error",
    "held_out/slope_drift",
)


class FirstOrderWatch:
    """Follows the first-order errors of a run; those of held-out samples from the first record on that has them.

    The value error of several batches is that of their samples together: each batch's counts by its
    samples and their mean change of loss.

    Args:
        limits: the levels.

    Attributes:
        exited: whether the value error has passed its level, and has not come back since.
    """

    def __init__(self, limits: Thresholds) -> None:
        self._limits = limits
        self._value_error = RecentMean(limits.least_samples, limits.patience)
        self._drift = RecentMean(limits.least_samples, limits.patience)
        self._drift_now = math.nan
        # whether held-out samples decide: records between their readings then change nothing
        self._held_out = False
        self.exited = False

    @property
    def drift(self) -> float:
        """The slope drift over enough samples; NaN where the last record has none."""
        known = math.isfinite(self._drift_now)
        return self._drift.estimate().mean if known else self._drift_now

    def update(self, step: int, readings: Mapping[str, float]) -> None:
        """Take in a record."""
        samples = readings.get("loss/samples", math.nan)
        change = readings.get("linearization/loss_change", math.nan)
        error, exact = _chosen(readings, "value_error")
        if self._held_out and not exact:
            return
        self._held_out = exact
        if math.isfinite(error):
            many = math.nan if exact else samples
            self._value_error.add(step, error, many, weight=many * change)
            self._judge()
        self._drift_now, exact = _chosen(readings, "slope_drift")
        if math.isfinite(self._drift_now):
            self._drift.add(step, self._drift_now, math.nan if exact else samples)

    def _judge(self) -> None:
        limits, estimate = self._limits, self._value_error.estimate()
        if not (estimate.enough or len(self._value_error) >= limits.patience):
            return
        if self.exited:
            back = limits.linear_return * limits.linear_exit
            self.exited = not estimate.below(back, limits.standard_errors)
        else:
            lower = estimate.mean - limits.standard_errors * estimate.error
            self.exited = lower >= limits.linear_exit

    def onset(self) -> Onset:
        """Where the value error crossed its level on its way to the last record."""
        level, window = self._limits.linear_exit, len(self._value_error)
        records = surrounding(list(self._value_error.past), window, level, rising=True)
        errors = self._limits.standard_errors
        return local_crossing(records, level, errors, window=window, rising=True)

    def state_dict(self) -> dict[str, Any]:
        """Return all that later judgements depend on."""
        return {
            "value_error": self._value_error.state_dict(),
            "drift": self._drift.state_dict(),
            "exited": self.exited,
            "held_out": [self._held_out, self._drift_now],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._value_error.load_state_dict(state["value_error"])
        self._drift.load_state_dict(state["drift"])
        self.exited = bool(state["exited"])
        held_out, drift = state.get("held_out", (False, math.nan))
        self._held_out, self._drift_now = bool(held_out), float(drift)

    def load_older_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a classifier's state of version 0.1.0, which judged each record alone."""
        self.exited, before = bool(state["left_linear"]), state["before"]
        if before is not None:
            self.update(int(before[0]), {name: float(v) for name, v in before[1].items()})
            self.exited = bool(state["left_linear"])


def _chosen(readings: Mapping[str, float], name: str) -> tuple[float, bool]:
    """Return an error, and whether it is that of a held-out sample."""
    held_out = readings.get(f"held_out/{name}", math.nan)
    if not math.isnan(held_out):
        return held_out, True
    return readings.get(f"linearization/{name}", math.nan), False
