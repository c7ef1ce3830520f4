"""Several labels per sample, BCEWithLogitsLoss on (m, n) outputs."""

import torch
from torch import nn

D, LABELS = 8, 3


def losses(f, y):
    return nn.functional.binary_cross_entropy_with_logits(f, y, reduction="none").mean(dim=1)


def margins(f, y):
    return torch.where(y > 0.5, f, -f).amin(dim=1)


def wrong(f, y):
    return ((f > 0) != (y > 0.5)).double().mean(dim=1)


def train(seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 24), nn.ReLU(), nn.Linear(24, LABELS))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(2 * torch.eye(D)[:LABELS], range(LABELS))
    tracker = phasetrack.attach(model, optimizer, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(30):
        y = (torch.rand(32, LABELS) < 0.4).float()
        x = torch.randn(32, D)
        x[:, :LABELS] += 2 * y
        logits = model(x)
        loss = criterion(logits, y)
        optimizer.zero_grad()
        loss.backward()
        seen(model, logits, y, loss, x)
        optimizer.step()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
