"""What the host waits for while a network is trained on a GPU, here a pretended one."""

import pytest
import torch
from helpers.fake_gpu import GPU, PretendedGPU, pretended_graph
from helpers.gpu_runs import BATCH, CPU, D, assert_alike, canonical, taken, users
from torch import nn

from phasetrack import RunSettings, attach
from phasetrack.tasks import philox as bits
from phasetrack.tasks.registry import TASKS, make_task
from phasetrack.tracking import snapshot_queue, tracker_state
from phasetrack.tracking.probes.base import Probe
from phasetrack.tracking.probes.default import default_probes
from phasetrack.training import cuda_graph as graphed
from phasetrack.training.matmul import DEFAULT, Matmul
from phasetrack.training.placement import choose_matmul

PIECES = pytest.mark.parametrize("pieces", [1, 2], ids=["graph", "call by call"])


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """Blocks end where they are full, not with the clock."""
    monkeypatch.setattr(snapshot_queue, "LATEST", 1e9)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(graphed, "_captured", pretended_graph)
    bits._places.cache_clear()  # of a real one
    with PretendedGPU() as pretended:
        yield pretended
    bits._places.cache_clear()


# --- the pretended GPU sees what makes a host wait, and nothing else

WAITING = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: bool(x.isfinite().all()),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "double": lambda x: x.to("cpu", torch.float64),
    "list": lambda x: x.tolist(),
    "into": lambda x: torch.zeros(3, 4).copy_(x),
    "nonzero": lambda x: x.nonzero(),
    "equal": lambda x: torch.equal(x, x.clone()),
    "mask": lambda x: x[x > 0],
    "select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "pageable": lambda x: torch.ones(3).to(x.device),
    "not blocking, pageable": lambda x: torch.ones(3).to(x.device, non_blocking=True),
    "pinned, blocking": lambda x: torch.ones(3).pin_memory().to(x.device),
    "from": lambda x: x.copy_(torch.zeros(3, 4)),
    "index from the host": lambda x: x[torch.tensor([0, 2])],
}


@pytest.mark.parametrize("look", WAITING.values(), ids=WAITING.keys())
def test_whatever_waits_is_seen(look, gpu):
    x = torch.ones(3, 4, device=GPU)
    assert not gpu.waits
    look(x)
    assert len(gpu.waits) == 1


def test_what_does_not_wait_is_not_counted(gpu):
    x = torch.ones(3, 4, device=GPU, requires_grad=True)
    index = torch.arange(2, device=GPU)
    pinned = torch.ones(4).pin_memory().to(GPU, non_blocking=True)
    (x[index] @ pinned * torch.tensor(2.0)).relu().sum().backward()
    assert x.is_cuda and x.grad.device == GPU and not gpu.waits
    assert x.grad.cpu().tolist() == [[2.0] * 4, [2.0] * 4, [0.0] * 4]


def test_both_sides_do_not_mix(gpu):
    with pytest.raises(RuntimeError, match="on one device"):
        torch.ones(3, device=GPU) + torch.ones(3)


# --- phasetrack on it


@pytest.mark.slow
@PIECES
@pytest.mark.parametrize("name", TASKS)
def test_steps_that_are_not_recorded_wait_for_nothing(name, pieces, gpu):
    gpu.lacks_float64 = name != "gaussian"  # its samples are made from float64 there
    run = canonical(GPU, name, pieces, every=50)
    taken(run, 1)  # recorded; tables and clusters are placed once
    before = len(gpu.waits)
    assert taken(run, 20).step == 21 and gpu.waits[before:] == []


# The sparse probe of the tangent kernel copies the layers at its few steps.
DENSE = [probe for probe in default_probes() if probe.name != "kernel"]


@PIECES
@pytest.mark.parametrize("block", [1, 8])
def test_recorded_steps_wait_once_a_block(block, pieces, gpu):
    run = canonical(GPU, pieces=pieces, block=block, probes=DENSE)
    taken(run, 2).phase  # noqa: B018 measures what is pending
    before = len(gpu.waits)
    counted = [len(gpu.waits) - before for _, _ in zip(range(block), run, strict=False)]
    assert counted == [0] * (block - 1) + [1] and gpu.waits[before:] == ["copy to the host"]


@pytest.mark.filterwarnings("ignore:.*did not multiply")  # the pretended GPU hides products
def test_a_users_loop_waits_once_a_block(gpu):
    run = users(GPU, block=8, probes=DENSE)
    taken(run, 2).phase  # noqa: B018
    before = len(gpu.waits)
    taken(run, 8)
    assert gpu.waits[before:] == ["copy to the host"]


def test_probes_of_single_steps_wait_once_a_step(gpu):
    """However many they are."""
    probes = [
        lambda snapshot: {"a": snapshot.neurons.second_layer.sum()},
        lambda snapshot: {"w": snapshot.neurons.perp.sum()},
    ]
    run = canonical(GPU, probes=probes)
    taken(run, 2)
    before = len(gpu.waits)
    assert len(taken(run, 4).history["w"]) == 6
    assert gpu.waits[before:] == ["copy to the host"] * 4


@pytest.mark.slow
@PIECES
def test_readings_are_those_of_the_host(pieces, gpu):
    there, here = (taken(canonical(d, pieces=pieces), 20).history for d in (GPU, CPU))
    assert_alike(there, here)


def test_a_block_of_a_larger_network_waits_once_a_recorded_step(gpu):
    block = nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, 6))
    model = nn.Sequential(block, nn.Linear(6, 2)).to(GPU)
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss()
    task, names = make_task("xor", D), ("0.0", "0.2")
    options = {"layers": names, "readout": torch.eye(6)[0], "activation": torch.relu, "block": 1}
    with attach(
        model, optimizer, loss=loss, geometry=task.geometry, strict=True, **options
    ) as tracker:
        for step in range(4):
            before = len(gpu.waits)
            x, y = task.sample(BATCH, seed=0, step=step, device=GPU)
            optimizer.zero_grad()
            loss(model(x), (y > 0).long()).backward()
            optimizer.step()
        assert gpu.waits[before:] == ["copy to the host"] and tracker.history.count == 4


def test_a_state_from_the_gpu_is_one_of_the_host(gpu):
    snapshots = []

    class Keep(Probe):
        name = "keep"

        def measure(self, snapshot):
            snapshots.append(snapshot)
            return {}

    tracker = taken(canonical(GPU, probes=[Keep()]), 2)
    one = tracker.phase and snapshots[0]
    saved = tracker_state._snapshot_state(one)
    kept = tracker_state._snapshot_from(saved, tracker.view, one.geometry, one.loss)
    assert kept.layers.perp.device == CPU
    assert torch.equal(kept.neurons.coordinates, one.neurons.coordinates)


def test_the_processors_ways_to_multiply_are_not_measured_for_a_gpu():
    settings = RunSettings(d=512, width=512, batch=8192)
    assert choose_matmul("auto", settings, torch.device("cuda")) == Matmul(DEFAULT)
