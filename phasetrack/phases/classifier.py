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

from phasetrack.phases import data_fit, first_order_watch, loss_watch
from phasetrack.phases.alerts import CHECKS, KERNEL, Evidence, RunState, reading
from phasetrack.phases.crossings import crossing, first_crossing
from phasetrack.phases.data_fit import misplaced, untold
from phasetrack.phases.first_order_watch import FirstOrderWatch
from phasetrack.phases.heavy_watch import HeavyWatch
from phasetrack.phases.labels import Alert, Boundary, Phase, Transition, Verdict
from phasetrack.phases.loss_watch import LossWatch
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
        *loss_watch.METRICS,
        *first_order_watch.METRICS,
        *data_fit.METRICS,
        "heaviness/zeta_star",
        "heaviness/heavy_mass",
        "heaviness/signal_share",
        "margin/balance",
        "margin/min",
        "growth/signal_rate",
        "growth/perp_rate",
        "growth/perp_factor",
        *KERNEL,
    }
)
# Alerts that do not depend on where the clusters lie.
OF_ANY_DATA = frozenset({"DIVERGED", "LAZY"})


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
        self._loss = LossWatch(self.thresholds)
        self._first_order = FirstOrderWatch(self.thresholds)
        self._heavy = HeavyWatch(self.thresholds)
        self._diverged = self._misplaced = self._misfit = ""
        self._raised: set[str] = set()

    def update(self, step: int, readings: Mapping[str, float]) -> Verdict:
        """Label one recorded step.

        Args:
            step: ascending from call to call.
            readings: metric name to value; a missing metric counts as NaN. The classifier keeps the
                mapping for later steps, so it must not change.
        """
        self._run.advance(step, readings)
        self._misplaced = misplaced(readings, self.thresholds)
        self._misfit = self._misplaced or untold(readings, self.thresholds)
        boundaries, left = self._boundaries(step, readings)
        alerts = self._alerts(step)
        phase, reason = self._label(readings)
        transition = None
        if self._phase is not None and phase is not self._phase:
            transition = Transition(step, self._phase, phase)
        self._phase = phase
        return Verdict(phase, reason, transition, boundaries, alerts, left)

    @property
    def units(self) -> dict[str, float]:
        """What levels are to be multiplied by to be in units of the run's own readings."""
        return {"loss_target": self._loss.unit}

    def state_dict(self) -> dict[str, Any]:
        """Return all that later labels depend on, as numbers, texts, lists and mappings."""
        return {
            "phase": None if self._phase is None else self._phase.name,
            "loss": self._loss.state_dict(),
            "first_order": self._first_order.state_dict(),
            "heavy": self._heavy.state_dict(),
            "diverged": self._diverged,
            "first": dict(self._run.first),
            "raised": sorted(self._raised),
            "kernel": dict(self._run.kernel),
            "recent": [dict(readings) for readings in self._run.recent],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state, under the thresholds of this classifier."""
        self._phase = None if state["phase"] is None else Phase[state["phase"]]
        watches: dict[str, LossWatch | FirstOrderWatch | HeavyWatch] = {
            "loss": self._loss,
            "first_order": self._first_order,
            "heavy": self._heavy,
        }
        for name, watch in watches.items():
            if "loss" in state:
                watch.load_state_dict(state[name])
            else:  # of version 0.1.0
                watch.load_older_state(state)
        self._diverged = str(state["diverged"])
        self._run.heavy, self._run.fitted = self._heavy.holds, self._loss.fitted
        self._run.first = _floats(state["first"])
        self._run.kernel = _floats(state.get("kernel", {}))
        self._raised = {str(n) for n in state["raised"]}
        self._run.recent = deque(map(_floats, state["recent"]), maxlen=self.thresholds.patience)

    def _label(self, readings: Mapping[str, float]) -> tuple[Phase, str]:
        limits = self.thresholds
        if self._diverged:
            return Phase.UNDETERMINED, self._diverged
        if self._run.fitted:
            return Phase.FITTED, ""
        if self._misfit:
            return Phase.UNDETERMINED, self._misfit
        if self._run.heavy:
            return Phase.SIGNAL_HEAVY, ""
        zeta = reading(readings, "heaviness/zeta_star")
        drift = self._first_order.drift
        if math.isnan(zeta) or math.isnan(drift):
            missing = "zeta*" if math.isnan(zeta) else "the slope drift"
            return Phase.UNDETERMINED, f"{missing} could not be read"
        if drift <= limits.finding_drift:
            return Phase.SIGNAL_FINDING, ""
        return Phase.UNDETERMINED, (
            f"zeta* {zeta:.3g} is above {limits.zeta_enter:g} and the slope drift {drift:.3g} above "
            f"{limits.finding_drift:g}: neither signal-heavy nor first-order"
        )

    def _boundaries(
        self, step: int, readings: Mapping[str, float]
    ) -> tuple[tuple[Boundary, ...], tuple[str, ...]]:
        """Return the boundaries that are met at this step, and the names of those that are left."""
        run, loss, heavy, first_order = self._run, self._loss, self._heavy, self._first_order
        before = (heavy.holds, first_order.exited, loss.fitted)
        zeta = reading(readings, "heaviness/zeta_star")
        heavy.update(step, math.nan if self._misfit else zeta, known=not self._misfit)
        first_order.update(step, readings)
        has_loss = loss.update(step, readings)
        run.heavy, run.fitted = heavy.holds, loss.fitted
        run.divergence = loss.evidence if has_loss and loss.diverged else {}
        if has_loss:
            was = self._diverged
            self._diverged = (was or _divergence(step, run.divergence)) if loss.diverged else ""
        after = (run.heavy, first_order.exited, run.fitted)
        if after == before:
            return (), ()
        onsets = {
            "signal_heavy": heavy.onset,
            "linear_exit": first_order.onset,
            "fitted": loss.onset,
        }
        met, left = [], []
        for (name, onset), then, now in zip(onsets.items(), before, after, strict=True):
            if now and not then:
                at = onset()
                met.append(Boundary(name, at.step, step, at.low, at.high))
            elif then and not now:
                left.append(name)
        return tuple(met), tuple(left)

    def _alerts(self, step: int) -> tuple[Alert, ...]:
        # of a run that has diverged the others say nothing more
        checks = {"DIVERGED": CHECKS["DIVERGED"]} if self._diverged else CHECKS
        found = {
            name: evidence
            for name, check in checks.items()
            if (not self._misplaced or name in OF_ANY_DATA) and (evidence := check(self._run))
        }
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
