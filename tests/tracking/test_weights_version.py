"""Weights that are written to, in PyTorch's sight and out of it."""

import pytest
import torch
from torch import nn

from phasetrack import ClusterGeometry, attach
from phasetrack.tracking.weights_version import WeightsVersion

D = 6
CENTRES = 2 * torch.eye(D)[:2]


def replace(p):
    p.data = p.data + 1


def add_within_no_grad(p):
    with torch.no_grad():
        p.add_(1)


WRITES = {
    "add_": add_within_no_grad,
    "data.add_": lambda p: p.data.add_(1),
    "data =": replace,
    "data, one row": lambda p: p.data[0].add_(1),
}
SHAPES = {
    "matrix": lambda: torch.randn(7, 5),
    "transposed": lambda: torch.randn(7, 5).T,
    "part of a matrix": lambda: torch.randn(9, 9)[1:8, 2:7],
    "vector": lambda: torch.randn(40),
    "large": lambda: torch.randn(128, 64),
    "bfloat16": lambda: torch.randn(7, 5).bfloat16(),
    "complex": lambda: torch.randn(7, 5, dtype=torch.complex128),
    "float64": lambda: torch.randn(7, 5).double(),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("write", WRITES)
def test_a_write_gives_another_number(write, shape):
    torch.manual_seed(0)
    p, still = nn.Parameter(SHAPES[shape]()), nn.Parameter(torch.randn(3, 2))
    version = WeightsVersion([still, p])
    before = version()
    assert version() == before
    WRITES[write](p)
    after = version()
    assert after != before and version() == after


def test_nan_is_not_a_write():
    version = WeightsVersion([nn.Parameter(torch.full((4, 3), torch.nan))])
    assert version() == version()


# --- loops that write through p.data --------------------------------------------------------------


def setting(**options):
    torch.manual_seed(0)
    model, loss = nn.Sequential(nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, 2)), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    geometry = ClusterGeometry(CENTRES, [0, 1])
    y = torch.randint(2, (16,))
    x = CENTRES[y] + torch.randn(16, D)
    return model, loss, optimizer, geometry, x, y


def climb_in_place(parameters):
    steps = [0.1 * p.grad.sign() for p in parameters]
    for p, e in zip(parameters, steps, strict=True):
        p.data.add_(e)
    return lambda: [p.data.sub_(e) for p, e in zip(parameters, steps, strict=True)]


def climb_from_a_copy(parameters):
    old = [p.data.clone() for p in parameters]
    with torch.no_grad():
        for p in parameters:
            p.add_(0.1 * p.grad.sign())
    return lambda: [setattr(p, "data", before) for p, before in zip(parameters, old, strict=True)]


@pytest.mark.parametrize("climb", [climb_in_place, climb_from_a_copy])
def test_losses_of_weights_that_were_put_back_are_left_out(climb):
    model, loss, optimizer, geometry, x, y = setting()
    tracker = attach(model, optimizer, loss=loss, geometry=geometry)
    with pytest.warns(UserWarning, match="weights changed between the loss call"), tracker:
        for _ in range(3):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            back = climb(list(model.parameters()))
            optimizer.zero_grad()
            loss(model(x), y).backward()
            back()
            optimizer.step()
    assert len(tracker.history.steps) == 3 and "loss/train" not in tracker.history
    assert "weights changed" in tracker.undefined["loss"]


class LineSearch(torch.optim.Optimizer):
    """Tries three lengths along the gradient, and writes as older optimizers do."""

    def __init__(self, params):
        super().__init__(params, {})

    def step(self, closure):
        closure()
        parameters = self.param_groups[0]["params"]
        gradients = [p.grad.clone() for p in parameters]
        for length in (-0.4, 0.2, 0.1):
            for p, g in zip(parameters, gradients, strict=True):
                p.data.add_(g, alpha=length)
            closure()


def test_evaluations_of_a_line_search_are_left_out():
    model, loss, _, geometry, x, y = setting()
    optimizer, values = LineSearch(model.parameters()), []

    def closure():
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        values.append(value.item())
        return value

    with attach(model, optimizer, loss=loss, geometry=geometry, strict=True) as tracker:
        for _ in range(4):
            optimizer.step(closure)
    assert tracker.history["loss/train"].tolist() == pytest.approx(values[::4])


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_part_of_a_layer_that_another_optimizer_has_moved_is_reported(part):
    model, loss, _, geometry, x, y = setting()
    moved = getattr(model[2], part)
    rest = [p for p in model.parameters() if p is not moved]
    first, second = torch.optim.SGD([moved], lr=0.1), torch.optim.SGD(rest, lr=0.1)
    tracker = attach(model, second, loss=loss, geometry=geometry)
    with pytest.warns(UserWarning, match="weights changed between the loss call"), tracker:
        for _ in range(2):
            model.zero_grad()
            loss(model(x), y).backward()
            first.step()
            second.step()
    assert "loss/train" not in tracker.history
