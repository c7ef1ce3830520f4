"""The Lightning callback, under the real Trainer."""

import copy
import json
import pickle

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateFinder, ModelCheckpoint
from torch import nn
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


def batches(steps):
    return DataLoader(TensorDataset(*TASK.sample(64 * steps, seed=0, step=0)), batch_size=64)


def new_trainer(callbacks, folder, **options):
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    return lightning.Trainer(callbacks=callbacks, **({"max_epochs": 1} | quiet | options))


def fit(module, callbacks, folder, steps=120, **options):
    new_trainer(callbacks, folder, **options).fit(module, batches(steps))
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
        ({"loss": "criterion", "model": "lost"}, "model: Module has no submodule 'lost'"),
        ({"optimizer": -1}, "optimizer: There is no optimizer -1; the trainer has 1"),
        (
            {"loss": "criterion", "optimizer": 3},
            "optimizer: There is no optimizer 3; the trainer has 1",
        ),
    ],
)
def test_wrong_names_are_explained(options, message, tmp_path):
    with pytest.raises(ExpectedError, match=message):
        fit(Module(), [PhasetrackCallback(TASK.geometry, **options)], tmp_path, steps=2)


# --- the loss ----------------------------------------------------------------------------------


class FunctionModule(Module):
    """Calls a function, or the callback in its place."""

    def __init__(self, call):
        super().__init__()
        del self.criterion
        self.call, self.values = call, []

    def training_step(self, batch, index):
        x, y = batch
        value = self.call(self.net(x), y)
        self.values.append(value.item())
        return value


def soft_margin(outputs, targets):
    return nn.functional.soft_margin_loss(outputs, targets)


def test_the_one_loss_module_is_found(tmp_path):
    callback = PhasetrackCallback(TASK.geometry, strict=True)
    fit(Module(), [callback], tmp_path, steps=3)
    assert not np.isnan(callback.tracker.history["loss/train"]).any()


def test_loss_as_a_module(tmp_path):
    module = Module()
    callback = PhasetrackCallback(TASK.geometry, loss=module.criterion, strict=True)
    fit(module, [callback], tmp_path, steps=3)
    assert not np.isnan(callback.tracker.history["loss/train"]).any()


def test_loss_called_through_the_callback(tmp_path):
    callback = PhasetrackCallback(TASK.geometry, loss=soft_margin)
    module = FunctionModule(callback.loss)
    assert module.call(torch.zeros(2), torch.ones(2)).item() == pytest.approx(np.log(2))
    fit(module, [callback], tmp_path, steps=3)
    np.testing.assert_allclose(callback.tracker.history["loss/train"], module.values, rtol=1e-5)
    assert module.call(torch.zeros(2), torch.ones(2)).item() == pytest.approx(np.log(2))


@pytest.mark.parametrize("options", [{}, {"loss": soft_margin}])
def test_function_that_training_step_calls(options, tmp_path):
    callback = PhasetrackCallback(TASK.geometry, **options)
    fit(FunctionModule(soft_margin), [callback], tmp_path, steps=3)
    assert callback.tracker.history.steps.tolist() == [0, 1, 2]
    assert not np.isnan(callback.tracker.history["heaviness/zeta_star"]).any()


def test_callback_without_a_function_cannot_be_called():
    callback = PhasetrackCallback(TASK.geometry, loss="criterion")
    with pytest.raises(ExpectedError, match="loss: The callback was given 'criterion'"):
        callback.loss(torch.zeros(2), torch.ones(2))


# --- optimizers, evaluations, other callbacks --------------------------------------------------


class TwoOptimizers(Module):
    """Trains two networks by hand; the second one is followed."""

    automatic_optimization = False

    def __init__(self):
        super().__init__()
        self.other, self.values = TwoLayerNet(16, P, seed=1), []

    def training_step(self, batch, index):
        x, y = batch
        for net, optimizer in zip((self.other, self.net), self.optimizers(), strict=True):
            if index % 2 or net is self.net:
                value = self.criterion(net(x), y)
                optimizer.zero_grad()
                self.manual_backward(value)
                optimizer.step()
        self.values.append(value.item())

    def configure_optimizers(self):
        return [torch.optim.SGD(net.parameters(), lr=0.2) for net in (self.other, self.net)]


