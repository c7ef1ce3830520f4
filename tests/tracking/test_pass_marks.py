"""Which outputs are the two layers' own, and which samples stand behind them."""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from phasetrack import ClusterGeometry, TrackingWarning, attach
from phasetrack.tracking.loss_call import NOT_THE_OUTPUT

D, P, STEPS = 6, 12, 3
CENTRES = 2.0 * torch.eye(D)[:3]
GEOMETRY = ClusterGeometry(CENTRES, [0, 1, 2])


def sample(m=24):
    y = torch.randint(3, (m,))
    return CENTRES[y] + 0.3 * torch.randn(m, D), y


@dataclass
class Output:
    loss: torch.Tensor | None
    heads: dict


class TwoHeads(nn.Module):
    """One first layer with two heads; the one that is followed is returned last."""

    def __init__(self, width, kind):
        super().__init__()
        self.trunk, self.kind = nn.Linear(D, P), kind
        self.other, self.head = nn.Linear(P, width), nn.Linear(P, 3)

    def forward(self, x):
        hidden = torch.tanh(self.trunk(x))
        return self.kind(self.other(hidden), self.head(hidden))


def both(other, head):
    return other, head


def named(other, head):
    return {"logits of the other": other, "head": head}


def as_object(other, head):
    return Output(None, {"other": other, "head": head})


def last(outputs):
    """The two heads' outputs, whatever the network returns."""
    found = outputs.heads if isinstance(outputs, Output) else outputs
    return tuple(found.values()) if isinstance(found, dict) else found


def trained(model, step, **options):
    """The history of a few steps, of which `step` gives the losses: followed, and added to it."""
    optimizer, right = torch.optim.SGD(model.parameters(), lr=0.1), []
    with attach(model, optimizer, geometry=GEOMETRY, **options) as tracker:
        for _ in range(STEPS):
            optimizer.zero_grad()
            own, added = step()
            (own + added).backward()
            right.append(own.item())
            optimizer.step()
    return tracker, right


@pytest.mark.parametrize("kind", [both, named, as_object])
@pytest.mark.parametrize("width", [3, 5])
@pytest.mark.parametrize("criterion", [None, nn.CrossEntropyLoss()], ids=["in place", "module"])
def test_the_loss_of_another_head_is_left_out(criterion, width, kind):
    torch.manual_seed(0)
    model, margins = TwoHeads(width, kind), []

    def step():
        x, y = sample()
        other, head = last(model(x))
        loss = criterion or F.cross_entropy
        own = head.gather(1, y[:, None])[:, 0] - head.scatter(1, y[:, None], -torch.inf).amax(1)
        margins.append([own[y == c].mean().item() for c in range(3)])
        return loss(head, y), loss(other, y.flip(0) % width)

    tracker, right = trained(model, step, loss=criterion, layers=("trunk", "head"))
    np.testing.assert_allclose(tracker.history["loss/train"], right, rtol=1e-5)
    read = [tracker.history[f"margin/empirical/c{c}"] for c in range(3)]
    np.testing.assert_allclose(read, np.transpose(margins), rtol=1e-4, atol=1e-5)
    assert not tracker.notes


@pytest.mark.parametrize("criterion", [None, nn.CrossEntropyLoss()], ids=["in place", "module"])
def test_samples_of_weights_in_a_list_are_in_clusters(criterion):
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.ParameterList([torch.randn(D, P) / 3, torch.randn(P, 3) / 3])

        def forward(self, x):
            return torch.relu(x @ self.weights[0]) @ self.weights[1]

    torch.manual_seed(0)
    model = Listed()

    def step():
        x, y = sample()
        return (criterion or F.cross_entropy)(model(x), y), 0

    tracker, _ = trained(model, step, loss=criterion)
    assert not np.isnan(tracker.history["margin/empirical/c0"]).any()


class OverTime(nn.Module):
    """Takes (B, D, T) and returns a class for each time step, (B, K, T)."""

    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Linear(D, P), nn.Linear(P, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.hidden(x.transpose(1, 2)))).transpose(1, 2)


class OfSparse(nn.Module):
    """Multiplies a sparse table with its first weight."""

    def __init__(self):
        super().__init__()
        self.W, self.head = nn.Parameter(torch.randn(D, P) / 3), nn.Linear(P, 3)

    def forward(self, x):
        return self.head(torch.sparse.mm(x, self.W).relu())


def over_time(x, y):
    return x.reshape(6, 4, D).transpose(1, 2), y.reshape(6, 4)


def sparse(x, y):
    return x.to_sparse(), y


@pytest.mark.parametrize("criterion", [None, nn.CrossEntropyLoss()], ids=["in place", "module"])
@pytest.mark.parametrize(("net", "form"), [(OverTime, over_time), (OfSparse, sparse)])
def test_samples_in_another_form(net, form, criterion):
    torch.manual_seed(0)
    model, margins = net(), []

    def step():
        x, y = sample()
        given, targets = form(x, y)
        f = model(given)
        rows = f.movedim(1, -1).reshape(-1, 3) if f.ndim > 2 else f
        own = rows.gather(1, y[:, None])[:, 0] - rows.scatter(1, y[:, None], -torch.inf).amax(1)
        margins.append([own[y == c].mean().item() for c in range(3)])
        return (criterion or F.cross_entropy)(f, targets), 0

    tracker, right = trained(model, step, loss=criterion, strict=True)
    np.testing.assert_allclose(tracker.history["loss/train"], right, rtol=1e-5)
    read = [tracker.history[f"margin/empirical/c{c}"] for c in range(3)]
    np.testing.assert_allclose(read, np.transpose(margins), rtol=1e-4, atol=1e-5)
    assert not np.isnan(tracker.history["margin/clean/c0"]).any() and not tracker.notes


def shuffled(model):
    x, y = sample()
    order = torch.randperm(len(x))
    return model(x)[order], y[order]


def averaged(model):
    x, y = sample()
    return (model(x) + model(x + 0.3 * torch.randn_like(x))) / 2, y


def similarities(model):
    x, _ = sample()
    ours, theirs = (F.normalize(model(x + 0.1 * torch.randn_like(x))) for _ in range(2))
    return ours @ theirs.T / 0.1, torch.arange(len(x))


@pytest.mark.parametrize("give", [shuffled, averaged, similarities])
def test_values_that_are_not_the_outputs_have_no_clusters(give):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, P), nn.ReLU(), nn.Linear(P, 3))
    criterion, errors = nn.CrossEntropyLoss(), []

    def step():
        values, targets = give(model)
        errors.append((values.argmax(1) != targets).float().mean().item())
        return criterion(values, targets), 0

    says = give is not similarities  # which have another width, so that nothing is compared
    with pytest.warns(TrackingWarning, match="not the model's output") if says else nullcontext():
        tracker, right = trained(model, step, loss=criterion)
    np.testing.assert_allclose(tracker.history["loss/train"], right, rtol=1e-5)
    np.testing.assert_allclose(tracker.history["error/train"], errors, atol=1e-6)
    assert (
        "margin/empirical/c0" not in tracker.history
        or np.isnan(tracker.history["margin/empirical/c0"]).all()
    )
    assert NOT_THE_OUTPUT in tracker.undefined.values()
    assert not np.isnan(tracker.history["margin/clean/c0"]).any()
