"""What the processes of `breaking.Victims` do."""

from contextlib import nullcontext

import torch
from helpers.breaking import Fault, struck

from phasetrack import RunSettings
from phasetrack.training.run import resume, train

SETTINGS = RunSettings(d=8, width=8, batch=16, steps=40, snapshots=9)
SAVED_EVERY = 7


def _prepare():
    torch.set_num_threads(1)


def train_or_resume(out, name, settings, predicted, fault=None):
    """Go on with the run if it has begun, else begin it."""
    _prepare()
    with nullcontext() if fault is None else struck(fault):
        if (out / name / "config.json").exists():
            resume(out / name, predicted=predicted)
        else:
            train(settings, out=out, name=name, predicted=predicted, checkpoint_steps=SAVED_EVERY)


def train_and_count(out, name, settings, predicted):
    """A run that nobody disturbs, and a file with the system calls that it makes."""
    _prepare()
    with struck(Fault(at=10**9)) as calls:
        train(settings, out=out, name=name, predicted=predicted, checkpoint_steps=SAVED_EVERY)
    (out / "calls").write_text("\n".join(f"{call} {path}" for call, path in calls))
