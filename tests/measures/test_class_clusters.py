"""Means of the classes as clusters: where they differ, and where they must not be taken."""

import pytest
import torch

from phasetrack.measures.class_clusters import LEAST_SAMPLES, class_clusters
from phasetrack.tasks import XOR, ModularAddition


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mixture(seed, classes=4, count=600, d=20, distance=4.0):
    means = normal(seed, classes, d)
    y = torch.arange(count) % classes
    return distance * means[y] / d**0.5 + normal(seed + 1, count, d), y


def test_means_that_differ_are_the_clusters():
    x, y = mixture(0)
    found = class_clusters(x, y, 4)
    means = torch.stack([x[y == c].mean(dim=0) for c in range(4)]).double()
    assert found.geometry.classes.tolist() == [0, 1, 2, 3]
    # directions that are noise are dropped: centres lie within the noise of a mean of 150 samples
    assert (found.geometry.centres - means).norm(dim=1).max() < (20 / 150) ** 0.5
    assert "4 classes" in found.sentence and "600 distinct samples" in found.sentence


@pytest.mark.parametrize("targets", [torch.nn.functional.one_hot, lambda y: y.unsqueeze(1)])
def test_targets_in_other_shapes_are_the_same_classes(targets):
    x, y = mixture(0)
    assert torch.equal(
        class_clusters(x, targets(y), 4).geometry.centres, class_clusters(x, y, 4).geometry.centres
    )


@pytest.mark.parametrize("seed", range(10))
def test_labels_without_relation_to_the_inputs_give_no_clusters(seed):
    y = torch.randint(0, 3, (900,), generator=torch.Generator().manual_seed(seed))
    assert class_clusters(normal(seed, 900, 12), y, 3).geometry is None


def test_equal_means_give_none():
    for x, y, classes in (
        (*XOR(16).sample(2000, seed=0, step=0), 2),
        (*ModularAddition(31).train, 31),
    ):
        found = class_clusters(x, y, classes)
        assert found.geometry is None and "do not differ" in found.sentence


def test_the_reason_names_the_obstacle():
    x, y = mixture(0)
    assert "not classes" in class_clusters(x, x[:, 0], 2).sentence
    assert "4 classes of 5" in class_clusters(x, y, 5).sentence
    few = LEAST_SAMPLES - 1
    assert f"only {few} distinct" in class_clusters(x[:few], y[:few], 4).sentence
    plane, labels = mixture(0, d=2, classes=3, distance=20.0)
    assert "all of the input space" in class_clusters(plane, labels, 3).sentence
