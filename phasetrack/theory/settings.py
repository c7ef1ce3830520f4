"""Everything that decides a run, checked once and with every default derived; no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from phasetrack.errors import (
    ExpectedError,
    check_choice,
    check_float,
    check_int,
    check_switch,
)
from phasetrack.phases.classifier import Thresholds

TaskName = Literal[
    "xor",
    "and",
    "or",
    "majority",
    "parity3",
    "parity4",
    "staircase",
    "two-xors",
    "equal-xors",
    "unequal-xors",
    "quadratic",
    "rotated",
    "unbalanced",
    "noisy",
    "gaussian",
]
TrainedLayers = Literal["both", "first", "second"]
TASK_NAMES: tuple[str, ...] = get_args(TaskName)
# Tasks whose clusters are not equally likely with a label each: their forecast needs their population, and
# the closed form of the escape time does not hold for them.
UNEVEN = ("unbalanced", "noisy", "gaussian", "equal-xors", "unequal-xors")
TRAINED_LAYERS: tuple[str, ...] = get_args(TrainedLayers)

# Samples a step for each input dimension. Chosen here: theory.md 7's canonical 2048 at d = 512; at
# 2 the run still works and at 4 the forecast meets the onset within 5 percent down to d = 64.
BATCH_PER_DIMENSION = 4
# A run without --steps stops at this multiple of the predicted step of the loss target (chosen
# here: long enough for SADDLE, which waits for two escape times, to be seen first).
STEP_LIMIT_FACTOR = 3.0
# ... and never before so many (with a huge eta the prediction is under one step, and
# a run that diverges needs some steps to show it).
LEAST_STEP_LIMIT = 100
# What the command line allows, so that a slip of the finger is an error and not a dead machine.
LARGEST_DIMENSION = 2**20
LARGEST_SEED = 2**63 - 1


# The escape time is fitted at starts up to this: at theta of 7 and more healthy runs with small batches took longer.
LARGEST_FITTED_START = 1.0


def escape_time(d: int, theta: float) -> float:
    """Predicted time until the loss halves: 1.253 log d + 2.83 log(1/theta) + 2.4 (theory.md 6).

    In the paper's unit, one step being eta; never under 1 (the formula is fitted at small theta).
    """
    return max(1.0, 1.253 * math.log(d) + 2.83 * math.log(1 / theta) + 2.4)


def tail_time(target: float) -> float:
    """Time from half of the first loss to the loss `target`, along theory.md 6's balanced margin.

    Integrates d gamma / dt = sqrt(2) gamma / (1 + exp(gamma)) from 2 log(1 + exp(-gamma)) = log 2
    to the target, by the midpoint rule.
    """
    first, last = _margin_of_loss(math.log(2)), _margin_of_loss(target)
    if last <= first:
        return 0.0
    parts = 1000
    width = (last - first) / parts
    middles = (first + (i + 0.5) * width for i in range(parts))
    return sum((1 + math.exp(gamma)) / (math.sqrt(2) * gamma) for gamma in middles) * width


def _margin_of_loss(loss: float) -> float:
    return -math.log(math.expm1(loss / 2))


@dataclass(frozen=True)
class RunSettings:
    """Options of `phasetrack run`, under the same names; theory.md 7 is the source of defaults.

    Attributes:
        task: which distribution, a name in `TASK_NAMES` (see `phasetrack.tasks.registry`).
        d: input dimension, >= 2.
        width: number of neurons p, >= 1.
        batch: fresh samples a step, m; None means 4 d.
        eta: step of each neuron along its own mean-field gradient; the optimiser's lr is eta * p.
        theta: radius of the initial sphere, and |a| at the start.
        steps: exactly so many steps; None means until `target` or `step_limit`.
        seed: of weights and samples, which come from separate streams.
        train: ``both``, ``first`` or ``second`` layer.
        every: record every n-th step.
        target: loss at which the run is FITTED.
        micro_batch: samples held in memory at once; None means chosen from d, width, batch, how
            matrices are multiplied, and the memory there is (`memory.micro_batch`).
        shuffle_labels: give each sample the label of another (a run that cannot succeed).
        snapshots: save the weights at every such recorded step; None saves none.
        gradient_error: also read the first-order error of the parameter gradient (costs two
            backward passes a recorded step, and holds the whole batch in memory).

    Raises:
        ExpectedError: naming the option, what is allowed and what was given.
    """

    task: str = "xor"
    d: int = 512
    width: int = 512
    batch: int | None = None
    eta: float = 0.2
    theta: float = 0.1
    steps: int | None = None
    seed: int = 0
    train: str = "both"
    every: int = 1
    target: float = 0.05
    micro_batch: int | None = None
    shuffle_labels: bool = False
    gradient_error: bool = False
    snapshots: int | None = None

    def __post_init__(self) -> None:
        """Check every option."""
        check_choice("task", self.task, TASK_NAMES)
        check_int("d", self.d, minimum=2, maximum=LARGEST_DIMENSION)
        check_int("width", self.width, minimum=1, maximum=LARGEST_DIMENSION)
        check_float("eta", self.eta, above=0.0)
        check_float("theta", self.theta, above=0.0)
        check_int("seed", self.seed, minimum=0, maximum=LARGEST_SEED)
        check_choice("train", self.train, TRAINED_LAYERS)
        check_int("every", self.every, minimum=1)
        # above the first loss there is nothing to reach; far below it the step limit explodes
        check_float("target", self.target, minimum=1e-6, maximum=2 * math.log(2))
        for name in ("shuffle_labels", "gradient_error"):
            check_switch(name, getattr(self, name))
        if self.shuffle_labels and self.task != "xor":
            raise ExpectedError(
                "shuffle_labels",
                f"The task {self.task!r} has no version with shuffled labels.",
                "Choose the task xor.",
            )
        for name in ("batch", "steps", "micro_batch", "snapshots"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), minimum=1)
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise ExpectedError(
                "micro_batch",
                f"{self.micro_batch} is larger than the batch, {self.batch_size}.",
                f"Pass at most {self.batch_size}, or leave it out.",
            )

    @property
    def batch_size(self) -> int:
        """Samples a step, m."""
        return self.batch or BATCH_PER_DIMENSION * self.d

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data, with the batch size that they lead to."""
        return {**asdict(self), "batch": self.batch_size}

    @property
    def piece(self) -> int:
        """Samples that are held at once."""
        return self.micro_batch or self.batch_size

    @property
    def escape_steps(self) -> float | None:
        """Predicted steps until the loss halves, in closed form (theory.md 6).

        None where that form, made for XOR and small starts, is not a yardstick.
        """
        known = self.task not in UNEVEN and self.theta <= LARGEST_FITTED_START
        return escape_time(self.d, self.theta) / self.eta if known else None

    @property
    def predicted_steps(self) -> float:
        """Predicted steps until the loss meets the target, in closed form (theory.md 4 and 6)."""
        return (escape_time(self.d, self.theta) + tail_time(self.target)) / self.eta

    @property
    def step_limit(self) -> int:
        """Steps after which the run stops: `steps`, or derived from the predicted number."""
        return self.predicted_limit if self.steps is None else self.steps

    @property
    def predicted_limit(self) -> int:
        """Steps after which a run that went as predicted is long over."""
        return max(LEAST_STEP_LIMIT, math.ceil(STEP_LIMIT_FACTOR * self.predicted_steps))

    def thresholds(self) -> Thresholds:
        """The thresholds with this run's loss target."""
        return Thresholds(loss_target=self.target)
