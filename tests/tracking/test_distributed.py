"""Processes that train one model: readings of the whole batch, or of the own part with the reason."""

import os
import socket

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from helpers.exchanging_workers import LIMIT, part_of_three, readings_of_processes
from torch import nn

from phasetrack import ExpectedError, LogisticLoss, TwoLayerNet, attach, read_run
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.storage.directory import write_json
from phasetrack.tasks import XOR
from phasetrack.tracking.probes.default import default_probes

pytestmark = pytest.mark.filterwarnings("ignore")
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


@pytest.mark.slow
def test_two_processes_read_as_one(tmp_path):
    mp.spawn(worker, args=(2, free_port(), str(tmp_path)), nprocs=2)
    whole = train(TwoLayerNet(8, 16, seed=0).double(), 0, 1, None).history
    assert len(list((tmp_path / "shared").glob("events*"))) == 1
    write_json(tmp_path / "shared" / "config.json", {})
    shared = read_run(tmp_path / "shared").history
    assert shared.steps.tolist() == list(range(STEPS)) and set(shared) == set(whole)
    for name in whole:
        if "predicted" in name or name.startswith(("kernel/", "phase/lazy-rich")):
            # the sample of the tangent kernel is the first inputs that the writing process saw;
            continue  # the noise of a batch goes by its size, which is the same: checked below
        np.testing.assert_allclose(shared[name], whole[name], rtol=1e-6, atol=1e-9, err_msg=name)
    name = "growth/signal_rate_predicted"
    np.testing.assert_allclose(shared[name], whole[name], rtol=1e-6)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return readings_of_processes(2, free_port(), tmp_path_factory.mktemp("two"))


def read(process):
    return list(process["read"].values())


def whole_batch(processes):
    return np.mean([process["own"] for process in processes], axis=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "situation",
    [
        "all_attach",
        "loss_in_place",
        "accumulates_without_synchronising",
        "again_with_the_same_weights",
        "bare_module",
        "model_around_the_wrapper",
    ],
)
def test_every_process_reads_the_whole_batch(found, situation):
    for process in found[situation]:
        np.testing.assert_allclose(read(process), whole_batch(found[situation]), atol=1e-6)
        assert process["note"] == ""


@pytest.mark.slow
def test_a_loss_in_place_has_first_order_errors_in_every_process(found):
    errors = np.array([process["errors"] for process in found["loss_in_place"]])
    assert np.isfinite(errors).all() and (errors[0] == errors[1]).all()


def test_two_models_are_exchanged_apart(found):
    for name in ("first", "second"):
        processes = [each[name] for each in found["two_trackers_at_once"]]
        for process in processes:
            np.testing.assert_allclose(read(process), whole_batch(processes), atol=1e-6)


@pytest.mark.parametrize("situation", ["own_part_is_asked_for", "wrapper_beside_the_layers"])
def test_own_part_without_a_note(found, situation):
    for process in found[situation]:
        np.testing.assert_allclose(read(process), process["own"], atol=1e-6)
        assert process["note"] == ""


def test_a_tracker_in_one_process_reads_its_own_part(found):
    bare, tracked = found["only_one_attaches"]
    assert len(bare["own"]) == tracked["steps"] == 4
    np.testing.assert_allclose(read(tracked), tracked["own"], atol=1e-6)
    assert "part of the batch. Process 0 has no tracker" in tracked["note"]


def test_a_process_that_detaches_leaves_the_rest_their_own_parts(found):
    whole = whole_batch(found["one_detaches_early"])
    stays, leaves = found["one_detaches_early"]
    np.testing.assert_allclose(read(leaves), whole[:2], atol=1e-6)
    np.testing.assert_allclose(read(stays), [*whole[:2], *stays["own"][2:]], atol=1e-6)
    assert stays["note"].startswith("From step 2 on") and leaves["note"] == ""


def test_schedules_that_differ_are_own_parts(found):
    every, second = found["one_records_other_steps"]
    np.testing.assert_allclose(read(every), every["own"], atol=1e-6)
    np.testing.assert_allclose(read(second), second["own"][::2], atol=1e-6)
    assert "with the same every=" in every["note"] and "with the same every=" in second["note"]


def test_uneven_inputs_are_own_parts(found):
    for process, steps in zip(found["uneven_inputs"], (4, 3), strict=True):
        assert process["steps"] == steps and "Join" in process["note"]
        np.testing.assert_allclose(read(process), process["own"], atol=1e-6)


def test_exchange_leaves_no_key_behind(found):
    for rank, process in enumerate(found["store_alone"]):
        assert process["whole"] == [[[0, step], [1, step]] for step in range(3)]
        assert process["keys"] == [], rank


def test_a_part_that_does_not_come_is_waited_for_once(found):
    first, second = found["store_alone"]
    assert first["failed"] == second["failed"] == [None, None]
    assert second["missed"] == [[0, 1]] and first["missed"] == [[0, 1], None, None]
    assert any(f"Process 1 gave no part within {LIMIT:g} s" in note for note in first["notes"])
    assert len(first["notes"]) == 2  # said once for each exchange that ended


@pytest.mark.slow
def test_processes_of_a_group_read_their_group(tmp_path):
    found = readings_of_processes(3, free_port(), tmp_path, [part_of_three])["part_of_three"]
    np.testing.assert_allclose(read(found[0]), found[0]["own"], atol=1e-6)
    for process in found[1:]:
        np.testing.assert_allclose(read(process), whole_batch(found[1:]), atol=1e-6)
        assert process["note"] == ""
    records = (tmp_path / "pair" / "history.jsonl").read_text().splitlines()
    assert len(records) == 4  # the group's first process writes


@pytest.mark.parametrize("processes", ["all", 2])
def test_processes_have_to_be_a_group(processes):
    net = TwoLayerNet(8, 16)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    with pytest.raises(ExpectedError, match=r"processes: .* is not a process group"):
        attach(net, optimizer, loss=LogisticLoss(), geometry=TASK.geometry, processes=processes)
    assert not net.first._forward_hooks
