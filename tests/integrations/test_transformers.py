"""The Hugging Face callback, under the real Trainer."""

import json
import os
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from phasetrack import ExpectedError, LogisticLoss, TrackingWarning, TwoLayerNet
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


def new_trainer(callbacks, model, folder, accumulated=1, steps=100, kind=Trainer, **options):
    plain = {
        "per_device_train_batch_size": 64,
        "gradient_accumulation_steps": accumulated,
        "max_steps": steps,
        "learning_rate": 0.2 * P,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
    }
    arguments = TrainingArguments(output_dir=str(folder), **(plain | options))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2 * P)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return kind(
        model,
        arguments,
        train_dataset=Data(64 * steps * accumulated),
        optimizers=(optimizer, schedule),
        callbacks=callbacks,
    )


def fit(callbacks, model, folder, **options):
    new_trainer(callbacks, model, folder, **options).train()
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


@pytest.mark.slow
def test_a_model_that_the_trainer_compiles_is_reported_and_the_remedy_works(tmp_path):
    def run(model, **options):
        torch._dynamo.reset()
        callback = PhasetrackCallback(TASK.geometry, strict=True)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", TrackingWarning)
            fit([callback], model, tmp_path, steps=2, **options)
        lines = [str(each.message) for each in said if each.category is TrackingWarning]
        return callback.tracker, [line for line in lines if "torch_compile=True" in line]

    compiled = {"torch_compile": True, "torch_compile_backend": "aot_eager"}
    assert len(run(Model(), **compiled)[1]) == 1
    model = Model()
    model.net = torch.compile(model.net, backend="aot_eager")
    tracker, said = run(model)
    assert not said and tracker.history["loss/train"] == pytest.approx(2 * np.log(2), rel=0.1)


# --- the loss ----------------------------------------------------------------------------------


class FunctionModel(Model):
    """Calls a function, or the callback in its place."""

    def __init__(self, call):
        super().__init__()
        del self.criterion
        self.call = [call]

    def forward(self, x, labels=None):
        f = self.net(x)
        return {"loss": self.call[0](f, labels), "logits": f}


def soft_margin(outputs, targets):
    return nn.functional.soft_margin_loss(outputs, targets)


@pytest.mark.parametrize("options", [{}, {"loss": "criterion"}])
def test_loss_module_by_name_or_as_the_only_one(options, tmp_path):
    callback = PhasetrackCallback(TASK.geometry, strict=True, **options)
    fit([callback], Model(), tmp_path, steps=3)
    assert not np.isnan(callback.tracker.history["loss/train"]).any()


def test_loss_called_through_the_callback(tmp_path):
    callback = PhasetrackCallback(TASK.geometry, loss=soft_margin)
    fit([callback], FunctionModel(callback.loss), tmp_path, steps=3)
    assert not np.isnan(callback.tracker.history["loss/train"]).any()


@pytest.mark.parametrize("options", [{}, {"loss": soft_margin}])
def test_function_that_the_model_calls(options, tmp_path):
    callback = PhasetrackCallback(TASK.geometry, **options)
    fit([callback], FunctionModel(soft_margin), tmp_path, steps=3)
    assert callback.tracker.history.steps.tolist() == [0, 1, 2]
    assert not np.isnan(callback.tracker.history["heaviness/zeta_star"]).any()


def test_wrong_name_is_explained(tmp_path):
    callback = PhasetrackCallback(TASK.geometry, loss="lost")
    with pytest.raises(ExpectedError, match="loss: Model has no loss module 'lost'"):
        fit([callback], Model(), tmp_path, steps=3)


# --- more than one training --------------------------------------------------------------------


class RunsOut(Trainer):
    """Has no memory for batches above 16 samples, from the third step on."""

    failures = 0

    def training_step(self, model, inputs, *rest):
        if len(inputs["labels"]) > 16 and self.state.global_step == 2:
            self.failures += 1
            raise RuntimeError("CUDA out of memory. (of the test)")
        return super().training_step(model, inputs, *rest)


def steps_in(folder):
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


@pytest.mark.parametrize("writes", [False, True], ids=["in memory", "files"])
def test_records_start_over_with_a_smaller_batch(writes, tmp_path):
    logdir = tmp_path / "run" if writes else None
    callback = PhasetrackCallback(TASK.geometry, loss="criterion", logdir=logdir)
    # each smaller batch is a tenth less: two of them fail
    options = {"steps": 5, "kind": RunsOut, "auto_find_batch_size": True}
    options["per_device_train_batch_size"] = 19
    model = Model()
    trainer = new_trainer([callback], model, tmp_path, **options)
    trainer.train()
    assert trainer.failures and trainer.state.global_step == 5
    assert callback.tracker.history.steps.tolist() == list(range(5))
    assert not model.net.first._forward_hooks and not model.criterion._forward_hooks
    if writes:
        assert steps_in(logdir) == list(range(5))


