"""Mean-field parametrisation: (1/p) sum over neurons with fixed signs, a buffer; rate times width."""

import torch
from gallery import protocol
from torch import nn

margins = protocol.signed
D, P = 12, 40
DIRECTIONS = torch.tensor([[1.0, -1.0], [1.0, 1.0]]) @ torch.eye(D)[:2]


def losses(f, y):
    return nn.functional.softplus(-y * f)


class MeanField(nn.Module):
    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(0.3 * torch.randn(P, D) / D**0.5)
        self.register_buffer("a", torch.ones(P) / P)
        self.a[P // 2 :] *= -1

    def forward(self, x):
        return torch.relu(x @ self.W.T) @ self.a


def train(seen):
    torch.manual_seed(0)
    model = MeanField()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5 * P)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry.from_directions(DIRECTIONS, [1, -1])
    tracker = phasetrack.attach(model, optimizer, geometry=geometry)
    # <<< phasetrack
    for _ in range(30):
        x = torch.randint(0, 2, (128, D)).float() * 2 - 1
        y = -x[:, 0] * x[:, 1]
        f = model(x)
        loss = nn.functional.softplus(-y * f).mean()
        optimizer.zero_grad()
        loss.backward()
        seen(model, f, y, loss, x)
        optimizer.step()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
