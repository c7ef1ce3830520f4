"""Layers told by the outputs alone, where no pass was followed; and links to what the loss is given."""

import pytest
import torch
from helpers.networks import REPRODUCED, Bare, D, P, linear, randn, sequential
from torch import nn

from phasetrack import TwoLayerNet, TwoLayerView
from phasetrack.model.comparison import SETTLING_VALUES
from phasetrack.model.formula import UNKNOWN_LINK


def seen(model):
    """The view after a pass."""
    found = []
    view = TwoLayerView.of(model)
    view.watched(model, lambda one: found.append(view.resolved(one)), pytest.fail)
    model(randn(20, D))
    return found[0]


def test_one_sample_settles_nothing():
    model = sequential(nn.ReLU())
    x = randn(1, D)
    view = TwoLayerView.of(model).calibrated(x, model(x)[:, 0])
    assert not view.settled and view.scale is None and view.formula.missing


def test_single_samples_add_up():
    """Batches of one: candidates that fit every one of them are left."""
    torch.manual_seed(0)
    model = Bare(lambda m, x: 3 * torch.tanh(x @ m.W.T) @ m.a, W=randn(P, D), a=randn(P))
    view, doubts = TwoLayerView.of(model), []
    for _ in range(SETTLING_VALUES):
        x = randn(1, D)
        view = view.calibrated(x, model(x))
        doubts.append(view.doubt)
    assert "fit the 1 outputs seen so far" in doubts[0]
    assert view.settled and view.activation is torch.tanh and view.scale == pytest.approx(3)
    assert view.doubt == ""


def test_active_neurons_leave_the_activation_open_until_a_batch_tells():
    torch.manual_seed(0)
    model = Bare(lambda m, x: torch.relu(m.fc(x)) @ m.a, fc=linear(D, P), a=randn(P))
    nn.init.constant_(model.fc.bias, 50.0)
    x = randn(40, D)
    view = TwoLayerView.of(model).calibrated(x, model(x))
    assert "several activations fit" in view.doubt and view.scale is None
    nn.init.zeros_(model.fc.bias)
    view = view.calibrated(x, model(x))
    assert view.activation is torch.relu and view.settled and view.doubt == ""


def test_zero_outputs_tell_nothing():
    model = REPRODUCED["zero head"][0]()
    x = randn(40, D)
    view = TwoLayerView.of(model)
    assert view.calibrated(x, model(x)[:, 0]) == view


def test_a_bias_of_zeros_leaves_open_whether_the_factor_acts_on_it():
    torch.manual_seed(0)
    model = Bare(lambda m, x: m.head(torch.relu(m.fc(x))) / 5, fc=linear(D, P), head=linear(P, 1))
    nn.init.zeros_(model.head.bias)
    x = randn(40, D)
    view = TwoLayerView.of(model).calibrated(x, model(x)[:, 0])
    assert view.scale == pytest.approx(0.2) and view.doubt == "" and not view.compared
    nn.init.ones_(model.head.bias)
    view = view.calibrated(x, model(x)[:, 0])
    assert view.bias_scaled and view.settled and view.compared


def test_orientation_is_told_by_the_outputs():
    model = REPRODUCED["square, inputs first"][0]()
    x = randn(40, D)
    view = TwoLayerView.of(model)
    assert not view.first.transposed
    view = view.calibrated(x, model(x))
    assert view.first.transposed and view.second.transposed and view.scale == pytest.approx(1)


def test_nothing_is_fitted_where_nothing_reproduces():
    model = sequential(nn.ReLU())
    x = randn(40, D)
    view = TwoLayerView.of(model).calibrated(x, torch.sin(9 * model(x)[:, 0]))
    assert view.scale is None and "(relative difference" in view.doubt
    assert view.formula.missing == view.doubt and view.compared


def test_copies_of_the_layers_are_compared_in_place_of_the_weights():
    model = sequential(nn.ReLU())
    x, view = randn(40, D), TwoLayerView.of(model)
    outputs = model(x)[:, 0].detach()
    frozen = view.frozen()
    parts = (frozen.W, frozen.A, frozen.bias, frozen.head_bias)
    copies = type(frozen)(frozen.formula, *(part.clone() for part in parts))
    with torch.no_grad():
        model[0].weight.mul_(2)
    assert view.calibrated(x, outputs, layers=copies).scale == pytest.approx(1)
    assert view.calibrated(x, outputs).doubt


@pytest.mark.parametrize("followed", [False, True], ids=["outputs alone", "pass seen"])
@pytest.mark.parametrize("link", ["log_softmax", "softmax", "sigmoid", "logsigmoid", "tanh"])
def test_a_function_before_the_loss_is_found(link, followed):
    torch.manual_seed(0)
    model = sequential(nn.ReLU(), 3)
    x = randn(40, D)
    logits = model(x)
    given = {
        "log_softmax": logits.log_softmax(dim=1),
        "softmax": logits.softmax(dim=1),
        "sigmoid": torch.sigmoid(logits),
        "logsigmoid": nn.functional.logsigmoid(logits),
        "tanh": torch.tanh(logits),
    }[link]
    view = (seen(model) if followed else TwoLayerView.of(model)).calibrated(x, given)
    assert (view.link, view.doubt, view.compared) == (link, "", True)
    assert view.scale == pytest.approx(1)
    torch.testing.assert_close(view.frozen().linked_outputs(x), given)
    torch.testing.assert_close(view.frozen().outputs(x), logits)


def test_a_factor_before_the_loss_is_measured():
    view = seen(sequential(nn.ReLU()))
    x = randn(40, D)
    assert view.scale == 1
    view = view.calibrated(x, view.frozen().outputs(x) * 4)
    assert view.scale == pytest.approx(4) and view.doubt == ""


def test_an_unknown_function_before_the_loss_leaves_the_margins():
    view = seen(sequential(nn.ReLU()))
    x = randn(40, D)
    view = view.calibrated(x, torch.sin(9 * view.frozen().outputs(x)))
    assert view.link == UNKNOWN_LINK and view.formula.missing == "" and view.scale == 1
    assert "not the model's output" in view.formula.unlinked


def test_the_papers_network_is_settled_and_still_compared_once():
    net = TwoLayerNet(D, P)
    view, x = TwoLayerView.of(net), torch.randn(30, D)
    assert view.settled and not view.compared
    same = view.calibrated(x, net(x))
    assert same.compared and same.scale == view.scale and same.link == "identity"
    assert view.calibrated(x, torch.sigmoid(net(x))).link == "sigmoid"
