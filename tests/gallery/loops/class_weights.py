"""Unlike classes: cross entropy with a weight per class."""

import torch
from gallery import protocol
from torch import nn

margins = protocol.ahead
D = 8
CENTRES = 2.0 * torch.eye(D)[:3]
WEIGHTS = torch.tensor([0.2, 1.0, 3.0])


def losses(f, y):
    return nn.functional.cross_entropy(f, y, weight=WEIGHTS.to(f), reduction="none")


def train(seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 24), nn.ReLU(), nn.Linear(24, 3))
    criterion = nn.CrossEntropyLoss(weight=WEIGHTS)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, [0, 1, 2])
    tracker = phasetrack.attach(model, optimizer, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(30):
        y = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), 48, replacement=True)
        x = CENTRES[y] + torch.randn(48, D)
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
