"""Compare runs: the settings in which they differ, and their results. No torch, no files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phasetrack.phases.boundaries import BOUNDARIES, LOSS_HALVED, onset

# Final readings for people, and their metrics.
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
        name: its name for people.
        values: one per run, or None for a run without the value.
        kind: ``setting`` or ``result``.
    """

    name: str
    values: tuple[Any, ...]
    kind: str

    @property
    def differs(self) -> bool:
        """Whether the runs differ in this value."""
        return any(value != self.values[0] for value in self.values[1:])


def compare(
    configs: Sequence[Mapping[str, Any]], summaries: Sequence[Mapping[str, Any]]
) -> list[Row]:
    """Return the settings that differ between runs, then every result.

    Args:
        configs: the content of each run's ``config.json``.
        summaries: the content of each run's ``summary.json``, in the same order.
    """
    # the settings of `phasetrack run`, the hyperparameters of a model of the user's own
    settings = [config.get("settings") or config.get("hparams") or {} for config in configs]
    names = dict.fromkeys(name for of_run in settings for name in of_run)
    rows = [Row(name, tuple(s.get(name) for s in settings), "setting") for name in names]
    return [row for row in rows if row.differs] + _results(summaries)


def without_shared_folder(names: Sequence[str]) -> dict[str, str]:
    """Return each name without the folder that all of them share.

    >>> without_shared_folder(["runs/a", "runs/b/c"])
    {'runs/a': 'a', 'runs/b/c': 'b/c'}
    """
    parents = [os.path.dirname(name) for name in names]  # noqa: PTH120
    same_root = len({os.path.isabs(parent) for parent in parents}) == 1  # noqa: PTH117
    shared = os.path.commonpath(parents) if same_root and all(parents) else ""
    return {name: os.path.relpath(name, shared) if shared else name for name in names}


def _results(summaries: Sequence[Mapping[str, Any]]) -> list[Row]:
    rows = {"phase": [summary.get("phase") for summary in summaries]}
    rows["steps"] = [summary.get("steps") for summary in summaries]
    for milestone in (*BOUNDARIES.values(), LOSS_HALVED):
        rows[milestone.title] = [_finite(onset(summary, milestone.key)) for summary in summaries]
    for phase in ("signal_finding", "signal_heavy"):
        rates = [summary.get("growth", {}).get(phase, {}) for summary in summaries]
        for kind in ("measured", "predicted"):
            label = f"growth in {phase.replace('_', '-')}, {kind}"
            rows[label] = [_finite(rate.get(kind)) for rate in rates]
    for label, metric in FINAL.items():
        rows[label] = [_finite(summary.get("final", {}).get(metric)) for summary in summaries]
    rows["alerts"] = [
        ", ".join(alert["name"] for alert in summary.get("alerts", ())) or None
        for summary in summaries
    ]
    return [
        Row(name, tuple(values), "result")
        for name, values in rows.items()
        if any(value is not None for value in values)
    ]


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
