"""Processes that train one model over gloo, in each of some situations, and return their readings."""

import json
import os
import time
from pathlib import Path

import torch
import torch.multiprocessing as mp
from torch import distributed, nn
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel

from phasetrack import LogisticLoss, TwoLayerNet, attach
from phasetrack.tasks import XOR
from phasetrack.tracking.process_group import BatchExchange

TASK, STEPS, PART, LIMIT = XOR(8), 4, 16, 0.5


class Training:
    """Some steps of one process, and the loss of its own part at each.

    The tracker is attached with `options`; `at` maps a step to a function of the tracker that is called
    before the step.
    """

    def __init__(
        self, rank, *, tracks=True, steps=STEPS, at=None, model=None, group=None, **options
    ):
        self.rank, self.steps, self.at, self.own = rank, steps, at or {}, []
        net = TwoLayerNet(8, 16, seed=0)
        self.ddp = DistributedDataParallel(net, process_group=group)
        self.loss = LogisticLoss()
        self.optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        self.tracker = None
        if tracks:
            followed = self.ddp if model is None else model(self.ddp)
            self.tracker = attach(
                followed, self.optimizer, loss=self.loss, geometry=TASK.geometry, **options
            )

    def run(self):
        begin = time.monotonic()
        for step in range(self.steps):
            if step in self.at:
                self.at[step](self.tracker)
            x, y = TASK.sample(PART, seed=self.rank, step=step)
            self.optimizer.zero_grad()
            value = self.loss(self.ddp(x), y)
            self.own.append(value.item())
            value.backward()
            self.optimizer.step()
        found = {"own": self.own, "seconds": time.monotonic() - begin}
        if self.tracker is not None:
            self.tracker.detach()
            history = self.tracker.history
            read = dict(zip(history.steps.tolist(), history["loss/train"].tolist(), strict=True))
            notes = [
                each
                for each in self.tracker.notes
                if "its own part" in each or "part of the batch" in each
            ]
            note = notes[0] if notes else ""
            found |= {"read": read, "note": note, "steps": self.tracker.step}
        return found


def all_attach(rank):
    return Training(rank).run()


def again_with_the_same_weights(rank):
    return Training(rank).run()


def loss_in_place(rank):
    training = Training(rank, tracks=False)
    training.loss = lambda f, y: nn.functional.binary_cross_entropy_with_logits(f, (y > 0).float())
    training.tracker = attach(training.ddp, training.optimizer, geometry=TASK.geometry)
    found = training.run()
    return found | {"errors": training.tracker.history["linearization/value_error"].tolist()}


def accumulates_without_synchronising(rank):
    """The wrapper's switch goes on and off, which leaves the layers as they are."""
    training = Training(rank)
    for step in range(STEPS):
        x, y = TASK.sample(PART, seed=rank, step=step)
        training.optimizer.zero_grad()
        half = PART // 2
        with training.ddp.no_sync():
            first = training.loss(training.ddp(x[:half]), y[:half]) / 2
            first.backward()
        second = training.loss(training.ddp(x[half:]), y[half:]) / 2
        second.backward()
        training.own.append(first.item() + second.item())
        training.optimizer.step()
    tracker = training.tracker
    tracker.detach()
    history = tracker.history
    read = dict(zip(history.steps.tolist(), history["loss/train"].tolist(), strict=True))
    return {"own": training.own, "read": read, "note": " ".join(tracker.notes)}


def bare_module(rank):
    return Training(rank, model=lambda ddp: ddp.module).run()


def model_around_the_wrapper(rank):
    return Training(rank, model=nn.Sequential).run()


class WithEncoder(nn.Module):
    """A followed network of this process's own, beside an encoder that all processes train."""

    def __init__(self):
        super().__init__()
        self.net, self.encoder = (
            TwoLayerNet(8, 16, seed=0),
            DistributedDataParallel(nn.Linear(1, 1)),
        )

    def forward(self, x):
        self.encoder(x[:, :1])
        return self.net(x)


