"""A two-layer block inside a larger network."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from phasetrack import ClusterGeometry, ExpectedError, attach

D, P, CLASSES = 8, 12, 5
DIRECTIONS = torch.eye(D, dtype=torch.float64)
GEOMETRY = ClusterGeometry(DIRECTIONS[:2] + DIRECTIONS[2:4], [1, -1])


class MLP(nn.Module):
    def __init__(self, act=None):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(D, P), nn.Linear(P, D)
        self.act = nn.functional.gelu if act is None else act

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Transformer(nn.Module):
    """One block of attention and MLP on token pairs, as for modular addition."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(CLASSES, D)
        self.attention = nn.MultiheadAttention(D, 2, batch_first=True)
        self.blocks = nn.ModuleList([nn.ModuleDict({"mlp": MLP()})])
        self.head = nn.Linear(D, CLASSES, bias=False)

    def forward(self, tokens):
        x = self.embed(tokens)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x + self.blocks[0]["mlp"](x))[:, -1]


def train(model, optimizer, loss, steps=4):
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(0, CLASSES, (30, 2), generator=generator)
        optimizer.zero_grad()
        loss(model(tokens), tokens.sum(dim=1) % CLASSES).backward()
        optimizer.step()


def setting():
    torch.manual_seed(0)
    model = Transformer().double()
    return model, torch.optim.SGD(model.parameters(), lr=0.3), nn.CrossEntropyLoss()


NAMES = ("blocks.0.mlp.fc1", "blocks.0.mlp.fc2")


def test_readings_of_a_transformers_mlp():
    model, optimizer, loss = setting()
    readout = torch.arange(D, dtype=torch.float64) - 3
    options = {"layers": NAMES, "geometry": GEOMETRY, "loss": loss, "readout": readout}
    expected = []
    with attach(model, optimizer, **options, strict=True) as tracker:
        for _ in range(3):
            with torch.no_grad():
                f = model.blocks[0]["mlp"](GEOMETRY.centres) @ readout
            expected.append((f * GEOMETRY.labels).min().item())
            train(model, optimizer, loss, steps=1)
    history = tracker.history
    np.testing.assert_allclose(history["margin/min"], expected)
    assert tracker.view.notes == () and tracker.view.activation is nn.functional.gelu
    assert (history["linearization/slope_drift"] > 0).all()
    assert history["loss/train"][0] == pytest.approx(math.log(CLASSES), rel=0.3)
    assert np.isnan(history["margin/empirical/c0"]).all()
    assert "no labels of its own" in tracker.undefined["margin/empirical/c0"]


def test_one_direction_for_each_class():
    model, optimizer, loss = setting()
    geometry = ClusterGeometry(DIRECTIONS[:5], range(5))
    options = {"layers": NAMES, "geometry": geometry, "loss": loss, "strict": True}
    with attach(model, optimizer, **options, readout=model.head.weight) as tracker:
        readout = model.head.weight.detach().clone()
        with torch.no_grad():
            out = model.blocks[0]["mlp"](geometry.centres) @ readout.T
        train(model, optimizer, loss, steps=1)
    own = out.diagonal()
    others = out.clone().fill_diagonal_(-math.inf).amax(dim=1)
    assert tracker.history["margin/min"][0] == pytest.approx((own - others).min().item())


def test_training_is_unchanged():
    states = []
    for probed in (False, True):
        model, optimizer, loss = setting()
        if probed:
            options = {"layers": NAMES, "geometry": GEOMETRY, "loss": loss}
            with attach(model, optimizer, **options, readout=torch.ones(D)):
                train(model, optimizer, loss)
            assert not model.blocks[0]["mlp"].fc2._forward_hooks
        else:
            train(model, optimizer, loss)
        states.append(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_what_is_missing_is_said():
    model, optimizer, loss = setting()
    options = {"layers": NAMES, "geometry": GEOMETRY, "loss": loss}
    with pytest.raises(ExpectedError, match="pass readout= with the directions to measure"):
        attach(model, optimizer, **options)
    with pytest.raises(
        ExpectedError,
        match=r"readout: Shape \(3,\) does not fit the 8 outputs.*Pass shape \(8,\), or \(n, 8\)",
    ):
        attach(model, optimizer, **options, readout=torch.ones(3))


class Tied(nn.Module):
    """Encodes and decodes with one matrix, as a tied autoencoder does."""

    def __init__(self, layer):
        super().__init__()
        self.encode = nn.Linear(D, P, bias=False) if layer else None
        self.W = None if layer else nn.Parameter(torch.randn(P, D))
        self.head = nn.Parameter(torch.randn(D))

    def forward(self, x):
        W = self.W if self.encode is None else self.encode.weight
        return torch.relu(x @ W.T) @ W @ self.head


@pytest.mark.parametrize("layer", [False, True], ids=["parameter", "nn.Linear"])
def test_tied_weights(layer):
    torch.manual_seed(0)
    model, loss = Tied(layer).double(), nn.SoftMarginLoss()
    name = "encode" if layer else "W"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    readout = model.head.detach().clone()
    options = {"layers": (name, name), "geometry": GEOMETRY, "loss": loss, "readout": readout}
    with torch.no_grad():
        expected = (model(GEOMETRY.centres) * GEOMETRY.labels).min().item()
    with attach(model, optimizer, **options) as tracker:
        x = torch.randn(20, D, dtype=torch.float64)
        loss(model(x), torch.sign(x[:, 0])).backward()
        optimizer.step()
    assert tracker.history["margin/min"][0] == pytest.approx(expected)


def test_loss_within_the_forward_pass_is_recognised_along_one_direction():
    model, optimizer, _ = setting()
    values = []

    def loss(outputs, targets):
        values.append(nn.functional.cross_entropy(outputs, targets))
        return values[-1]

    options = {"layers": NAMES, "geometry": GEOMETRY, "readout": DIRECTIONS[0]}
    with attach(model, optimizer, **options) as tracker:
        train(model, optimizer, loss, steps=3)
    expected = [value.item() for value in values]
    np.testing.assert_allclose(tracker.history["loss/train"], expected)
