"""pytorch/examples: an MLP on digits that returns log_softmax, trained by F.nll_loss, with a test loop."""

from functools import partial

import torch
import torch.nn.functional as F
from gallery import protocol
from sklearn.datasets import load_digits
from torch import nn

margins = protocol.ahead
# of logits, from which log-probabilities differ by a number per sample
losses = partial(F.cross_entropy, reduction="none")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


def train(seen):
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    images, labels, test_images, test_labels = (
        images[:640],
        labels[:640],
        images[640:],
        labels[640:],
    )
    data = torch.utils.data.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    model = Net()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry.from_data(images.flatten(1), labels)
    tracker = phasetrack.attach(model, optimizer, geometry=geometry)
    # <<< phasetrack
    for _ in range(3):
        model.train()
        for data, target in loader:
            optimizer.zero_grad()
            output = model(data)
            loss = F.nll_loss(output, target)
            loss.backward()
            seen(model, output, target, loss, data.flatten(1))
            optimizer.step()
        model.eval()
        with torch.no_grad():
            output = model(test_images)
            test_loss = F.nll_loss(output, test_labels, reduction="sum") / len(test_labels)
        scheduler.step()
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
