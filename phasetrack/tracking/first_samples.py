"""FirstSamples: findings about the data, from the samples of the first recorded steps.

The first inputs are a fixed sample for probes, and show the noise across the signal span. The loss of the best constant output is the yardstick of a loss target (theory.md 8), and the
placement of the samples about the declared clusters says whether zeta* can be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from phasetrack.measures.cluster_moments import placement, purity
from phasetrack.measures.noise import Noise, noise_of
from phasetrack.model.geometry import Geometry
from phasetrack.tracking.batch import Batch
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.reservoir import Reservoir

# Samples that are looked at: enough to tell chance from a tenth of the labels, at one to three batches
# of the paper's.
FIRST_SAMPLES = 4096
# Least number of samples that the readings of the data need; fewer show no spread. Chosen here.
LEAST_SAMPLES = 32


class FirstSamples:
    """Collects the first samples of a run.

    Args:
        geometry: the clusters.
        size: how many of the first inputs to keep; 0 keeps none.

    Attributes:
        size: as given.
        sample: the first inputs, (size, d); None until they are complete.
        noise: that of the sample, where it is not as declared; None until the sample is complete.
        readings: what is known by now, by metric name; brought up to date whenever the samples have doubled.
    """

    def __init__(self, geometry: Geometry, size: int = 0) -> None:
        self.size, self._geometry = size, geometry
        self.sample: Tensor | None = None
        self.noise: Noise | None = None
        self._inputs: list[Tensor] = []
        self.readings: dict[str, float] = {}
        self._targets: list[Tensor] = []
        self._outputs: tuple[int, ...] = ()  # shape of one sample's outputs
        self._moments: Tensor | None = None
        self._told, self._classes = 0, torch.zeros(0, dtype=torch.int64, device="cpu")
        self._count, self._next_look = 0, 1

    @property
    def full(self) -> bool:
        """Whether enough samples were seen."""
        return self._count >= FIRST_SAMPLES

    @property
    def inputs_left(self) -> int:
        """How many more inputs are wanted."""
        return 0 if self.sample is not None else self.size - sum(map(len, self._inputs))

    def use(self, geometry: Geometry) -> None:
        """Take the samples from now on as those of clusters that were found since."""
        self._geometry = geometry
        if self.sample is not None:
            self.noise = noise_of(self.sample, geometry)

    def take(self, given: Reservoir) -> None:
        """Take the fixed sample from one that is given whole; an empty or unfinished one is left."""
        if given.size and not given.left and self.size:
            self.size = min(self.size, given.kept)
            self.add_inputs([given.inputs])

    def add_inputs(self, rows: Sequence[Tensor]) -> None:
        """Take inputs that went into a recorded step, parts of (n, d)."""
        for part in rows:
            if self.inputs_left:
                self._inputs.append(part[: self.inputs_left])
        if self._inputs and not self.inputs_left:
            self.sample = torch.cat([part.to(self._inputs[0]) for part in self._inputs])
            self.noise = noise_of(self.sample, self._geometry)
            self._inputs.clear()

    def add(self, batch: Batch, moments: Tensor | None) -> None:
        """Take in the batch of one state.

        Args:
            batch: without a leading dimension.
            moments: sums of `cluster_moments`, (K, d + 3); None where the inputs were not seen.
        """
        if self.full or not batch.size:
            return
        self._targets.append(batch.targets.clone())
        self._outputs = tuple(batch.outputs.shape[1:])
        self._count += batch.size
        if moments is not None:
            moments = moments.double()
            self._moments = moments if self._moments is None else self._moments + moments
        classes = None if self._geometry.no_clusters else classes_of(batch)
        if classes is not None:
            told, counts = purity(classes, batch.placed, self._geometry)
            self._told += told
            self._classes = counts + (self._classes if len(self._classes) else 0)
        if self._count >= self._next_look or self.full:
            self._next_look = 2 * self._count
            self.readings = self._look(batch.host_loss)

    def _look(self, loss: HostLoss) -> dict[str, float]:
        found = {"loss/constant": best_constant(torch.cat(self._targets), self._outputs, loss)}
        if self._geometry.no_clusters:
            return {name: value for name, value in found.items() if not math.isnan(value)}
        found["data/separated"] = self._geometry.separated
        if self._count >= LEAST_SAMPLES:
            found |= self._told_labels()
            if self._moments is not None:
                offset, inside, outside = placement(self._moments, self._geometry)
                found |= {
                    "data/offset": offset,
                    "data/spread_inside": inside,
                    "data/spread_outside": outside,
                }
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def _told_labels(self) -> dict[str, float]:
        """Return the share of labels that the clusters tell, also beyond the commonest label."""
        count = int(self._classes.sum()) if len(self._classes) else 0
        if not count or int(self._classes.max()) == count:
            return {}
        share, commonest = self._told / count, float(self._classes.max()) / count
        error = math.sqrt(max(share * (1 - share), 0.0) / count)
        return {
            "data/purity": share,
            "data/told": (share - commonest) / (1 - commonest),
            "data/told_error": error / (1 - commonest),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return all that later readings depend on."""
        inputs = self._inputs if self.sample is None else [self.sample]
        return {
            "inputs": [part.cpu().clone() for part in inputs],
            "readings": dict(self.readings),
            "targets": [] if self.full else list(self._targets),
            "outputs": list(self._outputs),
            "moments": self._moments,
            "told": self._told,
            "classes": self._classes,
            "count": self._count,
            "next_look": self._next_look,
        }

    def restored(self, state: Mapping[str, Any] | None) -> FirstSamples:
        """Return one that continues from a state; None, of version 0.1.0, begins with the next samples."""
        first = FirstSamples(self._geometry, self.size)
        if state is None:
            return first
        first.add_inputs([_tensor(part) for part in state["inputs"]])
        first.readings = {str(name): float(value) for name, value in state["readings"].items()}
        first._targets = [_tensor(part) for part in state["targets"]]
        first._outputs = tuple(int(size) for size in state["outputs"])
        first._moments = None if state["moments"] is None else _tensor(state["moments"])
        first._told, first._classes = int(state["told"]), _tensor(state["classes"])
        first._count, first._next_look = int(state["count"]), int(state["next_look"])
        return first


