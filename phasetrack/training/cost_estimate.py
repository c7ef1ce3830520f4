"""What a run would cost, before it is begun: the forecast's steps times this machine's pace.

Nothing is trained. The steps come from the forecast; what a step takes on one core is measured here
in about a second; what it takes on GPUs is computed from figures that the user can set.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from phasetrack._threads import one_thread
from phasetrack.errors import check_float, check_int
from phasetrack.model.losses import LogisticLoss
from phasetrack.model.network import TwoLayerNet
from phasetrack.tasks import XOR
from phasetrack.tasks.registry import make_task
from phasetrack.theory.forecast import Forecast, predict
from phasetrack.theory.settings import RunSettings
from phasetrack.training.memory import bytes_per_sample, host_memory, micro_batch

FLOAT = 4  # bytes
# Sizes of the trial steps: large enough for the matrix products to run at their pace, small enough
# to be over in a second.
TRIAL_DIMENSION, TRIAL_WIDTH, TRIAL_BATCH, TRIAL_REPEATS = 4096, 512, 1024, 4
TRIAL_WORDS = 2**20  # of random bits
# Passes over memory in one step, counted from the code: the weights are read forwards, their
# gradient is written, and the update reads both and writes one; a batch is written once, then read
# forwards and backwards; hidden activations, their mask and gradient are each written and read.
WEIGHT_PASSES, BATCH_PASSES, HIDDEN_PASSES = 5, 3, 6


@dataclass(frozen=True)
class Gpu:
    """What is assumed of each GPU; the defaults are the data sheet of NVIDIA's A100 SXM 80 GB.

    Attributes:
        tflops: peak float32 arithmetic, 10^12 operations a second (data sheet: 19.5, no TF32).
        share: of that peak which matrix products reach (0.6, on the careful side).
        bandwidth: of its memory, GB/s (data sheet: 2039).
        memory: GB (data sheet: 80).
        link: between GPUs, GB/s in one direction (data sheet: NVLink 600 in both together).
        count: how many work on one run.

    Raises:
        ExpectedError: naming the option, as ``gpu_tflops`` or ``gpus``.
    """

    tflops: float = 19.5
    share: float = 0.6
    bandwidth: float = 2039.0
    memory: float = 80.0
    link: float = 300.0
    count: int = 8

    def __post_init__(self) -> None:
        """Check every figure."""
        for name in ("tflops", "bandwidth", "memory", "link"):
            check_float(f"gpu_{name}", getattr(self, name), above=0.0)
        check_float("gpu_share", self.share, above=0.0, maximum=1.0)
        check_int("gpus", self.count, minimum=1)


@dataclass(frozen=True)
class Throughput:
    """The pace of one core of this machine, as `measure` finds it.

    Attributes:
        flops: floating-point operations a second of a whole training step.
        signs: samples' coordinates drawn a second, ready to train on.
        bits: random bits made a second, packed as they travel to a GPU.
    """

    flops: float
    signs: float
    bits: float


@dataclass(frozen=True)
class Plan:
    """A run's predicted boundaries and cost.

    Attributes:
        settings: the run.
        forecast: its forecast.
        throughput: of one core here.
        gpu: what is assumed of GPUs.
    """

    settings: RunSettings
    forecast: Forecast
    throughput: Throughput
    gpu: Gpu

    @property
    def steps(self) -> int:
        """Steps until the loss target is predicted to be met, or that the settings ask for."""
        fitted = self.forecast.fitted.value
        planned = self.settings.step_limit if math.isnan(fitted) else math.ceil(fitted) + 1
        return self.settings.steps or planned

    @property
    def samples(self) -> int:
        """Fresh samples in all."""
        return self.steps * self.settings.batch_size

    @property
    def step_flops(self) -> float:
        """Operations of one step: two for each weight and sample forwards, two backwards."""
        d, p, m = self.settings.d, self.settings.width, self.settings.batch_size
        return 4.0 * m * p * (d + 1)

    @property
    def flops(self) -> float:
        """Operations of the whole run."""
        return self.steps * self.step_flops

    @property
    def micro_batch(self) -> int:
        """Samples held at once: as the settings say, or as a run here would choose."""
        d, p, m = self.settings.d, self.settings.width, self.settings.batch_size
        return self.settings.micro_batch or micro_batch(d, p, m, host_memory())

    def memory(self, batch: int) -> float:
        """Bytes of weights and gradient, and of `batch` samples in flight."""
        d, p = self.settings.d, self.settings.width
        return float(2 * FLOAT * p * d + batch * bytes_per_sample(d, p))

    def core_seconds(self) -> float:
        """Time of the run on one core of this machine."""
        drawn = self.settings.batch_size * self.settings.d / self.throughput.signs
        return self.steps * (self.step_flops / self.throughput.flops + drawn)

    def gpu_seconds(self, count: int) -> float:
        """Time of the run on `count` GPUs, each with its part of every batch.

        A step takes the longer of arithmetic and memory traffic, after the random bits are
        made on the host (one core a GPU) and before the gradients are summed in a ring.
        """
        d, p, m = self.settings.d, self.settings.width, self.settings.batch_size / count
        traffic = WEIGHT_PASSES * p * d + m * (BATCH_PASSES * d + HIDDEN_PASSES * p)
        arithmetic = self.step_flops / count / (self.gpu.tflops * 1e12 * self.gpu.share)
        summed = 2 * (count - 1) / count * FLOAT * p * d / (self.gpu.link * 1e9)
        step = max(arithmetic, FLOAT * traffic / (self.gpu.bandwidth * 1e9))
        return self.steps * (m * d / self.throughput.bits + step + summed)

    def as_json(self) -> dict[str, Any]:
        """The plan under ``forecast`` (as in ``summary.json``), ``cost``, ``seconds``, ..."""
        return {
            "settings": self.settings.to_dict(),
            "forecast": self.forecast.bands(),
            "cost": {
                "steps": self.steps,
                "samples": self.samples,
                "flops": self.flops,
                "memory_bytes": self.memory(self.settings.batch_size),
                "micro_batch": self.micro_batch,
                "memory_bytes_micro_batch": self.memory(self.micro_batch),
                "fits_gpu": self.fits_gpu,
            },
            "seconds": {
                "core": self.core_seconds(),
                "gpu": self.gpu_seconds(1),
                "gpus": self.gpu_seconds(self.gpu.count),
            },
            "throughput": asdict(self.throughput),
            "gpu": asdict(self.gpu),
        }

    @property
    def fits_gpu(self) -> bool:
        """Whether weights, gradient and a micro-batch fit into a GPU's memory."""
        return self.memory(self.micro_batch) <= self.gpu.memory * 1e9


