"""The forecast: a whole run predicted before training, at a cost that does not depend on d.

Integrates the mean-field law of theory.md 6b, O(width) a step, from freshly drawn neurons. Several
draws run side by side as a leading dimension and give the band.

The sampling noise of a minibatch differs from theory.md's independent kicks (numbered deviations):

1. The number of samples in each cluster is drawn from the multinomial distribution of the batch
   and is the same for all neurons, so that clusters lead or lag together as they do in training.
2. Given those numbers, each neuron's firing on a cluster varies with variance firing (1 - firing),
   independently between neurons; so does its mean activity, which moves a.

Onset at d = 512, m = 1024 then is 52.2 where training gives 52.1 (independent kicks: 51.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasetrack._threads import one_thread
from phasetrack.errors import ExpectedError, check_int
from phasetrack.measures import heaviness, margins
from phasetrack.measures.mean_field import Law, activity_variance, law, mean_margins
from phasetrack.model.geometry import ClusterGeometry, Neurons
from phasetrack.phases.boundaries import MILESTONES
from phasetrack.phases.card import as_html
from phasetrack.phases.classifier import Phase, Verdict, first_crossing, relabel
from phasetrack.phases.history import History
from phasetrack.phases.summary import summarise_again
from phasetrack.theory.settings import RunSettings

DRAWS = 8
# The band: these quantiles over the draws (with 8 draws all but the two extremes).
BAND = (0.1, 0.9)
# The forecast goes on until every draw's loss is under this share of the target, so that its
# curves reach past the end of the run that they are drawn beside.
OVERSHOOT = 0.5

METRICS = (
    "heaviness/zeta_star",
    "heaviness/heavy_mass",
    "loss/train",
    "margin/min",
    "margin/max",
    "margin/balance",
    "linearization/value_error",
    "linearization/slope_drift",
)


@dataclass(frozen=True)
class Band:
    """A predicted step: median over the draws, and the `BAND` quantiles. NaN: not reached."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, repr=False)
