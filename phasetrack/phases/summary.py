"""The content of ``summary.json``: labels, events and growth of a whole run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from phasetrack.phases.classifier import (
    METRICS,
    Alert,
    Boundary,
    Phase,
    Thresholds,
    Verdict,
    first_crossing,
    relabel,
)
from phasetrack.phases.history import History
from phasetrack.phases.timeline import timeline


def summarise(
    history: History,
    *,
    phase: Phase,
    reason: str,
    boundaries: Sequence[Boundary],
    alerts: Sequence[Alert],
    undefined: Mapping[str, str],
    steps: int,
    thresholds: Thresholds,
    forecast: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Summarise a labelled run as JSON values.

    Numbers that are not finite stay so (``NaN``, ``Infinity`` in the file).

    Args:
        history: every recorded step, including ``phase/id``.
        phase: the last label.
        reason: why the last label is UNDETERMINED; empty otherwise.
        boundaries: all detected boundaries.
        alerts: all raised alerts.
        undefined: metric or probe name to the reason why it could not be read.
        steps: the number of optimizer steps.
        thresholds: the levels of the labels.
        forecast: predicted boundaries, each with `value`, `low` and `high`.
    """
    final = {name: float(history[name][-1]) for name in history} if len(history.steps) else {}
    return {
        "phase": phase.name,
        "reason": reason,
        "steps": steps,
        "boundaries": [asdict(boundary) for boundary in boundaries],
        "alerts": [{**asdict(alert), "evidence": dict(alert.evidence)} for alert in alerts],
        "timeline": timeline(history),
        "loss_halving_step": loss_halving_step(history),
        "growth": growth_by_phase(history),
        "final": final,
        "forecast": dict(forecast or {}),
        "undefined": dict(undefined),
        "thresholds": asdict(thresholds),
    }


def summarise_again(
    history: History,
    thresholds: Thresholds,
    *,
    escape_steps: float | None = None,
    undefined: Mapping[str, str] | None = None,
    steps: int | None = None,
    forecast: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Label a history under `thresholds`, and summarise it."""
    verdicts = [
        verdict for _, verdict in relabel(history.rows(names=METRICS), thresholds, escape_steps)
    ]
    labelled = History()
    ids = np.array([float(verdict.phase.value) for verdict in verdicts])
    labelled.extend(history.steps, {**history, "phase/id": ids})
    last = verdicts[-1] if verdicts else Verdict(Phase.UNDETERMINED, "no step was recorded")
    return summarise(
        labelled,
        phase=last.phase,
        reason=last.reason,
        boundaries=[boundary for verdict in verdicts for boundary in verdict.boundaries],
        alerts=[alert for verdict in verdicts for alert in verdict.alerts],
        undefined=undefined or {},
        steps=history.last_step + 1 if steps is None else steps,
        thresholds=thresholds,
        forecast=forecast,
    )


def loss_halving_step(history: History) -> float:
    """Interpolate the step at which the training loss halves; NaN if never."""
    if "loss/train" not in history:
        return math.nan
    losses = history["loss/train"]
    return first_crossing(zip(history.steps.tolist(), losses.tolist(), strict=True), losses[0] / 2)


def growth_by_phase(history: History) -> dict[str, dict[str, float]]:
    """Return the median growth rate of the signal per phase, measured and predicted (theory.md 6).

    The median is over all neurons in SIGNAL_FINDING, over the heavy ones in SIGNAL_HEAVY.
    """
    groups = {Phase.SIGNAL_FINDING: "", Phase.SIGNAL_HEAVY: "_heavy"}
    rates: dict[str, dict[str, float]] = {}
    for phase, group in groups.items():
        name = f"growth/signal_rate{group}"
        if name not in history or f"{name}_predicted" not in history:
            continue
        during = history["phase/id"] == phase.value
        pairs = np.stack([history[name], history[f"{name}_predicted"]])[:, during]
        known = pairs[:, np.isfinite(pairs).all(axis=0)]
        if known.size:
            measured, predicted = np.median(known, axis=1)
            rates[phase.name.lower()] = {
                "measured": float(measured),
                "predicted": float(predicted),
            }
    return rates
