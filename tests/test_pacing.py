"""The rates of two layers, as the optimizer has them when it is asked."""

import pytest
import torch

from phasetrack import TwoLayerNet
from phasetrack.pacing import Pacing
from phasetrack.snapshot import StepSizes
from phasetrack.views import TwoLayerView

NET = TwoLayerNet(4, 3)


def pacing(optimizer, net=NET):
    view = TwoLayerView.of(net)
    return Pacing(optimizer, view.first, view.second)


def groups(first, second, **options):
    """An optimizer with a group for each layer."""
    layers = [
        {"params": [w], "lr": lr} for w, lr in zip(NET.parameters(), (first, second), strict=True)
    ]
    return torch.optim.SGD(layers, lr=9.0, **options)


def test_each_layer_has_the_rate_of_its_group():
    assert pacing(groups(0.5, 2.0)).sizes(0.1) == StepSizes(0.05, 0.2, plain=True)
    assert pacing(groups(0.5, 2.0)).pace(None).eta == 2.0


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"weight_decay": 0.1}], ids=str)
def test_what_is_not_plain_sgd_is_said(options):
    assert not pacing(groups(1.0, 1.0, **options)).sizes(1.0).plain
    assert not pacing(torch.optim.Adam(NET.parameters())).sizes(1.0).plain


def test_a_layer_that_is_not_trained_does_not_move():
    first, _ = NET.parameters()
    rates = pacing(torch.optim.SGD([first], lr=0.5))
    assert rates.sizes(1.0) == StepSizes(0.5, 0.0, plain=True) and rates.pace(1.0).eta == 0.5


def test_every_change_is_seen_at_once():
    net = TwoLayerNet(4, 3)
    first, second = net.parameters()
    optimizer = torch.optim.SGD([first], lr=0.5)
    rates = pacing(optimizer, net)
    assert rates.pace(1.0).eta == rates.pace(1.0).eta == 0.5
    optimizer.add_param_group({"params": [second], "lr": 3.0})
    assert rates.pace(1.0).eta == rates.pace(1.0).eta == 3.0
    assert rates.pace(0.1).eta == pytest.approx(0.3)  # the scale was settled
    second.requires_grad_(False)
    assert rates.pace(1.0).eta == 0.5
    second.requires_grad_(True)
    assert rates.pace(1.0).eta == 3.0
    optimizer.param_groups[1]["lr"] = torch.tensor(4.0)
    assert rates.pace(1.0).eta == 4.0
    optimizer.param_groups[1]["lr"].mul_(2)
    assert rates.pace(1.0).eta == 8.0
    optimizer.param_groups[1]["lr"] = 1
    assert rates.pace(1.0).eta == rates.pace(1.0).eta == 1.0
    optimizer.param_groups.reverse()
    optimizer.param_groups[0]["lr"] = 2.0
    assert rates.pace(1.0).eta == rates.pace(1.0).eta == 2.0
    del optimizer.param_groups[1]  # that of the first layer
    assert rates.sizes(1.0) == StepSizes(0.0, 2.0, plain=True) and rates.pace(1.0).eta == 2.0
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = 7.0
    optimizer.load_state_dict(state)
    assert rates.pace(1.0).eta == 7.0