class Forecast:
    """The predicted run.

    Attributes:
        settings: what was predicted.
        draws: metric name (`METRICS`) to its value, float64 (draws, steps); step t is column t.
    """

    settings: RunSettings
    draws: dict[str, NDArray[np.float64]]

    @property
    def steps(self) -> int:
        """Number of predicted steps."""
        return int(self.draws["loss/train"].shape[1])

    def median(self, metric: str) -> NDArray[np.float64]:
        """Median over the draws, float64 (steps,)."""
        return _nan_median(self.draws[metric])

    def band(self, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper `BAND` quantile over the draws, float64 (steps,) each."""
        low, high = np.quantile(self.draws[metric], BAND, axis=0)
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
        """Where the loss passes half of l(0) = 2 log 2."""
        return self._boundary("loss/train", math.log(2))

    @property
    def fitted(self) -> Band:
        """Where the loss meets the target."""
        return self._boundary("loss/train", self.settings.target)

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
        return summarise_again(
            History(self._rows()), self.settings.thresholds(), forecast=self.bands()
        )

    def verdicts(self) -> list[tuple[int, Verdict]]:
        """The median trajectory, labelled by the same classifier as a run."""
        return list(relabel(self._rows(), self.settings.thresholds()))

    @property
    def phase(self) -> Phase:
        """The label of the last predicted step."""
        return self.verdicts()[-1][1].phase

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
            yield step, {metric: values[step] for metric, values in medians.items()}

    def _boundary(self, metric: str, level: float, sign: float = 1.0) -> Band:
        crossed = [first_crossing(enumerate(sign * draw), level) for draw in self.draws[metric]]
        # a draw that never gets there counts as infinitely late, so that it moves the band
        late = np.nan_to_num(np.array(crossed), nan=np.inf)
        low, middle, high = np.quantile(late, (BAND[0], 0.5, BAND[1]), method="nearest")
        return Band(*(float(v) if np.isfinite(v) else math.nan for v in (middle, low, high)))


def predict(geometry: ClusterGeometry, settings: RunSettings, draws: int = DRAWS) -> Forecast:
    """Predict the run that `settings` describe on the clusters of `geometry` (theory.md 6b).

    The neurons are drawn from a stream of their own, never those of the run with the same seed.

    Args:
        geometry: equally likely clusters with unit noise, as XOR's.
        settings: the run. The forecast ends with the slowest draw, and never goes on for more
            than `steps` or `predicted_limit` steps.
        draws: how many initialisations are integrated side by side.
    """
    check_int("draws", draws, minimum=1)
    if not settings.forecastable:
        allowed = "one with equally likely clusters, right labels and orthogonal noise"
        raise ExpectedError(
            "task", f"The task {settings.task!r} cannot be forecast.", f"Choose {allowed}."
        )
    rng = np.random.default_rng([settings.seed, 0xF02ECA57])
    neurons = draw_neurons(geometry, settings.width, settings.theta, draws, rng)
    table: dict[str, list[Tensor]] = {metric: [] for metric in METRICS}
    with one_thread():
        for _ in range(min(settings.step_limit, settings.predicted_limit)):
            shares = rng.multinomial(settings.batch_size, _even(geometry), size=draws)
            counts = torch.from_numpy(shares / settings.batch_size)
            gamma, slopes, motion = _state(neurons, counts)
            readings = _readings(neurons, gamma)
            for metric, value in readings.items():
                table[metric].append(value)
            loss = readings["loss/train"]
            settled = (loss <= OVERSHOOT * settings.target) | ~loss.isfinite()
            if bool(settled.all()):
                break
            neurons = _step(neurons, motion, slopes, counts, settings, rng)
    return Forecast(settings, {m: torch.stack(v, dim=1).numpy() for m, v in table.items()})


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


def _even(geometry: ClusterGeometry) -> list[float]:
    return [1 / len(geometry.labels)] * len(geometry.labels)


def _state(neurons: Neurons, shares: Tensor) -> tuple[Tensor, Tensor, Law]:
    """Margins, slopes and the law of this step, given each cluster's share of the batch."""
    # margins need the activity and the slopes need the margins: activity does not depend on slopes
    ones = torch.ones_like(shares)
    gamma = mean_margins(neurons, law(neurons, ones, shares).activity)
    slopes = 2 * torch.sigmoid(-gamma)
    return gamma, slopes, law(neurons, slopes, shares)


def _readings(neurons: Neurons, gamma: Tensor) -> dict[str, Tensor]:
    clean = margins.clean_margins_of(neurons)
    loss = 2 * torch.nn.functional.softplus(-gamma)
    change = 2 * torch.log1p(torch.expm1(-gamma) / 2)
    size = change.abs().mean(dim=-1)
    return {
        "heaviness/zeta_star": heaviness.certificate_of(neurons),
        "heaviness/heavy_mass": heaviness.heavy_mass_of(neurons),
        "loss/train": loss.mean(dim=-1),
        "margin/min": clean.amin(dim=-1),
        "margin/max": clean.amax(dim=-1),
        "margin/balance": margins.balance(clean),
        "linearization/value_error": torch.where(
            size == 0, 0.0, (change + gamma).abs().mean(dim=-1) / size
        ),
        "linearization/slope_drift": torch.tanh(gamma.abs() / 2).mean(dim=-1),
    }


def _step(
    neurons: Neurons,
    motion: Law,
    slopes: Tensor,
    shares: Tensor,
    settings: RunSettings,
    rng: np.random.Generator,
) -> Neurons:
    """One step of the law, with the batch's sampling noise (module docstring, 1 and 2)."""
    eta, batch, geometry = settings.eta, settings.batch_size, neurons.geometry
    a = neurons.second_layer

    def noise(variance: Tensor) -> Tensor:
        return torch.from_numpy(rng.standard_normal(tuple(variance.shape))) * variance.sqrt()

    coordinates, perp, second = neurons.coordinates, neurons.perp, a
    pull = (slopes * geometry.labels).unsqueeze(-2)
    per_sample = (shares / batch).unsqueeze(-2)
    if settings.train != "second":
        fired = noise(per_sample * motion.firing * (1 - motion.firing)) * pull
        kicks = a.unsqueeze(-1) * (fired @ (geometry.centres @ geometry.basis))
        coordinates = coordinates + eta * (motion.coordinates + kicks)
        spread = eta**2 * a.square() * motion.noise * (geometry.dim - geometry.signal_dim) / batch
        perp = ((perp + eta * motion.perp).square() + spread).sqrt()
    if settings.train != "first":
        varied = noise(per_sample * activity_variance(neurons, motion)) * pull
        second = a + eta * (motion.second_layer + varied.sum(dim=-1))
    return Neurons(geometry, coordinates, perp, second)
