"""The range in which the forecast holds, and the reason where a run is outside it."""

from __future__ import annotations

from dataclasses import dataclass

from phasetrack.measures.mean_field import expectations
from phasetrack.model.geometry import Neurons
from phasetrack.model.population import Population
from phasetrack.theory.settings import RunSettings


@dataclass(frozen=True)
class ForecastRange:
    """Limits of the forecast, measured (docs/theory.md 6b).

    Attributes:
        output_spread: largest standard deviation of f within a cluster at the start. The law follows the
            mean output alone; theta^2 sqrt(0.34 / width) for ReLU.
        eta: largest step.
        batch_per_dimension: fewest samples per step and input dimension, m / d.
    """

    output_spread: float = 0.06
    eta: float = 1.0
    batch_per_dimension: float = 1 / 4

    def reason(self, settings: RunSettings, data: Population, start: Neurons) -> str:
        """Why the run is outside the range; empty if it is inside.

        Args:
            settings: the run.
            data: its population.
            start: its neurons before the first step.
        """
        spread = output_spread(start, data)
        if spread > self.output_spread:
            return (
                f"theta = {settings.theta:g} makes outputs that vary by {spread:.2g} within a cluster from "
                f"the start on (at most {self.output_spread:g})"
            )
        if settings.eta > self.eta:
            return f"eta = {settings.eta:g} is too large a step for the law (at most {self.eta:g})"
        if settings.batch_size < self.batch_per_dimension * settings.d:
            return (
                f"a batch of {settings.batch_size} at d = {settings.d} moves the weights by noise (at least "
                f"d * {self.batch_per_dimension:g} samples)"
            )
        if data.is_uninformative:
            return "the labels say nothing of the inputs, so that there is nothing to learn"
        return ""


def output_spread(neurons: Neurons, data: Population) -> float:
    """Standard deviation of f within a cluster, mean over clusters and draws.

    Neurons count as independent, as they are at the start.
    """
    centres = neurons.coordinates @ data.points.T
    if neurons.bias is not None:
        centres = centres + neurons.bias.unsqueeze(-1)
    varied = expectations(centres, neurons.perp, neurons.activation).activity_variance
    weighed = (varied * neurons.second_layer.square().unsqueeze(-1)).sum(dim=-2)
    variance = (weighed * data.shares).sum(dim=-1) * neurons.output_scale**2
    return float(variance.mean().sqrt())
