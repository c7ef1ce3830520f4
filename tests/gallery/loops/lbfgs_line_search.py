"""A quasi-Newton optimizer of one's own: step(options), whose Armijo line search evaluates several times."""

import torch
import torch.nn.functional as F
from gallery import protocol
from torch import nn

margins = protocol.binary
D = 6
CENTRES = (
    2.0 * torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]]) @ torch.eye(D)[:2]
)


def losses(f, y):
    return F.binary_cross_entropy_with_logits(f, y, reduction="none")


class QuasiNewton(torch.optim.Optimizer):
    """Barzilai and Borwein's step, shortened until the loss falls."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1.0})
        self.params = self.param_groups[0]["params"]

    def gathered(self):
        return torch.cat([p.grad.flatten() for p in self.params])

    @torch.no_grad()
    def move(self, direction, length):
        parts = direction.split([p.numel() for p in self.params])
        for p, part in zip(self.params, parts, strict=True):
            p.data.add_(part.view_as(p), alpha=length)

    def step(self, options):
        closure, current, gradient = options["closure"], options["current_loss"], self.gathered()
        state = self.state[self.params[0]]
        length = 1.0
        if "gradient" in state:
            change = gradient - state["gradient"]
            moved = state["moved"]
            length = float(
                (moved @ moved / (moved @ change).abs().clamp_min(1e-8)).clamp(1e-3, 1e2)
            )
        slope = float(gradient @ gradient)
        self.move(gradient, -length)
        new_loss = closure()
        for _ in range(options["max_ls"]):
            if float(new_loss.detach()) <= float(current.detach()) - 1e-4 * length * slope:
                break
            self.move(gradient, length / 2)
            length /= 2
            new_loss = closure()
        state["gradient"], state["moved"] = gradient, -length * gradient
        return new_loss


def train(seen):
    torch.manual_seed(0)
    cluster = torch.randint(4, (100,))
    labels = torch.tensor([1.0, 1.0, 0.0, 0.0])
    x, y = CENTRES[cluster] + torch.randn(100, D), labels[cluster]
    model = nn.Sequential(nn.Linear(D, 12), nn.Tanh(), nn.Linear(12, 1))
    optimizer = QuasiNewton(model.parameters())
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, labels)
    tracker = phasetrack.attach(model, optimizer, geometry=geometry)
    # <<< phasetrack

    def closure():
        return F.binary_cross_entropy_with_logits(model(x).view(-1), y)

    for _ in range(12):
        optimizer.zero_grad()
        out = model(x).view(-1)
        loss = F.binary_cross_entropy_with_logits(out, y)
        loss.backward()
        seen(model, out, y, loss, x)
        optimizer.step({"closure": closure, "current_loss": loss, "max_ls": 10})
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
