"""Sparse parity, fresh samples at every step, hinge loss, SGD with weight decay."""

import torch
from gallery import protocol
from torch import nn

margins = protocol.signed
D = 12
SIDES = torch.tensor([[1.0, -1.0], [1.0, 1.0]]) @ torch.eye(D)[:2]  # labels -1 and +1


def losses(f, y):
    return (1 - y * f).clamp(min=0)


def hinge(f, y):
    return (1 - y * f).clamp(min=0).mean()


class MLP(nn.Module):
    def __init__(self, n, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(n, width), nn.Linear(width, 1, bias=False)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


def train(seen):
    torch.manual_seed(0)
    model, loss_fn = MLP(D, 48), hinge
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry.from_directions(SIDES, [-1, 1])
    tracker = phasetrack.attach(model, optimizer, loss=loss_fn, geometry=geometry)
    loss_fn = tracker.loss
    # <<< phasetrack
    for _ in range(40):
        x = torch.randint(0, 2, (32, D)).float() * 2 - 1
        y = x[:, 0] * x[:, 1]
        pred = model(x).squeeze()
        loss = loss_fn(pred, y)
        optimizer.zero_grad()
        loss.backward()
        seen(model, pred, y, loss, x)
        optimizer.step()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
