"""Whether the data fit the declared clusters: the labels of a run that they do not fit are undetermined."""

from __future__ import annotations

import math
from collections.abc import Mapping

from phasetrack.phases.thresholds import Thresholds

METRICS = (
    "heaviness/chance",
    "data/offset",
    "data/purity",
    "data/told",
    "data/told_error",
    "data/separated",
)


def misplaced(readings: Mapping[str, float], limits: Thresholds) -> str:
    """Return why zeta*, shares and margins say nothing of these data; empty where nothing speaks against them.

    Args:
        readings: of one record; a missing one speaks against nothing.
        limits: the levels.
    """
    chance = readings.get("heaviness/chance", math.nan)
    if chance >= 1:
        return (
            "the clusters span all of the input space, so that every weight counts as signal: zeta* and "
            "signal share tell nothing"
        )
    separated = readings.get("data/separated", math.nan)
    if separated < limits.least_separated:
        return f"the clusters' means are told apart from noise in {separated:.0%} of the pairs of different labels"
    offset = readings.get("data/offset", math.nan)
    if offset > limits.most_offset:
        return (
            f"the data do not fit the geometry: the samples of a cluster lie {offset:.2g} half-distances "
            "between clusters away from its centre on average"
        )
    return ""


def untold(readings: Mapping[str, float], limits: Thresholds) -> str:
    """Return that the clusters do not tell the labels; empty where they do. Arguments as in `misplaced`."""
    told, error = (readings.get(name, math.nan) for name in ("data/told", "data/told_error"))
    if told + limits.standard_errors * error <= limits.least_told:
        return (
            f"the data do not fit the geometry: the nearest centre tells {readings['data/purity']:.0%} of "
            "the labels, hardly more than the commonest label alone"
        )
    return ""
