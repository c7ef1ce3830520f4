"""Copies and pickles of a model that is tracked, or holds its tracker, work and need no phasetrack."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from phasetrack import attach
from phasetrack.tasks import XOR

TASK = XOR(10)
LOAD = """
import sys
sys.modules["phasetrack"] = None  # importing it raises
import torch
model, loss, tracker = torch.load(sys.argv[1], weights_only=False)
assert tracker is None and model.tracker is None and loss.tracker is None
x, y = torch.load(sys.argv[2], weights_only=True)
value = loss(model(x).squeeze(-1), y)
value.backward()
torch.save((value.detach(), [p.grad for p in model.parameters()]), sys.argv[3])
"""


def tracked(**options):
    torch.manual_seed(0)
    model, loss = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 1)), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracker = attach(model, optimizer, loss=loss, geometry=TASK.geometry, **options)
    model.tracker = loss.tracker = tracker
    return model, optimizer, loss, tracker


def step(model, optimizer, loss, number):
    x, y = TASK.sample(32, seed=0, step=number)
    optimizer.zero_grad()
    value = loss(model(x).squeeze(-1), y)
    value.backward()
    optimizer.step()
    return value.item()


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


def saved(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("twin_of", [copy.deepcopy, pickled, saved])
@pytest.mark.parametrize("files", [False, True], ids=["in memory", "with a directory"])
def test_a_copy_trains_as_the_model_and_is_not_tracked(twin_of, files, tmp_path):
    model, optimizer, loss, tracker = tracked(logdir=tmp_path / "run" if files else None)
    with tracker:
        step(model, optimizer, loss, 0)
        twin, twin_loss = twin_of((model, loss))
        assert twin.tracker is None and twin_loss.tracker is None
        twin_optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
        values = [step(twin, twin_optimizer, twin_loss, number) for number in (1, 2)]
        assert tracker.history.steps.tolist() == [0]
        assert [step(model, optimizer, loss, number) for number in (1, 2)] == values
    assert tracker.history.steps.tolist() == [0, 1, 2]
    assert twin.state_dict().keys() == model.state_dict().keys()


def test_a_saved_model_loads_and_trains_without_phasetrack(tmp_path):
    model, optimizer, loss, tracker = tracked(logdir=tmp_path / "run")
    with tracker:
        step(model, optimizer, loss, 0)
        torch.save((model, loss, tracker), tmp_path / "saved.pt")
        sample = TASK.sample(32, seed=0, step=1)
        torch.save(sample, tmp_path / "sample.pt")
        paths = [str(tmp_path / name) for name in ("saved.pt", "sample.pt", "out.pt")]
        subprocess.run([sys.executable, "-c", LOAD, *paths], check=True, cwd=tmp_path)
        optimizer.zero_grad()
        value = loss(model(sample[0]).squeeze(-1), sample[1])
        value.backward()
    found, gradients = torch.load(tmp_path / "out.pt", weights_only=True)
    assert found == value
    assert all(map(torch.equal, gradients, [p.grad for p in model.parameters()]))


@pytest.mark.parametrize("saved_part", ["model", "loss"])
def test_a_pickle_names_nothing_of_phasetrack(saved_part):
    model, _, loss, tracker = tracked()
    with tracker:
        content = pickle.dumps({"model": model, "loss": loss}[saved_part])
    assert b"phasetrack" not in content


@pytest.mark.parametrize("twin_of", [copy.copy, copy.deepcopy, pickled])
def test_a_copied_tracker_is_none(twin_of):
    *_, tracker = tracked()
    with tracker:
        assert twin_of(tracker) is None and twin_of([tracker, tracker]) is not None
