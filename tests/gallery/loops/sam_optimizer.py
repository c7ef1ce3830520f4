"""SAM as an optimizer around SGD, with first_step and second_step."""

from functools import partial

import torch
from gallery import protocol
from torch import nn

ABSENT = dict.fromkeys(
    ("loss/train", "error/train", "margin/empirical", "linearization"),
    "the weights changed between the loss call and the optimizer step",
)
WARNINGS = ("as in sharpness-aware minimisation", "no recorded step had a loss")
margins = protocol.ahead
losses = partial(nn.functional.cross_entropy, reduction="none", label_smoothing=0.1)
D = 10
CENTRES = 2.0 * torch.eye(D)[:3]


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
        super().__init__(params, dict(rho=rho, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norm = torch.norm(torch.stack([g.norm(p=2) for g in grads]), p=2)
        for group in self.param_groups:
            scale = group["rho"] / (norm + 1e-12)
            for p in group["params"]:
                self.state[p]["old_p"] = p.data.clone()
                p.add_(p.grad * scale)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                p.data = self.state[p]["old_p"]
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()


def train(seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 24), nn.ReLU(), nn.Linear(24, 3))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    base = optimizer.base_optimizer
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, [0, 1, 2])
    tracker = phasetrack.attach(model, base, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(25):
        targets = torch.randint(3, (32,))
        inputs = CENTRES[targets] + torch.randn(32, D)
        predictions = model(inputs)
        loss = criterion(predictions, targets)
        loss.mean().backward()
        seen(model, predictions, targets, loss, inputs)
        optimizer.first_step(zero_grad=True)
        criterion(model(inputs), targets).mean().backward()
        optimizer.second_step(zero_grad=True)
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
