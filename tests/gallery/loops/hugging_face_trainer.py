"""Hugging Face Trainer: a model whose forward returns its loss, F.cross_entropy."""

import tempfile
from functools import partial

import torch
import torch.nn.functional as F
from gallery import protocol
from sklearn.datasets import load_digits
from torch import nn

margins = protocol.ahead
losses = partial(F.cross_entropy, reduction="none")


class Digits(torch.utils.data.Dataset):
    def __init__(self, count):
        digits = load_digits()
        self.x = torch.tensor(digits.data[:count] / 16, dtype=torch.float32)
        self.labels = torch.tensor(digits.target[:count])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"x": self.x[index], "labels": self.labels[index]}


class Classifier(nn.Module):
    def __init__(self, seen):
        super().__init__()
        self.dense, self.out_proj = nn.Linear(64, 32), nn.Linear(32, 10)
        self.seen = seen

    def forward(self, x, labels=None):
        logits = self.out_proj(torch.tanh(self.dense(x)))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits, labels)
            self.seen(nn.Sequential(self.dense, nn.Tanh(), self.out_proj), logits, labels, loss, x)
        return {"loss": loss, "logits": logits}


def train(seen):
    from transformers import Trainer, TrainingArguments

    torch.manual_seed(0)
    data, callbacks = Digits(512), []
    model = Classifier(seen)
    # >>> phasetrack
    import phasetrack
    from phasetrack.integrations.transformers import PhasetrackCallback

    geometry = phasetrack.ClusterGeometry.from_data(data.x, data.labels)
    callbacks.append(PhasetrackCallback(geometry))
    # <<< phasetrack
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=64,
            num_train_epochs=2,
            learning_rate=1e-2,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            seed=0,
        )
        trainer = Trainer(model, arguments, train_dataset=data, callbacks=callbacks)
        trainer.train()
    # >>> phasetrack
    tracker = callbacks[-1].tracker
    # <<< phasetrack
    return locals()