def wrapper_beside_the_layers(rank):
    training, model = Training(rank, tracks=False), WithEncoder()
    training.ddp, net = model, model.net
    training.optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    training.tracker = attach(
        model,
        training.optimizer,
        loss=training.loss,
        geometry=TASK.geometry,
        layers=("net.first", "net.second"),
    )
    return training.run()


def own_part_is_asked_for(rank):
    return Training(rank, processes=None).run()


def only_one_attaches(rank):
    return Training(rank, tracks=rank == 1).run()


def one_detaches_early(rank):
    return Training(rank, at={2: lambda tracker: tracker.detach()} if rank == 1 else None).run()


def one_records_other_steps(rank):
    return Training(rank, every=1 + rank).run()


def two_trackers_at_once(rank):
    first, second = Training(rank), Training(rank, steps=3)
    return {"first": first.run(), "second": second.run()}


def uneven_inputs(rank):
    training = Training(rank, steps=STEPS - rank)
    with Join([training.ddp]):
        return training.run()


def store_alone(rank):
    """Exchanges without a model: bytes, a part that cannot be made, and one that does not come."""
    seen = []

    def exchange(schedule):
        world = distributed.group.WORLD
        return BatchExchange(
            nn.Linear(1, 1), world, schedule=schedule, say=seen.append, limit=LIMIT
        )

    def broken():
        raise RuntimeError("of this process")

    whole = exchange("whole")
    found = [whole.gather(step, lambda step=step: (rank, step)) for step in range(3)]
    whole.leave()
    distributed.barrier()
    keys = [key for key in _keys() if "phasetrack/" in key]
    distributed.barrier()
    failing = exchange("failing")
    failed = [failing.gather(0, broken if rank else lambda: rank), failing.gather(1, lambda: rank)]
    distributed.barrier()
    silent = exchange("silent")
    begin = time.monotonic()
    missed = [silent.gather(step, lambda: rank) for step in ((0,) if rank else (0, 1, 2))]
    seconds = time.monotonic() - begin
    distributed.barrier()
    return {
        "whole": found,
        "keys": keys,
        "failed": failed,
        "missed": missed,
        "seconds": seconds,
        "notes": seen,
    }


SITUATIONS = (
    all_attach,
    loss_in_place,
    accumulates_without_synchronising,
    again_with_the_same_weights,
    bare_module,
    model_around_the_wrapper,
    wrapper_beside_the_layers,
    own_part_is_asked_for,
    only_one_attaches,
    one_detaches_early,
    one_records_other_steps,
    two_trackers_at_once,
    uneven_inputs,
    store_alone,
)


def _keys():
    store = distributed.group.WORLD.get_group_store()
    return store.list_keys() if hasattr(store, "list_keys") else []


def part_of_three(rank):
    """Processes 1 and 2 train a model of their own, process 0 is by itself."""
    alone, pair = distributed.new_group([0]), distributed.new_group([1, 2])
    folder = Path(os.environ["EXCHANGE_FOLDER"]) / "pair"
    if rank == 0:
        return Training(rank, group=alone).run()
    return Training(rank, group=pair, logdir=folder).run()


def _work(rank, world, port, folder, situations):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["EXCHANGE_FOLDER"] = folder
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=world)
    try:
        found = {}
        for situation in situations:
            found[situation.__name__] = situation(rank)
            distributed.barrier()
        Path(folder, f"{rank}.json").write_text(json.dumps(found))
    finally:
        distributed.destroy_process_group()


def readings_of_processes(world, port, folder, situations=SITUATIONS):
    """Return for each situation the readings of every process."""
    mp.spawn(_work, args=(world, port, str(folder), situations), nprocs=world)
    found = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(world)]
    return {each.__name__: [one[each.__name__] for one in found] for each in situations}
