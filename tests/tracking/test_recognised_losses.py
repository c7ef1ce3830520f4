"""Losses written in place, which the gradient at the network's outputs tells."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from phasetrack import ClusterGeometry, attach

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
