"""Gradient accumulation over four micro-batches, with autocast and a GradScaler."""

from functools import partial

import torch
from gallery import protocol
from torch import nn

margins = protocol.ahead
losses = partial(nn.functional.cross_entropy, reduction="none")
D, ACCUMULATED = 10, 4
CENTRES = 2.0 * torch.eye(D)[:3]


def train(seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 24), nn.ReLU(), nn.Linear(24, 3))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu")
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, [0, 1, 2])
    tracker = phasetrack.attach(model, optimizer, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(20):
        parts = []
        for _ in range(ACCUMULATED):
            targets = torch.randint(3, (16,))
            inputs = CENTRES[targets] + torch.randn(16, D)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                outputs = model(inputs)
                loss = criterion(outputs, targets) / ACCUMULATED
            scaler.scale(loss).backward()
            parts.append((outputs.float(), targets, loss.reshape(1), inputs))
        outputs, targets, loss, inputs = (torch.cat(part) for part in zip(*parts, strict=True))
        seen(model, outputs, targets, loss.sum(), inputs)
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
