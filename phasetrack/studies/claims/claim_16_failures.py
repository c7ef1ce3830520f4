"""The failure signatures, provoked on purpose, and quiet in healthy runs.

Statement: training can get stuck at the saddle, grow margins out of balance, or grow what is no signal
(summary of arXiv 2309.15111, "Failure signatures"); LAZY and DIVERGED are this project's (theory.md 8).
Asked: each is detected in most runs that provoke it, and healthy runs raise none.
"""

from __future__ import annotations

from phasetrack.studies import confidence as intervals
from phasetrack.studies.claims.findings import Chart, Finding, Result, Series
from phasetrack.studies.claims.lab import Lab
from phasetrack.theory.settings import RunSettings

HEALTHY = 20  # runs without an alarm that put the rate under 0.2, with their interval


def run(lab: Lab) -> Result:
    """Provoke each, then count alerts over healthy runs, those of other statements included."""
    d, seeds = (64, 5) if lab.quick else (128, 20)
    provoked = {
        "SADDLE": RunSettings(d=d, width=128, train="second"),
        "IMBALANCED": RunSettings(d=d, width=4),
        # a batch far under d: the noise of its gradient makes perp grow about as fast as the signal
        "NON_SIGNAL_GROWTH": RunSettings(d=d, width=128, batch=d // 16, steps=200),
        "LAZY": RunSettings(d=d, width=128, theta=10.0),
        "DIVERGED": RunSettings(d=d, width=128, eta=50.0),
    }
    findings = []
    runs = lab.grid(provoked, seeds)
    lab.seeds(RunSettings(d=d, width=128), HEALTHY)
    for name in provoked:
        raised = sum(name in one.alerts for one in runs[name])
        share = intervals.share(raised, seeds)
        findings.append(Finding(f"{name} detected where it is provoked", share, low=0.3))
    healthy = [one for one, how in lab.runs if not how and _is_healthy(one.settings)]
    false = sum(bool(one.alerts) for one in healthy)
    alarms = intervals.share(false, len(healthy))
    findings.append(Finding("healthy runs with a false alarm", alarms, high=0.2))
    chart = Chart(
        "share of runs in which it was raised",
        "signature",
        "share",
        [Series.of("provoked", range(len(provoked)), (f.estimate for f in findings[:-1]))],
        kinds=list(provoked),
    )
    return Result(findings, [chart], f"d = {d}, {seeds} seeds; {len(healthy)} healthy runs")


def _is_healthy(settings: RunSettings) -> bool:
    """Settings of which theory.md 7 says that they work."""
    small = settings.theta <= 0.3 and settings.eta <= 0.2
    large = settings.width >= 32 and settings.batch_size >= 2 * settings.d
    return small and large and settings.train == "both" and settings.task == "xor"
