"""Two processes that train one model: one writer, and readings of the whole batch."""

import os
import socket

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from phasetrack import ExpectedError, LogisticLoss, TwoLayerNet, attach, read_run
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.storage.directory import write_json
from phasetrack.tasks import XOR
from phasetrack.tracking.probes.default import default_probes

TASK, M, STEPS = XOR(8), 64, 6


def train(model, rank, world, logdir):
    loss = LogisticLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=3.0)
    with attach(
        model, optimizer, loss=loss, geometry=TASK.geometry, logdir=logdir, strict=True
    ) as tracker:
        part = M // world
        for step in range(STEPS):
            x, y = TASK.sample(part, seed=0, step=step, start=rank * part, dtype=torch.float64)
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
    return tracker


def worker(rank, world, port, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    try:
        model = nn.parallel.DistributedDataParallel(TwoLayerNet(8, 16, seed=0).double())
        train(model, rank, world, f"{folder}/shared")
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        options = {"loss": LogisticLoss(), "geometry": TASK.geometry}
        with pytest.raises(ExpectedError, match="probes: A probe needs the inputs"):
            attach(model, optimizer, probes=default_probes(gradients=True), **options)
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (world,))
        sharded = TwoLayerNet(8, 16, seed=0)
        torch.distributed.fsdp.fully_shard(sharded, mesh=mesh)
        with pytest.raises(
            ExpectedError, match=r"first.weight is sharded among processes \(FSDP\)"
        ):
            TwoLayerView.of(sharded)
    finally:
        torch.distributed.destroy_process_group()


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.filterwarnings("ignore")
def test_two_processes_read_as_one(tmp_path):
    mp.spawn(worker, args=(2, free_port(), str(tmp_path)), nprocs=2)
    whole = train(TwoLayerNet(8, 16, seed=0).double(), 0, 1, None).history
    assert len(list((tmp_path / "shared").glob("events*"))) == 1
    write_json(tmp_path / "shared" / "config.json", {})
    shared = read_run(tmp_path / "shared").history
    assert shared.steps.tolist() == list(range(STEPS)) and list(shared) == list(whole)
    for name in whole:
        if "predicted" in name:
            continue  # the noise of a batch goes by its size, which is the same: checked below
        np.testing.assert_allclose(shared[name], whole[name], rtol=1e-6, atol=1e-9, err_msg=name)
    name = "growth/signal_rate_predicted"
    np.testing.assert_allclose(shared[name], whole[name], rtol=1e-6)
