"""SAM by hand: climb along the gradient, take the gradient there, climb back and step."""

from functools import partial

import torch
from gallery import protocol
from torch import nn

ABSENT = dict.fromkeys(
    ("loss/train", "error/train", "margin/empirical", "linearization"),
    "the weights changed between the loss call and the optimizer step",
)
WARNINGS = ("as in sharpness-aware minimisation", "no recorded step had a loss")
margins = protocol.binary
losses = partial(nn.functional.binary_cross_entropy_with_logits, reduction="none")
D, RHO = 10, 0.05
CENTRES = 2.0 * torch.eye(D)[:2]


def train(seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 24), nn.ReLU(), nn.Linear(24, 1))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, [0, 1])
    tracker = phasetrack.attach(model, optimizer, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(25):
        y = torch.randint(2, (32,))
        x, y = CENTRES[y] + torch.randn(32, D), y.float()
        outputs = model(x).squeeze(1)
        loss = criterion(outputs, y)
        loss.backward()
        seen(model, outputs, y, loss, x)
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
            climbed = [RHO * p.grad / (norm + 1e-12) for p in model.parameters()]
            for p, e in zip(model.parameters(), climbed, strict=True):
                p.add_(e)
        optimizer.zero_grad()
        criterion(model(x).squeeze(1), y).backward()
        with torch.no_grad():
            for p, e in zip(model.parameters(), climbed, strict=True):
                p.sub_(e)
        optimizer.step()
        optimizer.zero_grad()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
