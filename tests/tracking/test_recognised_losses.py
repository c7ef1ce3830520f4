"""Losses written in place, which the gradient at the network's outputs tells."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from phasetrack import ClusterGeometry, attach
from phasetrack.tracking import batch_collector
from phasetrack.tracking.loss_recognition import recognised, usual_losses

D, M = 6, 16
CENTRES = 2 * torch.eye(D)[:3]


class Probabilities(nn.Module):
    """Returns log-probabilities, as the networks of pytorch/examples do."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(D, 8), nn.Linear(8, 3)

    def forward(self, x):
        return nnf.log_softmax(self.fc2(torch.relu(self.fc1(x))), dim=1)


def followed(model, loss, steps=4):
    """The tracker, and the loop's own losses."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    values, geometry = [], ClusterGeometry(CENTRES, [0, 1, 2])
    with attach(model, optimizer, geometry=geometry, strict=True) as tracker:
        for _ in range(steps):
            y = torch.randint(3, (M,))
            x = CENTRES[y] + torch.randn(M, D)
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            values.append(value.item())
            optimizer.step()
    return tracker, values


def test_log_probabilities_are_read_at_every_step():
    torch.manual_seed(0)
    tracker, values = followed(Probabilities(), nnf.nll_loss)
    assert tracker.history["loss/train"].tolist() == pytest.approx(values)
    assert (tracker.history["linearization/slope_drift"] > 0).all()


def network(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, outputs))


def one_hot(y):
    return nnf.one_hot(y, 3).float()


def labels(y):
    """Each sample has its class's label and the one before."""
    return (one_hot(y) + one_hot((y + 2) % 3)).clamp_max(1)


SEEN = {
    "mean": nnf.cross_entropy,
    "sum": lambda f, y: nnf.cross_entropy(f, y, reduction="sum"),
    "another index ignored": lambda f, y: nnf.cross_entropy(f, y.where(y > 0, -1), ignore_index=-1),
    "squares": lambda f, y: nnf.mse_loss(f, one_hot(y)),
    "sum of squares": lambda f, y: nnf.mse_loss(f, one_hot(y), reduction="sum"),
    "squared distance": lambda f, y: (f - one_hot(y)).square().sum(dim=1).mean(),
    "smoothed labels": lambda f, y: nnf.cross_entropy(f, y, label_smoothing=0.1),
    "sum of smoothed labels": lambda f, y: nnf.cross_entropy(
        f, y, label_smoothing=0.25, reduction="sum"
    ),
    "several labels": lambda f, y: nnf.binary_cross_entropy_with_logits(f, labels(y)),
    "several labels, added up": lambda f, y: (
        nnf.binary_cross_entropy_with_logits(f, labels(y), reduction="none").sum(dim=1).mean()
    ),
    "half squared distance": lambda f, y: (f - one_hot(y)).square().sum(dim=1).mean() / 2,
}
NOT_SEEN = {
    "a multiple": lambda f, y: 0.3 * nnf.cross_entropy(f, y),
    "a negative multiple": lambda f, y: -0.3 * nnf.cross_entropy(f, y),
    "what is climbed": lambda f, y: -nnf.mse_loss(f, one_hot(y)),
    "temperature": lambda f, y: nnf.cross_entropy(f / 2, y),
    "weights": lambda f, y: nnf.cross_entropy(f, y, weight=torch.tensor([0.2, 1.0, 3.0])),
    "a penalty": lambda f, y: nnf.cross_entropy(f, y) + 0.1 * f.square().mean(),
}


@pytest.mark.parametrize("form", SEEN)
def test_value_is_the_loops(form):
    tracker, values = followed(network(), SEEN[form])
    assert tracker.history["loss/train"].tolist() == pytest.approx(values)


def test_confident_outputs_show_the_labels_that_were_smoothed():
    torch.manual_seed(0)
    y = torch.randint(3, (M,))
    f = 4.0 * one_hot(y) + 0.5 * torch.randn(M, 3)
    f.requires_grad_(True)
    value = nnf.cross_entropy(f, y, label_smoothing=0.1)
    value.backward()
    found = recognised(f, f.grad, usual_losses(True))
    assert found is not None and torch.equal(found.targets, y)
    again = recognised(f, f.grad, [found.loss], known=1)
    assert again is not None and float(again.value) == pytest.approx(value.item(), rel=1e-5)


def test_probabilities_of_one_output():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, 1), nn.Sigmoid(), nn.Flatten(0))
    optimizer, values = torch.optim.SGD(model.parameters(), lr=0.1), []
    geometry = ClusterGeometry(CENTRES, [-1, 1, 1])
    with attach(model, optimizer, geometry=geometry, strict=True) as tracker:
        for _ in range(3):
            y = torch.randint(3, (M,))
            optimizer.zero_grad()
            p = model(CENTRES[y] + torch.randn(M, D))
            value = nnf.binary_cross_entropy(p, (y > 0).float())
            value.backward()
            values.append((value.item(), (((p > 0.5) != (y > 0)).float().mean().item())))
            optimizer.step()
    read = zip(tracker.history["loss/train"], tracker.history["error/train"], strict=True)
    assert [each for pair in read for each in pair] == pytest.approx(
        [each for pair in values for each in pair]
    )


