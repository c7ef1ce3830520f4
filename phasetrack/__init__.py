"""Phase diagnostics for two-layer neural networks (after arXiv 2309.15111)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from phasetrack._submodules import by_attribute

if TYPE_CHECKING:
    from phasetrack import measures, probes, tasks
    from phasetrack._version import __version__
    from phasetrack.display.live_figure import LiveFigure
    from phasetrack.display.plotted_run import Run, read_run
    from phasetrack.errors import ExpectedError, PhasetrackError
    from phasetrack.measures.signal_span import DiscoveredSpan, discover
    from phasetrack.model.geometry import ClusterGeometry
    from phasetrack.model.losses import LogisticLoss
    from phasetrack.model.network import TwoLayerNet
    from phasetrack.model.span import SpanGeometry
    from phasetrack.model.two_layer_view import TwoLayerView
    from phasetrack.phases.classifier import Alert, Boundary, Phase, PhaseClassifier, Thresholds
    from phasetrack.phases.history import History
    from phasetrack.theory.forecast import Forecast, predict
    from phasetrack.theory.settings import RunSettings
    from phasetrack.tracking.attach import attach
    from phasetrack.tracking.guard import TrackingWarning
    from phasetrack.tracking.replay import Replay, replay
    from phasetrack.tracking.schedules import every, log_spaced
    from phasetrack.tracking.tracker import Tracker
    from phasetrack.training.ensemble import train_together
    from phasetrack.training.run import resume, train

__all__ = [
    # follow a model
    "attach",
    "Tracker",
    "TrackingWarning",
    "TwoLayerView",
    "LiveFigure",
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
    "SpanGeometry",
    "discover",
    "DiscoveredSpan",
    "measures",
    "probes",
    # phases
    "Phase",
    "PhaseClassifier",
    "Thresholds",
    "Boundary",
    "Alert",
    # recorded runs
    "read_run",
    "Run",
    "replay",
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
    "errors": ("ExpectedError", "PhasetrackError"),
    "_version": ("__version__",),
    "measures.signal_span": ("DiscoveredSpan", "discover"),
    "training.ensemble": ("train_together",),
    "theory.forecast": ("Forecast", "predict"),
    "model.geometry": ("ClusterGeometry",),
    "model.span": ("SpanGeometry",),
    "model.losses": ("LogisticLoss",),
    "model.network": ("TwoLayerNet",),
    "phases.classifier": ("Alert", "Boundary", "Phase", "PhaseClassifier", "Thresholds"),
    "phases.history": ("History",),
    "tracking.guard": ("TrackingWarning",),
    "tracking.replay": ("Replay", "replay"),
    "display.live_figure": ("LiveFigure",),
    "display.plotted_run": ("Run", "read_run"),
    "tracking.schedules": ("every", "log_spaced"),
    "theory.settings": ("RunSettings",),
    "tracking.attach": ("attach",),
    "tracking.tracker": ("Tracker",),
    "training.run": ("resume", "train"),
    "model.two_layer_view": ("TwoLayerView",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_submodule = by_attribute("phasetrack")


def __getattr__(name: str) -> Any:
    """Import what a public name stands for, or the module of that name, on its first use."""
    if name not in _HOME_OF:
        return _submodule(name)
    value = getattr(import_module(f"phasetrack.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, which a prompt completes."""
    return sorted(__all__)
