"""The probes that `attach` uses unless it is given others."""

from __future__ import annotations

from phasetrack.model.geometry import Geometry, SpanGeometry
from phasetrack.tracking.probes.base import (
    FunctionProbe,
    Measurement,
    Probe,
    Reading,
    SampledProbe,
    StackProbe,
    as_probe,
)
from phasetrack.tracking.probes.forecast import ForecastProbe
from phasetrack.tracking.probes.growth import GrowthProbe
from phasetrack.tracking.probes.heaviness import HeavinessProbe
from phasetrack.tracking.probes.kernel import KernelProbe
from phasetrack.tracking.probes.linearization import gradient_errors, linearization
from phasetrack.tracking.probes.loss import loss
from phasetrack.tracking.probes.margins import clean_margins, empirical_margins
from phasetrack.tracking.probes.norms import norms
from phasetrack.tracking.probes.optional.overlap import OverlapProbe
from phasetrack.tracking.probes.overlaps import overlaps
from phasetrack.tracking.probes.span import SpanProbe

__all__ = [
    "default_probes",
    # what a probe is
    "Probe",
    "StackProbe",
    "SampledProbe",
    "FunctionProbe",
    "as_probe",
    "Reading",
    "Measurement",
    # probes
    "HeavinessProbe",
    "GrowthProbe",
    "KernelProbe",
    "SpanProbe",
    "ForecastProbe",
    "loss",
    "clean_margins",
    "empirical_margins",
    "linearization",
    "gradient_errors",
    "norms",
    "overlaps",
]

BATCH = frozenset({"batch"})
CLUSTERS = frozenset({"clusters"})


def default_probes(
    geometry: Geometry | None = None, *, H: float = 0.0, gradients: bool = False
) -> tuple[Probe, ...]:
    """Return the probes that `attach` uses.

    Args:
        geometry: of the run. Without clusters the sizes of both layers are read too, and with directions
            the overlaps with each; None stands for clusters.
        H: the paper's H in needed_zeta (theory.md 3).
        gradients: also read the gradient error, which costs two backward passes per recorded step.
    """
    probes: tuple[Probe, ...] = (
        StackProbe(loss, BATCH),
        HeavinessProbe(H),
        StackProbe(clean_margins, CLUSTERS),
        StackProbe(empirical_margins, BATCH | CLUSTERS),
        StackProbe(linearization, BATCH),
        GrowthProbe(H),
        KernelProbe(),
    )
    if geometry is not None and geometry.no_clusters:
        probes += (StackProbe(norms),)
    if isinstance(geometry, SpanGeometry):
        probes += (StackProbe(overlaps), OverlapProbe(geometry.directions, geometry.names))
    if not gradients:
        return probes
    return (*probes, StackProbe(gradient_errors, BATCH | {"inputs", "weights"}))
