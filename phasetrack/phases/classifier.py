"""Phases, boundaries and alerts from scalars alone (theory.md 8): no tensors, no files.

The same classifier labels a run while it goes on, a recorded history with other thresholds
(`relabel`) and a forecast.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, NamedTuple

from phasetrack.errors import check_float, check_int


class Phase(Enum):
    """The label of a step; `id` is what the metric ``phase/id`` holds."""

    UNDETERMINED = 0
    SIGNAL_FINDING = 1
    SIGNAL_HEAVY = 2
    FITTED = 3

    @property
    def id(self) -> int:
        """The number under ``phase/id``."""
        return self.value


@dataclass(frozen=True)
class Transition:
    """A change of label: `step` is the first one that carries the new label."""

    step: int
    before: Phase
    after: Phase


@dataclass(frozen=True)
class Boundary:
    """A boundary between regimes.

    Attributes:
        name: ``signal_heavy`` (zeta* crosses 1 on its way under the entry threshold),
            ``linear_exit`` (the first-order value error crosses its threshold) or ``fitted``.
        onset: where the reading crossed its level, interpolated between recorded steps.
        detected: the recorded step at which the boundary was certain.
    """

    name: str
    onset: float
    detected: int


@dataclass(frozen=True)
class Alert:
    """A failure signature, with the numbers that made it."""

    name: str
    step: int
    evidence: Mapping[str, float]


@dataclass(frozen=True)
class Thresholds:
    """Every number that decides a label or an alert. Paper: none; theory.md or chosen here.

    Attributes:
        zeta_enter: SIGNAL_HEAVY begins at zeta* <= this (theory.md 8).
        zeta_exit: SIGNAL_HEAVY ends at zeta* > this; the onset is where zeta* crossed it last
            (theory.md 8).
        linear_exit: value error at which the linear regime is left (theory.md 7).
        finding_drift: largest slope drift that still counts as first order, which SIGNAL_FINDING
            asks for (chosen here: the loss then still has three quarters of its first slope).
        loss_target: training loss at which a run is FITTED (chosen here, after theory.md 7's
            1.386 -> 0.05).
        fitted_exit: FITTED ends once the loss is above this multiple of its target (chosen here).
        imbalance_mass: heavy mass above which IMBALANCED is looked for (theory.md 8).
        imbalance_balance: min/max clean margin under which a cluster counts as unserved
            (chosen here: healthy runs pass 0.1 before their heavy mass passes 1/2).
        imbalance_fall: IMBALANCED too if the balance falls without a break to under this
            share of itself (chosen here).
        patience: recorded steps in a row that IMBALANCED must last, over which the rates of
            NON_SIGNAL_GROWTH are averaged, and that SADDLE waits for at least (chosen here).
        saddle_patience: escape times without growth before SADDLE (chosen here: "several").
        saddle_growth: growth of the signal share under which it "has not grown" (chosen here).
        non_signal_ratio: NON_SIGNAL_GROWTH from this ratio of perp rate to signal rate
            (chosen here).
        non_signal_growth: and once |perp| has grown by this factor (chosen here: minibatch noise
            alone stays under 1.5 at m = 2d).
        diverged_factor: DIVERGED above this multiple of the first loss (chosen here).
    """

    zeta_enter: float = 0.5
    zeta_exit: float = 1.0
    linear_exit: float = 0.1
    finding_drift: float = 0.25
    loss_target: float = 0.05
    fitted_exit: float = 2.0
    imbalance_mass: float = 0.5
    imbalance_balance: float = 0.1
    imbalance_fall: float = 0.5
    patience: int = 10
    saddle_patience: float = 2.0
    saddle_growth: float = 2.0
    non_signal_ratio: float = 0.5
    non_signal_growth: float = 2.0
    diverged_factor: float = 10.0

    def __post_init__(self) -> None:
        """Check every threshold.

        Raises:
            ExpectedError: naming the threshold, the allowed range and the value given.
        """
        for threshold in fields(self):
            if threshold.name != "patience":
                check_float(threshold.name, getattr(self, threshold.name), above=0.0)
        check_int("patience", self.patience, minimum=1, maximum=MOST_PATIENCE)
        check_float("zeta_exit", self.zeta_exit, minimum=self.zeta_enter)
        check_float("fitted_exit", self.fitted_exit, minimum=1.0)
        check_float("diverged_factor", self.diverged_factor, above=1.0)


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
        "growth/signal_rate",
        "growth/perp_rate",
        "growth/perp_factor",
    }
)
# Readings of so many records at most are looked back at (chosen here: time is proportional to it).
MOST_PATIENCE = 10_000


class Verdict(NamedTuple):
    """What one step's readings say: label, reason, and what is new at this step."""

    phase: Phase
    reason: str = ""
    transition: Transition | None = None
    boundaries: tuple[Boundary, ...] = ()
    alerts: tuple[Alert, ...] = ()