def looks_at_outputs(loss, f, model):
    torch.autograd.grad(loss, f, retain_graph=True)
    loss.backward()


def looks_at_weights(loss, f, model):
    torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    loss.backward()


def curves(loss, f, model):
    loss.backward(create_graph=True)
    weights = list(model.parameters())
    torch.autograd.grad([p.grad for p in weights], weights, [torch.ones_like(p) for p in weights])
    for p in weights:
        p.grad = p.grad.detach()


def goes_back_twice(loss, f, model):
    loss.backward(retain_graph=True)
    model.zero_grad()
    loss.backward()


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("take", [looks_at_outputs, looks_at_weights, curves, goes_back_twice])
def test_only_the_backward_pass_of_the_step_counts(take):
    model, values = network(), []
    optimizer, geometry = (
        torch.optim.SGD(model.parameters(), lr=0.1),
        ClusterGeometry(CENTRES, [0, 1, 2]),
    )
    with attach(model, optimizer, geometry=geometry, strict=True) as tracker:
        for _ in range(3):
            y = torch.randint(3, (M,))
            optimizer.zero_grad()
            f = model(CENTRES[y] + torch.randn(M, D))
            loss = nnf.cross_entropy(f, y)
            take(loss, f, model)
            values.append(loss.item())
            optimizer.step()
    assert tracker.history["loss/train"].tolist() == pytest.approx(values)


@pytest.mark.parametrize("form", NOT_SEEN)
def test_loss_that_only_resembles_a_usual_one_is_absent(form):
    with pytest.warns(UserWarning, match="not that of a usual loss on classes"):
        tracker, _ = followed(network(), NOT_SEEN[form])
    assert "loss/train" not in tracker.history


@pytest.mark.filterwarnings("ignore::phasetrack.TrackingWarning")
def test_a_loss_that_is_never_recognised_is_looked_for_ever_more_rarely(monkeypatch):
    tries = []

    def counted(*args, **options):
        tries.append(len(tries))
        return recognised(*args, **options)

    monkeypatch.setattr(batch_collector, "recognised", counted)
    followed(network(), NOT_SEEN["temperature"], steps=100)
    assert 10 < len(tries) < 25


@pytest.mark.parametrize("halved", [False, True])
def test_squares_of_one_output(halved):
    def loss(f, y):
        return (f.squeeze(1) - (2.0 * (y > 0) - 1)).square().mean() / (2 if halved else 1)

    torch.manual_seed(1)
    model, geometry = network(outputs=1), ClusterGeometry(CENTRES, [-1, 1, 1])
    optimizer, values = torch.optim.SGD(model.parameters(), lr=0.1), []
    with attach(model, optimizer, geometry=geometry, strict=True) as tracker:
        for _ in range(4):
            y = torch.randint(3, (M,))
            optimizer.zero_grad()
            value = loss(model(CENTRES[y] + torch.randn(M, D)), y)
            value.backward()
            values.append(value.item())
            optimizer.step()
    assert tracker.history["loss/train"].tolist() == pytest.approx(values)


@pytest.mark.parametrize("divided", [True, False])
@pytest.mark.parametrize("scale", [1.0, 2.0**16])
def test_parts_of_a_step_and_a_gradient_scaler(divided, scale):
    model, geometry = network(), ClusterGeometry(CENTRES, [0, 1, 2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale > 1)
    means = []
    with attach(model, optimizer, geometry=geometry, strict=True) as tracker:
        for _ in range(3):
            parts = []
            for _ in range(3):
                y = torch.randint(3, (M,))
                loss = nnf.cross_entropy(model(CENTRES[y] + torch.randn(M, D)), y)
                parts.append(loss.item())
                scaler.scale(loss / 3 if divided else loss).backward()
            means.append(sum(parts) / 3)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    assert tracker.history["loss/train"].tolist() == pytest.approx(means)


def test_a_last_step_with_fewer_parts_is_recognised():
    """As at the end of an epoch: the loss is divided by three, and two parts are left."""
    torch.manual_seed(0)
    model, geometry = network(), ClusterGeometry(CENTRES, [0, 1, 2])
    optimizer, means = torch.optim.SGD(model.parameters(), lr=0.1), []
    with attach(model, optimizer, geometry=geometry, strict=True) as tracker:
        for parts in (3, 3, 2):
            optimizer.zero_grad()
            values = []
            for _ in range(parts):
                y = torch.randint(3, (M,))
                loss = nnf.cross_entropy(model(CENTRES[y] + torch.randn(M, D)), y)
                values.append(loss.item())
                (loss / 3).backward()
            means.append(sum(values) / parts)
            optimizer.step()
    assert tracker.history["loss/train"].tolist() == pytest.approx(means)


def test_a_sum_over_as_many_samples_as_a_scale_is_a_sum():
    torch.manual_seed(0)
    f, y = torch.randn(2048, 3), torch.randint(3, (2048,))
    f.requires_grad_(True)
    value = nnf.cross_entropy(f, y, reduction="sum")
    value.backward()
    found = recognised(f, f.grad, usual_losses(True))
    assert found is not None and float(found.value) == pytest.approx(value.item(), rel=1e-5)
