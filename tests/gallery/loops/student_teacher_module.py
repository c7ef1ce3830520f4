"""Student and teacher: regression on a two-layer teacher's outputs by nn.MSELoss."""

import torch
from torch import nn

D, TEACHER, STUDENT = 10, 2, 8


ABSENT = {
    "error/train": "the targets are not those of classes: they take more than two values per output",
    "margin/empirical": "the targets are not those of classes: they take more than two values per output",
}


def losses(f, y):
    return (f - y) ** 2


def train(seen):
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(D, TEACHER, bias=False), nn.Tanh(), nn.Linear(TEACHER, 1))
    student = nn.Sequential(nn.Linear(D, STUDENT, bias=False), nn.Tanh(), nn.Linear(STUDENT, 1))
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(teacher[0].weight, [1, -1])
    tracker = phasetrack.attach(student, optimizer, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(30):
        x = torch.randn(64, D)
        with torch.no_grad():
            y = teacher(x)
        f = student(x)
        loss = criterion(f, y)
        optimizer.zero_grad()
        loss.backward()
        seen(student, f.squeeze(1), y.squeeze(1), loss, x)
        optimizer.step()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
