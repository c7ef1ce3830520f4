"""What is left to say of a run at its end: the content of ``summary.json``, made and checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from phasetrack.errors import ExpectedError, expected_error
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

# Characters of a text in a summary that are taken, for files from elsewhere (chosen here).
LONGEST_TEXT = 1000
FILE = "summary.json"

Kind = Callable[[str, object], Any]


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
    """Boundaries, alerts, final readings and the forecast, as JSON knows them.

    Numbers that are not finite stay so here (``NaN``, ``Infinity`` in the file).

    Args:
        history: every recorded step, ``phase/id`` included.
        phase: the last label.
        reason: why it is UNDETERMINED; empty otherwise.
        boundaries: those detected.
        alerts: those raised.
        undefined: metric or probe name to the reason why it could not be read.
        steps: optimizer steps taken.
        thresholds: what the labels go by.
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
    """`summarise` for readings that carry no labels, or other ones than `thresholds` give."""
    verdicts = [
        verdict for _, verdict in relabel(history.rows(names=METRICS), thresholds, escape_steps)
    ]
    labelled = History()
    ids = np.array([float(verdict.phase.id) for verdict in verdicts])
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
    """Interpolated step at which the training loss passes half of its first value; NaN if never."""
    if "loss/train" not in history:
        return math.nan
    losses = history["loss/train"]
    return first_crossing(zip(history.steps.tolist(), losses.tolist(), strict=True), losses[0] / 2)


def growth_by_phase(history: History) -> dict[str, dict[str, float]]:
    """Median growth rate of the signal in each phase, measured and predicted (theory.md 6).

    In SIGNAL_FINDING over all neurons; in SIGNAL_HEAVY over the heavy ones.
    """
    groups = {Phase.SIGNAL_FINDING: "", Phase.SIGNAL_HEAVY: "_heavy"}
    rates: dict[str, dict[str, float]] = {}
    for phase, group in groups.items():
        name = f"growth/signal_rate{group}"
        if name not in history or f"{name}_predicted" not in history:
            continue
        during = history["phase/id"] == phase.id
        pairs = np.stack([history[name], history[f"{name}_predicted"]])[:, during]
        known = pairs[:, np.isfinite(pairs).all(axis=0)]
        if known.size:
            measured, predicted = np.median(known, axis=1)
            rates[phase.name.lower()] = {
                "measured": float(measured),
                "predicted": float(predicted),
            }
    return rates


def check_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary that was read from a file, with every part of the kind that its readers expect.

    Args:
        summary: what the file holds. Parts that are missing stay missing; others than phasetrack's
            stay as they are. Of an alert's evidence numbers and texts stay.

    Raises:
        ExpectedError: naming what is of another kind.
    """
    return {
        name: _KINDS[name](name, value) if name in _KINDS else value
        for name, value in summary.items()
    }


def _refused(name: str, allowed: str, value: object) -> ExpectedError:
    return expected_error("run", f"{name} in {FILE} as {allowed}", _short(value))


def _number(name: str, value: object) -> int | float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    raise _refused(name, "a number", value)


def _onset(name: str, value: object) -> int | float:
    """A number, or not finite where no crossing was seen."""
    if isinstance(value, float):
        return value
    return _number(name, value)


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    raise _refused(name, "text", value)


def _reasons(name: str, value: object) -> dict[str, str]:
    if isinstance(value, dict):
        return {str(key): _text(f"{name}.{key}", reason) for key, reason in value.items()}
    raise _refused(name, "an object of texts", value)


def _phase(name: str, value: object) -> str:
    known = [phase.name for phase in Phase]
    if isinstance(value, str) and value in known:
        return value
    raise _refused(name, f"one of {', '.join(known)}", value)


def _object(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise _refused(name, "an object", value)


def _flat(name: str, value: object) -> dict[str, Any]:
    """Names to numbers or texts; whatever else there is is left out."""
    kept: dict[str, Any] = {}
    for key, item in _object(name, value).items():
        if isinstance(item, str):
            kept[key] = item[:LONGEST_TEXT]
        elif isinstance(item, float) or (type(item) is int and abs(item) < 2**63):
            kept[key] = item
    return kept


def _objects(name: str, value: object) -> dict[str, Any]:
    """Names to objects."""
    return {key: _object(f"{name}.{key}", item) for key, item in _object(name, value).items()}


def _rates(name: str, value: object) -> dict[str, Any]:
    """Growth rates of a phase, measured and predicted."""
    found = _objects(name, value)
    for key, rates in found.items():
        for kind in ("measured", "predicted"):
            _onset(f"{name}.{key}.{kind}", rates.get(kind))
    return found


def _matmul(name: str, value: object) -> dict[str, Any]:
    """How matrices were multiplied; error and speed where they were measured."""
    found = _object(name, value)
    _text(f"{name}.path", found.get("path"))
    for kind in ("error", "speed"):
        if found.get(kind) is not None:
            _onset(f"{name}.{kind}", found[kind])
    return {"error": None, "speed": None, **found}


def _forecast(name: str, value: object) -> dict[str, Any]:
    """Predicted boundaries, each with its band."""
    found = _objects(name, value)
    for key, band in found.items():
        for edge in ("value", "low", "high"):
            _onset(f"{name}.{key}.{edge}", band.get(edge))
    return found


def _thresholds(name: str, value: object) -> dict[str, Any]:
    found = _object(name, value)
    try:
        Thresholds(**found)
    except (TypeError, ValueError) as error:
        raise expected_error("run", f"{name} in {FILE} that work", str(error)[:300]) from None
    return found


def _rows(**kinds: Kind) -> Kind:
    """A list of objects, of which these parts are taken."""

    def check(name: str, value: object) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise _refused(name, "a list of objects", value)
        return [
            {key: kind(f"{name}.{key}", item.get(key)) for key, kind in kinds.items()}
            for item in value
        ]

    return check


def _short(value: object) -> str:
    # never the whole of it: it may be of any size
    return repr(value)[:80] if isinstance(value, str | int | float | None) else type(value).__name__


_KINDS: dict[str, Kind] = {
    "undefined": _reasons,
    "phase": _phase,
    "reason": _text,
    "steps": _number,
    "timeline": _rows(phase=_phase, start=_number, end=_number),
    "boundaries": _rows(name=_text, onset=_onset, detected=_number),
    "alerts": _rows(name=_text, step=_number, evidence=_flat),
    "growth": _rates,
    "loss_halving_step": _onset,
    "seconds": _number,
    "directory": _text,
    "stopped": _text,
    "matmul": _matmul,
    "final": _object,
    "forecast": _forecast,
    "thresholds": _thresholds,
}
