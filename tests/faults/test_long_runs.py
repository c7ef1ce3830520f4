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
        gc.collect()
        columns = tracker.history._columns.values()
        held = sum(column.buffer_info()[1] for column in columns) * 8
        used[step], files[step] = process.memory_info().rss - held, process.num_fds()

    for step in range(STEPS):
        x, y = task.sample(BATCH, seed=0, step=step)
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
        if step == WARM:
            measure(step)
    measure(STEPS)
    tracker.detach()
    # an array that grows may hold an eighth more than it has; the rest must stay
    columns = tracker.history._columns.values()
    spare = sum(len(column) for column in columns) * 8 / 8
    grown = used[STEPS] - used[WARM]
    print(f"grown by {grown / 2**20:.1f} MB beside the history, spare {spare / 2**20:.1f} MB")
    assert grown < ALLOWED + spare
    assert files[STEPS] == files[WARM]
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(STEPS))
    (events,) = tmp_path.glob("events.out.tfevents.*")
    losses = [
        event.step
        for event in EventFileLoader(str(events)).Load()
        if any(value.tag == "loss/train" for value in event.summary.value)
    ]
    assert losses == list(range(STEPS))
