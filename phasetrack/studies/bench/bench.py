"""Plays runs of known truth and scores detectors on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from phasetrack.studies.bench.detectors import Detector
from phasetrack.studies.bench.known_run import KnownRun
from phasetrack.studies.bench.score import RunScore, as_json, of_json, scored, total

# The seeds of the published table; no level was chosen on them.
FIRST_SEED = 2000
SEEDS = 10


def scores_of(
    detectors: Sequence[Detector],
    runs: Sequence[KnownRun],
    seeds: Sequence[int],
    said: Callable[[KnownRun, int], object] = lambda *_: None,
) -> dict[str, list[RunScore]]:
    """Play each run at each seed, and score each detector on the runs whose truth it can be held against.

    Args:
        detectors: with names of their own.
        runs: of known truth.
        seeds: of each run.
        said: called before a run is played.
    """
    found: dict[str, list[RunScore]] = {detector.name: [] for detector in detectors}
    for run in runs:
        asked = [(one, _shared(one, run)) for one in detectors]
        asked = [(one, names) for one, names in asked if names]
        for seed in seeds if asked else ():
            said(run, seed)
            played = run.play(seed)
            for detector, names in asked:
                begun = time.perf_counter()
                boundaries = detector.find(played.rows)
                seconds = time.perf_counter() - begun
                score = scored(
                    boundaries,
                    played,
                    names,
                    run=run.name,
                    seed=seed,
                    control=run.control,
                    seconds=seconds,
                )
                found[detector.name].append(score)
    return found


def _shared(detector: Detector, run: KnownRun) -> frozenset[str]:
    return run.known if detector.names is None else run.known & detector.names


def as_content(scores: dict[str, list[RunScore]], runs: Sequence[KnownRun]) -> dict[str, Any]:
    """Return the runs and the scores as JSON values."""
    return {
        "runs": [
            {"name": r.name, "line": r.line, "control": r.control, "known": sorted(r.known)}
            for r in runs
        ],
        "scores": {name: [as_json(one) for one in each] for name, each in scores.items()},
    }


def of_content(content: dict[str, Any]) -> dict[str, list[RunScore]]:
    """Return the scores of such values."""
    return {name: [of_json(one) for one in each] for name, each in content["scores"].items()}


HEADERS = (
    "detector",
    "run",
    "runs",
    "misses",
    "runs with false alarms",
    "onset - truth",
    "detection - truth",
    "lead in steps",
    "us per record",
)


def rows_of_table(scores: dict[str, list[RunScore]]) -> Iterator[tuple[str, ...]]:
    """Return a row per detector and run."""
    for name, each in scores.items():
        for run in dict.fromkeys(one.run for one in each):
            yield _row(name, run, [one for one in each if one.run == run])


def rows_of_totals(scores: dict[str, list[RunScore]]) -> Iterator[tuple[str, ...]]:
    """Return a row per detector over the runs that have something, and one over the controls."""
    for name, each in scores.items():
        for kind, control in (("all truths", False), ("all controls", True)):
            if these := [one for one in each if one.control == control]:
                yield _row(name, kind, these)


def _row(name: str, run: str, scores: Sequence[RunScore]) -> tuple[str, ...]:
    sums = total(scores)
    cells = (sums.misses, sums.false_alarms, sums.offset, sums.delay, sums.lead)
    numbers = ["" if cell.count == 0 else str(cell) for cell in cells]
    return (name, run, str(sums.count), *numbers, f"{sums.microseconds:.1f}")
