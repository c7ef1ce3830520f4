"""A small share of the neurons suffices.

Statement, from the abstract of arXiv 2309.15111: "it is sufficient for only a small fraction of the neurons
to learn features, since those neurons will be amplified by the simultaneous growth of their second layer
weights". Required: the test error grows by at most 1 percent if all neurons are silenced except an eighth of
them at the end, or except the heavy ones (needed zeta <= 1/2) at the step that detects signal-heaviness; and
heavy neurons hold most of the squared length at the end. The number of heavy neurons is only reported: the
statement says that few suffice, not that no more learn.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from phasetrack.measures import heaviness
from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding
from phasetrack.studies.claims.lab import Lab, Observed, error_on_fresh_samples, pruned
from phasetrack.tasks import XOR
from phasetrack.theory.settings import RunSettings


def evaluate(lab: Lab) -> ClaimResult:
    """Prune runs that end at the loss target, and the same runs ended at the detected onset."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    seeds = 5
    ends = lab.seeds(base, seeds)
    onsets = lab.all([(replace(end.settings, steps=_detected(end)), "") for end in ends])
    shares = [float(heavy(run).double().mean()) for run in onsets]
    findings = [
        Finding("share of heavy neurons at the onset", confidence.mean(shares)),
        Finding(
            "share of heavy neurons at the end",
            confidence.mean([float(heavy(run).double().mean()) for run in ends]),
        ),
        Finding(
            "their share of the squared length at the end",
            confidence.mean([run.summary["final"]["heaviness/heavy_mass"] for run in ends]),
            low=0.5,
        ),
        Finding(
            "test error added by pruning to an eighth at the end",
            confidence.mean([_added_error(run, largest(run, base.width // 8)) for run in ends]),
            high=0.01,
        ),
        Finding(
            "test error added by pruning to the heavy ones at the onset",
            confidence.mean([_added_error(run, heavy(run)) for run in onsets]),
            high=0.01,
        ),
    ]
    chart = ClaimChart(
        "share of the squared length in heavy neurons, seed 0",
        "step",
        "share",
        [ends[0].series("heavy neurons", "heaviness/heavy_mass")],
    )
    return ClaimResult(findings, [chart], f"d = {base.d}, width {base.width}, {seeds} seeds")


def heavy(run: Observed) -> Tensor:
    """Return which neurons of the final network are heavy, bool (p,)."""
    W, a = run.network.first.weight.detach(), run.network.second.weight.detach()[0]
    needed = heaviness.needed_zeta(W.double(), a.double(), XOR(run.settings.d).geometry)
    chosen: Tensor = needed <= heaviness.HEAVY_ZETA
    return chosen


def _detected(run: Observed) -> int:
    (step,) = [b["detected"] for b in run.summary["boundaries"] if b["name"] == "signal_heavy"]
    return int(step)


def largest(run: Observed, count: int) -> Tensor:
    """Return the neurons of the largest |a| |w|, half of them per sign of a, as bool (p,)."""
    W, a = run.network.first.weight.detach(), run.network.second.weight.detach()[0]
    sizes = a.abs() * W.norm(dim=1)
    chosen = torch.zeros(len(a), dtype=torch.bool, device="cpu")
    for members in (a > 0, a < 0):
        order = torch.where(members, sizes, -torch.inf).argsort(descending=True)
        chosen[order[: count // 2]] = True
    return chosen


def _added_error(run: Observed, keep: Tensor) -> float:
    """Return the test error that silencing the other neurons adds."""
    whole = error_on_fresh_samples(run.network, run.settings)
    return error_on_fresh_samples(pruned(run.network, keep), run.settings) - whole
