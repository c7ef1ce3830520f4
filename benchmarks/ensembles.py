"""Runs trained together against the same runs one by one, measured at every step.

    python benchmarks/ensembles.py [--members 16] [--rounds 3]

m = 4 d. Alone means an ensemble of one: the same steps and probes, and no files either.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from _timing import publish, ratio, take_turns

from phasetrack import RunSettings, train_together

SIZES = [(16, 32), (64, 64), (64, 256), (128, 256), (256, 256)]
STEPS = 32


def together(settings: Sequence[RunSettings]) -> None:
    assert len(list(train_together(settings))) == len(settings)


def one_by_one(settings: Sequence[RunSettings]) -> None:
    for member in settings:
        assert len(list(train_together([member]))) == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/ensembles.json"))
    asked = parser.parse_args()
    rows = []
    for d, width in SIZES:
        settings = [
            RunSettings(d=d, width=width, steps=STEPS, seed=seed) for seed in range(asked.members)
        ]
        cases = {
            "together": lambda s=settings: together(s),
            "one by one": lambda s=settings: one_by_one(s),
        }
        seconds = take_turns(cases, rounds=asked.rounds, warm_up=1)
        per_step = STEPS * asked.members / 1e3
        rows.append(
            {
                "d": d,
                "p": width,
                "m": 4 * d,
                "ms a step together": min(seconds["together"]) / per_step,
                "one by one": min(seconds["one by one"]) / per_step,
                "times faster": ratio(seconds["one by one"], seconds["together"]),
            }
        )
    publish(rows, asked.json, members=asked.members, steps=STEPS, rounds=asked.rounds)


if __name__ == "__main__":
    main()
