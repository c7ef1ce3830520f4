"""Phase diagnostics for two-layer neural networks (after arXiv 2309.15111)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phasetrack import measures, tasks
    from phasetrack._checks import ExpectedError, PhasetrackError
    from phasetrack._version import __version__
    from phasetrack.discovery import DiscoveredSpan, discover
    from phasetrack.ensemble import train_together
    from phasetrack.forecast import Forecast, predict
    from phasetrack.geometry import ClusterGeometry
    from phasetrack.losses import LogisticLoss
    from phasetrack.network import TwoLayerNet
    from phasetrack.phases import Alert, Boundary, Phase, PhaseClassifier, Thresholds
    from phasetrack.records import History
    from phasetrack.replay import Replay
    from phasetrack.run_directory import Run, read_run
    from phasetrack.schedules import every, log_spaced
    from phasetrack.settings import RunSettings
    from phasetrack.tracker import Tracker, attach
    from phasetrack.training import resume, train
    from phasetrack.views import TwoLayerView

__all__ = [
    # follow a model
    "attach",
    "Tracker",
    "TwoLayerView",
    "every",
    "log_spaced",
    # the canonical experiment
    "RunSettings",
    "train",
    "train_together",
    "resume",
    "predict",
    "Forecast",
    "TwoLayerNet",
    "LogisticLoss",
    "tasks",
    # clusters and measures
    "ClusterGeometry",
    "discover",
    "DiscoveredSpan",
    "measures",
    # phases
    "Phase",
    "PhaseClassifier",
    "Thresholds",
    "Boundary",
    "Alert",
    # recorded runs
    "read_run",
    "Run",
    "Replay",
    "History",
    # errors
    "PhasetrackError",
    "ExpectedError",
    "__version__",
]

# Where each public name lives. Resolved on first use (PEP 562), so that `phasetrack --help` and
# `read_run` do not wait for torch.
_HOMES = {
    "_checks": ("ExpectedError", "PhasetrackError"),
    "_version": ("__version__",),
    "discovery": ("DiscoveredSpan", "discover"),
    "ensemble": ("train_together",),
    "forecast": ("Forecast", "predict"),
    "geometry": ("ClusterGeometry",),
    "losses": ("LogisticLoss",),
    "network": ("TwoLayerNet",),
    "phases": ("Alert", "Boundary", "Phase", "PhaseClassifier", "Thresholds"),
    "records": ("History",),
    "replay": ("Replay",),
    "run_directory": ("Run", "read_run"),
    "schedules": ("every", "log_spaced"),
    "settings": ("RunSettings",),
    "tracker": ("Tracker", "attach"),
    "training": ("resume", "train"),
    "views": ("TwoLayerView",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what a public name stands for, on its first use."""
    if name in ("measures", "tasks"):
        return import_module(f"phasetrack.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'phasetrack' has no attribute {name!r}")
    value = getattr(import_module(f"phasetrack.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