def plan(
    settings: RunSettings, *, gpu: Gpu | None = None, throughput: Throughput | None = None
) -> Plan:
    """Plan a run: forecast it, and measure this machine.

    Args:
        settings: the run; `d` may be far beyond what can be tried.
        gpu: what to assume of GPUs.
        throughput: of one core; measured if None.
    """
    with one_thread():
        task = make_task(settings.task, settings.d)
        forecast = predict(task.geometry, settings, population=task.population)
        return Plan(settings, forecast, throughput or measure(settings), gpu or Gpu())


def measure(settings: RunSettings) -> Throughput:
    """Measure one core of this machine with a few training steps, at most of the trial sizes.

    The fastest of a few repeats counts: whatever else runs here can only slow it down.
    """
    d, p = min(settings.d, TRIAL_DIMENSION), min(settings.width, TRIAL_WIDTH)
    m = min(settings.batch_size, TRIAL_BATCH)
    task, net, loss = XOR(d), TwoLayerNet(d, p, theta=settings.theta), LogisticLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=settings.eta * p)
    x, y = task.sample(m, seed=0, step=0)

    def step() -> None:
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()

    with one_thread():
        return Throughput(
            flops=4.0 * m * p * (d + 1) / _fastest(step),
            signs=m * d / _fastest(lambda: task.sample(m, seed=0, step=0)),
            bits=64 * TRIAL_WORDS / _fastest(lambda: np.random.Philox(0).random_raw(TRIAL_WORDS)),
        )


def _fastest(action: Callable[[], object]) -> float:
    """Seconds that the fastest of a few repeats takes, after one that warms up."""
    action()
    times = []
    for _ in range(TRIAL_REPEATS):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)
