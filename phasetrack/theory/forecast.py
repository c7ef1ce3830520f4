"""The forecast: a whole run predicted before training, at a cost that does not depend on d.

Integrates the mean-field law of theory.md 6b, O(width) a step, from freshly drawn neurons. Several
draws run side by side as a leading dimension and give the band.

The sampling noise of a minibatch differs from theory.md's independent kicks (numbered deviations):

1. The number of samples at each point of the population, with each label, is drawn from the
   multinomial distribution of the batch and is the same for all neurons, so that clusters lead or lag
   together as they do in training.
2. Given those numbers, each neuron's firing on a cluster varies, independently between neurons; so
   does its mean activity, which moves a.

Onset at d = 512, m = 1024 then is 52.2 where training gives 52.1 (independent kicks: 51.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasetrack._threads import one_thread
from phasetrack.errors import ExpectedError, check_int
from phasetrack.measures.mean_field import Expectations, Law, expectations, motion
from phasetrack.model.geometry import Activation, ClusterGeometry, Neurons
from phasetrack.model.population import Population
from phasetrack.phases.boundaries import MILESTONES
from phasetrack.phases.card import as_html
from phasetrack.phases.classifier import Phase, Verdict, first_crossing, relabel
from phasetrack.phases.history import History
from phasetrack.phases.loss_watch import CONSTANT, PAPERS_CONSTANT, loss_unit
from phasetrack.phases.summary import summarise_again
from phasetrack.theory.forecast_range import ForecastRange
from phasetrack.theory.forecast_readings import (
    METRICS,
    State,
    both_margins,
    read_states,
    training_loss,
)
from phasetrack.theory.settings import UNEVEN, RunSettings

# With nine draws the band runs from the earliest to the latest: eight of ten further runs fall between.
DRAWS = 9
# The band: a run falls under the first, or under the second, with this probability.
BAND = (0.1, 0.9)
# Five equally likely values of a standard normal variable, with its mean and variance.
SPREAD = torch.special.ndtri((torch.arange(5, dtype=torch.float64, device="cpu") + 0.5) / 5)
SPREAD = SPREAD / SPREAD.square().mean().sqrt()
# The forecast goes on until every draw's loss is under this share of the target, so that its
# curves reach past the end of the run that they are drawn beside.
OVERSHOOT = 0.5

# States whose readings are computed together: a small network's cost is the number of calls.
STEPS_AT_ONCE = 16


@dataclass(frozen=True)
class Band:
    """A predicted step.

    Attributes:
        value: median over the draws; NaN if fewer than half get there, or nothing is predicted.
        low: a run gets there before this step with probability 0.1; NaN likewise.
        high: a run gets there after this step with probability 0.1; NaN likewise.
        reason: why one of them is NaN; empty if none is.
    """

    value: float
    low: float
    high: float
    reason: str = ""


@dataclass(frozen=True, repr=False)
class Forecast:
    """The predicted run.

    Attributes:
        settings: of the run.
        draws: metric name (`METRICS`) to its value, float64 (draws, steps); step t is column t.
        reason: why the run cannot be predicted, in which case no step is; empty if it can.
        constant: loss of the best constant output, in whose units a run's target is (`loss_watch.loss_unit`).
    """

    settings: RunSettings
    draws: dict[str, NDArray[np.float64]]
    reason: str = ""
    constant: float = PAPERS_CONSTANT

    @property
    def steps(self) -> int:
        """Number of predicted steps."""
        return int(self.draws["loss/train"].shape[1])

    def median(self, metric: str) -> NDArray[np.float64]:
        """Median over the draws, float64 (steps,)."""
        return _nan_median(self.draws[metric])

    def band(self, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Edges between which a run's reading falls with probability 0.8, float64 (steps,) each."""
        ranked = np.sort(self.draws[metric], axis=0)
        low, high = (ranked[_rank(level, len(ranked))] for level in BAND)
        return low, high

    @property
    def signal_heavy_onset(self) -> Band:
        """Where zeta* crosses 1."""
        return self._boundary("heaviness/zeta_star", self.settings.thresholds().zeta_exit)

    @property
    def linear_exit(self) -> Band:
        """Where the value error crosses its threshold, leaving the linear regime."""
        # a falling reading is what _boundary looks for: negate both
        level = self.settings.thresholds().linear_exit
        return self._boundary("linearization/value_error", -level, sign=-1.0)

    @property
    def loss_halving_step(self) -> Band:
        """Where the loss passes half of its value at step 0, as in the summary of a run."""
        return self._boundary("loss/train", 0.5, of_first=True)

    @property
    def fitted(self) -> Band:
        """Where the loss meets the target, in units of the best constant's loss as that of a run."""
        return self._boundary("loss/train", self.settings.target * loss_unit(self.constant))

    def __repr__(self) -> str:
        """The task and the predicted boundaries, each with its band."""
        known = [m for m in MILESTONES if math.isfinite(self.bands()[m.forecast]["value"])]
        steps = (
            f"{m.label} at step {band['value']:.1f} ({band['low']:.1f} to {band['high']:.1f})"
            for m in known
            for band in [self.bands()[m.forecast]]
        )
        return f"{self._title}: {', '.join(steps) or 'no boundary within the predicted steps'}"

    def _repr_html_(self) -> str:
        return as_html(self._title, self.as_summary(), told=False)

    @property
    def _title(self) -> str:
        return f"Forecast of {self.settings.task}, d = {self.settings.d}"

    def bands(self) -> dict[str, dict[str, float]]:
        """The predicted boundaries as ``summary.json`` holds them: `value`, `low` and `high`."""
        bands = {
            "signal_heavy_onset": self.signal_heavy_onset,
            "linear_exit": self.linear_exit,
            "loss_halving_step": self.loss_halving_step,
            "fitted": self.fitted,
        }
        return {name: asdict(band) for name, band in bands.items()}

    def as_summary(self) -> dict[str, Any]:
        """The predicted run under the keys of ``summary.json``, as JSON knows them."""
        summary = summarise_again(
            History(self._rows()),
            self.settings.thresholds(),
            forecast=self.bands(),
            notes=[f"No forecast: {self.reason}."] if self.reason else (),
        )
        return {**summary, "reason": self.reason} if self.reason else summary

    def verdicts(self) -> list[tuple[int, Verdict]]:
        """The median trajectory, labelled by the same classifier as a run."""
        return list(relabel(self._rows(), self.settings.thresholds()))

    @property
    def phase(self) -> Phase:
        """The label of the last predicted step; UNDETERMINED where none is predicted."""
        verdicts = self.verdicts()
        return verdicts[-1][1].phase if verdicts else Phase.UNDETERMINED

    @cached_property
    def _medians(self) -> dict[str, NDArray[np.float64]]:
        return {metric: np.median(values, axis=0) for metric, values in self.draws.items()}

    def at(self, step: int) -> dict[str, float]:
        """What is shown beside a run at `step`: forecast/zeta_star, .../loss, .../margin_min."""
        shown = {
            "zeta_star": "heaviness/zeta_star",
            "loss": "loss/train",
            "margin_min": "margin/min",
        }
        return {
            f"forecast/{name}": float(self._medians[metric][step])
            if step < self.steps
            else math.nan
            for name, metric in shown.items()
        }

    def _rows(self) -> Iterator[tuple[int, dict[str, float]]]:
        """The median trajectory, step by step."""
        medians = {metric: self.median(metric).tolist() for metric in METRICS}
        for step in range(self.steps):
            known = {metric: values[step] for metric, values in medians.items()}
            yield step, {**known, CONSTANT: self.constant}

    def _boundary(
        self, metric: str, level: float, sign: float = 1.0, *, of_first: bool = False
    ) -> Band:
        if self.reason:
            return Band(math.nan, math.nan, math.nan, self.reason)
        crossed = [
            first_crossing(enumerate(sign * draw), level * (draw[0] if of_first else 1.0))
            for draw in self.draws[metric]
        ]
        # a draw that never gets there counts as infinitely late, so that it moves the band
        late = np.sort(np.nan_to_num(np.array(crossed), nan=np.inf))
        low, middle, high = (late[_rank(q, len(late))] for q in (BAND[0], 0.5, BAND[1]))
        missing = int(np.isinf(late).sum())
        said = f"{missing} of {len(late)} draws do not get there in {self.steps} steps"
        value, first, last = np.where(np.isfinite([middle, low, high]), [middle, low, high], np.nan)
        return Band(float(value), float(first), float(last), said if np.isnan(last) else "")


