"""Sequences: a class for each of T tokens, cross entropy with the classes second, (B, K, T)."""

import torch
from gallery import protocol
from torch import nn

margins = protocol.ahead
D, CLASSES, TOKENS = 8, 3, 5
CENTRES = 2.0 * torch.eye(D)[:CLASSES]


def losses(f, y):
    return nn.functional.cross_entropy(f, y, reduction="none")


def train(seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 24), nn.ReLU(), nn.Linear(24, CLASSES))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, [0, 1, 2])
    tracker = phasetrack.attach(model, optimizer, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(30):
        y = torch.randint(CLASSES, (12, TOKENS))
        x = CENTRES[y] + torch.randn(12, TOKENS, D)
        logits = model(x).transpose(1, 2)
        loss = criterion(logits, y)
        optimizer.zero_grad()
        loss.backward()
        rows = logits.transpose(1, 2).reshape(-1, CLASSES)
        seen(model, rows, y.flatten(), loss, x.flatten(0, 1))
        optimizer.step()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
