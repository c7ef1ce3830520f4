"""A held-out loss at every step, by the same criterion and without no_grad."""

import torch
from gallery import protocol
from torch import nn

margins = protocol.ahead
D = 10
CENTRES = 2.0 * torch.eye(D)[:3]


def losses(f, y):
    return nn.functional.cross_entropy(f, y, reduction="none")


def train(seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, 24), nn.GELU(), nn.Linear(24, 3))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    y_train, y_test = torch.randint(3, (60,)), torch.randint(3, (500,))
    x_train, x_test = (CENTRES[y] + torch.randn(len(y), D) for y in (y_train, y_test))
    train_losses, test_losses = [], []
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, [0, 1, 2])
    tracker = phasetrack.attach(model, optimizer, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(30):
        optimizer.zero_grad()
        logits = model(x_train)
        train_loss = criterion(logits, y_train)
        test_loss = criterion(model(x_test), y_test)
        train_loss.backward()
        seen(model, logits, y_train, train_loss, x_train)
        optimizer.step()
        train_losses.append(train_loss.item())
        test_losses.append(test_loss.item())
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
