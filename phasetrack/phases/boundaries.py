"""One vocabulary of a run's milestones: their keys in files, and their names for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Milestone:
    """A step of a run that is measured, forecast and shown.

    Attributes:
        key: its name among the ``boundaries`` of ``summary.json`` and in the tags ``phase_boundary/<key>`` of
            TensorBoard.
        forecast: its name in the ``forecast`` of ``summary.json`` and ``config.json``.
        title: its name in tables.
        label: its short name, in charts.
    """

    key: str
    forecast: str
    title: str
    label: str


SIGNAL_HEAVY = Milestone(
    "signal_heavy", "signal_heavy_onset", "onset of signal-heaviness", "signal-heavy"
)
LINEAR_EXIT = Milestone("linear_exit", "linear_exit", "exit from the linear regime", "linear exit")
FITTED = Milestone("fitted", "fitted", "loss target met", "fitted")
# Not a boundary: the summary holds its step under its own key.
LOSS_HALVED = Milestone("loss_halving_step", "loss_halving_step", "loss halved", "loss halved")

# The boundaries between phases by key, and every milestone in the order in which a run meets them.
BOUNDARIES = {boundary.key: boundary for boundary in (SIGNAL_HEAVY, LINEAR_EXIT, FITTED)}
MILESTONES = (SIGNAL_HEAVY, LINEAR_EXIT, LOSS_HALVED, FITTED)


def onset(summary: Mapping[str, Any], key: str) -> float:
    """Return the step at which a run met a milestone for good; NaN if never.

    Of several boundaries the last one that was not left again counts, and the first one where the run left
    them all.

    Args:
        summary: the content of ``summary.json``; empty for an unfinished run.
        key: the `Milestone.key`.

    >>> onset({"boundaries": [{"name": "fitted", "onset": 60.5, "detected": 61}]}, "fitted")
    60.5
    """
    if key == LOSS_HALVED.key:
        return float(summary.get(key, math.nan))
    met = [b for b in summary.get("boundaries", ()) if b["name"] == key]
    held = [b for b in met if b.get("left") is None]
    return float((held[-1:] or met[:1] or [{"onset": math.nan}])[0]["onset"])