def crossing(step0: float, value0: float, step1: float, value1: float, level: float) -> float:
    """Where a reading that goes from value0 to value1 passes `level`.

    Interpolates the logarithm where all three are positive (zeta*, errors and losses change by
    factors), the value itself otherwise.

    >>> crossing(10, 4.0, 12, 0.25, 1.0)
    11.0
    """
    if not (math.isfinite(value0) and math.isfinite(value1)) or value0 == value1:
        return float(step1)
    if min(value0, value1, level) > 0:
        value0, value1, level = math.log(value0), math.log(value1), math.log(level)
    return step0 + (step1 - step0) * (value0 - level) / (value0 - value1)


def first_crossing(
    points: Iterable[tuple[float, float]], level: float, *, rising: bool = False
) -> float:
    """First step, interpolated, at which a falling reading is at or under `level`; else NaN.

    A rising one is at or above it.

    >>> first_crossing([(0, 4.0), (1, 2.0), (2, 0.5)], 1.0)
    1.5
    >>> first_crossing([(0, 0.25), (1, 0.5), (2, 2.0)], 1.0, rising=True)
    1.5
    """
    before: tuple[float, float] | None = None
    for step, value in points:
        if value >= level if rising else value <= level:
            return float(step) if before is None else crossing(*before, step, value, level)
        if not math.isnan(value):
            before = (step, value)
    return math.nan