def test_one_of_several_optimizers_by_index(tmp_path):
    callback = PhasetrackCallback(TASK.geometry, model="net", optimizer=1, loss="criterion")
    module = fit(TwoOptimizers(), [callback], tmp_path, steps=6)
    assert callback.tracker.history.steps.tolist() == list(range(6))
    assert len(module.values) == 6 and module.trainer.global_step == 9


class Validated(Module):
    def validation_step(self, batch, index):
        x, y = batch
        with torch.enable_grad():  # as for input gradients
            self.criterion(self.net(x), -y).backward()
        self.zero_grad()


def test_evaluations_are_not_steps(tmp_path):
    module, callback = Validated(), PhasetrackCallback(TASK.geometry, loss="criterion")
    trainer = new_trainer([callback], tmp_path, inference_mode=False, val_check_interval=1)
    trainer.fit(module, batches(4), batches(1))
    assert callback.tracker.history.steps.tolist() == [0, 1, 2, 3]
    assert not module.net.first._forward_hooks


# --- more than one fit -------------------------------------------------------------------------


def test_a_second_trainer_begins_anew(tmp_path):
    callback, module = PhasetrackCallback(TASK.geometry, loss="criterion"), Module()
    fit(module, [callback], tmp_path, steps=3)
    first = callback.tracker
    fit(module, [callback], tmp_path, steps=2)
    assert callback.tracker is not first and first.history.steps.tolist() == [0, 1, 2]
    assert callback.tracker.history.steps.tolist() == [0, 1]
    assert not module.net.first._forward_hooks


def test_a_second_run_of_a_log_directory_is_followed_without_files(tmp_path):
    callback = PhasetrackCallback(TASK.geometry, loss="criterion", logdir=tmp_path / "run")
    fit(Module(), [callback], tmp_path, steps=3)
    before = (tmp_path / "run" / "history.jsonl").read_bytes()
    with pytest.warns(UserWarning, match="followed without files .*already holds a run"):
        fit(Module(), [callback], tmp_path, steps=2)
    assert callback.tracker.history.steps.tolist() == [0, 1]
    assert (tmp_path / "run" / "history.jsonl").read_bytes() == before


def steps_in(folder):
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_the_same_trainer_goes_on(tmp_path):
    callback = PhasetrackCallback(TASK.geometry, loss="criterion", logdir=tmp_path / "run")
    trainer, module = new_trainer([callback], tmp_path, max_epochs=1), Module()
    trainer.fit(module, batches(3))
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, batches(3))
    assert trainer.global_step == 6
    assert callback.tracker.history.steps.tolist() == steps_in(tmp_path / "run") == list(range(6))


def resumed(tmp_path, *, logdir=None, saved_after_fit=False, callback=None):
    """Train four steps, then resume from the checkpoint of the third or fourth; return the second callback."""
    options = {"loss": "criterion", "strict": True, "logdir": logdir}
    saver = ModelCheckpoint(tmp_path, filename="third", every_n_train_steps=3, save_top_k=-1)
    first = PhasetrackCallback(TASK.geometry, **options)
    trainer = new_trainer([first, saver], tmp_path, enable_checkpointing=True)
    trainer.fit(Module(), batches(4))
    path = tmp_path / "third.ckpt"
    if saved_after_fit:
        path = tmp_path / "last.ckpt"
        trainer.save_checkpoint(path)
    second = callback or PhasetrackCallback(TASK.geometry, **options)
    again = new_trainer([second], tmp_path, max_epochs=2)
    again.fit(Module(), batches(4), ckpt_path=path)
    assert again.global_step == 8
    return second


