"""Gaussian mixture in XOR position, fresh samples at every step, BCEWithLogitsLoss."""

from functools import partial

import torch
from gallery import protocol
from torch import nn

margins = protocol.binary
losses = partial(nn.functional.binary_cross_entropy_with_logits, reduction="none")

D, SNR = 10, 3.0
MEANS = torch.zeros(4, D)
MEANS[:, :2] = SNR * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
LABELS = torch.tensor([1.0, 1.0, 0.0, 0.0])


def train(seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 32), nn.ReLU(), nn.Linear(32, 1))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(MEANS, LABELS)
    tracker = phasetrack.attach(model, optimizer, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(30):
        cluster = torch.randint(4, (64,))
        x, y = MEANS[cluster] + torch.randn(64, D), LABELS[cluster]
        optimizer.zero_grad()
        outputs = model(x).squeeze(-1)
        loss = criterion(outputs, y)
        loss.backward()
        seen(model, outputs, y, loss, x)
        optimizer.step()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
