"""Each failure signature is raised where it is provoked, and none is raised in healthy runs.

Statement, after arXiv 2309.15111: training can stay at the saddle, grow margins out of balance, or grow
components that are not signal; LAZY and DIVERGED are signatures of theory.md 8. Required: each signature is
raised in most runs that provoke it, and healthy runs raise none.
"""

from __future__ import annotations

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimChart, ClaimResult, Finding, Series
from phasetrack.studies.claims.lab import Lab
from phasetrack.theory.settings import RunSettings

HEALTHY = 20  # runs without an alarm whose interval lies below a rate of 0.2


def evaluate(lab: Lab) -> ClaimResult:
    """Provoke each signature, and count alerts over all healthy runs of the lab."""
    d, seeds = (64 if lab.quick else 128), 5
    provoked = {
        "SADDLE": RunSettings(d=d, width=128, train="second"),
        "IMBALANCED": RunSettings(d=d, width=4),
        # the gradient noise of a batch far below d makes perp grow about as fast as the signal
        "NON_SIGNAL_GROWTH": RunSettings(d=d, width=128, batch=d // 16, steps=200),
        "LAZY": RunSettings(d=d, width=128, theta=10.0),
        "DIVERGED": RunSettings(d=d, width=128, eta=50.0),
    }
    findings = []
    runs = lab.grid(provoked, seeds)
    lab.seeds(RunSettings(d=d, width=128), HEALTHY)
    for name in provoked:
        share = confidence.share_of(name in run.alerts for run in runs[name])
        findings.append(Finding(f"{name} detected where it is provoked", share, low=0.3))
    healthy = [run for run, variation in lab.runs if not variation and _is_healthy(run.settings)]
    alarms = confidence.share_of(bool(run.alerts) for run in healthy)
    findings.append(Finding("healthy runs with a false alarm", alarms, high=0.2))
    chart = ClaimChart(
        "share of runs in which it was raised",
        "signature",
        "share",
        [Series.of("provoked", range(len(provoked)), (f.estimate for f in findings[:-1]))],
        kinds=list(provoked),
    )
    return ClaimResult(findings, [chart], f"d = {d}, {seeds} seeds; {len(healthy)} healthy runs")


def _is_healthy(settings: RunSettings) -> bool:
    """Whether runs of these settings succeed according to theory.md 7."""
    small = settings.theta <= 0.3 and settings.eta <= 0.2
    large = settings.width >= 32 and settings.batch_size >= 2 * settings.d
    return small and large and settings.train == "both" and settings.task == "xor"
