"""Boundaries that a detector found against those that a run truly has. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

from phasetrack.studies.bench.known_run import Event, Played
from phasetrack.studies.confidence import Interval, mean, share

# A found boundary belongs to a true one if its onset is at most this share of the true step away from it, and at least
# `LEAST` steps count as near. Heuristics of ours, as wide as "about there" is meant.
TOLERANCE = 0.5
LEAST = 5.0
# Records over which the loss is smoothed where its halving is looked for. A heuristic of ours.
SMOOTHED = 5
# The name of a boundary that stands for any.
ANY = "*"


class Found(NamedTuple):
    """A boundary or alert that a detector reports.

    Attributes:
        name: of it; `ANY` from a detector without names.
        onset: the step that the detector dates it to.
        detected: the step at which the detector reported it.
    """

    name: str
    onset: float
    detected: float


@dataclass(frozen=True)
class RunScore:
    """The score of one detector on one run.

    Attributes:
        run: name of the run.
        seed: of the run.
        control: whether the run truly has nothing.
        events: how many it truly has.
        misses: how many of them were not found.
        false_alarms: how many were found that it does not have.
        offsets: onset less the true step, as a share of it, of those found.
        delays: detection less the true step, as a share of it.
        leads: steps from detection until the loss is half of its start, or the run ends early.
        microseconds: that the detector took per record.
    """

    run: str
    seed: int
    control: bool
    events: int
    misses: int
    false_alarms: int
    offsets: tuple[float, ...]
    delays: tuple[float, ...]
    leads: tuple[float, ...]
    microseconds: float


def scored(
    found: Sequence[Found],
    played: Played,
    names: frozenset[str],
    *,
    run: str,
    seed: int,
    control: bool,
    seconds: float,
) -> RunScore:
    """Match what was found with the truth, each to the nearest true one of its name that is left.

    Args:
        found: by the detector; names beside `names` do not count.
        played: the run.
        names: that the truth settles and the detector knows.
        run: name of the run.
        seed: of it.
        control: whether it has nothing.
        seconds: that the detector took.
    """
    true = [event for event in played.events if event.name in names]
    counted = [one for one in found if one.name in names or one.name == ANY]
    pairs, left = [], list(counted)
    for event in true:
        near = min((one for one in left if _fits(one, event)), key=_distance(event), default=None)
        if near is not None:
            left.remove(near)
            pairs.append((event, near))
    end = _consequence(played)
    return RunScore(
        run,
        seed,
        control,
        len(true),
        len(true) - len(pairs),
        len(left),
        tuple((one.onset - event.step) / max(event.step, 1.0) for event, one in pairs),
        tuple((one.detected - event.step) / max(event.step, 1.0) for event, one in pairs),
        tuple(end - one.detected for _, one in pairs if not math.isnan(end)),
        1e6 * seconds / max(len(played.rows), 1),
    )


def _fits(one: Found, event: Event) -> bool:
    near = max(TOLERANCE * event.step, LEAST)
    return one.name in (event.name, ANY) and abs(one.onset - event.step) <= near


def _distance(event: Event) -> Any:
    return lambda one: abs(one.onset - event.step)


def _consequence(played: Played) -> float:
    """Return the step at which a run ended early, or its loss, as a median of `SMOOTHED` records, halved; else NaN."""
    losses = [(step, row["loss/train"]) for step, row in played.rows if "loss/train" in row]
    if played.rows and played.rows[-1][0] + 1 < played.end:
        return float(played.rows[-1][0])
    windows = [losses[place : place + SMOOTHED] for place in range(len(losses) - SMOOTHED + 1)]
    medians = [(part[0][0], median(loss for _, loss in part)) for part in windows]
    return next((float(step) for step, loss in medians if loss <= medians[0][1] / 2), math.nan)


@dataclass(frozen=True)
class Total:
    """The score of one detector over all seeds of a run, or of all its runs.

    Attributes:
        count: number of runs.
        misses: share of the true boundaries that were not found.
        false_alarms: share of the runs with one or more.
        offset: mean of the onsets' offsets.
        delay: mean of the delays.
        lead: mean of the leads.
        microseconds: per record.
    """

    count: int
    misses: Interval
    false_alarms: Interval
    offset: Interval
    delay: Interval
    lead: Interval
    microseconds: float


def total(scores: Sequence[RunScore]) -> Total:
    """Add up the scores of one detector."""
    return Total(
        len(scores),
        share(sum(s.misses for s in scores), sum(s.events for s in scores)),
        share(sum(s.false_alarms > 0 for s in scores), len(scores)),
        mean([value for s in scores for value in s.offsets]),
        mean([value for s in scores for value in s.delays]),
        mean([value for s in scores for value in s.leads]),
        sum(s.microseconds for s in scores) / max(len(scores), 1),
    )


def as_json(score: RunScore) -> dict[str, Any]:
    """Return a score as JSON values of three digits."""
    return {name: _short(value) for name, value in asdict(score).items()}


def of_json(entry: Mapping[str, Any]) -> RunScore:
    """Return the score of such values."""
    read: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in entry.items()}
    return RunScore(**read)


def _short(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_short(each) for each in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.3g}")
    return value