@pytest.mark.parametrize("after, begin", [(False, 3), (True, 4)])
def test_resumed_steps_are_the_trainers(after, begin, tmp_path):
    second = resumed(tmp_path, saved_after_fit=after)
    assert second.tracker.history.steps.tolist() == list(range(begin, 8))
    # the growth of the first resumed step is that since the step before
    assert not np.isnan(second.tracker.history["growth/signal_rate"]).any()


@pytest.mark.parametrize("after", [False, True])
def test_resumed_files_go_on(after, tmp_path):
    second = resumed(tmp_path, logdir=tmp_path / "run", saved_after_fit=after)
    assert steps_in(tmp_path / "run") == list(range(8))
    assert second.tracker.history.steps.tolist() == list(range(8))


def test_resumed_into_new_files_records_the_rest(tmp_path):
    other = PhasetrackCallback(TASK.geometry, loss="criterion", logdir=tmp_path / "other")
    resumed(tmp_path, logdir=tmp_path / "run", callback=other)
    assert steps_in(tmp_path / "run") == [0, 1, 2, 3]
    assert steps_in(tmp_path / "other") == [3, 4, 5, 6, 7]


def test_checkpoint_without_the_callback_gives_the_step(tmp_path):
    trainer = new_trainer([], tmp_path)
    trainer.fit(Module(), batches(4))
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    callback = PhasetrackCallback(TASK.geometry, loss="criterion", logdir=tmp_path / "run")
    again = new_trainer([callback], tmp_path, max_epochs=2)
    again.fit(Module(), batches(4), ckpt_path=tmp_path / "plain.ckpt")
    assert callback.tracker.history.steps.tolist() == steps_in(tmp_path / "run") == [4, 5, 6, 7]


def test_search_for_a_learning_rate_is_not_a_resumption(tmp_path):
    finder = LearningRateFinder(num_training_steps=4, update_attr=False, attr_name="lr")
    callback = PhasetrackCallback(TASK.geometry, loss="criterion")
    for steps in (3, 5):
        module = Module()
        module.lr = 0.1
        fit(module, [finder, callback], tmp_path, steps=steps)
        assert callback.tracker.history.steps.tolist() == list(range(steps))


# --- copies ------------------------------------------------------------------------------------


class Copying(lightning.Callback):
    """Copies our callback in the middle of the training, as averages of weights and tuners do."""

    def __init__(self, ours):
        self.ours, self.copies = ours, []

    def on_train_batch_end(self, *_):
        self.copies += [copy.deepcopy(self.ours), pickle.loads(pickle.dumps(self.ours))]


def test_copies_have_no_tracker(tmp_path):
    ours = PhasetrackCallback(TASK.geometry, loss="criterion", logdir=tmp_path / "run")
    copying = Copying(ours)
    fit(Module(), [ours, copying], tmp_path, steps=3)
    assert len(copying.copies) == 6 and all(each.tracker is None for each in copying.copies)
    assert ours.tracker.history.steps.tolist() == [0, 1, 2]


# --- processes ---------------------------------------------------------------------------------


class Spawned(Module):
    """Writes the losses of its process beside the run."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.values = folder, []

    def training_step(self, batch, index):
        value = super().training_step(batch, index)
        self.values.append(value.item())
        return value

    def on_train_end(self):
        (self.folder / f"{self.global_rank}.json").write_text(json.dumps(self.values))


@pytest.mark.slow
def test_two_processes_read_the_whole_batch(tmp_path):
    callback = PhasetrackCallback(
        TASK.geometry, loss="criterion", model="net", logdir=tmp_path / "run"
    )
    fit(Spawned(tmp_path), [callback], tmp_path, steps=6, devices=2, strategy="ddp_spawn")
    own = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    read = [json.loads(line)["loss/train"] for line in lines]
    np.testing.assert_allclose(read, np.mean(own, axis=0), atol=1e-5)
