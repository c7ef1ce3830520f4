"""torch.optim.LBFGS with its closure and a strong Wolfe line search, full batch."""

import torch
from gallery import protocol
from torch import nn

margins = protocol.signed
D = 6
CENTRES = (
    2.0 * torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]]) @ torch.eye(D)[:2]
)


def losses(f, y):
    return nn.functional.soft_margin_loss(f, y, reduction="none")


def train(seen):
    torch.manual_seed(0)
    cluster = torch.randint(4, (100,))
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0])
    x, y = CENTRES[cluster] + torch.randn(100, D), signs[cluster]
    model = nn.Sequential(nn.Linear(D, 12), nn.Tanh(), nn.Linear(12, 1))
    criterion = nn.SoftMarginLoss()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4, line_search_fn="strong_wolfe")
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, signs)
    tracker = phasetrack.attach(model, optimizer, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(8):
        evaluations = 0

        def closure():
            nonlocal evaluations
            optimizer.zero_grad()
            out = model(x)[:, 0]
            loss = criterion(out, y)
            loss.backward()
            evaluations += 1
            if evaluations == 1:  # the weights are still those of before the step
                seen(model, out, y, loss, x)
            return loss

        optimizer.step(closure)
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
