"""The two layers of models that were written without phasetrack in mind."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from phasetrack import ExpectedError, LogisticLoss, TwoLayerNet, TwoLayerView, attach
from phasetrack.tasks import XOR

D, P = 6, 4


class Named(nn.Module):
    """Three layers, the function between the last two not a module."""

    def __init__(self, act=torch.relu):
        super().__init__()
        self.embed, self.hidden, self.head = (
            nn.Linear(D, D),
            nn.Linear(D, P),
            nn.Linear(P, 1, bias=False),
        )
        self.act = act

    def forward(self, x):
        return 5 * self.head(self.act(self.hidden(x)))


class Bare(nn.Module):
    """Matrices without layers, either way round, with or without biases."""

    def __init__(self, d=D, p=P, transposed=False, biased=False, vector=True, act=torch.relu):
        super().__init__()
        self.W = nn.Parameter(torch.randn(d, p) if transposed else torch.randn(p, d))
        self.a = nn.Parameter(torch.randn(p) if vector else torch.randn(p, 1))
        self.b = nn.Parameter(torch.randn(p)) if biased else None
        self.c = nn.Parameter(torch.randn(())) if biased else None
        self.transposed, self.act, self.p = transposed, act, p

    def forward(self, x):
        hidden = x @ (self.W if self.transposed else self.W.T)
        hidden = self.act(hidden if self.b is None else hidden + self.b)
        f = (hidden @ self.a).reshape(-1) / self.p
        return f if self.c is None else f + self.c


class MLP(nn.Module):
    def __init__(self, heads=1, bias=True, between=nn.ReLU):
        super().__init__()
        self.body = nn.ModuleDict(
            {"fc1": nn.Linear(D, P, bias=bias), "fc2": nn.Linear(P, heads, bias=bias)}
        )
        self.between = between()

    def forward(self, x):
        return self.body["fc2"](self.between(self.body["fc1"](x)))


def parametrised(wrap):
    net = nn.Sequential(nn.Linear(D, P), nn.ReLU(), nn.Linear(P, 1))
    wrap(net[0])
    return net


MODELS = {
    "sequential": lambda: nn.Sequential(nn.Linear(D, P), nn.ReLU(), nn.Linear(P, 1)),
    "flattened": lambda: nn.Sequential(nn.Flatten(), nn.Linear(D, P), nn.Tanh(), nn.Linear(P, 1)),
    "paper": lambda: TwoLayerNet(D, P),
    "nested": MLP,
    "no bias": lambda: MLP(bias=False),
    "two logits": lambda: MLP(heads=2),
    "gelu": lambda: MLP(between=nn.GELU),
    "bare": Bare,
    "bare, transposed": lambda: Bare(transposed=True),
    "bare, biased": lambda: Bare(biased=True),
    "bare, matrix head": lambda: Bare(vector=False),
    "bare, tanh": lambda: Bare(act=torch.tanh),
    "bare, square": lambda: Bare(p=D, transposed=True),
    "weight norm": lambda: parametrised(parametrizations.weight_norm),
    "spectral norm": lambda: parametrised(parametrizations.spectral_norm),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_view_says_what_the_model_says(name):
    """f, W, a, biases and scale from the view alone give the model's own output."""
    torch.manual_seed(1)
    model = MODELS[name]().double()
    x = torch.randn(30, D, dtype=torch.float64)
    outputs = model(x)
    outputs = outputs.reshape(30) if outputs.shape[-1] != 2 else outputs
    view = TwoLayerView.of(model).calibrated(x, outputs)
    assert view.notes == ()
    W, a, scale = view.W.numpy(), view.a.numpy(), view.scale
    hidden = view.activation(x @ view.W.T + (0 if view.bias is None else view.bias)).detach()
    f = scale * hidden.numpy() @ a + (0 if view.output_bias is None else view.output_bias.item())
    expected = outputs if outputs.ndim == 1 else outputs[:, 1] - outputs[:, 0]
    np.testing.assert_allclose(f, expected.detach().numpy(), atol=1e-9)
    assert W.shape == (len(a), D)


def test_reading_a_parametrised_weight_leaves_its_power_iteration_alone():
    net = parametrised(parametrizations.spectral_norm).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    view = TwoLayerView.of(net)
    for _ in range(3):
        assert view.W.shape == (P, D)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert net[0].parametrizations.weight.training


def test_layers_can_be_named():
    view = TwoLayerView.of(Named(), layers=("hidden", "head"))
    assert view.names == ("hidden", "head")
    other = TwoLayerView.of(Bare(biased=True), layers=("W", "a"))
    assert other.names == ("W", "a") and other.first_bias == "b"


