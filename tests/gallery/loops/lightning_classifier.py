"""Lightning: a LightningModule that calls F.cross_entropy in training_step."""

import logging
from functools import partial

import lightning as L
import torch
import torch.nn.functional as F
from gallery import protocol
from sklearn.datasets import load_digits
from torch import nn

margins = protocol.ahead
losses = partial(F.cross_entropy, reduction="none")


class LitClassifier(L.LightningModule):
    def __init__(self, seen, hidden_dim=32, learning_rate=1e-2):
        super().__init__()
        self.l1 = nn.Linear(64, hidden_dim)
        self.l2 = nn.Linear(hidden_dim, 10)
        self.learning_rate, self.seen = learning_rate, seen

    def forward(self, x):
        return self.l2(torch.relu(self.l1(x)))

    def training_step(self, batch, batch_idx):
        x, y = batch
        y_hat = self(x)
        loss = F.cross_entropy(y_hat, y)
        self.seen(nn.Sequential(self.l1, nn.ReLU(), self.l2), y_hat, y, loss, x)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        F.cross_entropy(self(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


def train(seen):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.data[:512] / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target[:512])
    data = torch.utils.data.TensorDataset(images, labels)
    training = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    validation = torch.utils.data.DataLoader(data, batch_size=256)
    model, callbacks = LitClassifier(seen), []
    # >>> phasetrack
    import phasetrack
    from phasetrack.integrations.lightning import PhasetrackCallback

    geometry = phasetrack.ClusterGeometry.from_data(images, labels)
    callbacks.append(PhasetrackCallback(geometry))
    # <<< phasetrack
    trainer = L.Trainer(
        max_epochs=2,
        callbacks=callbacks,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, training, validation)
    # >>> phasetrack
    tracker = callbacks[-1].tracker
    # <<< phasetrack
    return locals()
