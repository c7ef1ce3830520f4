"""The labels of a history that grows, under any thresholds: only new steps are looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from phasetrack._checks import ExpectedError
from phasetrack.phases import Phase, PhaseClassifier, Thresholds
from phasetrack.records import History


class Labels:
    """Phases, boundaries and alerts of a history, brought up to date by `advance`.

    Args:
        thresholds: what the labels go by.
        escape_steps: predicted steps until the loss halves, for SADDLE; None leaves it out.
    """

    def __init__(self, thresholds: Thresholds, escape_steps: float | None) -> None:
        self._thresholds = thresholds
        self._classifier = PhaseClassifier(thresholds, escape_steps)
        self._seen = 0
        self._timeline: list[dict[str, Any]] = []
        self._boundaries: list[dict[str, Any]] = []
        self._alerts: list[dict[str, Any]] = []
        self._reason = ""

    def advance(self, history: History) -> dict[str, Any]:
        """Label the steps that are new, and return everything known, under ``summary.json``'s keys."""
        for step, readings in history.rows(self._seen):
            verdict = self._classifier.update(step, readings)
            self._boundaries += [asdict(boundary) for boundary in verdict.boundaries]
            self._alerts += [
                {**asdict(alert), "evidence": dict(alert.evidence)} for alert in verdict.alerts
            ]
            if self._timeline and self._timeline[-1]["phase"] == verdict.phase.name:
                self._timeline[-1]["end"] = step
            else:
                self._timeline.append({"phase": verdict.phase.name, "start": step, "end": step})
            self._reason, self._seen = verdict.reason, self._seen + 1
        return {
            "phase": self._timeline[-1]["phase"] if self._timeline else "UNDETERMINED",
            "reason": self._reason,
            "timeline": self._timeline,
            "boundaries": self._boundaries,
            "alerts": self._alerts,
            "thresholds": asdict(self._thresholds),
        }


def recorded_labels(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Phase, reason, timeline, boundaries and alerts of a ``summary.json``, each checked.

    Raises:
        ExpectedError: naming what is not of its kind, for summaries that phasetrack did not write.
    """
    known = {phase.name for phase in Phase}
    rows: dict[str, dict[str, Callable[[str, object], Any]]] = {
        "timeline": {"phase": _one_of(known), "start": _number, "end": _number},
        "boundaries": {"name": _text, "onset": _number_or_none, "detected": _number},
        "alerts": {"name": _text, "step": _number, "evidence": _object},
    }
    found: dict[str, Any] = {
        "phase": _one_of(known)("phase", summary.get("phase")),
        "reason": _text("reason", summary.get("reason", "")),
    }
    for name, kinds in rows.items():
        items = summary.get(name)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ExpectedError(
                "run", f"{name} in summary.json as a list of objects", _short(items)
            )
        found[name] = [
            {key: kind(f"{name}.{key}", item.get(key)) for key, kind in kinds.items()}
            for item in items
        ]
    checked: dict[str, Any] = without_infinity(found)
    return checked


def without_infinity(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_infinity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_infinity(item) for item in value]
    return value


def _number(name: str, value: object) -> int | float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    raise ExpectedError("run", f"{name} in summary.json as a number", _short(value))


def _number_or_none(name: str, value: object) -> int | float | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return _number(name, value)


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise ExpectedError("run", f"{name} in summary.json as text", _short(value))


def _object(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ExpectedError("run", f"{name} in summary.json as an object", _short(value))


def _one_of(known: set[str]) -> Callable[[str, object], str]:
    def check(name: str, value: object) -> str:
        if isinstance(value, str) and value in known:
            return value
        allowed = f"{name} in summary.json as one of {', '.join(sorted(known))}"
        raise ExpectedError("run", allowed, _short(value))

    return check


def _short(value: object) -> str:
    return repr(value)[:80]
