"""Samples to an error at the batch and step size that need the fewest, for claims about their growth with d."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from phasetrack.studies import confidence
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.theory.settings import RunSettings

SEEDS = 4
# Added to the seed of a block: the runs that choose are not those that are judged.
TUNING_SEED = 5_000


@dataclass(frozen=True)
class Tuned:
    """Samples to an error at the best batch and step size of each d.

    Attributes:
        samples: of each run on seeds that nothing was chosen on, by d; NaN where the error is not met.
        chosen: m and eta d / m, by d.
    """

    samples: Mapping[int, Sequence[float]]
    chosen: Mapping[int, tuple[int, float]]

    @property
    def means(self) -> dict[int, confidence.Interval]:
        """Mean samples by d."""
        return {d: confidence.mean(values) for d, values in self.samples.items()}

    @property
    def words(self) -> str:
        """The choices in words."""
        return ", ".join(f"({m}, {ratio:g}) at d = {d}" for d, (m, ratio) in self.chosen.items())


@dataclass(frozen=True)
class Goal:
    """An error, and where the fewest samples to it are looked for.

    Attributes:
        level: the error on held-out samples.
        variation: of `VARIATIONS`, which ends a run at that error.
        batches: m.
        ratios: eta d / m; with it the noise of a step is the same for every m and d (theory.md 6b).
        most: samples per d after which a run is given up.
    """

    level: float
    variation: str
    batches: Sequence[int]
    ratios: Sequence[float]
    most: int


def tuned(lab: Lab, base: RunSettings, dims: Sequence[int], goal: Goal) -> Tuned:
    """Choose m and eta together at each d on one seed, then count samples on others.

    Args:
        lab: trains the runs.
        base: task and width.
        dims: the dimensions.
        goal: the error.
    """
    pairs = list(itertools.product(goal.batches, goal.ratios))
    grid = {
        (d, m, ratio): replace(
            base,
            d=d,
            batch=m,
            eta=ratio * m / d,
            steps=math.ceil(goal.most * d / m),
            # the error is read each d / 2 samples
            every=max(1, d // (2 * m)),
        )
        for d in dims
        for m, ratio in pairs
    }
    tries = replace(lab, seed=lab.seed + TUNING_SEED).grid(grid, 1, goal.variation)
    chosen = {
        d: min(pairs, key=lambda pair: _or_never(_samples(tries[d, *pair][0], goal.level)))
        for d in dims
    }
    runs = lab.grid({d: grid[d, *chosen[d]] for d in dims}, SEEDS, goal.variation)
    return Tuned({d: [_samples(run, goal.level) for run in runs[d]] for d in dims}, chosen)


def _samples(run: Observed, level: float) -> float:
    return run.crosses("held_out/error", level) * run.settings.batch_size


def _or_never(samples: float) -> float:
    return math.inf if math.isnan(samples) else samples
