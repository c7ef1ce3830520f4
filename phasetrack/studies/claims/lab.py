"""Runs in memory for the claims, each trained once and shared by every claim that needs it.

Independent runs are trained in parallel, in processes of one thread each. The numbers do not depend
on the number of processes.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from phasetrack.model.losses import LogisticLoss
from phasetrack.model.network import TwoLayerNet
from phasetrack.phases.boundaries import onset
from phasetrack.phases.classifier import Phase, first_crossing
from phasetrack.phases.history import History
from phasetrack.studies.claims.blocks import STRIDE
from phasetrack.studies.claims.findings import Series
from phasetrack.studies.claims.second_phase import SecondPhaseProbe
from phasetrack.studies.claims.task_features import features
from phasetrack.studies.confidence import check_intervals
from phasetrack.studies.sweeps.table import LEARNED
from phasetrack.studies.worker_pool import WorkerPool
from phasetrack.tasks import Task
from phasetrack.tasks.registry import make_task
from phasetrack.theory.settings import RunSettings
from phasetrack.tracking.attach import attach
from phasetrack.tracking.probes.default import Probe, default_probes
from phasetrack.tracking.probes.feature_gain import AcquisitionProbe
from phasetrack.tracking.probes.held_out import HeldOutProbe
from phasetrack.tracking.probes.neuron_blocks import GatheringProbe
from phasetrack.training.run import FRESH_STEP, LEAST_SAMPLE

# Held-out samples of a trained network: an error of 2 percent is then known to a tenth of itself.
TEST_SAMPLES, TEST_STEP = LEAST_SAMPLE, FRESH_STEP

# Error to which Gaussian inputs are learned: near the boundary they stay wrong for long.
NEARLY_LEARNED = 0.05

Key = TypeVar("Key", bound=Hashable)
RunKey = tuple[RunSettings, str]


@dataclass(frozen=True)
class Observed:
    """A trained run: its settings, readings, summary and final network."""

    settings: RunSettings
    history: History
    summary: dict[str, Any]
    network: TwoLayerNet

    def boundary(self, name: str) -> float:
        """Return the interpolated step of a boundary or milestone, or NaN."""
        return onset(self.summary, name)

    @property
    def labels(self) -> list[str]:
        """The phases in the order in which they came."""
        return [stretch["phase"] for stretch in self.summary["timeline"]]

    @property
    def is_signal_heavy(self) -> bool:
        """Whether the run became signal-heavy."""
        return math.isfinite(self.boundary("signal_heavy"))

    @property
    def is_fitted(self) -> bool:
        """Whether the run met its loss target."""
        return "FITTED" in self.labels

    @property
    def alerts(self) -> set[str]:
        """Names of the failure signatures that were raised."""
        return {alert["name"] for alert in self.summary["alerts"]}

    def crosses(self, metric: str, level: float) -> float:
        """Return the interpolated step at which a reading first passes a level, or NaN."""
        values = self.history[metric].tolist()
        points = zip(self.history.steps.tolist(), values, strict=True)
        return first_crossing(points, level, rising=values[0] < level)

    def at(self, metric: str, step: float) -> float:
        """Return a reading at the last recorded step that is not after `step`."""
        index = int((self.history.steps <= step).sum()) - 1
        return float(self.history[metric][index])

    def series(self, name: str, metric: str) -> Series:
        """Return a reading over the steps as a curve of a chart."""
        return Series(
            name, self.history.steps.astype(float).tolist(), self.history[metric].tolist()
        )


@dataclass
class Lab:
    """Trains runs and keeps them.

    With more than one worker a Lab is a context manager, which starts and ends its processes.

    Attributes:
        quick: use sizes that take minutes instead of an hour.
        seed: seed of the first run of each setting.
        workers: number of processes; 1 trains in this process.

    Raises:
        ExpectedError: if scipy, which computes confidence intervals, is not installed.
    """

    quick: bool = True
    seed: int = 0
    workers: int = 1
    _trained: dict[RunKey, Observed] = field(default_factory=dict)
    _pool: WorkerPool | None = None

    def __post_init__(self) -> None:
        """Check that findings can have intervals, before hours of training."""
        check_intervals()

    def seeds(self, settings: RunSettings, count: int, variation: str = "") -> list[Observed]:
        """Return `count` runs that differ only in their seed."""
        return self.grid({"": settings}, count, variation)[""]

    def grid(
        self, settings: Mapping[Key, RunSettings], count: int, variation: str = ""
    ) -> dict[Key, list[Observed]]:
        """Return the runs of several settings under their keys, each over `count` seeds."""
        return self.variations({key: (each, variation) for key, each in settings.items()}, count)

    def variations(self, wanted: Mapping[Key, RunKey], count: int) -> dict[Key, list[Observed]]:
        """Return the runs of several (settings, variation) under their keys, over `count` seeds."""
        seeded = {
            key: [(replace(settings, seed=self.seed + i), variation) for i in range(count)]
            for key, (settings, variation) in wanted.items()
        }
        trained = iter(self.all([key for keys in seeded.values() for key in keys]))
        return {key: [next(trained) for _ in keys] for key, keys in seeded.items()}

    def run(self, settings: RunSettings, variation: str = "") -> Observed:
        """Return the run of some settings, trained now or before.

        Args:
            settings: the run; it ends as `phasetrack run` would end it.
            variation: a name in `VARIATIONS`; empty for none.
        """
        return self.all([(settings, variation)])[0]

    def all(self, wanted: Sequence[RunKey]) -> list[Observed]:
        """Return some runs in their order; train those that are missing."""
        missing = [key for key in dict.fromkeys(wanted) if key not in self._trained]
        for key, run in zip(missing, self.map(_train, missing, _cost), strict=True):
            self._trained[key] = run
        return [self._trained[key] for key in wanted]

    def map(
        self,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        cost: Callable[[tuple[Any, ...]], float] = lambda _: 0.0,
    ) -> list[Any]:
        """Return a function's results in the order of its arguments.

        Args:
            function: a function of a module, so that a worker can import it.
            arguments: the arguments of each call; they are pickled.
            cost: duration of a call in any unit: the longest calls start first, so that none of
                them runs alone at the end.
        """
        if self._pool is None or len(arguments) < 2:
            return [function(*each) for each in arguments]
        order = sorted(range(len(arguments)), key=lambda i: -cost(arguments[i]))
        futures = {i: self._pool.submit(_call, function, arguments[i]) for i in order}
        return [pickle.loads(futures[i].result()) for i in range(len(arguments))]

    @property
    def runs(self) -> list[tuple[Observed, str]]:
        """Every run of this block of seeds so far, with the name of its variation."""
        own = range(self.seed, self.seed + STRIDE)
        trained = self._trained.items()
        return [(run, variation) for (given, variation), run in trained if given.seed in own]

    def block(self, index: int) -> Self:
        """Return a lab of other seeds, which shares processes and trained runs with this one.

        Args:
            index: 0 for the seeds of this lab.
        """
        return replace(self, seed=self.seed + index * STRIDE)

    def __enter__(self) -> Self:
        if self.workers > 1:
            self._pool = WorkerPool(self.workers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.__exit__(kind, error, trace)
            self._pool = None


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """Call in a worker, on one thread, and pickle the result by value.

    torch would pass each tensor as an open file, of which a process may have only so many.
    """
    torch.set_num_threads(1)
    return pickle.dumps(function(*arguments))


def _cost(key: tuple[Any, ...]) -> float:
    """Return about how many multiplications a run takes."""
    settings: RunSettings = key[0]
    step = settings.d * settings.width * settings.batch_size
    # Python's own cost of a step on a small network equals this many
    return settings.step_limit * (step + 1e7)


@dataclass(frozen=True)
class Variation:
    """How a run differs from `phasetrack run`.

    Attributes:
        start: changes the network before the first step.
        before_step: changes the optimizer's learning rates before each step.
        stop: whether to end the run after a step, given the history so far.
        fixed: train on the first step's batch at every step.
        probes: additional probes, given the task and the settings.
    """

    start: Callable[[TwoLayerNet], object] = lambda _: None
    before_step: Callable[[torch.optim.Optimizer, int, float], object] = lambda *_: None
    stop: Callable[[History], bool] = lambda _: False
    fixed: bool = False
    probes: Callable[[Task, RunSettings], Iterable[Probe]] = lambda *_: ()


@torch.no_grad()
def _favour_one_cluster(net: TwoLayerNet) -> None:
    """Double both layers of the positive neurons that respond to mu1 = e1 - e2."""
    W, a = net.first.weight, net.second.weight[0]
    along = W[:, 0] - W[:, 1]
    responding = (a > 0) & (along > 0)
    W[responding] *= 2
    a[responding] *= 2


def _alternate(optimizer: torch.optim.Optimizer, step: int, lr: float) -> None:
    """Train the first layer at even steps and the second layer at odd steps."""
    for layer, group in enumerate(optimizer.param_groups):
        group["lr"] = lr if step % 2 == layer else 0.0


def _tested(task: Task, settings: RunSettings) -> list[Probe]:
    """Return a probe of error and loss on samples that no step trains on (``held_out/...``)."""
    x, y = task.sample(TEST_SAMPLES, seed=settings.seed, step=TEST_STEP)
    return [HeldOutProbe(x, y, LogisticLoss())]


def _learned(history: History) -> bool:
    """Whether at most 2 percent of the held-out samples are wrong."""
    return float(history["held_out/error"][-1]) <= LEARNED


def _nearly_learned(history: History) -> bool:
    """Whether at most 5 percent of the held-out samples are wrong."""
    return float(history["held_out/error"][-1]) <= NEARLY_LEARNED


def _acquiring(_: Task, settings: RunSettings) -> list[Probe]:
    """Return a probe of the network's gain of each feature."""
    return [AcquisitionProbe(features(settings.task, settings.d))]