def predict(
    geometry: ClusterGeometry,
    settings: RunSettings,
    draws: int = DRAWS,
    *,
    population: Population | None = None,
    activation: Activation = torch.relu,
    bias: float | None = None,
    limits: ForecastRange | None = None,
) -> Forecast:
    """Predict the run that `settings` describe on the clusters of `geometry` (theory.md 6b).

    The neurons are drawn from a stream of their own, never those of the run with the same seed.

    Args:
        geometry: clusters with unit noise, as XOR's; zeta* and clean margins refer to them.
        settings: the run. The forecast ends with the slowest draw, and never goes on for more
            than `steps` or `predicted_limit` steps.
        draws: how many initialisations are integrated side by side.
        population: where the data lie and which labels they have, a task's `population`; None takes
            equally likely clusters, each with its own label, or with labels that are drawn where the settings
            shuffle them.
        activation: of the hidden layer; other than `torch.relu` it costs about 30 times as much.
        bias: standard deviation of the first layer's biases at the start, which are trained with it; None
            for a network without biases.
        limits: the range that the forecast holds in; None takes the defaults.

    Returns:
        The forecast. Outside the range no step is predicted, and its `reason` says why.

    Raises:
        ExpectedError: if `draws` is not positive, or the task's data are not those of equally likely
            clusters and no population is given.
    """
    check_int("draws", draws, minimum=1)
    if population is None and settings.task in UNEVEN:
        raise ExpectedError(
            "population",
            f"The clusters of the task {settings.task!r} do not say how its labels are distributed.",
            "Pass the population of the task, make_task(...).population.",
        )
    data = population or _even_clusters(geometry, shuffled=settings.shuffle_labels)
    rng = np.random.default_rng([settings.seed, 0xF02ECA57])
    neurons = draw_neurons(geometry, settings.width, settings.theta, draws, rng)
    biases = (
        None if bias is None else torch.from_numpy(rng.normal(0, bias, (draws, settings.width)))
    )
    neurons = replace(neurons, activation=activation, bias=biases)
    if reason := (limits or ForecastRange()).reason(settings, data, neurons):
        return Forecast(settings, {m: np.empty((draws, 0)) for m in METRICS}, reason)
    constant = data.constant_loss
    target = settings.target * loss_unit(constant)
    table: dict[str, list[Tensor]] = {metric: [] for metric in METRICS}
    passed: list[State] = []
    with one_thread():
        for _ in range(min(settings.step_limit, settings.predicted_limit)):
            seen = expectations_at(neurons, data.points)
            outputs = _outputs(neurons, seen)
            counts = _batch(data, settings.batch_size, draws, rng)
            passed.append((neurons, outputs, counts))
            loss = training_loss(both_margins(outputs), counts)
            settled = (loss <= OVERSHOOT * target) | ~loss.isfinite()
            if len(passed) == STEPS_AT_ONCE:
                read_states(passed, table)
            if bool(settled.all()):
                break
            neurons = _step(neurons, seen, outputs, counts, data.points, settings, rng)
        read_states(passed, table)
    drawn = {metric: torch.cat(values).movedim(0, 1).numpy() for metric, values in table.items()}
    return Forecast(settings, drawn, constant=constant)


