"""Samples to 2 percent error against d, three seeds each, trained together (theory.md 7).

    python benchmarks/sample_complexity.py [--largest 4096] [--seeds 3]

m = 2 d, p = 256, eta = 0.2, theta = 0.1, fresh samples at every step. The error is that on a sample
which no run trains on, looked at only once the training batch's own error has come near.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from _timing import publish

from phasetrack import RunSettings
from phasetrack.tasks import XOR
from phasetrack.training.networks import Networks
from phasetrack.training.run import FRESH_STEP

WIDTH, ETA, THETA, ERROR = 256, 0.2, 0.1, 0.02
# A training batch's error under which the held-out sample is looked at, and that sample's size.
NEAR, HELD_OUT = 0.1, 8192


@torch.no_grad()
def steps_to_error(d: int, seeds: int) -> list[float]:
    """Steps of each seed until the held-out error is ERROR, interpolated."""
    settings = [
        RunSettings(d=d, batch=2 * d, width=WIDTH, eta=ETA, theta=THETA, seed=seed)
        for seed in range(seeds)
    ]
    networks, held_out = Networks(settings), XOR(d).sample(HELD_OUT, seed=seeds, step=FRESH_STEP)
    reached = [math.nan] * seeds
    before = [(math.nan, math.nan)] * seeds
    for step in range(settings[0].step_limit):
        wrong = torch.zeros(seeds, dtype=torch.long)

        def count(_: object, y: torch.Tensor, f: torch.Tensor, wrong: torch.Tensor = wrong) -> None:
            wrong += (f * y <= 0).sum(dim=1)

        gradient = networks.gradient_of_step(step, count)
        if bool((wrong < NEAR * 2 * d).any()):
            inputs, labels = held_out
            errors = (networks.outputs(inputs) * labels <= 0).double().mean(dim=1).tolist()
            for seed, error in enumerate(errors):
                if error <= ERROR and math.isnan(reached[seed]):
                    reached[seed] = _crossing(*before[seed], step, error)
                before[seed] = (step, error)
        if not any(map(math.isnan, reached)):
            break
        networks.move(*gradient)
    return reached


def _crossing(step0: float, error0: float, step1: float, error1: float) -> float:
    if math.isnan(step0) or error0 <= error1:
        return step1
    return step0 + (step1 - step0) * (error0 - ERROR) / (error0 - error1)


def fit(d: np.ndarray, samples: np.ndarray) -> dict[str, float]:
    """samples/d = c1 log d + c2 by least squares, its R^2, and the exponent of samples = C d^e."""
    design = np.stack([np.log(d), np.ones_like(d)], axis=1)
    per_d = samples / d
    law, *_ = np.linalg.lstsq(design, per_d, rcond=None)
    residual = per_d - design @ law
    power, *_ = np.linalg.lstsq(design, np.log(samples), rcond=None)
    r2 = 1 - (residual**2).sum() / ((per_d - per_d.mean()) ** 2).sum()
    return {"c1": law[0], "c2": law[1], "R2": r2, "exponent": power[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--largest", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--json", type=Path, default=Path("build/benchmarks/sample_complexity.json")
    )
    asked = parser.parse_args()
    rows, points = [], []
    started = time.perf_counter()
    d = 64
    while d <= asked.largest:
        began = time.perf_counter()
        samples = [2 * d * step for step in steps_to_error(d, asked.seeds)]
        points += [(d, s) for s in samples]
        each = {f"seed {seed}, samples/d": s / d for seed, s in enumerate(samples)}
        mean = float(np.mean(samples)) / d
        rows.append({"d": d, **each, "mean": mean, "s": time.perf_counter() - began})
        d *= 2
    total = time.perf_counter() - started
    law = fit(*np.array(points, dtype=np.float64).T)
    publish(rows, asked.json, width=WIDTH, eta=ETA, theta=THETA, seconds=total, fit=law)
    print(
        f"samples to {100 * ERROR:g} percent error = d ({law['c1']:.2f} log d + {law['c2']:.1f}), "
        f"R^2 {law['R2']:.3f}; as a power of d: {law['exponent']:.3f}; {total:.0f} s in all (goal 180)"
    )


if __name__ == "__main__":
    main()