@pytest.mark.parametrize(
    "act",
    [torch.relu, torch.tanh, nn.functional.gelu, torch.square],
    ids=["relu", "tanh", "gelu", "square"],
)
def test_a_function_between_the_layers_is_found_on_the_first_batch(act):
    model = Named(act).double()
    x = torch.randn(40, D, dtype=torch.float64)
    view = TwoLayerView.of(model, layers=("hidden", "head")).calibrated(x, model(x).squeeze(1))
    assert view.scale == pytest.approx(5) and view.notes == ()
    torch.testing.assert_close(view.activation(x), act(x))


def test_something_else_in_between_is_noted():
    model = nn.Sequential(nn.Linear(D, P), nn.ReLU(), nn.Dropout(), nn.Linear(P, 1))
    assert TwoLayerView.of(model).notes == ("Dropout acts between the layers",)
    before = nn.Sequential(nn.Linear(D, P), nn.BatchNorm1d(P), nn.Tanh(), nn.Linear(P, 1))
    assert TwoLayerView.of(before).notes == ("BatchNorm1d acts between the layers",)
    assert isinstance(TwoLayerView.of(before).activation, nn.Tanh)
    view = TwoLayerView.of(MODELS["sequential"]())
    (note,) = view.calibrated(torch.randn(9, D), torch.randn(9)).notes
    assert "do not reproduce the model's output" in note


@pytest.mark.parametrize(
    "model, layers, message",
    [
        (
            nn.Sequential(nn.Linear(3, 1)),
            None,
            "The model has 1 weight matrices, not two: 0.weight (1, 3). Name the two layers",
        ),
        (nn.Sequential(nn.ReLU()), None, "model: The model has no linear layers"),
        (
            Named(),
            None,
            "not two: embed.weight (6, 6), hidden.weight (4, 6), head.weight (1, 4). Name",
        ),
        (
            Named(),
            ("hidden", "tail"),
            "layers: The model has no layer or parameter 'tail'. Pass two of embed, hidden, head",
        ),
        (
            nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 1)),
            None,
            "do not follow each other: 0: 3 -> 4, 1: 5 -> 1.",
        ),
        (nn.Embedding(3, 4), None, "model: The model has no linear layers"),
    ],
    ids=[
        "one layer",
        "no layer",
        "three layers",
        "unknown name",
        "no fit",
        "embedding",
    ],
)
def test_other_models_are_explained(model, layers, message):
    with pytest.raises(ExpectedError) as caught:
        TwoLayerView.of(model, layers)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", [n for n in MODELS if n != "paper"])
def test_readings_of_any_of_them(name):
    """Through attach(): margins at the centres and the batch's loss, recomputed from the model."""
    torch.manual_seed(2)
    task, model = XOR(D), MODELS[name]().double()
    two = name == "two logits"
    loss = nn.CrossEntropyLoss() if two else LogisticLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses, centres = [], task.geometry.centres
    with attach(model, optimizer, loss=loss, geometry=task.geometry, strict=True) as tracker:
        for step in range(3):
            with torch.no_grad():
                at = model.eval()(centres)
                model.train()
            x, y = task.sample(64, seed=0, step=step, dtype=torch.float64)
            optimizer.zero_grad()
            value = loss(model(x), (y > 0).long()) if two else loss(model(x).reshape(-1), y)
            value.backward()
            losses.append(value.item())
            optimizer.step()
            f = (at[:, 1] - at[:, 0]) if two else at.reshape(-1)
            clean = [tracker.history[f"margin/clean/{c}"][step] for c in task.geometry.names]
            if name != "spectral norm":  # its weights are the training pass's, not evaluation's
                np.testing.assert_allclose(clean, (f * task.geometry.labels).numpy(), atol=1e-9)
    np.testing.assert_allclose(tracker.history["loss/train"], losses)
    assert not np.isnan(tracker.history["linearization/value_error"]).any()


def test_two_logits_are_the_logistic_loss_of_their_difference():
    """Cross entropy of two logits and the plain logistic loss of f read the same."""
    task, torch_state = XOR(D), torch.Generator().manual_seed(0)
    W, a = torch.randn(P, D, generator=torch_state), torch.randn(P, generator=torch_state)
    histories = []
    for heads in (1, 2):
        model = nn.Sequential(
            nn.Linear(D, P, bias=False), nn.ReLU(), nn.Linear(P, heads, bias=False)
        ).double()
        with torch.no_grad():
            model[0].weight.copy_(W)
            model[2].weight.copy_(a if heads == 1 else torch.stack([-a / 2, a / 2]))
        loss = nn.CrossEntropyLoss() if heads == 2 else nn.SoftMarginLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with attach(model, optimizer, loss=loss, geometry=task.geometry, strict=True) as tracker:
            x, y = task.sample(128, seed=0, step=0, dtype=torch.float64)
            (loss(model(x), (y > 0).long()) if heads == 2 else loss(model(x)[:, 0], y)).backward()
            optimizer.step()
        histories.append(tracker.history)
    one, two = histories
    for name in one:
        if name.startswith(("loss", "error", "margin", "linear", "heaviness")):
            assert two[name][0] == pytest.approx(one[name][0]), name
