"""The Lightning callback, under the real Trainer."""

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from phasetrack import ExpectedError, LogisticLoss, TwoLayerNet
from phasetrack.integrations.lightning import PhasetrackCallback
from phasetrack.tasks import XOR

TASK, P = XOR(16), 32
pytestmark = pytest.mark.filterwarnings("ignore")


class Module(lightning.LightningModule):
    def __init__(self, fail_at=None):
        super().__init__()
        self.net, self.criterion, self.fail_at = TwoLayerNet(16, P), LogisticLoss(), fail_at

    def training_step(self, batch, index):
        if index == self.fail_at:
            raise RuntimeError("of the user")
        x, y = batch
        return self.criterion(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.2 * P)


def fit(module, callbacks, folder, steps=120, **options):
    data = TensorDataset(*TASK.sample(64 * steps, seed=0, step=0))
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=callbacks,
        **options,
    )
    trainer.fit(module, DataLoader(data, batch_size=64))
    return module


def test_phases_of_a_lightning_module(tmp_path):
    callback = PhasetrackCallback(TASK.geometry, loss="criterion", model="net", strict=True)
    probed = fit(Module(), [callback], tmp_path)
    bare = fit(Module(), [], tmp_path)
    tracker = callback.tracker
    assert tracker.history.steps.tolist() == list(range(120))
    assert [b.name for b in tracker.boundaries][:1] == ["signal_heavy"]
    assert not np.isnan(tracker.history["loss/train"]).any()
    for one, other in zip(bare.parameters(), probed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not probed.net.first._forward_hooks


def test_accumulated_gradients_are_one_step(tmp_path):
    callback = PhasetrackCallback(TASK.geometry, loss="criterion", every=2, strict=True)
    fit(Module(), [callback], tmp_path, steps=12, accumulate_grad_batches=3)
    assert callback.tracker.history.steps.tolist() == [0, 2]


def test_a_failure_leaves_no_hook(tmp_path):
    module, callback = Module(fail_at=3), PhasetrackCallback(TASK.geometry, loss="criterion")
    with pytest.raises(RuntimeError, match="of the user"):
        fit(module, [callback], tmp_path, steps=6)
    assert not module.net.first._forward_hooks and not module.criterion._forward_hooks
    assert callback.tracker.history.steps.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"loss": "lost"}, "loss: Module has no loss module 'lost'"),
        (
            {"loss": "criterion", "optimizer": 3},
            "optimizer: There is no optimizer 3; the trainer has 1",
        ),
    ],
)
def test_wrong_names_are_explained(options, message, tmp_path):
    with pytest.raises(ExpectedError, match=message):
        fit(Module(), [PhasetrackCallback(TASK.geometry, **options)], tmp_path, steps=2)
