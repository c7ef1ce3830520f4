"""Labels, boundaries and alerts from scalars alone (theory.md 8): no tensors, no files.

The same classifier labels a run during training, a recorded history under other thresholds (`relabel`)
and a forecast.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from phasetrack.phases.alerts import CHECKS, KERNEL, Evidence, RunState, reading
from phasetrack.phases.crossings import crossing, first_crossing
from phasetrack.phases.labels import Alert, Boundary, Phase, Transition, Verdict
from phasetrack.phases.thresholds import MOST_PATIENCE, Thresholds

__all__ = [
    "METRICS",
    "MOST_PATIENCE",
    "Alert",
    "Boundary",
    "Phase",
    "PhaseClassifier",
    "Thresholds",
    "Transition",
    "Verdict",
    "crossing",
    "first_crossing",
    "relabel",
]

# The metrics that labels and alerts depend on.
METRICS = frozenset(
    {
        "loss/train",
        "heaviness/zeta_star",
        "heaviness/heavy_mass",
        "heaviness/signal_share",
        "linearization/value_error",
        "linearization/slope_drift",
        "margin/balance",
        "margin/min",
        "growth/signal_rate",
        "growth/perp_rate",
        "growth/perp_factor",
        *KERNEL,
    }
)


@dataclass
class PhaseClassifier:
    """Labels recorded steps one after the other, from their readings.

    Args:
        thresholds: every number that decides.
        escape_steps: predicted steps until the loss halves, the yardstick of SADDLE; None never raises
            SADDLE.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    escape_steps: float | None = None

    def __post_init__(self) -> None:
        """Start before the first step."""
        self._run = RunState(self.thresholds, self.escape_steps)
        self._run.recent = deque(maxlen=self.thresholds.patience)
        self._phase: Phase | None = None
        self._left_linear = False
        self._diverged = ""
        self._before: tuple[int, Mapping[str, float]] | None = None
        self._onset = math.nan
        self._under = 0  # records in a row at zeta* <= zeta_exit
        self._raised: set[str] = set()

    def update(self, step: int, readings: Mapping[str, float]) -> Verdict:
        """Label one recorded step.

        Args:
            step: ascending from call to call.
            readings: metric name to value; a missing metric counts as NaN. The classifier keeps the
                mapping for later steps, so it must not change.
        """
        self._run.advance(step, readings)
        boundaries = self._boundaries(step, readings)
        alerts = self._alerts(step)
        phase, reason = self._label(readings)
        transition = None
        if self._phase is not None and phase is not self._phase:
            transition = Transition(step, self._phase, phase)
        self._phase, self._before = phase, (step, readings)
        return Verdict(phase, reason, transition, boundaries, alerts)

    def state_dict(self) -> dict[str, Any]:
        """Return all that later labels depend on, as numbers, texts, lists and mappings."""
        return {
            "phase": None if self._phase is None else self._phase.name,
            "heavy": self._run.heavy,
            "fitted": self._run.fitted,
            "left_linear": self._left_linear,
            "diverged": self._diverged,
            "first": dict(self._run.first),
            "first_loss": self._run.first_loss,
            "before": None if self._before is None else [self._before[0], dict(self._before[1])],
            "onset": self._onset,
            "under": self._under,
            "raised": sorted(self._raised),
            "kernel": dict(self._run.kernel),
            "recent": [dict(readings) for readings in self._run.recent],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state, under the thresholds of this classifier."""
        self._phase = None if state["phase"] is None else Phase[state["phase"]]
        self._run.heavy, self._run.fitted = bool(state["heavy"]), bool(state["fitted"])
        self._left_linear, self._diverged = bool(state["left_linear"]), str(state["diverged"])
        self._run.first, self._run.first_loss = _floats(state["first"]), float(state["first_loss"])
        before = state["before"]
        self._before = None if before is None else (int(before[0]), _floats(before[1]))
        self._under = int(state.get("under", 0))
        self._onset, self._raised = float(state["onset"]), {str(n) for n in state["raised"]}
        self._run.kernel = _floats(state.get("kernel", {}))
        self._run.recent = deque(map(_floats, state["recent"]), maxlen=self.thresholds.patience)

    def _label(self, readings: Mapping[str, float]) -> tuple[Phase, str]:
        limits = self.thresholds
        if self._diverged:
            return Phase.UNDETERMINED, self._diverged
        if self._run.fitted:
            return Phase.FITTED, ""
        if self._run.heavy:
            return Phase.SIGNAL_HEAVY, ""
        zeta = reading(readings, "heaviness/zeta_star")
        drift = reading(readings, "linearization/slope_drift")
        if math.isnan(zeta) or math.isnan(drift):
            missing = "zeta*" if math.isnan(zeta) else "the slope drift"
            return Phase.UNDETERMINED, f"{missing} could not be read"
        if drift <= limits.finding_drift:
            return Phase.SIGNAL_FINDING, ""
        return Phase.UNDETERMINED, (
            f"zeta* {zeta:.3g} is above {limits.zeta_enter:g} and the slope drift {drift:.3g} above "
            f"{limits.finding_drift:g}: neither signal-heavy nor first-order"
        )

    def _boundaries(self, step: int, readings: Mapping[str, float]) -> tuple[Boundary, ...]:
        found = (
            self._signal_heavy(step, reading(readings, "heaviness/zeta_star")),
            self._linear_exit(step, reading(readings, "linearization/value_error")),
            self._fit(step, reading(readings, "loss/train")),
        )
        return tuple(boundary for boundary in found if boundary)

    def _signal_heavy(self, step: int, zeta: float) -> Boundary | None:
        limits = self.thresholds
        self._under = self._under + 1 if zeta <= limits.zeta_exit else 0
        if zeta <= limits.zeta_exit and math.isnan(self._onset):
            self._onset = self._crossed(step, "heaviness/zeta_star", zeta, limits.zeta_exit)
        elif zeta > limits.zeta_exit:
            self._onset, self._run.heavy = math.nan, False
        entered = zeta <= limits.zeta_enter or self._under >= limits.zeta_records
        if self._run.heavy or not entered:
            return None
        self._run.heavy = True
        return Boundary("signal_heavy", self._onset, step)

    def _linear_exit(self, step: int, error: float) -> Boundary | None:
        level = self.thresholds.linear_exit
        if self._left_linear or not error >= level:
            return None
        self._left_linear = True
        onset = self._crossed(step, "linearization/value_error", error, level)
        return Boundary("linear_exit", onset, step)

    def _fit(self, step: int, loss: float) -> Boundary | None:
        limits = self.thresholds
        if self._run.fitted:
            self._run.fitted = not loss > limits.fitted_exit * limits.loss_target
            return None
        if not -math.inf < loss <= limits.loss_target:
            return None
        self._run.fitted = True
        return Boundary("fitted", self._crossed(step, "loss/train", loss, limits.loss_target), step)

    def _crossed(self, step: int, name: str, value: float, level: float) -> float:
        """Interpolate the step at which a metric crossed `level` on its way to `value` at `step`."""
        if self._before is None or math.isnan(before := reading(self._before[1], name)):
            return float(step)
        return crossing(self._before[0], before, step, value, level)

    def _alerts(self, step: int) -> tuple[Alert, ...]:
        found = {name: evidence for name, check in CHECKS.items() if (evidence := check(self._run))}
        if "DIVERGED" in found and not self._diverged:
            self._diverged = _divergence(step, found["DIVERGED"])
        new = [name for name in found if name not in self._raised]
        self._raised |= found.keys()
        return tuple(Alert(name, step, found[name]) for name in new)


def relabel(
    rows: Iterable[tuple[int, Mapping[str, float]]],
    thresholds: Thresholds,
    escape_steps: float | None = None,
) -> Iterator[tuple[int, Verdict]]:
    """Label recorded steps again under other thresholds; yield (step, verdict) per row."""
    classifier = PhaseClassifier(thresholds, escape_steps)
    for step, readings in rows:
        yield step, classifier.update(step, readings)


def _divergence(step: int, evidence: Evidence) -> str:
    loss, start = evidence["loss/train"], evidence["first loss/train"]
    return f"diverged at step {step}: loss {loss:.4g}, {start:.4g} at the first recorded step"


def _floats(readings: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in readings.items()}
