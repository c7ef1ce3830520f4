"""Adversarial training: PGD steps on the inputs, then one step on the weights."""

from functools import partial

import torch
import torch.nn.functional as F
from gallery import protocol
from torch import nn

margins = protocol.ahead
losses = partial(F.cross_entropy, reduction="none")
D, EPSILON, ALPHA = 10, 0.3, 0.1
CENTRES = 2.0 * torch.eye(D)[:3]


def pgd(model, X, y):
    delta = torch.zeros_like(X).uniform_(-EPSILON, EPSILON).requires_grad_(True)
    for _ in range(4):
        loss = F.cross_entropy(model(X + delta), y)
        loss.backward()
        delta.data = (delta + ALPHA * delta.grad.detach().sign()).clamp(-EPSILON, EPSILON)
        delta.grad.zero_()
    return delta.detach()


def train(seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 24), nn.ReLU(), nn.Linear(24, 3))
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, [0, 1, 2])
    tracker = phasetrack.attach(model, opt, geometry=geometry)
    # <<< phasetrack
    for _ in range(25):
        y = torch.randint(3, (32,))
        X = CENTRES[y] + torch.randn(32, D)
        delta = pgd(model, X, y)
        yp = model(X + delta)
        loss = F.cross_entropy(yp, y)
        opt.zero_grad()
        loss.backward()
        seen(model, yp, y, loss, X + delta)
        opt.step()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