def _tensor(value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{type(value).__name__} is not a tensor")
    return value


def classes_of(batch: Batch) -> Tensor | None:
    """Return the class of each sample of one state, int64 (m,); None where targets are not classes."""
    aims = batch.targets
    if batch.many and aims.ndim == 1:
        inside = (aims >= 0) & (aims < batch.classes)
        return aims.long() if not aims.is_floating_point() and inside.all() else None
    if batch.many:
        one_hot = (aims.sum(dim=-1) == 1).all() & ((aims == 0) | (aims == 1)).all()
        return aims.argmax(dim=-1) if one_hot else None
    aims = aims.double()
    low, high = batch.host_loss.levels or tuple(float(each) for each in torch.aminmax(aims))
    if not low < high or not ((aims == low) | (aims == high)).all():
        return None
    return (aims == high).long()


def best_constant(targets: Tensor, outputs: Sequence[int], loss: HostLoss) -> float:
    """Return the loss of the best constant output, as the loop would get it, per sample where it is a sum.

    The best of the constants that are best for the usual losses: 0, the mean and the median of the targets,
    and the logarithm (or log-odds) of the shares of the classes. A constant fitted to n samples does better on
    them than on others: the loss is multiplied by n / (n - 1), which is exact for the squared error.

    Args:
        targets: as the loss takes them, (n,) or (n, outputs).
        outputs: shape of one sample's outputs, () or (outputs,).
        loss: of the loop.

    Returns:
        NaN where the loss cannot be evaluated, or fewer than two samples are known.
    """
    count = len(targets)
    if count < 2 or loss.function is None or loss.link is not None or loss.takes_probabilities:
        return math.nan
    best = math.inf
    for constant in _constants(targets, outputs):
        try:
            value = loss.constant(constant.expand(count, *outputs).clone(), targets)
        except Exception:  # a loss of other arguments has no constant
            return math.nan
        best = min(best, value) if math.isfinite(value) else best
    return best * count / (count - 1) if 0 < best < math.inf else math.nan


def _constants(targets: Tensor, outputs: Sequence[int]) -> list[Tensor]:
    shape = tuple(outputs)
    zero = torch.zeros(shape, dtype=torch.float64, device="cpu")
    if shape and targets.ndim == 1:  # class indices
        known = targets[(targets >= 0) & (targets < shape[0])].long()
        counts = torch.bincount(known, minlength=shape[0]).double()
        return [zero, (counts.clamp_min(0.5) / max(len(known), 1)).log()]
    aims = targets.double()
    low, high = aims.amin(dim=0), aims.amax(dim=0)
    share = ((aims - low) / (high - low)).mean(dim=0).nan_to_num(0.5)
    odds = torch.logit(share.clamp(0.5 / len(aims), 1 - 0.5 / len(aims)))
    means = aims.mean(dim=0)
    rest = [means.clamp_min(torch.finfo(torch.float64).tiny).log()] if shape else []
    return [zero, means, aims.median(dim=0).values, odds, *rest]
