"""A small share of neurons suffices.

Statement: "it is sufficient for only a small fraction of the neurons to learn features, since those
neurons will be amplified by the simultaneous growth of their second layer weights" (summary of arXiv
2309.15111, Mechanism 2, from the abstract). Asked: the network keeps its test error within 1 percent where
all but an eighth of its neurons are silenced at the end, or all but the heavy ones (needed zeta <= 1/2) at
the step at which it is detected to be signal-heavy; and heavy neurons hold most of the squared length at the
end. How many neurons are heavy is reported: the statement says that few suffice, not that no more learn.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from phasetrack.measures import heaviness
from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.findings import Chart, Finding, Result
from phasetrack.studies.claims.lab import Lab, Observed, error_on_fresh_samples, pruned
from phasetrack.tasks import XOR
from phasetrack.theory.settings import RunSettings


def run(lab: Lab) -> Result:
    """The same runs to the detection of signal-heaviness, and to the loss target."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    seeds = 5 if lab.quick else 10
    ends = lab.seeds(base, seeds)
    onsets = lab.all([(replace(end.settings, steps=_detected(end)), "") for end in ends])
    shares = [float(heavy(one).double().mean()) for one in onsets]
    findings = [
        Finding("share of heavy neurons at the onset", intervals.mean(shares)),
        Finding(
            "share of heavy neurons at the end",
            intervals.mean([float(heavy(one).double().mean()) for one in ends]),
        ),
        Finding(
            "their share of the squared length at the end",
            intervals.mean([one.summary["final"]["heaviness/heavy_mass"] for one in ends]),
            low=0.5,
        ),
        Finding(
            "test error added by pruning to an eighth at the end",
            intervals.mean([_lost(one, largest(one, base.width // 8)) for one in ends]),
            high=0.01,
        ),
        Finding(
            "test error added by pruning to the heavy ones at the onset",
            intervals.mean([_lost(one, heavy(one)) for one in onsets]),
            high=0.01,
        ),
    ]
    chart = Chart(
        "share of the squared length in heavy neurons, seed 0",
        "step",
        "share",
        [ends[0].series("heavy neurons", "heaviness/heavy_mass")],
    )
    return Result(findings, [chart], f"d = {base.d}, width {base.width}, {seeds} seeds")


def heavy(one: Observed) -> Tensor:
    """Which neurons of the final network are heavy, bool (p,)."""
    W, a = one.network.first.weight.detach(), one.network.second.weight.detach()[0]
    needed = heaviness.needed_zeta(W.double(), a.double(), XOR(one.settings.d).geometry)
    chosen: Tensor = needed <= heaviness.HEAVY_ZETA
    return chosen


def _detected(one: Observed) -> int:
    (step,) = [b["detected"] for b in one.summary["boundaries"] if b["name"] == "signal_heavy"]
    return int(step)


def largest(one: Observed, count: int) -> Tensor:
    """The neurons of the largest |a| |w|, half of them from each sign of a, bool (p,)."""
    W, a = one.network.first.weight.detach(), one.network.second.weight.detach()[0]
    sizes = a.abs() * W.norm(dim=1)
    chosen = torch.zeros(len(a), dtype=torch.bool)
    for members in (a > 0, a < 0):
        order = torch.where(members, sizes, -torch.inf).argsort(descending=True)
        chosen[order[: count // 2]] = True
    return chosen


def _lost(one: Observed, keep: Tensor) -> float:
    """Test error that silencing the other neurons adds."""
    whole = error_on_fresh_samples(one.network, one.settings)
    return error_on_fresh_samples(pruned(one.network, keep), one.settings) - whole
