"""Student and teacher: regression on a two-layer teacher's outputs, half squared error in line."""

import torch
from torch import nn

D, TEACHER, STUDENT = 10, 2, 8


ABSENT = dict.fromkeys(
    ("loss/train", "error/train", "margin/empirical", "linearization"),
    "the gradient at the network's outputs is not that of a usual loss on classes",
)


WARNINGS = ("no recorded step had a loss",)


def losses(f, y):
    return (f - y) ** 2 / 2


def train(seen):
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(D, TEACHER, bias=False), nn.Tanh(), nn.Linear(TEACHER, 1))
    student = nn.Sequential(nn.Linear(D, STUDENT, bias=False), nn.Tanh(), nn.Linear(STUDENT, 1))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.2)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(teacher[0].weight, [1, -1])
    tracker = phasetrack.attach(student, optimizer, geometry=geometry)
    # <<< phasetrack
    for _ in range(30):
        x = torch.randn(64, D)
        with torch.no_grad():
            y = teacher(x)
        f = student(x)
        loss = ((f - y) ** 2).mean() / 2
        optimizer.zero_grad()
        loss.backward()
        seen(student, f.squeeze(1), y.squeeze(1), loss, x)
        optimizer.step()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
