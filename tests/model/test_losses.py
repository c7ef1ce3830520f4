"""The paper's loss, and losses taken sample by sample."""

import numpy as np
import pytest
import torch
from helpers import references as naive
from torch import nn

from phasetrack.model.losses import LogisticLoss, pointwise, value_and_slope

RNG = np.random.default_rng(0)
F, Y = RNG.standard_normal(20), RNG.choice([-1.0, 1.0], 20)


@pytest.mark.parametrize(
    "reduction, reduce", [("none", lambda v: v), ("mean", np.mean), ("sum", np.sum)]
)
def test_logistic_loss(reduction, reduce):
    value = LogisticLoss(reduction)(*naive.tensors(F, Y))
    np.testing.assert_allclose(value.numpy(), reduce(naive.loss(F, Y)))


def test_logistic_loss_far_out():
    assert LogisticLoss()(torch.tensor([-1e4]), torch.ones(1)).item() == 2e4
    with pytest.raises(ValueError, match="reduction: expected mean, sum or none, got 'max'"):
        LogisticLoss("max")


@pytest.mark.parametrize(
    "loss",
    [LogisticLoss(), LogisticLoss("sum"), lambda f, y: (2 * nn.functional.softplus(-y * f)).mean()],
    ids=["mean", "sum", "function"],
)
def test_values_and_slopes_of_each_sample(loss):
    values, slopes = value_and_slope(loss, *naive.tensors(F, Y))
    np.testing.assert_allclose(values.numpy(), naive.loss(F, Y))
    np.testing.assert_allclose(slopes.numpy(), naive.loss_slope(F, Y))


def test_the_users_own_hooks_are_not_fired():
    loss, calls = LogisticLoss(), []
    loss.register_forward_hook(lambda *_: calls.append(1))
    pointwise(loss)(*naive.tensors(F, Y))
    assert calls == [] and loss.reduction == "mean"
