"""A run that is killed, however often and wherever, ends as one that never was."""

import json
import random

import numpy as np
import pytest
import torch
from helpers.breaking import Fault, Victims
from helpers.victims import SETTINGS, train_and_count, train_or_resume
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from phasetrack import read_run
from phasetrack.tasks import XOR
from phasetrack.theory.forecast import predict

KILLS, SEED = 50, 20230915


@pytest.fixture(scope="module")
def predicted():
    return predict(XOR(SETTINGS.d).geometry, SETTINGS)


@pytest.fixture(scope="module")
def victims():
    return Victims()


@pytest.fixture(scope="module")
def whole(predicted, victims, tmp_path_factory):
    """The run that nobody disturbs, and the system calls that it makes."""
    out = tmp_path_factory.mktemp("whole")
    assert victims.run(train_and_count, out, "run", SETTINGS, predicted) == 0
    return out / "run", (out / "calls").read_text().splitlines()


def events(run):
    """Every event of a run but its wall time, as TensorBoard's loader reads the files in turn."""
    found = []
    for path in sorted(run.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            if event.HasField("summary"):
                for value in event.summary.value:
                    value.ClearField("metadata")  # each file describes its tags once
                    found.append((event.step, value))
    # the row of hyperparameters says when the run was begun
    return [(step, value) for step, value in found if not value.tag.startswith("_hparams_")]


def assert_same(run, whole):
    """Bit for bit: weights, history, neurons, saved weights, labels; every event once."""
    assert (run / "history.jsonl").read_bytes() == (whole / "history.jsonl").read_bytes()
    states = [torch.load(p / "checkpoint.pt", weights_only=True) for p in (run, whole)]
    for name, weights in states[1]["model"].items():
        assert torch.equal(states[0]["model"][name], weights), name
    for folder in ("neurons", "weights"):
        files = [{f.name: f.read_bytes() for f in (p / folder).iterdir()} for p in (run, whole)]
        assert files[0].keys() == files[1].keys() and files[0] == files[1], folder
    summaries = [json.loads((p / "summary.json").read_text()) for p in (run, whole)]
    for summary in summaries:
        assert summary.pop("seconds") > 0 and summary.pop("directory")
    np.testing.assert_equal(*summaries)
    assert events(run) == events(whole)
    steps = [json.loads(line)["step"] for line in (run / "clock.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[0] == 0
    names = {path.name for path in run.iterdir()}
    assert not [name for name in names if name.startswith(".")], "scratch files are left"


def test_events_of_a_run_are_all_there(whole):
    run, _ = whole
    steps = [step for step, value in events(run) if value.tag == "loss/train"]
    assert steps == read_run(run).history.steps.tolist() == list(range(SETTINGS.steps))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kill", "tear", "kill after"])
def test_killed_at_system_calls(kind, whole, victims, predicted, tmp_path):
    """At seeded ones here, and again and again within one run until it comes to its end."""
    run, calls = whole
    chance, at, deaths = random.Random(f"{SEED} {kind}"), 0, 0
    while True:
        at = chance.randrange(len(calls) // 3)
        fault = Fault(at=at, kind=kind)
        code = victims.run(train_or_resume, tmp_path, "run", SETTINGS, predicted, fault)
        assert code in (0, -9)
        if code == 0:
            break
        deaths += 1
        assert deaths < 100
    assert deaths > 2
    assert_same(tmp_path / "run", run)


def test_killed_at_random_instants(whole, victims, predicted, tmp_path):
    run, _ = whole
    chance, deaths, number = random.Random(SEED), 0, 0
    while deaths < KILLS:
        name, number = f"run{number}", number + 1
        arguments = (tmp_path, name, SETTINGS, predicted)
        # a run takes about 0.3 s here; where it takes much longer the last kill is followed by an end
        while victims.run(
            train_or_resume,
            *arguments,
            kill_after=chance.uniform(0.0, 0.25) if deaths < KILLS else None,
        ):
            deaths += 1
        assert_same(tmp_path / name, run)
