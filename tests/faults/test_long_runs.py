"""A hundred thousand steps: memory and open files stay as they are, and everything is there."""

import gc
import json

import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from phasetrack import LogisticLoss, TwoLayerNet, attach
from phasetrack.tasks import XOR

WARM, STEPS, BATCH = 5_000, 100_000, 8
ALLOWED = 5 * 2**20


@pytest.mark.long
def test_a_hundred_thousand_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "phasetrack.sinks.tensorboard.TensorBoardSink._write_figure", lambda *_: None
    )
    torch.set_num_threads(1)
    task, loss, process = XOR(16), LogisticLoss(), psutil.Process()
    net = TwoLayerNet(16, 8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001)
    tracker = attach(net, optimizer, loss=loss, geometry=task.geometry, logdir=tmp_path)
    used, files = {}, {}

    def measure(step):
        assert tracker.step == step
        gc.collect()
        used[step], files[step] = process.memory_info().rss, process.num_fds()

    for step in range(STEPS):
        x, y = task.sample(BATCH, seed=0, step=step)
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
        if (step + 1) % WARM == 0:
            measure(step + 1)
    grown = max(used.values()) - used[WARM]
    print(
        f"grown by {grown / 2**20:.1f} MB at most, {(used[STEPS] - used[WARM]) / 2**20:.1f} at the end"
    )
    assert grown < ALLOWED
    assert len(set(files.values())) == 1
    tracker.detach()
    assert tracker.history.steps.tolist() == list(range(STEPS))
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(STEPS))
    (events,) = tmp_path.glob("events.out.tfevents.*")
    losses = [
        event.step
        for event in EventFileLoader(str(events)).Load()
        if any(value.tag == "loss/train" for value in event.summary.value)
    ]
    assert losses == list(range(STEPS))
