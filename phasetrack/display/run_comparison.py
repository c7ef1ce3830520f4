"""Some runs beside each other: what they were set to, and what came of it. No torch, no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Results for people, and where they stand in a summary.
BOUNDARIES = {
    "onset of signal-heaviness": "signal_heavy",
    "exit from the linear regime": "linear_exit",
    "loss target met": "fitted",
}
FINAL = {
    "final loss": "loss/train",
    "final zeta*": "heaviness/zeta_star",
    "final heavy mass": "heaviness/heavy_mass",
    "final smallest margin": "margin/min",
    "final balance": "margin/balance",
}


@dataclass(frozen=True)
class Row:
    """One line of a comparison.

    Attributes:
        name: for people.
        values: one for each run; None where a run has none.
        kind: ``setting`` or ``result``.
    """

    name: str
    values: tuple[Any, ...]
    kind: str

    @property
    def differs(self) -> bool:
        """Whether the runs are not all the same in it."""
        return any(value != self.values[0] for value in self.values[1:])


def compare(
    configs: Sequence[Mapping[str, Any]], summaries: Sequence[Mapping[str, Any]]
) -> list[Row]:
    """Settings that differ between runs, then every result.

    Args:
        configs: what each run's ``config.json`` holds.
        summaries: what each run's ``summary.json`` holds, in the same order.
    """
    settings = [config.get("settings", {}) for config in configs]
    names = dict.fromkeys(name for one in settings for name in one)
    rows = [Row(name, tuple(one.get(name) for one in settings), "setting") for name in names]
    return [row for row in rows if row.differs] + _results(summaries)


def _results(summaries: Sequence[Mapping[str, Any]]) -> list[Row]:
    rows = {"phase": [summary.get("phase") for summary in summaries]}
    rows["steps"] = [summary.get("steps") for summary in summaries]
    for label, name in BOUNDARIES.items():
        rows[label] = [_onset(summary, name) for summary in summaries]
    rows["loss halved"] = [_number(summary.get("loss_halving_step")) for summary in summaries]
    for phase in ("signal_finding", "signal_heavy"):
        rates = [summary.get("growth", {}).get(phase, {}) for summary in summaries]
        for kind in ("measured", "predicted"):
            label = f"growth in {phase.replace('_', '-')}, {kind}"
            rows[label] = [_number(rate.get(kind)) for rate in rates]
    for label, metric in FINAL.items():
        rows[label] = [_number(summary.get("final", {}).get(metric)) for summary in summaries]
    rows["alerts"] = [
        ", ".join(alert["name"] for alert in summary.get("alerts", ())) or None
        for summary in summaries
    ]
    return [
        Row(name, tuple(values), "result")
        for name, values in rows.items()
        if any(value is not None for value in values)
    ]


def _onset(summary: Mapping[str, Any], name: str) -> float | None:
    found = [b["onset"] for b in summary.get("boundaries", ()) if b["name"] == name]
    return _number(found[0]) if found else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
