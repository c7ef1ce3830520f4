"""Probes: objects and functions that read a network's state at each recorded step.

The probes of `phasetrack.tracking.probes.optional`, such as `OverlapProbe`, are attributes too.
"""

from typing import Any

from phasetrack.measures.feature_gain import Features
from phasetrack.phases.history import Undefined
from phasetrack.tracking.probes.default import (
    ForecastProbe,
    FunctionProbe,
    GrowthProbe,
    HeavinessProbe,
    KernelProbe,
    Measurement,
    Probe,
    Reading,
    SampledProbe,
    SpanProbe,
    StackProbe,
    clean_margins,
    default_probes,
    empirical_margins,
    gradient_errors,
    linearization,
    loss,
)
from phasetrack.tracking.probes.feature_gain import AcquisitionProbe, acquisitions
from phasetrack.tracking.probes.held_out import HeldOutProbe
from phasetrack.tracking.probes.neuron_blocks import GatheringProbe
from phasetrack.tracking.probes.optional import kind, names
from phasetrack.tracking.probes.sparse import SparseProbe
from phasetrack.tracking.snapshot import Snapshot, State

__all__ = [
    "default_probes",
    # write your own
    "Probe",
    "FunctionProbe",
    "StackProbe",
    "SampledProbe",
    "SparseProbe",
    "Snapshot",
    "State",
    "Reading",
    "Measurement",
    "Undefined",
    # the default ones
    "HeavinessProbe",
    "GrowthProbe",
    "KernelProbe",
    "ForecastProbe",
    "loss",
    "clean_margins",
    "empirical_margins",
    "linearization",
    "gradient_errors",
    # further ones
    "HeldOutProbe",
    "SpanProbe",
    "AcquisitionProbe",
    "acquisitions",
    "Features",
    "GatheringProbe",
]


def __getattr__(name: str) -> Any:
    """Import an optional probe on its first use."""
    return kind(name)


def __dir__() -> list[str]:
    """List the optional probes among the names."""
    return sorted([*globals(), *names()])
