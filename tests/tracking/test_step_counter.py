"""StepCounter: steps and their lengths, as the optimizer has them when it is asked."""

import math

import pytest
import torch

from phasetrack import TwoLayerNet
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.tracking.step_copies import StepSizes
from phasetrack.tracking.step_counter import StepCounter

NET = TwoLayerNet(4, 3)


def counter(optimizer, scale, net=NET):
    counted = StepCounter(optimizer, TwoLayerView.of(net))
    counted.scale = scale
    return counted


def groups(first, second, **options):
    """An optimizer with a group for each layer."""
    layers = [
        {"params": [w], "lr": lr} for w, lr in zip(NET.parameters(), (first, second), strict=True)
    ]
    return torch.optim.SGD(layers, lr=9.0, **options)


def test_each_layer_has_the_rate_of_its_group():
    assert counter(groups(0.5, 2.0), 0.1).sizes() == StepSizes(0.05, 0.2, plain=True)
    assert counter(groups(0.5, 2.0), None).sizes().eta == 2.0


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"weight_decay": 0.1}], ids=str)
def test_optimizers_other_than_plain_sgd_are_flagged(options):
    assert not counter(groups(1.0, 1.0, **options), 1.0).sizes().plain
    assert not counter(torch.optim.Adam(NET.parameters()), 1.0).sizes().plain


def test_untrained_layer_does_not_move():
    first, _ = NET.parameters()
    sizes = counter(torch.optim.SGD([first], lr=0.5), 1.0).sizes()
    assert sizes == StepSizes(0.5, 0.0, plain=True) and sizes.eta == 0.5


def test_every_change_of_the_groups_is_seen_at_once():
    net = TwoLayerNet(4, 3)
    first, second = net.parameters()
    optimizer = torch.optim.SGD([first], lr=0.5)
    counted = counter(optimizer, 1.0, net)

    def eta():
        return counted.sizes().eta

    assert eta() == 0.5
    optimizer.add_param_group({"params": [second], "lr": 3.0})
    assert eta() == 3.0
    counted.scale = 0.1
    assert eta() == pytest.approx(0.3)
    counted.scale = 1.0
    second.requires_grad_(False)
    assert eta() == 0.5
    second.requires_grad_(True)
    assert eta() == 3.0
    optimizer.param_groups[1]["lr"] = torch.tensor(4.0)
    assert eta() == 4.0
    optimizer.param_groups[1]["lr"].mul_(2)
    assert eta() == 8.0
    optimizer.param_groups[1]["lr"] = 1
    assert eta() == 1.0
    optimizer.param_groups.reverse()
    optimizer.param_groups[0]["lr"] = 2.0
    assert eta() == 2.0
    del optimizer.param_groups[1]  # that of the first layer
    assert counted.sizes() == StepSizes(0.0, 2.0, plain=True)
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = 7.0
    optimizer.load_state_dict(state)
    assert eta() == 7.0


def test_steps_are_counted_with_the_rates_that_they_had():
    net = TwoLayerNet(4, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    counted = counter(optimizer, 1.0, net)
    for lr in (0.5, 0.5, 2.0, 0.25):
        optimizer.param_groups[0]["lr"] = lr
        counted.count()
    assert (counted.step, counted.time) == (4, 3.25)


def test_step_without_a_rate_is_counted_all_the_same():
    net = TwoLayerNet(4, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    counted = counter(optimizer, 1.0, net)
    del optimizer.param_groups[0]["lr"]
    counted.count()
    assert counted.step == 1 and math.isnan(counted.time)
