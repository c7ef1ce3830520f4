"""Runs for experiments, in memory, each made once and shared by all statements that ask for it.

Runs that do not depend on each other are made side by side in processes of their own, of one thread
each: the numbers are those of one process, whatever their count.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from phasetrack.model.losses import LogisticLoss
from phasetrack.model.network import TwoLayerNet
from phasetrack.phases.classifier import Phase, first_crossing
from phasetrack.phases.history import History
from phasetrack.studies.claims.findings import Series
from phasetrack.studies.claims.task_features import features
from phasetrack.tasks import Task
from phasetrack.tasks.registry import make_task
from phasetrack.theory.settings import RunSettings
from phasetrack.tracking.attach import attach
from phasetrack.tracking.probes.default import Probe, default_probes
from phasetrack.tracking.probes.feature_gain import AcquisitionProbe
from phasetrack.tracking.probes.held_out import HeldOutProbe
from phasetrack.tracking.probes.neuron_blocks import GatheringProbe

# Samples on which a trained network is tested: an error of 2 percent is then known to a tenth
# of itself (chosen here), from a step that no training reaches.
TEST_SAMPLES, TEST_STEP = 4096, 2**62
# Share of held-out samples on the wrong side at which a run counts as having learned (theory.md 7).
LEARNED = 0.02

Key = TypeVar("Key", bound=Hashable)
Wanted = tuple[RunSettings, str]


@dataclass(frozen=True)
class Observed:
    """A run that was made: its settings, readings, summary and final network."""

    settings: RunSettings
    history: History
    summary: dict[str, Any]
    network: TwoLayerNet

    def boundary(self, name: str) -> float:
        """The onset of a boundary, or NaN."""
        onsets = {b["name"]: float(b["onset"]) for b in self.summary["boundaries"]}
        return onsets.get(name, float("nan"))

    @property
    def labels(self) -> list[str]:
        """The phases in the order in which they came."""
        return [stretch["phase"] for stretch in self.summary["timeline"]]

    @property
    def alerts(self) -> set[str]:
        """The failure signatures that were raised."""
        return {alert["name"] for alert in self.summary["alerts"]}

    def crosses(self, metric: str, level: float) -> float:
        """The first step, interpolated, at which a reading passes a level from where it began; or NaN."""
        values = self.history[metric].tolist()
        points = zip(self.history.steps.tolist(), values, strict=True)
        return first_crossing(points, level, rising=values[0] < level)

    def at(self, metric: str, step: float) -> float:
        """A reading at the last recorded step that is not after `step`."""
        index = int((self.history.steps <= step).sum()) - 1
        return float(self.history[metric][index])

    def series(self, name: str, metric: str) -> Series:
        """A reading over the steps, as a curve of a chart."""
        return Series(
            name, self.history.steps.astype(float).tolist(), self.history[metric].tolist()
        )


@dataclass
class Lab:
    """Makes runs and keeps them.

    Used as a context manager where `jobs` is more than 1, so that its processes end with it.

    Attributes:
        quick: sizes for minutes; otherwise for an hour.
        seed: of the first run of each setting.
        jobs: processes at work at once; 1 works in this one.
    """

    quick: bool = True
    seed: int = 0
    jobs: int = 1
    _made: dict[Wanted, Observed] = field(default_factory=dict)
    _pool: ProcessPoolExecutor | None = None
    _before: frozenset[BaseProcess] = frozenset()  # processes that are not ours

    def seeds(self, settings: RunSettings, count: int, how: str = "") -> list[Observed]:
        """Runs that differ in their seed alone."""
        return self.grid({"": settings}, count, how)[""]

    def grid(
        self, settings: Mapping[Key, RunSettings], count: int, how: str = ""
    ) -> dict[Key, list[Observed]]:
        """Several settings, each over seeds, under their keys."""
        return self.variations({key: (one, how) for key, one in settings.items()}, count)

    def variations(self, wanted: Mapping[Key, Wanted], count: int) -> dict[Key, list[Observed]]:
        """Several settings, each with the name of its variation and over seeds, under their keys."""
        seeded = {
            key: [(replace(settings, seed=self.seed + i), how) for i in range(count)]
            for key, (settings, how) in wanted.items()
        }
        made = iter(self.all([one for runs in seeded.values() for one in runs]))
        return {key: [next(made) for _ in runs] for key, runs in seeded.items()}

    def run(self, settings: RunSettings, how: str = "") -> Observed:
        """The run of some settings, made now or before.

        Args:
            settings: the run; it ends as `phasetrack run` would.
            how: a variation, a name in `VARIATIONS`; empty for none.
        """
        return self.all([(settings, how)])[0]

    def all(self, wanted: Sequence[Wanted]) -> list[Observed]:
        """Some runs in their order, those that are missing made now."""
        missing = [one for one in dict.fromkeys(wanted) if one not in self._made]
        for one, made in zip(missing, self.map(_train, missing, _work), strict=True):
            self._made[one] = made
        return [self._made[one] for one in wanted]

    def map(
        self,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        work: Callable[[tuple[Any, ...]], float] = lambda _: 0.0,
    ) -> list[Any]:
        """A function's results in the order of its arguments.

        Args:
            function: of a module, so that a process can find it; so are the classes of its arguments.
            arguments: of each call.
            work: how long a call takes, in any unit: the longest begin first, and none is left at the
                end alone.
        """
        if self.jobs == 1 or len(arguments) < 2:
            return [function(*one) for one in arguments]
        order = sorted(range(len(arguments)), key=lambda i: -work(arguments[i]))
        pool = self._processes()
        futures: dict[int, Future[bytes]] = {
            i: pool.submit(_pickled, function, arguments[i]) for i in order
        }
        return [pickle.loads(futures[i].result()) for i in range(len(arguments))]

    @property
    def runs(self) -> list[tuple[Observed, str]]:
        """Every run made so far, with the name of its variation."""
        return [(one, how) for (_, how), one in self._made.items()]

    def _processes(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # spawned: a forked copy of a process with threads, such as torch's, can hang
            self._before = frozenset(multiprocessing.active_children())
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.jobs, context, initializer=_begin_process)
        return self._pool

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._before:
                process.terminate()  # in the middle of a run
        self._pool.shutdown(cancel_futures=True)
        self._pool = None


def _begin_process() -> None:
    """One thread; Ctrl-C reaches all processes of a terminal, and the first one ends the others."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _pickled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """A result by value: torch would hand tensors over as open files, of which there are only so many."""
    return pickle.dumps(function(*arguments))


def _work(wanted: tuple[Any, ...]) -> float:
    """Multiplications of a run, about."""
    settings: RunSettings = wanted[0]
    step = settings.d * settings.width * settings.batch_size
    # on small networks Python's own cost of a step is that of so many
    return settings.step_limit * (step + 1e7)


@dataclass(frozen=True)
class Variation:
    """How a run differs from `phasetrack run`.

    Attributes:
        start: changes the network before the first step.
        before_step: changes the optimizer's step sizes at each step.
        stop: ends the run after a step, given the history so far.
        fixed: take the first step's batch at every step.
        probes: further ones, for the task and the settings.
    """

    start: Callable[[TwoLayerNet], object] = lambda _: None
    before_step: Callable[[torch.optim.Optimizer, int, float], object] = lambda *_: None
    stop: Callable[[History], bool] = lambda _: False
    fixed: bool = False
    probes: Callable[[Task, RunSettings], Iterable[Probe]] = lambda *_: ()


@torch.no_grad()
def _favour_one_cluster(net: TwoLayerNet) -> None:
    """Double the neurons that serve mu1 = e1 - e2 best, in both layers."""
    W, a = net.first.weight, net.second.weight[0]
    along = W[:, 0] - W[:, 1]
    served = (a > 0) & (along > 0)
    W[served] *= 2
    a[served] *= 2


def _alternate(optimizer: torch.optim.Optimizer, step: int, lr: float) -> None:
    """Let the first layer move at even steps and the second at odd ones."""
    for layer, group in enumerate(optimizer.param_groups):
        group["lr"] = lr if step % 2 == layer else 0.0


def _tested(task: Task, settings: RunSettings) -> list[Probe]:
    """Error and loss on samples that no step trains on, as ``held_out/...``."""
    x, y = task.sample(TEST_SAMPLES, seed=settings.seed, step=TEST_STEP)
    return [HeldOutProbe(x, y, LogisticLoss())]


def _learned(history: History) -> bool:
    """Whether at most 2 percent of the held-out samples are on the wrong side."""
    return float(history["held_out/error"][-1]) <= LEARNED


def _acquiring(_: Task, settings: RunSettings) -> list[Probe]:
    """What the network holds of each feature."""
    return [AcquisitionProbe(features(settings.task, settings.d))]


def _gathering(task: Task, settings: RunSettings) -> list[Probe]:
    """Blocks of neurons, beside held-out samples."""
    return [*_tested(task, settings), GatheringProbe()]


VARIATIONS = {
    "": Variation(),
    "favoured": Variation(start=_favour_one_cluster),
    "alternating": Variation(before_step=_alternate),
    "tested": Variation(probes=_tested),
    "until learned": Variation(stop=_learned, probes=_tested),
    "fixed sample": Variation(fixed=True),
    "acquiring": Variation(probes=_acquiring),
    "gathering": Variation(probes=_gathering),
}


def error_on_fresh_samples(net: TwoLayerNet, settings: RunSettings) -> float:
    """Share of fresh samples on the wrong side."""
    x, y = make_task(settings.task, settings.d).sample(
        TEST_SAMPLES, seed=settings.seed, step=TEST_STEP
    )
    with torch.no_grad():
        return float((net(x) * y <= 0).double().mean())


def pruned(net: TwoLayerNet, keep: Tensor) -> TwoLayerNet:
    """A copy of a network in which the other neurons are silent."""
    p, d = net.first.weight.shape
    other = TwoLayerNet(d, p)
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        other.second.weight[0, ~keep] = 0.0
    return other


def _train(settings: RunSettings, how: str) -> Observed:
    variation = VARIATIONS[how]
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
        escape_steps=settings.escape_steps if settings.forecastable else None,
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
