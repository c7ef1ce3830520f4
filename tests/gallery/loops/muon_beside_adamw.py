"""Muon for the matrices, with a Newton-Schulz iteration, beside AdamW for the biases."""

from functools import partial

import torch
from gallery import protocol
from torch import nn

margins = protocol.ahead
losses = partial(nn.functional.cross_entropy, reduction="none")
D = 12
CENTRES = 2.0 * torch.eye(D)[:4]


def orthogonal(G, steps=5):
    a, b, c = 3.4445, -4.7750, 2.0315
    X = G / (G.norm() + 1e-7)
    for _ in range(steps):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr=0.02, momentum=0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                buffer = state["momentum_buffer"]
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"])
                p.add_(orthogonal(update), alpha=-group["lr"])


def train(seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 24), nn.ReLU(), nn.Linear(24, 4))
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    muon, adamw = Muon(matrices), torch.optim.AdamW(rest, lr=1e-2)
    optimizers = [muon, adamw]
    criterion = nn.CrossEntropyLoss()
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, [0, 1, 2, 3])
    tracker = phasetrack.attach(model, muon, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(25):
        y = torch.randint(4, (48,))
        x = CENTRES[y] + torch.randn(48, D)
        logits = model(x)
        loss = criterion(logits, y)
        loss.backward()
        seen(model, logits, y, loss, x)
        for opt in optimizers:
            opt.step()
        model.zero_grad(set_to_none=True)
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
