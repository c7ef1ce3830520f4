"""How often alerts are wrong: false ones in runs that learn, missed ones in runs that are made to fail.

    python benchmarks/alert_rates.py [--healthy 208] [--provoked 15] [--seed 500000] [--jobs 2]

Healthy runs are drawn: XOR or two XORs, d = 8 to 96, 16 to 96 neurons, m = 5 to 4 d, theta = 0.05 to 20. Of them those count
whose last network errs on at most 2 percent of fresh samples, by its raw weights; an alert in one is false. Every way to
fail is tried on as many seeds, and should raise its alert, unless the run learned all the same. No level was chosen on the seeds from 500,000 on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from _timing import publish

from phasetrack import RunSettings, TwoLayerNet, train
from phasetrack.phases.words import ALERTS
from phasetrack.storage.checkpoint import load_checkpoint
from phasetrack.studies import confidence
from phasetrack.tasks import make_task

LEARNED = 0.02
FRESH = 8192
# Way to fail, to its alert and its settings.
PROVOKED: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "second layer alone": ("SADDLE", {"train": "second"}),
    "shuffled labels": ("SADDLE", {"shuffle_labels": True}),
    "parity of three": ("SADDLE", {"task": "parity3"}),
    "2 neurons": ("IMBALANCED", {"width": 2, "batch": 256}),
    "3 neurons": ("IMBALANCED", {"width": 3, "batch": 256}),
    "4 neurons": ("IMBALANCED", {"width": 4, "batch": 256}),
    "staircase": ("IMBALANCED", {"task": "staircase"}),
    "batches of 1": ("NON_SIGNAL_GROWTH", {"batch": 1}),
    "batches of 2": ("NON_SIGNAL_GROWTH", {"batch": 2}),
    "batches of 4": ("NON_SIGNAL_GROWTH", {"batch": 4}),
    "eta = 8": ("DIVERGED", {"eta": 8.0}),
    "eta = 40": ("DIVERGED", {"eta": 40.0}),
}


class Ended(NamedTuple):
    """A run: the alerts that it raised, and its last network's error on fresh samples."""

    case: str
    alerts: frozenset[str]
    error: float


def drawn(seed: int) -> RunSettings:
    """Settings of a healthy run."""
    draw = np.random.default_rng(seed)
    d = int(draw.choice([8, 12, 16, 24, 32, 48, 64, 96]))
    return RunSettings(
        task=str(draw.choice(["xor", "two-xors"])),
        d=d,
        width=int(draw.choice([16, 24, 32, 48, 64, 96])),
        batch=round(float(np.exp(draw.uniform(np.log(max(5, d / 4)), np.log(4 * d))))),
        theta=float(np.exp(draw.uniform(np.log(0.05), np.log(20)))),
        seed=seed,
    )


def ended(case: str, settings: RunSettings) -> Ended:
    """Train a run to its end."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        summary = train(settings, out=folder, name="run", checkpoint_steps=10**9)
        weights = load_checkpoint(Path(folder) / "run" / "checkpoint.pt")["model"]
    net = TwoLayerNet(settings.d, settings.width)
    net.load_state_dict(weights)
    task = make_task(settings.task, settings.d, shuffle_labels=settings.shuffle_labels)
    x, y = task.sample(FRESH, seed=settings.seed + 1, step=2**40)
    with torch.no_grad():
        wrong = 1 - float((net(x) * y > 0).float().mean())  # NaN is wrong, too
    return Ended(case, frozenset(alert["name"] for alert in summary["alerts"]), wrong)


def jobs(healthy: int, provoked: int, seed: int) -> Iterator[tuple[str, RunSettings]]:
    """Yield a name and the settings of every run."""
    for number in range(healthy):
        yield "healthy", drawn(seed + number)
    for name, (_, changed) in PROVOKED.items():
        for number in range(provoked):
            base = {"d": 32, "width": 64, "seed": seed + healthy + number}
            yield name, RunSettings(**{**base, **changed})  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--healthy", type=int, default=208, help="drawn runs")
    parser.add_argument("--provoked", type=int, default=15, help="seeds of each way to fail")
    parser.add_argument("--seed", type=int, default=500_000)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/alert_rates.json"))
    asked = parser.parse_args()
    cases, settings = zip(*jobs(asked.healthy, asked.provoked, asked.seed), strict=True)
    with ProcessPoolExecutor(asked.jobs, get_context("spawn")) as pool:
        runs = list(pool.map(ended, cases, settings, chunksize=4))
    learned = [run for run in runs if run.case == "healthy" and run.error <= LEARNED]
    rows = [row("healthy, learned", name, learned) for name in ALERTS if name != "LAZY"]
    failed = [run for run in runs if run.case == "healthy" and run.error > LEARNED]
    rows += [row("drawn, not learned", name, failed) for name in ALERTS if failed]
    for case, (alert, _) in PROVOKED.items():
        rows.append(row(case, alert, [run for run in runs if run.case == case]))
    publish(rows, asked.json, healthy=asked.healthy, provoked=asked.provoked, seed=asked.seed)


def row(case: str, alert: str, runs: list[Ended]) -> dict[str, object]:
    """How many runs raised an alert, with a 95 percent interval."""
    raised = sum(alert in run.alerts for run in runs)
    share = confidence.share(raised, len(runs))
    return {
        "case": f"{case}: {alert}",
        "runs": len(runs),
        "learned": sum(run.error <= LEARNED for run in runs),
        "raised": raised,
        "share": float(share.value),
        "low": float(share.low),
        "high": float(share.high),
    }


if __name__ == "__main__":
    main()
