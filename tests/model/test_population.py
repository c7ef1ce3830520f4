"""Populations of the tasks: against samples."""

import numpy as np
import pytest
import torch

from phasetrack import ClusterGeometry, ExpectedError
from phasetrack.model.population import Population
from phasetrack.tasks import make_task
from phasetrack.tasks.registry import TASKS

D, M = 8, 40_000


@pytest.mark.parametrize("name", TASKS)
def test_moments_are_those_of_samples(name):
    """Means of products of coordinates with and without the label, to five standard errors."""
    task = make_task(name, D)
    x, y = task.sample(M, seed=1, step=0, dtype=torch.float64)
    inside = x @ task.geometry.basis
    population = task.population
    assert population.weights.sum().item() == pytest.approx(1)
    points = population.points

    def powers(at):
        return torch.cat([at, torch.einsum("mi,mj->mij", at, at).flatten(1)], dim=1)

    tolerance = 5 * (2 / M) ** 0.5 * powers(inside).std(dim=0).clamp_min(1).numpy() + 0.005
    error = powers(inside).mean(dim=0) - population.shares @ powers(points)
    assert (error.abs().numpy() < tolerance).all()
    error = y @ powers(inside) / M - population.mean_labels @ powers(points)
    assert (error.abs().numpy() < tolerance).all()
    assert y.mean().item() == pytest.approx(population.mean_labels.sum().item(), abs=5 / M**0.5)


def test_shuffled_labels_are_uninformative_and_others_are_not():
    assert make_task("xor", D, shuffle_labels=True).population.is_uninformative
    assert not any(make_task(name, D).population.is_uninformative for name in TASKS)
    tilted = torch.full((4,), 0.8, dtype=torch.float64)
    assert Population.of(make_task("xor", D).geometry, positive=tilted).is_uninformative


def test_three_classes_and_turned_spans_are_refused():
    three = ClusterGeometry(np.eye(3), [0, 1, 2])
    with pytest.raises(ExpectedError, match="geometry: A forecast is made for two classes"):
        Population.of(three)
    with pytest.raises(ExpectedError, match="geometry: The signal span does not lie along"):
        Population.gaussian(make_task("rotated", D).geometry, lambda x: x[:, 0].sign())
    with pytest.raises(ExpectedError, match="or is not a plane"):
        Population.gaussian(make_task("parity3", D).geometry, lambda x: x[:, 0].sign())