def _gathering(task: Task, settings: RunSettings) -> list[Probe]:
    """Return probes of blocks of neurons and of held-out samples."""
    return [*_tested(task, settings), GatheringProbe()]


VARIATIONS = {
    "": Variation(),
    "favoured": Variation(start=_favour_one_cluster),
    "alternating": Variation(before_step=_alternate),
    "tested": Variation(probes=_tested),
    "until learned": Variation(stop=_learned, probes=_tested),
    "until nearly learned": Variation(stop=_nearly_learned, probes=_tested),
    "second phase": Variation(probes=lambda *_: [SecondPhaseProbe()]),
    "fixed sample": Variation(fixed=True),
    "acquiring": Variation(probes=_acquiring),
    "gathering": Variation(probes=_gathering),
}


def error_on_fresh_samples(net: TwoLayerNet, settings: RunSettings) -> float:
    """Return the share of fresh samples that a network gets wrong."""
    x, y = make_task(settings.task, settings.d).sample(
        TEST_SAMPLES, seed=settings.seed, step=TEST_STEP
    )
    with torch.no_grad():
        return float((net(x) * y <= 0).double().mean())


def pruned(net: TwoLayerNet, keep: Tensor) -> TwoLayerNet:
    """Return a copy of a network that silences all neurons except `keep`, bool (p,)."""
    p, d = net.first.weight.shape
    copy = TwoLayerNet(d, p)
    copy.load_state_dict(net.state_dict())
    with torch.no_grad():
        copy.second.weight[0, ~keep] = 0.0
    return copy


