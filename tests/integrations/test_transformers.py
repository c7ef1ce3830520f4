"""The Hugging Face callback, under the real Trainer."""

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from phasetrack import LogisticLoss, TwoLayerNet
from phasetrack.integrations.transformers import PhasetrackCallback
from phasetrack.tasks import XOR

TASK, P = XOR(16), 32
pytestmark = pytest.mark.filterwarnings("ignore")


class Data(Dataset):
    def __init__(self, count):
        self.x, self.y = TASK.sample(count, seed=0, step=0)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return {"x": self.x[index], "labels": self.y[index]}


class Model(nn.Module):
    """Computes its own loss, as Trainer's models do."""

    def __init__(self):
        super().__init__()
        self.net, self.criterion = TwoLayerNet(16, P), LogisticLoss()

    def forward(self, x, labels=None):
        f = self.net(x)
        return {"loss": self.criterion(f, labels), "logits": f}


def fit(callbacks, model, folder, accumulated=1, steps=100):
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=64,
        gradient_accumulation_steps=accumulated,
        max_steps=steps,
        learning_rate=0.2 * P,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2 * P)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    trainer = Trainer(
        model,
        arguments,
        train_dataset=Data(64 * steps * accumulated),
        optimizers=(optimizer, schedule),
        callbacks=callbacks,
    )
    trainer.train()
    return model


def test_phases_under_the_trainer(tmp_path):
    model = Model()
    callback = PhasetrackCallback(TASK.geometry, loss=model.criterion, strict=True)
    fit([callback], model, tmp_path)
    bare = fit([], Model(), tmp_path)
    tracker = callback.tracker
    assert tracker.history.steps.tolist() == list(range(100))
    assert tracker.boundaries[0].name == "signal_heavy"
    assert not model.net.first._forward_hooks and not model.criterion._forward_hooks
    for one, other in zip(bare.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_accumulated_gradients_are_one_step(tmp_path):
    model = Model()
    callback = PhasetrackCallback(TASK.geometry, loss=model.criterion, strict=True)
    fit([callback], model, tmp_path, accumulated=3, steps=4)
    assert callback.tracker.history.steps.tolist() == [0, 1, 2, 3]
