"""Toy model of superposition: relu(x W W' + b) with one matrix twice, squared error by importance."""

import torch
from torch import nn

REFUSED = "model has 1 weight matrices, not two"
FEATURES, HIDDEN = 6, 3


def losses(f, x):
    return (0.9 ** torch.arange(FEATURES).to(f) * (x - f) ** 2).mean(dim=1)


class ToyModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.empty(FEATURES, HIDDEN))
        self.b_final = nn.Parameter(torch.zeros(FEATURES))
        nn.init.xavier_normal_(self.W)

    def forward(self, features):
        return torch.relu(features @ self.W @ self.W.T + self.b_final)


def train(seen):
    torch.manual_seed(0)
    model = ToyModel()
    importance = 0.9 ** torch.arange(FEATURES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(torch.eye(FEATURES), range(FEATURES))
    tracker = phasetrack.attach(model, optimizer, geometry=geometry)
    # <<< phasetrack
    for _ in range(20):
        batch = torch.rand(64, FEATURES) * (torch.rand(64, FEATURES) < 0.1)
        out = model(batch)
        loss = (importance * (batch - out) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        seen(model, out, batch, loss, batch)
        optimizer.step()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
