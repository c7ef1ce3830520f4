"""A short training that is followed, and the weights that it went through."""

import torch

from phasetrack import LogisticLoss, attach


def followed(net, task, *, lr, batch, steps, **options):
    """The tracker, and the weights before each step."""
    optimizer, loss, seen = torch.optim.SGD(net.parameters(), lr=lr), LogisticLoss(), []
    with attach(net, optimizer, loss=loss, geometry=task.geometry, **options) as tracker:
        for step in range(steps):
            x, y = task.sample(batch, seed=0, step=step)
            seen.append([p.detach().clone() for p in net.parameters()])
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
    return tracker, seen
