"""The paper's network, and the two layers of other people's."""

import naive
import numpy as np
import pytest
import torch
from torch import nn

from phasetrack import ExpectedError, TwoLayerNet, TwoLayerView


def test_formula():
    net = TwoLayerNet(7, 5, theta=0.3, seed=1).double()
    W, a = net.first.weight.detach().numpy(), net.second.weight.detach().numpy()[0]
    x = np.random.default_rng(0).standard_normal((9, 7))
    expected = [naive.output(W, a, row) for row in x]
    np.testing.assert_allclose(net(torch.from_numpy(x)).detach().numpy(), expected)


def test_start_on_the_sphere():
    state = torch.random.get_rng_state()
    net = TwoLayerNet(50, 4000, theta=0.3, seed=0)
    assert torch.equal(state, torch.random.get_rng_state())
    W, a = net.first.weight.detach(), net.second.weight.detach()
    torch.testing.assert_close(W.norm(dim=1), torch.full((4000,), 0.3))
    assert (a.abs() == torch.tensor(0.3)).all() and abs(a.sign().mean()) < 5 / 63
    assert W.mean(dim=0).abs().max() < 5 * 0.3 / np.sqrt(50 * 4000)  # no direction preferred
    assert torch.equal(W, TwoLayerNet(50, 4000, theta=0.3, seed=0).first.weight)
    assert not torch.equal(W, TwoLayerNet(50, 4000, theta=0.3, seed=1).first.weight)


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 6)
        self.hidden = nn.Linear(6, 4)
        self.head = nn.Linear(4, 1, bias=False)

    def forward(self, x):
        return 5 * self.head(torch.relu(self.hidden(x)))


def test_layers_are_found():
    view = TwoLayerView.of(nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1)))
    assert view.names == ("1", "3") and view.W.shape == (4, 6) and view.a.shape == (4,)
    assert isinstance(view.activation, nn.Tanh) and not view.plain
    assert TwoLayerView.of(TwoLayerNet(6, 4)).plain


def test_layers_can_be_named():
    view = TwoLayerView.of(Wrapped(), layers=("hidden", "head"))
    assert view.names == ("hidden", "head")
    assert view.notes == ("no activation module seen: ReLU assumed",)


def test_the_factor_after_the_head_is_measured():
    model, x = Wrapped().double(), torch.randn(20, 6, dtype=torch.float64)
    view = TwoLayerView.of(model, layers=("hidden", "head"))
    calibrated = view.calibrated(x, model(x).squeeze(1))
    assert calibrated.scale == pytest.approx(5) and calibrated.notes == view.notes


def test_something_else_in_between_is_noted():
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 1))
    assert TwoLayerView.of(model).notes == ("Dropout acts between the layers",)
    view = TwoLayerView.of(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1)))
    (note,) = view.calibrated(torch.randn(9, 6), torch.randn(9)).notes
    assert "do not reproduce the model's output" in note


@pytest.mark.parametrize(
    "model, layers, message",
    [
        (
            nn.Sequential(nn.Linear(3, 1)),
            None,
            "model: expected exactly two nn.Linear layers, got 0; name",
        ),
        (nn.Sequential(nn.ReLU()), None, "model: expected exactly two nn.Linear layers, got none"),
        (Wrapped(), None, "got embed, hidden, head; name the two with layers"),
        (Wrapped(), ("hidden", "tail"), "layers: expected names of nn.Linear layers"),
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), None, "p -> 1, got 0: 3 -> 4, 1: 4 -> 2"),
    ],
    ids=["one layer", "no layer", "three layers", "unknown name", "two outputs"],
)
def test_other_models_are_explained(model, layers, message):
    with pytest.raises(ExpectedError) as caught:
        TwoLayerView.of(model, layers)
    assert message in str(caught.value)
