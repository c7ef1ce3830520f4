"""Which side a sample is on: as the loss means its targets."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from phasetrack.tracking.decisions import decide
from phasetrack.tracking.host_loss import HostLoss

F = torch.tensor([[2.0, 0.2, 0.7, -1.0]], dtype=torch.float64)


def decided(loss, targets, outputs=F):
    host = HostLoss.of(loss).with_targets(targets)
    return decide(outputs, targets, host, many=outputs.ndim > 2)


@pytest.mark.parametrize(
    "loss, low, high, level",
    [
        (nn.SoftMarginLoss(), -1.0, 1.0, 0.0),
        (nn.MSELoss(), -1.0, 1.0, 0.0),
        (nn.MSELoss(), 0.0, 1.0, 0.5),
        (nn.BCEWithLogitsLoss(), 0.0, 1.0, 0.0),
        (nn.BCEWithLogitsLoss(), 0.05, 0.95, 0.0),
        (nn.SmoothL1Loss(), 0.0, 1.0, 0.5),
        (nn.BCELoss(), 0.0, 1.0, 0.5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_two_targets_are_decided_where_the_loss_does_not_prefer_one(loss, low, high, level):
    outputs = F.sigmoid() if isinstance(loss, nn.BCELoss) else F
    targets = torch.tensor([[high, low, high, low]], dtype=torch.float64)
    found = decided(loss, targets, outputs)
    signs = torch.tensor([[1.0, -1.0, 1.0, -1.0]], dtype=torch.float64)
    np.testing.assert_allclose(found.margins, signs * (outputs - level), atol=1e-12)
    assert not found.undefined


def test_bool_targets_are_two_classes():
    targets = torch.tensor([[True, False, True, False]])
    found = decided(
        lambda f, y: nn.functional.binary_cross_entropy_with_logits(f, y.double()), targets
    )
    assert found.wrong.tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_soft_labels_of_cross_entropy_are_decided_at_one_half():
    targets = torch.tensor([[0.9, 0.4, 0.51, 0.0]], dtype=torch.float64)
    found = decided(nn.BCEWithLogitsLoss(), targets)
    assert found.wrong.tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_regression_has_no_side():
    found = decided(nn.MSELoss(), torch.tensor([[0.3, 2.0, -1.0, 0.5]], dtype=torch.float64))
    assert found.margins.isnan().all() and found.wrong.isnan().all()
    assert any(mask.all() and "more than two values" in why for mask, why in found.undefined)


def test_one_class_alone_leaves_a_squared_loss_open():
    ones = torch.ones(1, 4, dtype=torch.float64)
    assert decided(nn.MSELoss(), ones).margins.isnan().all()
    assert not decided(nn.BCEWithLogitsLoss(), ones).margins.isnan().any()


def test_ignored_samples_are_on_no_side():
    outputs = torch.tensor([[[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]]], dtype=torch.float64)
    found = decided(nn.CrossEntropyLoss(), torch.tensor([[0, -100, 1]]), outputs)
    assert found.counted.tolist() == [[True, False, True]]
    assert found.margins[0, 0] == 2 and math.isnan(found.margins[0, 1])


def test_a_class_that_does_not_exist_costs_its_state_alone():
    outputs = torch.randn(2, 3, 2, dtype=torch.float64)
    found = decided(lambda f, _: f.sum(), torch.tensor([[0, 1, 0], [0, 7, 1]]), outputs)
    assert found.margins.isnan().any(dim=-1).tolist() == [False, True]


def test_several_labels_are_decided_one_by_one():
    outputs = torch.tensor([[[2.0, -1.0, 1.0], [1.0, 1.0, -1.0]]], dtype=torch.float64)
    targets = torch.tensor([[[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]], dtype=torch.float64)
    found = decided(nn.BCEWithLogitsLoss(), targets, outputs)
    np.testing.assert_allclose(found.wrong, [[0.0, 1 / 3]])
    assert found.margins.tolist() == [[1.0, -1.0]]


def test_one_hot_and_probabilities_are_classes():
    outputs = torch.randn(1, 5, 4, dtype=torch.float64)
    classes = torch.tensor([[0, 3, 2, 1, 1]])
    one_hot = nn.functional.one_hot(classes, 4).double()
    expected = decided(nn.CrossEntropyLoss(), classes, outputs).margins
    for targets in (one_hot, 0.9 * one_hot + 0.025, 2 * one_hot - 1):
        np.testing.assert_allclose(decided(nn.MSELoss(), targets, outputs).margins, expected)