def test_a_second_training_begins_anew(tmp_path):
    callback = PhasetrackCallback(TASK.geometry, loss="criterion", logdir=tmp_path / "run")
    model = Model()
    trainer = new_trainer([callback], model, tmp_path, steps=3)
    trainer.train()
    first = callback.tracker
    with pytest.warns(UserWarning, match="followed without files .*already holds a run"):
        trainer.train()
    assert callback.tracker is not first
    assert callback.tracker.history.steps.tolist() == steps_in(tmp_path / "run") == [0, 1, 2]
    assert not model.net.first._forward_hooks


def test_training_again_after_a_failure(tmp_path):
    callback, model = PhasetrackCallback(TASK.geometry, loss="criterion"), Model()
    trainer = new_trainer([callback], model, tmp_path, steps=5, kind=RunsOut)
    with pytest.raises(RuntimeError, match="of the test"):
        trainer.train()
    fit([callback], model, tmp_path, steps=3)
    assert callback.tracker.history.steps.tolist() == [0, 1, 2]
    assert not model.net.first._forward_hooks


def resumed(tmp_path, *, logdir=None, second_logdir=None, forgets=False):
    """Train four steps, then six from the checkpoint of the second; return the second callback."""
    saving = {"save_strategy": "steps", "save_steps": 2, "logging_steps": 1}
    first = PhasetrackCallback(TASK.geometry, loss="criterion", strict=True, logdir=logdir)
    fit([] if forgets else [first], Model(), tmp_path, steps=4, **saving)
    where = second_logdir or logdir
    second = PhasetrackCallback(TASK.geometry, loss="criterion", strict=True, logdir=where)
    trainer = new_trainer([second], Model(), tmp_path, steps=6, **saving)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert trainer.state.global_step == 6
    return second


def test_resumed_steps_are_the_trainers(tmp_path):
    history = resumed(tmp_path).tracker.history
    assert history.steps.tolist() == [2, 3, 4, 5]
    # the growth of the first resumed step is that since the step before
    assert not np.isnan(history["growth/signal_rate"]).any()


def test_resumed_files_go_on(tmp_path):
    callback = resumed(tmp_path, logdir=tmp_path / "run")
    assert callback.tracker.history.steps.tolist() == steps_in(tmp_path / "run") == list(range(6))


def test_resumed_into_new_files_records_the_rest(tmp_path):
    resumed(tmp_path, logdir=tmp_path / "run", second_logdir=tmp_path / "other")
    assert steps_in(tmp_path / "run") == [0, 1, 2, 3] and steps_in(tmp_path / "other") == [
        2,
        3,
        4,
        5,
    ]


def test_checkpoint_without_the_callback_gives_the_step(tmp_path):
    history = resumed(tmp_path, logdir=tmp_path / "run", forgets=True).tracker.history
    assert history.steps.tolist() == steps_in(tmp_path / "run") == [2, 3, 4, 5]
    assert np.isnan(history["growth/signal_rate"][0])


def test_checkpoint_of_an_older_run_in_the_folder_is_not_used(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2, "logging_steps": 1}
    for folder, seed in (("one", 0), ("two", 1)):
        model = Model()
        model.net = TwoLayerNet(16, P, seed=seed)
        callback = PhasetrackCallback(TASK.geometry, loss="criterion")
        fit([callback], model, tmp_path / folder, steps=2, **saving)
    callback = PhasetrackCallback(TASK.geometry, loss="criterion")
    trainer = new_trainer([callback], Model(), tmp_path / "one", steps=4, **saving)
    trainer.train(resume_from_checkpoint=str(tmp_path / "two" / "checkpoint-2"))
    assert callback.tracker.history.steps.tolist() == [2, 3]
    assert np.isnan(callback.tracker.history["growth/signal_rate"][0])  # nothing came before


# --- processes ---------------------------------------------------------------------------------


def train_in_one_of_two(rank, port, folder):
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
    }
    torch.set_num_threads(1)
    own = []
    model = Model()
    model.criterion.register_forward_hook(lambda *args: own.append(args[-1].item()))
    callback = PhasetrackCallback(TASK.geometry, loss="criterion", logdir=f"{folder}/run")
    fit([callback], model, folder, steps=4, ddp_backend="gloo")
    read = callback.tracker.history["loss/train"].tolist()
    Path(folder, f"{rank}.json").write_text(json.dumps({"own": own, "read": read}))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_read_the_whole_batch(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    mp.spawn(train_in_one_of_two, args=(port, str(tmp_path)), nprocs=2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for process in found:
        whole = np.mean([each["own"] for each in found], axis=0)
        np.testing.assert_allclose(process["read"], whole, atol=1e-5)
    assert steps_in(tmp_path / "run") == [0, 1, 2, 3]
