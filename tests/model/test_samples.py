"""Samples as callers hold them: every spelling of one sample gives one geometry, the rest is refused."""

import numpy as np
import pytest
import torch

from phasetrack import ClusterGeometry, ExpectedError
from phasetrack.model.samples import two_classes

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4)).astype(np.float32)
Y = RNG.integers(0, 2, 60)
CLASSES = RNG.integers(0, 3, 60)
INPUTS = {
    "numpy": X,
    "tensor": torch.from_numpy(X),
    "float64": X.astype(np.float64),
    "with a gradient": torch.from_numpy(X).requires_grad_(),
    "list of lists": X.tolist(),
    "list of tensors": list(torch.from_numpy(X)),
    "list of arrays": list(X),
}
LABELS = {
    "numpy": Y,
    "tensor": torch.from_numpy(Y),
    "signs": 2.0 * Y - 1,
    "float": Y.astype(np.float16),
    "bool": Y.astype(bool),
    "bool tensor": torch.from_numpy(Y).bool(),
    "uint8": torch.from_numpy(Y).to(torch.uint8),
    "column": torch.from_numpy(Y).float().unsqueeze(1),
    "numpy column": Y[:, None],
    "one-hot": torch.nn.functional.one_hot(torch.from_numpy(Y)),
    "one-hot float": np.eye(2)[Y],
    "list": Y.tolist(),
}


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("labels", LABELS)
def test_every_spelling_of_a_sample_gives_its_class_means(inputs, labels):
    geometry = ClusterGeometry.from_data(INPUTS[inputs], LABELS[labels])
    for label, centre in zip(geometry.classes.tolist(), geometry.centres, strict=True):
        np.testing.assert_allclose(centre, X[label == Y].astype(np.float64).mean(axis=0))
    assert sorted(geometry.labels.tolist()) == [-1, 1]


@pytest.mark.parametrize("turn", [lambda y: y, lambda y: np.eye(3)[y], lambda y: y[:, None]])
def test_three_classes_in_every_spelling(turn):
    geometry = ClusterGeometry.from_data(X, turn(CLASSES))
    assert geometry.classes.tolist() == [0, 1, 2] and geometry.names == ("c0", "c1", "c2")
    expected = [X[c == CLASSES].astype(np.float64).mean(axis=0) for c in range(3)]
    np.testing.assert_allclose(geometry.centres, expected)


@pytest.mark.parametrize("turn", [np.asarray, torch.as_tensor, lambda y: np.asarray(y)[:, None]])
def test_clusters_in_every_spelling(turn):
    clusters = 2 * RNG.integers(0, 2, 60) + Y
    geometry = ClusterGeometry.from_data(X, turn(Y), turn(clusters))
    assert geometry.names == ("c0", "c1", "c2", "c3") and geometry.classes.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("labels", [[[0], [1]], [[1, 0], [0, 1]], [False, True], np.array([-1, 1])])
def test_the_constructors_take_every_spelling_of_labels(labels):
    centres = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]
    for geometry in (
        ClusterGeometry(centres, labels),
        ClusterGeometry(np.eye(2), labels),
        ClusterGeometry.from_directions(np.eye(2, dtype=np.float32), labels),
    ):
        assert geometry.labels.unique().tolist() == [-1, 1] and geometry.classes[-1] == 1


BAD = {
    "images": (lambda: (X.reshape(60, 2, 2), Y), "inputs"),
    "no rows": (lambda: (X[:0], Y[:0]), "inputs"),
    "too few labels": (lambda: (X, Y[:-1]), "inputs"),
    "two numbers a row": (lambda: (X, np.stack([Y, Y + 3], axis=1)), "inputs"),
    "ragged": (lambda: ([[1.0], [1.0, 2.0]], [0, 1]), "inputs"),
    "nothing": (lambda: (None, Y), "inputs"),
    "complex": (lambda: (X.astype(complex), Y), "inputs"),
    "NaN": (lambda: (np.full_like(X, np.nan), Y), "inputs"),
    "NaN labels": (lambda: (X, np.full(60, np.nan)), "labels"),
    "text labels": (lambda: (X, ["cat", "dog"] * 30), "labels"),
    "text array": (lambda: (X, np.array(["cat", "dog"] * 30)), "labels"),
    "one class": (lambda: (X, np.ones(60)), "labels"),
    "gaps": (lambda: (X, 2 * CLASSES), "labels"),
    "regression": (lambda: (X, X[:, 0]), "labels"),
    "clusters of text": (lambda: (X, Y, ["a"] * 60), "clusters"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_sample_that_is_none_is_refused_with_the_argument_named(case):
    make, argument = BAD[case]
    with pytest.raises(ExpectedError) as caught:
        ClusterGeometry.from_data(*make())
    assert caught.value.argument == argument and caught.value.fix


@pytest.mark.parametrize("values", [[0, 1, 2], [1, 2], [0.05, 0.95], [-1, 0, 1]])
def test_further_values_are_not_two_classes(values):
    with pytest.raises(ExpectedError, match="labels: The labels take the values"):
        two_classes("labels", torch.tensor(values))