def _train(settings: RunSettings, variation_name: str) -> Observed:
    variation = VARIATIONS[variation_name]
    task = make_task(settings.task, settings.d, shuffle_labels=settings.shuffle_labels)
    loss = LogisticLoss()
    net = TwoLayerNet(settings.d, settings.width, theta=settings.theta, seed=settings.seed)
    variation.start(net)
    lr = settings.eta * settings.width
    layers = {"both": (net.first, net.second), "first": (net.first,), "second": (net.second,)}
    groups = [{"params": layer.parameters()} for layer in layers[settings.train]]
    optimizer = torch.optim.SGD(groups, lr=lr)
    with attach(
        net,
        optimizer,
        loss=loss,
        geometry=task.geometry,
        every=settings.every,
        probes=[
            *default_probes(gradients=settings.gradient_error),
            *variation.probes(task, settings),
        ],
        thresholds=settings.thresholds(),
        escape_steps=settings.escape_steps,
        strict=True,
    ) as tracker:
        for step in range(settings.step_limit):
            variation.before_step(optimizer, step, lr)
            if step == 0 or not variation.fixed:
                x, y = task.sample(settings.batch_size, seed=settings.seed, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
            fitted = settings.steps is None and tracker.phase is Phase.FITTED
            if fitted or any(alert.name == "DIVERGED" for alert in tracker.alerts):
                break
            if step % settings.every == 0 and variation.stop(tracker.history):
                break
    return Observed(settings, tracker.history, tracker.summary(), net)
