"""The law of one neuron forecasts growth rates, escape time and onset.

Statement, after arXiv 2309.15111, section 4.1: neurons evolve independently while the network is small, so
that the run follows from the law of one neuron; rates and forecast are those of theory.md 6 and theory.md 6b.
Required: measured over forecast is within 5 percent of 1, over d, m, eta, theta and width.
"""

from __future__ import annotations

import math
from dataclasses import replace

from phasetrack.phases.boundaries import LOSS_HALVED, SIGNAL_HEAVY
from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.lab import Lab, Observed
from phasetrack.tasks import XOR
from phasetrack.theory.forecast import predict
from phasetrack.theory.settings import RunSettings

TOLERANCE = 0.05
# Initialisations per forecast: the median's own error then is a tenth of a run's spread.
DRAWS = 99


def evaluate(lab: Lab) -> ClaimResult:
    """Change one setting at a time; the forecast starts from other weights than the runs."""
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
    seeds = 4
    findings, onsets, halvings = [], [], []
    made = lab.grid(settings, seeds)
    for name, changed in settings.items():
        runs = made[name]
        start = replace(changed, seed=changed.seed + 1000)
        bands = predict(XOR(changed.d).geometry, start, draws=DRAWS).bands()
        forecast, halved = (bands[m.forecast]["value"] for m in (SIGNAL_HEAVY, LOSS_HALVED))
        onsets.append(confidence.mean([run.boundary("signal_heavy") / forecast for run in runs]))
        halvings.append(
            confidence.mean([run.summary["loss_halving_step"] / halved for run in runs])
        )
        findings.append(Finding(f"onset, measured / forecast, {name}", onsets[-1]))
    for phase in ("signal_finding", "signal_heavy"):
        ratios = [_growth(run, phase) for run in lab.seeds(base, seeds)]
        findings.append(
            Finding(
                f"growth in {phase}, measured / predicted",
                confidence.mean(ratios),
                1 - TOLERANCE,
                1 + TOLERANCE,
            )
        )
    over_settings = confidence.mean([onset.value for onset in onsets])
    halved_over = confidence.mean([halving.value for halving in halvings])
    low, high = 1 - TOLERANCE, 1 + TOLERANCE
    near = sum(abs(onset.value - 1) <= TOLERANCE for onset in onsets)
    findings += [
        # the mean over settings alone could hide errors of both signs
        Finding(
            "settings whose mean onset is within 5 percent",
            confidence.share(near, len(onsets)),
            low=0.3,
        ),
        Finding("onset, measured / forecast, over settings", over_settings, low, high),
        Finding("loss halved, measured / forecast, over settings", halved_over, low, high),
    ]
    places = range(len(settings))
    chart = ClaimChart(
        "measured / forecast",
        "setting",
        "ratio",
        [Series.of("onset", places, onsets), Series.of("loss halved", places, halvings)],
        kinds=list(settings),
    )
    return ClaimResult(findings, [chart], f"around d = {base.d}, width {base.width}, {seeds} seeds")


def _growth(run: Observed, phase: str) -> float:
    rates = run.summary["growth"].get(phase)
    return rates["measured"] / rates["predicted"] if rates else math.nan
