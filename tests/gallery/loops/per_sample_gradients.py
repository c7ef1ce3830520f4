"""DP-SGD: each sample's gradient by torch.func, clipped, noised, averaged and assigned."""

import torch
import torch.nn.functional as F
from gallery import protocol
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

ABSENT = dict.fromkeys(
    ("loss/train", "error/train", "margin/empirical", "linearization"),
    "the passes of this step ran under torch.func, whose tensors have no values to read",
)
WARNINGS = ("no recorded step had a loss: the passes of this step ran under torch.func",)
margins = protocol.ahead
D = 10
CENTRES = 2.0 * torch.eye(D)[:3]


def losses(f, y):
    return F.cross_entropy(f, y, reduction="none")


def train(seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 24), nn.ReLU(), nn.Linear(24, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, [0, 1, 2])
    tracker = phasetrack.attach(model, optimizer, geometry=geometry, scale=1.0)
    # <<< phasetrack

    def compute_loss(params, sample, target):
        prediction = functional_call(model, params, (sample.unsqueeze(0),))
        return F.cross_entropy(prediction, target.unsqueeze(0)), prediction.squeeze(0)

    per_sample = vmap(grad_and_value(compute_loss, has_aux=True), in_dims=(None, 0, 0))
    for _ in range(20):
        y = torch.randint(3, (32,))
        x = CENTRES[y] + torch.randn(32, D)
        params = {name: p.detach() for name, p in model.named_parameters()}
        grads, (sample_losses, outputs) = per_sample(params, x, y)
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads.values()]).norm(dim=0)
        factor = (1.0 / (norms + 1e-6)).clamp(max=1.0)
        for name, p in model.named_parameters():
            clipped = torch.einsum("n,n...->...", factor, grads[name])
            p.grad = (clipped + 0.1 * torch.randn_like(p)) / len(x)
        seen(model, outputs, y, sample_losses.mean(), x)
        optimizer.step()
        optimizer.zero_grad()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