@dataclass
class PhaseClassifier:
    """Labels steps one after the other; scalars in, `Verdict` out.

    Args:
        thresholds: every number that decides.
        escape_steps: predicted steps until the loss halves, the yardstick of SADDLE; without it
            SADDLE is never raised.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    escape_steps: float | None = None

    def __post_init__(self) -> None:
        """Start before the first step."""
        self._phase: Phase | None = None
        self._heavy = self._fitted = self._left_linear = False
        self._diverged = ""
        self._first: Mapping[str, float] = {}
        self._first_loss = math.nan
        self._before: tuple[int, Mapping[str, float]] | None = None
        self._onset = math.nan
        self._raised: set[str] = set()
        self._recent: deque[Mapping[str, float]] = deque(maxlen=self.thresholds.patience)

    def update(self, step: int, readings: Mapping[str, float]) -> Verdict:
        """Label one recorded step.

        Args:
            step: ascending from call to call.
            readings: metric name to value, under the names of design.md; what is missing is NaN.
        """
        self._first = self._first or dict(readings)
        if math.isnan(self._first_loss):  # the first step's may not have been seen
            self._first_loss = _get(readings, "loss/train")
        self._recent.append(readings)
        boundaries = self._boundaries(step, readings)
        alerts = self._alerts(step, readings)
        phase, reason = self._label(readings)
        transition = None
        if self._phase is not None and phase is not self._phase:
            transition = Transition(step, self._phase, phase)
        self._phase, self._before = phase, (step, readings)
        return Verdict(phase, reason, transition, boundaries, alerts)

    def state_dict(self) -> dict[str, Any]:
        """All that later labels depend on, as numbers, text, lists and mappings."""
        return {
            "phase": None if self._phase is None else self._phase.name,
            "heavy": self._heavy,
            "fitted": self._fitted,
            "left_linear": self._left_linear,
            "diverged": self._diverged,
            "first": dict(self._first),
            "first_loss": self._first_loss,
            "before": None if self._before is None else [self._before[0], dict(self._before[1])],
            "onset": self._onset,
            "raised": sorted(self._raised),
            "recent": [dict(readings) for readings in self._recent],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; thresholds stay those of this classifier."""
        self._phase = None if state["phase"] is None else Phase[state["phase"]]
        self._heavy, self._fitted = bool(state["heavy"]), bool(state["fitted"])
        self._left_linear, self._diverged = bool(state["left_linear"]), str(state["diverged"])
        self._first, self._first_loss = _floats(state["first"]), float(state["first_loss"])
        before = state["before"]
        self._before = None if before is None else (int(before[0]), _floats(before[1]))
        self._onset, self._raised = float(state["onset"]), {str(n) for n in state["raised"]}
        self._recent = deque(map(_floats, state["recent"]), maxlen=self.thresholds.patience)

    def _label(self, readings: Mapping[str, float]) -> tuple[Phase, str]:
        limits = self.thresholds
        if self._diverged:
            return Phase.UNDETERMINED, self._diverged
        if self._fitted:
            return Phase.FITTED, ""
        if self._heavy:
            return Phase.SIGNAL_HEAVY, ""
        zeta, drift = (
            _get(readings, "heaviness/zeta_star"),
            _get(readings, "linearization/slope_drift"),
        )
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
            self._signal_heavy(step, _get(readings, "heaviness/zeta_star")),
            self._linear_exit(step, _get(readings, "linearization/value_error")),
            self._fit(step, _get(readings, "loss/train")),
        )
        return tuple(boundary for boundary in found if boundary)

    def _signal_heavy(self, step: int, zeta: float) -> Boundary | None:
        limits = self.thresholds
        if zeta <= limits.zeta_exit and math.isnan(self._onset):
            self._onset = self._crossed(step, "heaviness/zeta_star", zeta, limits.zeta_exit)
        elif zeta > limits.zeta_exit:
            self._onset, self._heavy = math.nan, False
        if self._heavy or not zeta <= limits.zeta_enter:
            return None
        self._heavy = True
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
        if self._fitted:
            self._fitted = not loss > limits.fitted_exit * limits.loss_target
            return None
        if not -math.inf < loss <= limits.loss_target:
            return None
        self._fitted = True
        return Boundary("fitted", self._crossed(step, "loss/train", loss, limits.loss_target), step)

    def _crossed(self, step: int, name: str, value: float, level: float) -> float:
        """Interpolated step at which a metric crossed `level` on its way to `value` at `step`."""
        if self._before is None or math.isnan(before := _get(self._before[1], name)):
            return float(step)
        return crossing(self._before[0], before, step, value, level)

    def _alerts(self, step: int, readings: Mapping[str, float]) -> tuple[Alert, ...]:
        checks = {
            "DIVERGED": self._check_diverged(step, readings),
            "SADDLE": self._check_saddle(step, readings),
            "IMBALANCED": self._check_imbalanced(),
            "NON_SIGNAL_GROWTH": self._check_non_signal_growth(),
            "LAZY": self._check_lazy(readings),
        }
        new = {name: evidence for name, evidence in checks.items() if evidence}
        alerts = tuple(
            Alert(name, step, evidence)
            for name, evidence in new.items()
            if name not in self._raised
        )
        self._raised |= new.keys()
        return alerts

    def _check_diverged(self, step: int, readings: Mapping[str, float]) -> Mapping[str, float]:
        loss, start = _get(readings, "loss/train"), self._first_loss
        if "loss/train" not in readings:
            return {}
        if math.isfinite(loss) and not loss > self.thresholds.diverged_factor * start:
            return {}
        self._diverged = self._diverged or (
            f"diverged at step {step}: loss {loss:.4g}, {start:.4g} at the first recorded step"
        )
        return {"loss/train": loss, "first loss/train": start}

    def _check_saddle(self, step: int, readings: Mapping[str, float]) -> Mapping[str, float]:
        limits = self.thresholds
        if self.escape_steps is None or step < limits.saddle_patience * self.escape_steps:
            return {}
        share, start = (_get(r, "heaviness/signal_share") for r in (readings, self._first))
        if len(self._recent) < limits.patience:
            return {}
        if self._heavy or self._fitted or not share < limits.saddle_growth * start:
            return {}
        return {
            "heaviness/signal_share": share,
            "first heaviness/signal_share": start,
            "predicted escape step": self.escape_steps,
        }

    def _check_imbalanced(self) -> Mapping[str, float]:
        limits, last = self.thresholds, self._recent[-1]
        if len(self._recent) < limits.patience or "margin/balance" not in last:
            return {}
        # the last one first: it mostly settles it
        masses = (_get(r, "heaviness/heavy_mass") for r in reversed(self._recent))
        if not all(mass > limits.imbalance_mass for mass in masses):
            return {}
        # an unserved network has no positive margin at all, and balance NaN: as bad as 0
        balances = [_get(r, "margin/balance", 0.0) for r in self._recent]
        unserved = max(balances) < limits.imbalance_balance
        falling = all(later < sooner for sooner, later in itertools.pairwise(balances))
        if not unserved and not (falling and balances[-1] < limits.imbalance_fall * balances[0]):
            return {}
        return {
            "heaviness/heavy_mass": _get(last, "heaviness/heavy_mass"),
            "margin/balance": balances[-1],
            f"margin/balance {limits.patience} records ago": balances[0],
        }

    def _check_non_signal_growth(self) -> Mapping[str, float]:
        limits = self.thresholds
        # once signal-heavy, noise that follows a growing second layer is small beside the signal
        if self._heavy or self._fitted or len(self._recent) < limits.patience:
            return {}
        grown = _get(self._recent[-1], "growth/perp_factor")
        if not grown >= limits.non_signal_growth:
            return {}
        # means: where noise is what grows, the rates of single steps are noise too
        perp, signal = (
            sum(r.get(name, math.nan) for r in self._recent) / len(self._recent)
            for name in ("growth/perp_rate", "growth/signal_rate")
        )
        if not (perp > 0 and perp >= limits.non_signal_ratio * signal):
            return {}
        return {
            f"growth/perp_rate, mean of {limits.patience} records": perp,
            f"growth/signal_rate, mean of {limits.patience} records": signal,
            "growth/perp_factor": grown,
        }

    def _check_lazy(self, readings: Mapping[str, float]) -> Mapping[str, float]:
        zeta = _get(readings, "heaviness/zeta_star")
        if not self._fitted or not zeta > self.thresholds.zeta_exit:
            return {}
        return {"loss/train": _get(readings, "loss/train"), "heaviness/zeta_star": zeta}


def relabel(
    rows: Iterable[tuple[int, Mapping[str, float]]],
    thresholds: Thresholds,
    escape_steps: float | None = None,
) -> Iterator[tuple[int, Verdict]]:
    """Label recorded steps again, with other thresholds: (step, verdict) for each row."""
    classifier = PhaseClassifier(thresholds, escape_steps)
    for step, readings in rows:
        yield step, classifier.update(step, readings)


def _floats(readings: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in readings.items()}


def _get(readings: Mapping[str, float], name: str, if_nan: float = math.nan) -> float:
    value = readings.get(name, math.nan)
    return if_nan if math.isnan(value) else value
