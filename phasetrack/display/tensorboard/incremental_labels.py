"""Label a growing history under any thresholds: only new steps are classified."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phasetrack.phases.classifier import METRICS, Thresholds
from phasetrack.phases.history import History
from phasetrack.phases.run_labels import RunLabels
from phasetrack.phases.timeline import extend_timeline, merged
from phasetrack.storage.file_names import SUMMARY
from phasetrack.storage.json_schema import check_summary

# Boundaries or alerts that are sent one by one: more than a person can tell apart on a screen.
MOST_MARKS = 300


class Labels:
    """Phases, boundaries and alerts of a history, updated by `advance`.

    Args:
        thresholds: the levels that decide the labels.
        escape_steps: predicted steps until the loss halves, or None to leave SADDLE out.
    """

    def __init__(self, thresholds: Thresholds, escape_steps: float | None) -> None:
        self._labels = RunLabels(thresholds, escape_steps)
        self._timeline: list[dict[str, Any]] = []
        self._seen = 0

    def advance(self, history: History) -> dict[str, Any]:
        """Label the new steps, and return all labels under the keys of ``summary.json``."""
        labels = self._labels
        for step, readings in history.rows(self._seen, METRICS):
            verdict = labels.update(step, readings)
            extend_timeline(self._timeline, step, verdict.phase.name)
            self._seen += 1
        return {
            "phase": labels.phase.name,
            "reason": labels.reason if self._seen else "",
            "applies": labels.applies,
            "timeline": self._timeline,
            **labels.events(),
            "thresholds": asdict(labels.thresholds),
        }


def recorded_labels(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return phase, reason, timeline, boundaries and alerts of a ``summary.json``, validated.

    Raises:
        ExpectedError: if a part is missing or has the wrong type, as in a summary that phasetrack
            did not write.
    """
    names = ("phase", "reason", "timeline", "boundaries", "alerts")
    parts = {"reason": ""} | {name: summary.get(name) for name in names}
    checked = check_summary(parts, Path(SUMMARY))
    return {name: checked[name] for name in names}


def bounded(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Return the labels with no more parts than a person can tell apart.

    Where the label changes too often, changes within a 500th of the steps become one stretch with
    the label that holds most of them. Of too many boundaries or alerts, the first of each name and
    evenly chosen further ones stay. ``omitted`` counts the parts that were left out.
    """
    kept = {
        "timeline": merged(labels["timeline"]),
        "boundaries": _few(labels["boundaries"]),
        "alerts": _few(labels["alerts"]),
    }
    omitted = {name: len(labels[name]) - len(parts) for name, parts in kept.items()}
    omitted["stretches"] = omitted.pop("timeline")
    return {**labels, **kept, "omitted": omitted}


def _few(marks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(marks) <= MOST_MARKS:
        return list(marks)
    names = [mark["name"] for mark in marks]
    first = {names.index(name) for name in itertools.islice(dict.fromkeys(names), MOST_MARKS)}
    even = {round(i * (len(marks) - 1) / (MOST_MARKS - 1)) for i in range(MOST_MARKS)}
    return [marks[place] for place in sorted(first | even)]


def without_infinity(value: Any) -> Any:
    """Replace numbers that JSON does not have by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_infinity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_infinity(item) for item in value]
    return value
