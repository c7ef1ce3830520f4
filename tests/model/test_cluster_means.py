"""Means of clusters: directions and distances that are noise."""

import pytest
import torch

from phasetrack import ClusterGeometry, ExpectedError


def drawn(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [1.0, 30.0], ids=["noise 1", "one coordinate 30"])
def test_two_antipodal_classes_span_one_direction(size):
    rng = drawn(0)
    labels = 2 * torch.randint(0, 2, (1000,), generator=rng) - 1
    noise = torch.randn(1000, 50, generator=rng)
    noise[:, 7] *= size
    mu = torch.zeros(50)
    mu[0] = 1.5 if size == 1 else 15.0
    geometry = ClusterGeometry.from_data(labels[:, None] * mu + noise, labels)
    assert geometry.signal_dim == 1 and geometry.separated == 1
    assert float(geometry.basis[0].abs()) > 0.95


def test_means_of_labels_without_relation_are_not_told_apart():
    alone = 0
    for seed in range(20):
        rng = drawn(seed)
        x, y = torch.randn(500, 50, generator=rng), torch.randint(0, 2, (500,), generator=rng)
        geometry = ClusterGeometry.from_data(x, y)
        alone += geometry.separated == 0
    assert alone >= 19 and "told apart=0%" in repr(geometry)


def test_clusters_that_differ_keep_their_means():
    rng = drawn(1)
    centres = 3 * torch.eye(20)[:4]
    clusters = torch.randint(0, 4, (400,), generator=rng)
    x = centres[clusters] + torch.randn(400, 20, generator=rng)
    geometry = ClusterGeometry.from_data(x, clusters % 2, clusters)
    assert geometry.signal_dim == 4 and geometry.separated == 1
    means = torch.stack([x[clusters == c].double().mean(dim=0) for c in range(4)])
    torch.testing.assert_close(geometry.centres, means)


def test_equal_means_are_explained():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ExpectedError, match="Two clusters of the sample have the same mean"):
        ClusterGeometry.from_data(x, [0, 0, 1, 1])
