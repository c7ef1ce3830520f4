"""Where and how a run is computed: device, threads, samples in memory at once, matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from phasetrack.errors import ExpectedError, check_int
from phasetrack.tasks.host_drawn import DrawnTask
from phasetrack.tasks.registry import make_task
from phasetrack.theory.settings import RunSettings
from phasetrack.training.distributed import ALONE, Processes
from phasetrack.training.matmul import AUTO, DEFAULT, DIGITS, Matmul, chosen_matmul
from phasetrack.training.memory import DIGITS_PIECE, cached_bytes, host_memory, micro_batch

# Most threads that may be asked for, by a config.json from elsewhere too: beyond every machine.
MOST_THREADS = 2**12


def resolve_settings(
    settings: RunSettings, device: torch.device, matmul: str = AUTO, processes: int = 1
) -> tuple[RunSettings, Matmul]:
    """Choose `micro_batch`, and how the processor multiplies matrices.

    Args:
        settings: of the run.
        device: where the run is trained.
        matmul: see `train`.
        processes: how many processes share the batch.

    Raises:
        ExpectedError: if this machine does not have the path that `matmul` names.
    """
    # each path is judged by the micro-batch that it would use, so that resume() decides alike
    digits = with_micro_batch(settings, device, processes, DIGITS)
    chosen = choose_matmul(matmul, digits, device)
    if chosen.path == DIGITS:
        return digits, chosen
    floats = with_micro_batch(settings, device, processes)
    return floats, choose_matmul(matmul, floats, device)


def with_micro_batch(
    settings: RunSettings, device: torch.device, processes: int = 1, path: str = DEFAULT
) -> RunSettings:
    """Choose `micro_batch` from d, width, batch, path, and the device's cache or memory.

    A given number stays. The chosen one is recorded in ``config.json``, so that a run can be repeated
    to the bit elsewhere with the same `matmul`.

    Args:
        settings: of the run.
        device: where the run is trained.
        processes: how many processes share the batch, and the host's memory.
        path: how the processor multiplies; digits take `DIGITS_PIECE` times as many samples at once.
    """
    if settings.micro_batch is not None:
        return settings
    d, width, batch = settings.d, settings.width, -(-settings.batch_size // processes)
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        chosen = micro_batch(d, width, batch, memory)
    else:
        there = host_memory()
        share = None if there is None else there // processes
        budget = cached_bytes(d, width) * (DIGITS_PIECE if path == DIGITS else 1)
        chosen = micro_batch(d, width, batch, share, budget=budget)
    return replace(settings, micro_batch=chosen)


def choose_matmul(wanted: str, settings: RunSettings, device: torch.device) -> Matmul:
    """Choose how a device multiplies matrices; only processors have several paths."""
    if wanted == AUTO and device.type != "cpu":
        return Matmul(DEFAULT)
    signs = device.type == "cpu" and task_of(settings).signs
    return chosen_matmul(wanted, settings.piece, settings.width, settings.d, signs=signs)


def task_of(settings: RunSettings) -> DrawnTask:
    """Make the task that a run is trained on."""
    return make_task(settings.task, settings.d, shuffle_labels=settings.shuffle_labels)


def check_placement(device: str, settings: RunSettings, processes: Processes) -> torch.device:
    """Return the device of this process.

    Raises:
        ExpectedError: if the device is not there, or several processes cannot train such a run.
    """
    where = check_device(device, processes)
    if processes.count > settings.batch_size:
        raise ExpectedError(
            "batch",
            f"A batch of {settings.batch_size} holds no sample for each of {processes.count} processes.",
            "Raise batch, or start fewer processes.",
        )
    if processes.count > 1 and settings.gradient_error:
        raise ExpectedError(
            "gradient_error",
            f"The gradient error cannot be read in {processes.count} processes.",
            "Leave it out, or train in one process.",
        )
    return where


def check_device(device: str, processes: Processes = ALONE) -> torch.device:
    """Return a device by its name; of several processes each takes its own GPU.

    Raises:
        ExpectedError: if there is no such device.
    """
    try:
        where = torch.device(device)
    except RuntimeError:
        where = torch.device("meta")
    if where.type not in ("cpu", "cuda"):
        raise ExpectedError(
            "device", f"{device!r} is not a device.", "Pass cpu, cuda, or cuda:INDEX."
        )
    if where.type != "cuda":
        return where
    if processes.count > 1:
        if where.index is not None:
            raise ExpectedError(
                "device",
                f"{device!r} names one GPU for {processes.count} processes.",
                "Pass cuda: each process then takes its own.",
            )
        where = torch.device("cuda", processes.place.local)
    if (where.index or 0) >= (count := torch.cuda.device_count()):
        raise ExpectedError(
            "device",
            f"{str(where)!r} is not there: this machine has {count} CUDA devices.",
            "Pass cpu, or one of the devices there are.",
        )
    if processes.count > 1:
        torch.cuda.set_device(where)
    return where


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Use so many of torch's threads inside, and those of before afterwards; None leaves them.

    Raises:
        ExpectedError: if `threads` is out of range.
    """
    if threads is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(check_int("threads", threads, minimum=1, maximum=MOST_THREADS))
    try:
        yield
    finally:
        torch.set_num_threads(before)
