"""What the processes of a run are made to do in tests. Importable by name."""

import itertools
import os
import signal
import warnings
from dataclasses import replace

import pytest
import torch

from phasetrack import ExpectedError, RunSettings, train
from phasetrack.training.distributed import joined
from phasetrack.training.launcher_env import ProcessError
from phasetrack.training.run import resume

SETTINGS = RunSettings(d=8, width=8, batch=34, steps=20, every=2, micro_batch=5)
SAVED_EVERY = 4


def start(rank, count, port, work, *arguments):
    """Have a process join the others, as torchrun would, and work."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    work(rank, *arguments)
    os._exit(0)  # as the command does: gloo's threads may abort the process while it is taken down


class SignalAt:
    """A sink that has its process asked to stop."""

    def __init__(self, step, number=signal.SIGTERM):
        self._step, self._number = step, number

    def write(self, record):
        if record.step == self._step:
            os.kill(os.getpid(), self._number)

    def close(self, summary, history):
        pass


def train_stop_and_go_on(rank, out, predicted):
    """A run without disturbance, one that is stopped and gone on with, and what is refused."""
    options = {"predicted": predicted, "checkpoint_steps": SAVED_EVERY}
    summary = train(SETTINGS, out=out, name="whole", **options)
    assert summary["stopped"] == "steps" and ("loss/train" in summary["final"]) == (rank == 0)
    even = replace(SETTINGS, batch=32, micro_batch=None)
    train(even, out=out, name="even", **options)
    options["sinks"] = [SignalAt(8)]
    assert train(SETTINGS, out=out, name="stopped", **options)["stopped"] == "terminated"
    assert resume(out / "stopped", predicted=predicted)["stopped"] == "steps"
    for settings, complaint in (
        (
            replace(SETTINGS, batch=1, micro_batch=1),
            "batch: A batch of 1 holds no sample for each of 2",
        ),
        (
            replace(SETTINGS, gradient_error=True),
            "gradient_error: The gradient error cannot be read in 2 processes",
        ),
    ):
        with pytest.raises(ExpectedError, match=complaint):
            train(settings, out=out, name="refused", **options)
    with pytest.raises(ExpectedError, match=r"name: .* already exists and is not empty"):
        train(SETTINGS, out=out, name="whole", **options)  # the first process alone looks
    with joined() as processes:
        assert processes.decided(lambda: f"from {rank}") == "from 0"
        with pytest.raises(ExpectedError, match="step: 1 is not 0"):
            processes.agreed(lambda: only_first(rank))
        with pytest.raises(ProcessError if rank else ZeroDivisionError):
            processes.decided(lambda: 1 / 0)


def only_first(rank):
    if rank:
        raise ExpectedError("step", f"{rank} is not 0.")


def spoil_steps(spoil):
    """Have every optimizer step call `spoil` with its number first."""
    taken, number = torch.optim.SGD.step, itertools.count()

    def step(self, *arguments):
        spoil(next(number))
        return taken(self, *arguments)

    torch.optim.SGD.step = step


def fail_in_one(rank, out, predicted):
    """The second process fails in the middle of a step; the first one says so and ends."""

    def fail(number):
        if number == 6:
            raise RuntimeError("out of luck")

    if rank:
        spoil_steps(fail)
    complaint = "^out of luck" if rank else "^process 1 of 2 failed: out of luck"
    with pytest.raises(RuntimeError, match=complaint):
        train(SETTINGS, out=out, name="run", predicted=predicted, checkpoint_steps=SAVED_EVERY)


def lose_one(rank, out, predicted):
    """The second process is killed, as by a system out of memory."""

    def die(number):
        if number == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    if rank:
        spoil_steps(die)
    with pytest.raises(ProcessError, match="another process of the run was lost"):
        train(SETTINGS, out=out, name="run", predicted=predicted, checkpoint_steps=SAVED_EVERY)
    (out / "said").touch()


def go_on(rank, out, predicted):
    assert resume(out / "run", predicted=predicted)["stopped"] == "steps"
