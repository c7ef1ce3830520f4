"""Runs for experiments, in memory, each made once and shared by all statements that ask for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from phasetrack.losses import LogisticLoss
from phasetrack.network import TwoLayerNet
from phasetrack.phases import Phase
from phasetrack.probes import default_probes
from phasetrack.records import History
from phasetrack.settings import RunSettings
from phasetrack.tasks.catalogue import make_task
from phasetrack.tracker import attach

# Samples on which a trained network is tested: an error of 2 percent is then known to a quarter
# of itself (chosen here), from a step that no training reaches.
TEST_SAMPLES, TEST_STEP = 4096, 2**62


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

    def at(self, metric: str, step: float) -> float:
        """A reading at the last recorded step that is not after `step`."""
        index = int((self.history.steps <= step).sum()) - 1
        return float(self.history[metric][index])


@dataclass
class Lab:
    """Makes runs and keeps them.

    Attributes:
        quick: sizes for minutes; otherwise for an hour.
        seed: of the first run of each setting.
    """

    quick: bool = True
    seed: int = 0
    _made: dict[tuple[RunSettings, str], Observed] = field(default_factory=dict)

    def seeds(self, settings: RunSettings, count: int, how: str = "") -> list[Observed]:
        """Runs that differ in their seed alone."""
        return [self.run(replace(settings, seed=self.seed + i), how) for i in range(count)]

    def run(self, settings: RunSettings, how: str = "") -> Observed:
        """The run of some settings, made now or before.

        Args:
            settings: the run; it ends as `phasetrack run` would.
            how: a variation, a name in `VARIATIONS`; empty for none.
        """
        key = (settings, how)
        if key not in self._made:
            self._made[key] = _train(settings, VARIATIONS[how])
        return self._made[key]

    @property
    def runs(self) -> list[Observed]:
        """Every run made so far."""
        return list(self._made.values())


@dataclass(frozen=True)
class Variation:
    """How a run differs from `phasetrack run`.

    Attributes:
        start: changes the network before the first step.
        before_step: changes the optimizer's step sizes at each step.
        stop: ends the run after a step, given the history so far.
    """

    start: Callable[[TwoLayerNet], object] = lambda _: None
    before_step: Callable[[torch.optim.Optimizer, int, float], object] = lambda *_: None
    stop: Callable[[History], bool] = lambda _: False


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


def _learned(history: History) -> bool:
    """Whether at most 2 percent of a fresh batch are on the wrong side."""
    return float(history["error/train"][-1]) <= 0.02


VARIATIONS = {
    "": Variation(),
    "favoured": Variation(start=_favour_one_cluster),
    "alternating": Variation(before_step=_alternate),
    "until learned": Variation(stop=_learned),
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


def _train(settings: RunSettings, variation: Variation) -> Observed:
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
        probes=default_probes(gradients=settings.gradient_error),
        thresholds=settings.thresholds(),
        escape_steps=settings.escape_steps if settings.forecastable else None,
        strict=True,
    ) as tracker:
        for step in range(settings.step_limit):
            variation.before_step(optimizer, step, lr)
            x, y = task.sample(settings.batch_size, seed=settings.seed, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
            fitted = settings.steps is None and tracker.phase is Phase.FITTED
            if fitted or any(alert.name == "DIVERGED" for alert in tracker.alerts):
                break
            if variation.stop(tracker.history):
                break
    return Observed(settings, tracker.history, tracker.summary(), net)
