"""Growth rates, escape time and the whole forecast against training.

Statement: neurons evolve on their own while the network is small, so that the run follows from the
law of one neuron (summary of arXiv 2309.15111, Mechanism 1); rates and forecast are this project's
(theory.md 6 and 6b). Asked: measured over forecast within 5 percent, over d, m, eta, theta and width.
"""

from __future__ import annotations

import math
from dataclasses import replace

from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.findings import Chart, Finding, Result, Series
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.tasks import XOR
from phasetrack.theory.forecast import predict
from phasetrack.theory.settings import RunSettings

TOLERANCE = 0.05


def run(lab: Lab) -> Result:
    """One setting changed at a time; the forecast starts from other weights than the runs."""
    base = RunSettings(d=64, width=128) if lab.quick else RunSettings()
    double, quadruple = 2 * base.d, 4 * base.d
    settings = {
        "base": base,
        f"d = {double}": replace(base, d=double),
        "m = 2 d": replace(base, batch=2 * base.d),
        "m = 16 d": replace(base, batch=4 * quadruple),
        "eta = 0.1": replace(base, eta=0.1),
        "theta = 0.3": replace(base, theta=0.3),
        "width / 2": replace(base, width=base.width // 2),
    }
    seeds = 4 if lab.quick else 5
    findings, onsets, halvings = [], [], []
    made = lab.grid(settings, seeds)
    for name, one in settings.items():
        runs = made[name]
        bands = predict(XOR(one.d).geometry, replace(one, seed=one.seed + 1000)).bands()
        onset = bands["signal_heavy_onset"]["value"]
        halved = bands["loss_halving_step"]["value"]
        onsets.append(intervals.mean([r.boundary("signal_heavy") / onset for r in runs]))
        halvings.append(intervals.mean([r.summary["loss_halving_step"] / halved for r in runs]))
        findings.append(Finding(f"onset, measured / forecast, {name}", onsets[-1]))
    for phase in ("signal_finding", "signal_heavy"):
        ratios = [_growth(one, phase) for one in lab.seeds(base, seeds)]
        findings.append(
            Finding(
                f"growth in {phase}, measured / predicted",
                intervals.mean(ratios),
                1 - TOLERANCE,
                1 + TOLERANCE,
            )
        )
    over_settings = intervals.mean([one.value for one in onsets])
    halved_over = intervals.mean([one.value for one in halvings])
    low, high = 1 - TOLERANCE, 1 + TOLERANCE
    near = sum(abs(one.value - 1) <= TOLERANCE for one in onsets)
    findings += [
        # an average over settings could hide errors of both signs
        Finding(
            "settings whose mean onset is within 5 percent",
            intervals.share(near, len(onsets)),
            low=0.3,
        ),
        Finding("onset, measured / forecast, over settings", over_settings, low, high),
        Finding("loss halved, measured / forecast, over settings", halved_over, low, high),
    ]
    places = range(len(settings))
    chart = Chart(
        "measured / forecast",
        "setting",
        "ratio",
        [Series.of("onset", places, onsets), Series.of("loss halved", places, halvings)],
        kinds=list(settings),
    )
    return Result(findings, [chart], f"around d = {base.d}, width {base.width}, {seeds} seeds")


def _growth(one: Observed, phase: str) -> float:
    rates = one.summary["growth"].get(phase)
    return rates["measured"] / rates["predicted"] if rates else math.nan
