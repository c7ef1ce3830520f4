"""A hundred thousand steps: memory and open files stay as they are, and everything is there."""

import json
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

STEPS = 100_000
ALLOWED = 5 * 2**20
ALLOWED_AT_DETACH = 50 * 2**20  # half of what 200,000 steps may take

# In a process of its own: what other tests have freed would come and go in this one's memory.
RUN = """
import gc, json, sys, psutil, torch
from phasetrack import LogisticLoss, TwoLayerNet, attach
from phasetrack.tasks import XOR

torch.set_num_threads(1)
folder, steps = sys.argv[1], int(sys.argv[2])
task, loss, process = XOR(16), LogisticLoss(), psutil.Process()
net = TwoLayerNet(16, 8)
optimizer = torch.optim.SGD(net.parameters(), lr=0.001)
tracker = attach(net, optimizer, loss=loss, geometry=task.geometry, logdir=folder)
seen = []
for step in range(steps):
    x, y = task.sample(8, seed=0, step=step)
    optimizer.zero_grad()
    loss(net(x), y).backward()
    optimizer.step()
    if (step + 1) % 5000 == 0:
        assert tracker.phase.name  # measures what is pending
        gc.collect()
        seen.append([process.memory_info().rss, process.num_fds()])
before = process.memory_info().rss
tracker.detach()
detached = process.memory_info().rss - before
assert tracker.history.steps.tolist() == list(range(steps))
print(json.dumps([seen, detached]))
"""


@pytest.mark.long
def test_a_hundred_thousand_steps(tmp_path):
    command = [sys.executable, "-c", RUN, str(tmp_path / "run"), str(STEPS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen, detached = json.loads(done.stdout)
    used, files = zip(*seen, strict=True)
    print("at detach", round(detached / 2**20, 1), "MB")
    assert detached < ALLOWED_AT_DETACH
    print("grown by", [round((each - used[0]) / 2**20, 1) for each in used], "MB")
    assert max(used) - used[0] < ALLOWED
    assert len(set(files)) == 1
    lines = (tmp_path / "run/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(STEPS))
    (events,) = (tmp_path / "run").glob("events.out.tfevents.*")
    losses = [
        event.step
        for event in EventFileLoader(str(events)).Load()
        if any(value.tag == "loss/train" for value in event.summary.value)
    ]
    assert losses == list(range(STEPS))
