"""Benign overfitting: few noisy samples of a signal in high dimension, full batch, loss in line."""

import torch
from gallery import protocol
from torch import nn

margins = protocol.signed
N, D = 20, 80


def losses(f, y):
    return nn.functional.softplus(-y * f)


def train(seen):
    torch.manual_seed(0)
    mu = 4.0 * torch.eye(D)[0]
    clean = torch.randint(0, 2, (N,)).float() * 2 - 1
    x = clean[:, None] * mu + torch.randn(N, D)
    y = torch.where(torch.rand(N) < 0.15, -clean, clean)
    W = nn.Linear(D, 40, bias=False)
    head = nn.Linear(40, 1, bias=False)
    head.weight.requires_grad_(False)
    nn.init.normal_(W.weight, std=0.01)
    head.weight.copy_(torch.sign(torch.randn(1, 40)) / 40**0.5)
    model = nn.Sequential(W, nn.LeakyReLU(0.1), head)
    optimizer = torch.optim.SGD(W.parameters(), lr=0.1)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry([mu.tolist(), (-mu).tolist()], [1, -1])
    tracker = phasetrack.attach(model, optimizer, geometry=geometry)
    # <<< phasetrack
    for _ in range(40):
        out = model(x).flatten()
        loss = torch.log(1 + torch.exp(-y * out)).mean()
        optimizer.zero_grad()
        loss.backward()
        seen(model, out, y, loss, x)
        optimizer.step()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
