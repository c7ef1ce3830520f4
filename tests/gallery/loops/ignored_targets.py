"""Padded samples: cross entropy with ignore_index."""

from functools import partial

import torch
from gallery import protocol
from torch import nn

IGNORED = 255
margins = partial(protocol.ahead, ignored=IGNORED)
D = 8
CENTRES = 2.0 * torch.eye(D)[:3]


def losses(f, y):
    return nn.functional.cross_entropy(f, y, ignore_index=IGNORED, reduction="none")


def train(seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 24), nn.ReLU(), nn.Linear(24, 3))
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORED)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, [0, 1, 2])
    tracker = phasetrack.attach(model, optimizer, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(30):
        y = torch.randint(3, (48,))
        x = CENTRES[y] + torch.randn(48, D)
        y[torch.rand(48) < 0.25] = IGNORED
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
