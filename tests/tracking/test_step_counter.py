"""The rates of two layers, as the optimizer has them when it is asked."""

import pytest
import torch

from phasetrack import TwoLayerNet
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.tracking.snapshot import StepSizes
from phasetrack.tracking.step_counter import Pacing

NET = TwoLayerNet(4, 3)


def pacing(optimizer, scale, net=NET):
    rates = Pacing(optimizer, TwoLayerView.of(net))
    rates.settle(scale)
    return rates


def groups(first, second, **options):
    """An optimizer with a group for each layer."""
    layers = [
        {"params": [w], "lr": lr} for w, lr in zip(NET.parameters(), (first, second), strict=True)
    ]
    return torch.optim.SGD(layers, lr=9.0, **options)


def test_each_layer_has_the_rate_of_its_group():
    assert pacing(groups(0.5, 2.0), 0.1).sizes() == StepSizes(0.05, 0.2, plain=True)
    assert pacing(groups(0.5, 2.0), None).eta() == 2.0


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"weight_decay": 0.1}], ids=str)
def test_what_is_not_plain_sgd_is_said(options):
    assert not pacing(groups(1.0, 1.0, **options), 1.0).sizes().plain
    assert not pacing(torch.optim.Adam(NET.parameters()), 1.0).sizes().plain


def test_a_layer_that_is_not_trained_does_not_move():
    first, _ = NET.parameters()
    rates = pacing(torch.optim.SGD([first], lr=0.5), 1.0)
    assert rates.sizes() == StepSizes(0.5, 0.0, plain=True) and rates.eta() == 0.5


def test_every_change_is_seen_at_once():
    net = TwoLayerNet(4, 3)
    first, second = net.parameters()
    optimizer = torch.optim.SGD([first], lr=0.5)
    rates = pacing(optimizer, 1.0, net)
    assert rates.eta() == rates.eta() == 0.5
    optimizer.add_param_group({"params": [second], "lr": 3.0})
    assert rates.eta() == rates.eta() == 3.0
    rates.settle(0.1)
    assert rates.eta() == pytest.approx(0.3)
    rates.settle(1.0)
    second.requires_grad_(False)
    assert rates.eta() == 0.5
    second.requires_grad_(True)
    assert rates.eta() == 3.0
    optimizer.param_groups[1]["lr"] = torch.tensor(4.0)
    assert rates.eta() == 4.0
    optimizer.param_groups[1]["lr"].mul_(2)
    assert rates.eta() == 8.0
    optimizer.param_groups[1]["lr"] = 1
    assert rates.eta() == rates.eta() == 1.0
    optimizer.param_groups.reverse()
    optimizer.param_groups[0]["lr"] = 2.0
    assert rates.eta() == rates.eta() == 2.0
    del optimizer.param_groups[1]  # that of the first layer
    assert rates.sizes() == StepSizes(0.0, 2.0, plain=True) and rates.eta() == 2.0
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = 7.0
    optimizer.load_state_dict(state)
    assert rates.eta() == 7.0


def test_steps_are_counted_with_the_rates_that_they_had():
    net, woken = TwoLayerNet(4, 3), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    rates = Pacing(optimizer, TwoLayerView.of(net), lambda: woken.append(rates.step))
    rates.settle(1.0)
    rates.due = 3
    optimizer.register_step_post_hook(rates.count)
    for lr in (0.5, 0.5, 2.0, 0.25):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
    assert (rates.step, rates.time, woken) == (4, 3.25, [3, 4])


def test_who_watches_a_step_counts_it():
    net, woken = TwoLayerNet(4, 3), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    rates = Pacing(optimizer, TwoLayerView.of(net), lambda: woken.append(rates.step))
    optimizer.register_step_post_hook(rates.count)
    rates.watched = True
    optimizer.step()
    assert (rates.step, rates.time, woken) == (0, 0.0, [0])
    rates.add(0.25)
    assert (rates.step, rates.time) == (1, 0.25)
