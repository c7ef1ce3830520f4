"""Runs and checkpoints that version 0.1.0 wrote before its files moved into rooms are resumed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import phasetrack
from phasetrack.model.losses import LogisticLoss
from phasetrack.model.network import TwoLayerNet
from phasetrack.tasks import XOR
from phasetrack.training.run import resume

OLD = Path(__file__).parents[1] / "fixtures" / "version_0_1_0"


@pytest.fixture
def runs(tmp_path):
    """A copy of the old runs, which resuming changes."""
    return Path(shutil.copytree(OLD, tmp_path / "runs"))


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


OF_WEIGHTS = {"heaviness/heavy_mass", "heaviness/zeta_star"}  # of |w|^2 then, of |a| |w| now


def assert_same_rows(found, expected):
    """The old metrics at the same steps; last digits depend on the processor, forecasts on the version."""
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    for row, old in zip(found, expected, strict=True):
        assert row.keys() >= old.keys()  # newer versions record more
        for name in old.keys() - OF_WEIGHTS:
            # rates are predicted by each batch's own slopes and shares now
            if name.startswith("forecast/") or name.endswith("_predicted"):
                continue
            np.testing.assert_allclose(row[name], old[name], rtol=1e-3, atol=1e-5, err_msg=name)
        paper, zeta = (row.get("heaviness/zeta_star_paper"), old["heaviness/zeta_star"])
        if paper is not None:
            np.testing.assert_allclose(paper, zeta, rtol=1e-3)


def test_killed_run_resumes_to_the_same_end(runs):
    resume(runs / "killed")
    assert_same_rows(
        rows(runs / "killed" / "history.jsonl"), rows(OLD / "finished" / "history.jsonl")
    )
    assert phasetrack.read_run(runs / "killed").summary["stopped"] == "steps"


def test_tracker_state_of_format_2_is_loaded(runs):
    state = torch.load(runs / "own.pt", weights_only=True)
    assert state["tracker"]["format"] == 2
    task, loss = XOR(d=6), LogisticLoss()
    net = TwoLayerNet(d=6, width=6)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    net.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    with phasetrack.attach(
        net, optimizer, loss=loss, geometry=task.geometry, logdir=runs / "own", resume=True
    ) as tracker:
        tracker.load_state_dict(state["tracker"])
        for step in range(tracker.step, 12):
            x, y = task.sample(32, seed=0, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
    assert_same_rows(rows(runs / "own" / "history.jsonl"), rows(OLD / "own-whole.jsonl"))
