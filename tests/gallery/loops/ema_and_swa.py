"""Averaged copies of the weights: an EMA at every step and SWA at the end of each epoch."""

import torch
from gallery import protocol
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn

margins = protocol.ahead
D = 10
CENTRES = 2.0 * torch.eye(D)[:3]


def losses(f, y):
    return nn.functional.cross_entropy(f, y, reduction="none")


def train(seen):
    torch.manual_seed(0)
    y = torch.randint(3, (192,))
    x = CENTRES[y] + torch.randn(192, D)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y), batch_size=32, shuffle=True
    )
    model = nn.Sequential(nn.Linear(D, 24), nn.ReLU(), nn.Linear(24, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry.from_data(x, y)
    tracker = phasetrack.attach(model, optimizer, geometry=geometry)
    # <<< phasetrack
    ema_model = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    swa_model = AveragedModel(model)
    swa_scheduler = SWALR(optimizer, swa_lr=0.05)
    for epoch in range(4):
        for inputs, targets in loader:
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = nn.functional.cross_entropy(outputs, targets)
            loss.backward()
            seen(model, outputs, targets, loss, inputs)
            optimizer.step()
            ema_model.update_parameters(model)
        if epoch >= 2:
            swa_model.update_parameters(model)
            swa_scheduler.step()
        ema_loss = nn.functional.cross_entropy(ema_model(x), y)
    update_bn(loader, swa_model)
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
