"""Directions without clusters, and no geometry at all."""

import numpy as np
import pytest
import torch

from phasetrack import ExpectedError, SpanGeometry
from phasetrack.model.geometry import Neurons, NoGeometry

GENERATOR = torch.Generator().manual_seed(0)


def random(*shape):
    return torch.randn(shape, generator=GENERATOR, dtype=torch.float64)


def test_shares_and_lengths_are_those_of_the_projection_on_the_directions():
    directions, W = random(2, 9), random(3, 5, 9)
    geometry = SpanGeometry(directions)
    neurons = Neurons.of(W, random(3, 5), geometry)
    U = directions.numpy()
    projector = U.T @ np.linalg.inv(U @ U.T) @ U
    inside = W.numpy() @ projector
    np.testing.assert_allclose(neurons.sig, np.linalg.norm(inside, axis=-1), rtol=1e-12)
    np.testing.assert_allclose(
        neurons.perp, np.linalg.norm(W.numpy() - inside, axis=-1), rtol=1e-12
    )
    assert neurons.opp.abs().max() == 0
    assert geometry.chance == 2 / 9


def test_directions_that_depend_on_each_other_span_less():
    assert SpanGeometry([[1.0, 0, 0], [2.0, 0, 0], [0, 1.0, 0]]).signal_dim == 2


@pytest.mark.parametrize(
    ("directions", "names", "argument"),
    [
        ([1.0, 0.0], None, "directions"),
        ([[1.0, 0.0], [0.0, 0.0]], None, "directions"),
        ([[1.0, float("nan")]], None, "directions"),
        ([[1.0, 0.0], [0.0, 1.0]], ["one"], "names"),
        ([[1.0, 0.0], [0.0, 1.0]], ["one", "one"], "names"),
    ],
)
def test_directions_that_are_none_are_refused(directions, names, argument):
    with pytest.raises(ExpectedError) as refused:
        SpanGeometry(directions, names)
    assert refused.value.argument == argument


def test_without_clusters_samples_belong_to_none():
    geometry, x = SpanGeometry([[1.0, 0.0]]), random(4, 2)
    assert geometry.nearest(geometry.traces(x)).tolist() == [-1] * 4
    assert geometry.class_count == 0 and geometry.no_clusters and not geometry.no_span


def test_no_geometry_reads_whole_lengths_of_any_width():
    geometry = NoGeometry()
    for width in (1, 7):
        W = random(2, 3, width)
        coordinates, rest = geometry.read(W)
        assert coordinates.shape == (2, 3, 0)
        np.testing.assert_allclose(rest, np.linalg.norm(W.numpy(), axis=-1), rtol=1e-14)
    assert geometry.no_clusters and geometry.no_span and geometry.takes(5)
