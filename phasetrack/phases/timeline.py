"""Stretches of equal labels, under the keys of ``summary.json``: ``phase``, ``start``, ``end``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np

from phasetrack.phases.history import History
from phasetrack.phases.labels import Phase

# Stretches that are shown one by one: more than a person can tell apart on a screen.
MOST_STRETCHES = 500


def timeline(
    history: History, column: str = "phase/id", labels: type[Enum] = Phase
) -> list[dict[str, Any]]:
    """Return the stretches of a labelled history: phase name, first and last recorded step.

    Args:
        history: the labelled records.
        column: the metric that holds the labels' numbers; records without one are left out.
        labels: the labels by number.

    >>> timeline(History([(0, {"phase/id": 1.0}), (2, {"phase/id": 1.0}), (4, {"phase/id": 3.0})]))
    [{'phase': 'SIGNAL_FINDING', 'start': 0, 'end': 2}, {'phase': 'FITTED', 'start': 4, 'end': 4}]
    """
    if column not in history or not history.count:
        return []
    known = ~np.isnan(history[column])
    ids, steps = history[column][known], history.steps[known]
    starts = np.flatnonzero(np.diff(ids, prepend=np.nan) != 0)
    ends = np.append(starts[1:] - 1, len(ids) - 1)
    return [
        {"phase": labels(int(ids[start])).name, "start": int(steps[start]), "end": int(steps[end])}
        for start, end in zip(starts, ends, strict=True)
    ]


def extend_timeline(stretches: list[dict[str, Any]], step: int, phase: str) -> None:
    """Add one recorded step: the last stretch grows if it has this label, or a new one begins."""
    if stretches and stretches[-1]["phase"] == phase:
        stretches[-1]["end"] = step
    else:
        stretches.append({"phase": phase, "start": step, "end": step})


def merged(timeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return stretches of labels, merged where they change too often to be told apart."""
    if len(timeline) <= MOST_STRETCHES:
        return [dict(stretch) for stretch in timeline]
    column = (timeline[-1]["end"] - timeline[0]["start"]) / MOST_STRETCHES
    groups: list[list[Mapping[str, Any]]] = []
    for stretch in timeline:
        long = stretch["end"] - stretch["start"] >= column
        if long or not groups or groups[-1][-1]["end"] - groups[-1][0]["start"] >= column:
            groups.append([])
        groups[-1].append(stretch)
    found: list[dict[str, Any]] = []
    for group in groups:
        share: Counter[str] = Counter()
        for stretch in group:
            share[stretch["phase"]] += stretch["end"] - stretch["start"] + 1
        phase, end = max(share, key=lambda name: share[name]), group[-1]["end"]
        if found and found[-1]["phase"] == phase:
            found[-1]["end"] = end
        else:
            found.append({"phase": phase, "start": group[0]["start"], "end": end})
    return found
