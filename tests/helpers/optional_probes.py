"""A few steps followed by optional probes alone, with the weights before each step."""

import numpy as np
import torch
from torch import nn

import phasetrack
from phasetrack.tasks import XOR
from phasetrack.tracking.probes.reference import all_metrics, metric_of

TASK = XOR(d=16)


def network(outputs=1, width=12, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, outputs))


def followed(net, probes, loss, x, y, *, steps=12, lr=0.1, optimizer=None, **options):
    optimizer = optimizer or torch.optim.SGD(net.parameters(), lr=lr)
    seen = []
    with phasetrack.attach(
        net, optimizer, loss=loss, geometry=TASK.geometry, probes=probes, strict=True, **options
    ) as tracker:
        for _ in range(steps):
            seen.append([p.detach().double().clone() for p in net.parameters()])
            optimizer.zero_grad()
            loss(net(x).squeeze(-1), y).backward()
            optimizer.step()
    return tracker, seen


def readings(history, name):
    """Step to value, where the metric has one."""
    values = history[name]
    return {int(s): float(v) for s, v in zip(history.steps, values, strict=True) if not np.isnan(v)}


def check_reference(module, history):
    """Each metric of the module is recorded, and each recorded one of its prefix is in the reference."""
    prefix = module.METRICS[0].name.split("/")[0] + "/"
    recorded = {name for name in history if name.startswith(prefix)}
    assert all(sum(m.matches(name) for m in all_metrics()) == 1 for name in recorded)
    assert {metric_of(name) for name in recorded} == set(module.METRICS)
