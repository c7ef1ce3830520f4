"""A wrapper in scikit-learn's style: get_loss takes the log of probabilities, for NLLLoss."""

import torch
from gallery import protocol
from torch import nn

margins = protocol.ahead
D = 10
CENTRES = 2.0 * torch.eye(D)[:2]


def losses(f, y):
    """Of logits, from which log-probabilities differ by a number per sample."""
    return nn.functional.cross_entropy(f, y, reduction="none")


class Module(nn.Module):
    def __init__(self, num_units=20):
        super().__init__()
        self.dense0, self.output = nn.Linear(D, num_units), nn.Linear(num_units, 2)

    def forward(self, X):
        return torch.softmax(self.output(torch.relu(self.dense0(X))), dim=-1)


class NeuralNetClassifier:
    def __init__(self, module, criterion, lr, seen):
        self.module_, self.criterion_ = module(), criterion()
        self.optimizer_ = torch.optim.SGD(self.module_.parameters(), lr=lr)
        self.seen = seen

    def get_loss(self, y_pred, y_true):
        if isinstance(self.criterion_, nn.NLLLoss):
            eps = torch.finfo(y_pred.dtype).eps
            y_pred = torch.log(y_pred + eps)
        return self.criterion_(y_pred, y_true), y_pred

    def train_step_single(self, Xi, yi):
        self.module_.train()
        y_pred = self.module_(Xi)
        loss, log_probabilities = self.get_loss(y_pred, yi)
        loss.backward()
        two_layers = nn.Sequential(self.module_.dense0, nn.ReLU(), self.module_.output)
        self.seen(two_layers, log_probabilities, yi, loss, Xi)
        return {"loss": loss, "y_pred": y_pred}

    def train_step(self, Xi, yi):
        step = {}

        def step_fn():
            self.optimizer_.zero_grad()
            step.update(self.train_step_single(Xi, yi))
            return step["loss"]

        self.optimizer_.step(step_fn)
        return step

    def validation_step(self, Xi, yi):
        self.module_.eval()
        with torch.no_grad():
            return self.get_loss(self.module_(Xi), yi)

    def fit(self, X, y, epochs, batch):
        for _ in range(epochs):
            for Xi, yi in zip(X.split(batch), y.split(batch), strict=True):
                self.train_step(Xi, yi)
            self.validation_step(X, y)


def train(seen):
    torch.manual_seed(0)
    y = torch.randint(2, (160,))
    X = CENTRES[y] + torch.randn(160, D)
    net = NeuralNetClassifier(Module, nn.NLLLoss, 0.1, seen)
    module, optimizer = net.module_, net.optimizer_
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(CENTRES, [0, 1])
    tracker = phasetrack.attach(module, optimizer, loss=net.criterion_, geometry=geometry)
    # <<< phasetrack
    net.fit(X, y, epochs=4, batch=32)
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()