def _even_clusters(geometry: ClusterGeometry, *, shuffled: bool) -> Population:
    """Equally likely clusters, each with its own label; with both where labels are shuffled."""
    even = torch.full((len(geometry.labels),), 0.5, dtype=torch.float64, device="cpu")
    return Population.of(geometry, positive=even if shuffled else None)


def draw_neurons(
    geometry: ClusterGeometry, width: int, theta: float, draws: int, rng: np.random.Generator
) -> Neurons:
    """Neurons on the sphere of radius theta in R^d with a = +-theta, without drawing R^d.

    Returns:
        A table of shape (draws, width), float64.
    """
    k, d = geometry.signal_dim, geometry.dim
    coordinates = rng.standard_normal((draws, width, k))
    perp = np.sqrt(rng.chisquare(d - k, (draws, width))) if d > k else np.zeros((draws, width))
    radius = np.sqrt((coordinates**2).sum(axis=-1) + perp**2)
    signs = rng.choice([-1.0, 1.0], (draws, width))
    return Neurons(
        geometry,
        torch.from_numpy(theta * coordinates / radius[..., None]),
        torch.from_numpy(theta * perp / radius),
        torch.from_numpy(theta * signs),
    )


def _nan_median(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over the draws that have a value; NaN where none has (numpy would warn)."""
    known = ~np.isnan(draws)
    filled = np.where(known.any(axis=0), draws, 0.0)
    return np.where(known.any(axis=0), np.nanmedian(filled, axis=0), np.nan)


def _rank(level: float, count: int) -> int:
    """Index of the sorted draw under which a further draw falls with probability `level`.

    The i-th of n draws from below, i from 1, has one more under it with probability i / (n + 1).
    """
    return min(max(round(level * (count + 1)), 1), count) - 1


def expectations_at(neurons: Neurons, points: Tensor) -> Expectations:
    """Means over the noise at points of the span (K, k) in its basis."""
    centres = neurons.coordinates @ points.T
    if neurons.bias is not None:
        centres = centres + neurons.bias.unsqueeze(-1)
    return expectations(centres, neurons.perp, neurons.activation)


def _outputs(neurons: Neurons, seen: Expectations) -> Tensor:
    """Outputs at each point, as equally likely values (..., K, n): its mean and its spread over the noise.

    Neurons count as independent given the point, as they are at the start; the spread matters there, for
    large initial weights, and is small by the time that they move together.
    """
    a, scale = neurons.second_layer.unsqueeze(-2), neurons.output_scale
    mean = (a @ seen.activity).squeeze(-2) * scale
    spread = (a.square() @ seen.activity_variance).squeeze(-2).sqrt() * scale
    values: Tensor = mean.unsqueeze(-1) + spread.unsqueeze(-1) * SPREAD.to(mean)
    return values


def _batch(data: Population, size: int, draws: int, rng: np.random.Generator) -> Tensor:
    """Share of a batch's samples at each point with each label, (draws, K, 2)."""
    chances = data.weights.flatten().numpy()
    counts = rng.multinomial(size, chances / chances.sum(), size=draws)
    return torch.from_numpy(counts / size).view(draws, *data.weights.shape)


def _step(
    neurons: Neurons,
    seen: Expectations,
    outputs: Tensor,
    counts: Tensor,
    points: Tensor,
    settings: RunSettings,
    rng: np.random.Generator,
) -> Neurons:
    """One step of the law, with the batch's sampling noise (module docstring, 1 and 2)."""
    eta, batch, geometry = settings.eta, settings.batch_size, neurons.geometry
    # -dl/df for the labels -1 and +1
    slopes = 2 * torch.stack([-torch.sigmoid(outputs), torch.sigmoid(-outputs)], dim=-2)
    pull = (counts * slopes.mean(dim=-1)).sum(dim=-1)
    squares = (counts * slopes.square().mean(dim=-1)).sum(dim=-1)
    moved: Law = motion(neurons, seen, points, pull, squares)
    a = neurons.second_layer
    coordinates, perp, second, bias = neurons.coordinates, neurons.perp, a, neurons.bias
    if settings.train != "second":
        varied = torch.addcmul(seen.firing_square, seen.firing, seen.firing, value=-1)
        spread = varied.clamp_(min=0).mul_(squares.unsqueeze(-2) / batch).sqrt_()
        fired = torch.from_numpy(rng.standard_normal(tuple(spread.shape))).mul_(spread)
        kicks = a.unsqueeze(-1) * (fired @ points)
        coordinates = coordinates + eta * (moved.coordinates + kicks)
        spread = eta**2 * a.square() * moved.noise * (geometry.dim - geometry.signal_dim) / batch
        perp = ((perp + eta * moved.perp).square() + spread).sqrt()
        if bias is not None:
            bias = bias + eta * (moved.bias + a * fired.sum(dim=-1))
    if settings.train != "first":
        # independent over points: one kick with the sum of their variances
        varied = (seen.activity_variance @ squares.unsqueeze(-1)).squeeze(-1) / batch
        kicks = torch.from_numpy(rng.standard_normal(tuple(a.shape))) * varied.sqrt()
        second = a + eta * (moved.second_layer + kicks)
    return replace(neurons, coordinates=coordinates, perp=perp, second_layer=second, bias=bias)
