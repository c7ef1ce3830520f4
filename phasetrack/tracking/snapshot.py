"""Snapshot: the state of a network before an optimizer step, or of K such steps stacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, groupby
from typing import Any, TypeVar

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.measures.noise import Noise
from phasetrack.model.batch_invariance import GROUP, UNDIVIDED
from phasetrack.model.formula import Formula, FrozenLayers
from phasetrack.model.geometry import Geometry, Neurons
from phasetrack.tracking.batch import Batch
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.host_table import HostTable
from phasetrack.tracking.step_copies import LayerState, LossInputs, StepSizes

# The numbers in the largest tables that measuring a stack makes: such a table fits in a cache, and
# the snapshots still share Python's cost.
STACK_NUMBERS = 2**17

T = TypeVar("T")


@dataclass(eq=False)
class Snapshot:
    """K >= 1 states of a network, each before an optimizer step; the hooks make it with K = 1.

    All tensors are copies with a leading dimension for the states.

    Attributes:
        steps: optimizer steps taken before each state.
        times: sum of eta over those steps.
        sizes: the step that follows each state.
        geometry: the clusters.
        formula: what the layers compute.
        layers: the weights.
        loss_inputs: the arguments of the loss; None if no loss call was seen.
        loss: the loss on the host, of (outputs, targets).
        no_batch: why there are no `loss_inputs`.
        before: the snapshot recorded before this one: its last state precedes our first. None at
            the first state.
        first: the first state recorded; None in that one itself.
        sample: inputs of the run's first samples, (n, d), the same for every state; None where they are not
            known, or no probe needs them.
        noise: the data's noise across the signal span, the same for every state; None: of variance 1 per
            coordinate, without a mean.
        carried: results of probes that later states are compared with.
    """

    steps: tuple[int, ...]
    times: tuple[float, ...]
    sizes: tuple[StepSizes, ...]
    geometry: Geometry
    formula: Formula
    layers: LayerState
    loss_inputs: LossInputs | None
    loss: HostLoss
    no_batch: str = ""
    before: Snapshot | None = None
    first: Snapshot | None = None
    sample: Tensor | None = None
    noise: Noise | None = None
    sliced_table: HostTable | None = field(default=None, repr=False)
    carried: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _computed: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def stack(cls, snapshots: Sequence[Snapshot]) -> Snapshot:
        """Join snapshots that `can_stack_with` each other, in the order of their steps."""
        one = snapshots[0]
        if len(snapshots) == 1:
            return one
        columns = zip(*(s.layers for s in snapshots), strict=True)
        layers = LayerState(*map(_joined, columns))  # type: ignore[arg-type]
        return replace(
            one,
            steps=tuple(chain.from_iterable(s.steps for s in snapshots)),
            times=tuple(chain.from_iterable(s.times for s in snapshots)),
            sizes=tuple(chain.from_iterable(s.sizes for s in snapshots)),
            layers=layers,
            loss_inputs=_joined_inputs([s.loss_inputs for s in snapshots]),
        )

    def can_stack_with(self, other: Snapshot) -> bool:
        """Whether both have one formula, one loss, and tensors of one shape."""
        alike = self.formula == other.formula and self.loss is other.loss
        alike = alike and self.sample is other.sample and self.noise is other.noise
        alike = alike and self.geometry is other.geometry
        return alike and self._shapes == other._shapes

    @cached_property
    def _shapes(self) -> tuple[object, ...]:
        seen = self.loss_inputs
        kinds = seen and (
            seen.outputs.shape[1:],
            seen.targets.shape[1:],
            seen.targets.dtype,
            [part is None for part in (seen.traces, seen.value, seen.weights, seen.moments)],
            seen.reason,
        )
        layers = self.layers
        whole = [part is None for part in (layers.W, layers.along_mean, layers.gradient)]
        return (layers.head.shape[1:], whole, kinds, self.no_batch, self.sizes[0].plain)

    @property
    def max_stack(self) -> int:
        """How many states like this one are measured together at most."""
        seen, W = self.loss_inputs, self.layers.W
        largest = max(
            self.formula.width * len(self.geometry.labels),
            0 if seen is None else seen.outputs[0].numel(),
            0 if W is None or self.layers.coordinates is None else W[0].numel(),
        )
        numbers = largest + GROUP  # rows are filled up to whole groups
        # sums over larger tables are divided among threads, but only where one state is measured
        return STACK_NUMBERS // numbers if numbers <= UNDIVIDED else 1

    def __len__(self) -> int:
        """The number of states, K."""
        return len(self.steps)

    def __getitem__(self, part: slice) -> Snapshot:
        """Some of the states, with their part of what is on the host already."""
        seen = self.loss_inputs
        tensors = [None if t is None else t[part] for t in self.layers]
        return replace(
            self,
            steps=self.steps[part],
            times=self.times[part],
            sizes=self.sizes[part],
            layers=LayerState(*tensors),  # type: ignore[arg-type]
            loss_inputs=None if seen is None else seen.row(part),
            sliced_table=self.table[part],
        )

    def seen_through(self, geometry: Geometry) -> Snapshot | None:
        """Return the last state read through another geometry, without its batch; None where W was not kept."""
        if geometry is self.geometry:
            return self
        if self.layers.W is None:
            return None
        last = self[-1:]
        state = replace(
            last,
            geometry=geometry,
            layers=last.layers.unread(),
            loss_inputs=None,
            noise=None,
            sliced_table=None,
        )
        state.carried.update(self.carried)
        return state

    def pieces(self) -> list[Snapshot]:
        """Cut the states into runs whose batch can be used, and single states whose batch cannot."""
        if not any(self.problems):
            return [self]
        runs: list[list[int]] = []
        for usable, run in groupby(
            range(len(self)), key=lambda place: self.problems[place] is None
        ):
            places = list(run)
            runs += [places] if usable else [[place] for place in places]
        return [self[run[0] : run[-1] + 1] for run in runs]

    def forget(self) -> None:
        """Drop the reference to the states before, once nothing more is measured against them."""
        self.before = None

    # --- tables on the host ------------------------------------------------------------------

    @cached_property
    def table(self) -> HostTable:
        """The measures' tables, from one transfer to the host."""
        if self.sliced_table is not None:
            return self.sliced_table
        return HostTable.from_device(
            self.geometry, self.formula, self.layers, self.loss_inputs, self.loss, self.noise
        )

    @property
    def neurons(self) -> Neurons:
        """The networks, tables of (K, p, ...), float64."""
        return self.table.neurons

    @property
    def control(self) -> Tensor:
        """W in a random span of the signal's dimension, float64 (K, p, k)."""
        return self.table.control

    @property
    def gradient(self) -> Tensor | None:
        """The gradient that each step takes, float64 (K, p, k + 2); see `LayerState`."""
        return self.table.gradient

    @cached_property
    def problems(self) -> tuple[ExpectedError | None, ...]:
        """For each state what makes its batch unusable; NaN outputs of finite inputs do not."""
        return self.table.problems()

    @cached_property
    def batch(self) -> Batch | None:
        """The batch, tables of (K, m, ...); None if no loss call was seen or a state has a problem."""
        batch = self.table.batch
        if batch is None or any(self.problems):
            return None
        return replace(batch, inputs=self.loss_inputs.inputs if self.loss_inputs else ())

    @cached_property
    def elapsed(self) -> Tensor:
        """`times` as a tensor, float64 (K,)."""
        return torch.tensor(self.times, dtype=torch.float64, device="cpu")

    @cached_property
    def etas(self) -> tuple[Tensor, Tensor]:
        """Eta of either layer, float64 (K,) each."""
        sizes = [(each.first, each.second) for each in self.sizes]
        first, second = torch.tensor(sizes, dtype=torch.float64, device="cpu").unbind(dim=1)
        return first, second

    @property
    def is_mean_field(self) -> bool:
        """Whether the mean-field law applies to this network, its optimizer and its data."""
        lawful = self.formula.is_mean_field and self.sizes[0].plain
        return lawful and not self.geometry.no_clusters

    def once(self, compute: Callable[[], T], name: str) -> T:
        """Compute a quantity of these states that several probes read, or the next step reads."""
        if name not in self._computed:
            self._computed[name] = compute()
        found: T = self._computed[name]
        return found

    def shifted(self, read: Callable[[Snapshot], Tensor]) -> Tensor:
        """Apply `read` to the state before each of ours, (K, ...)."""
        assert self.before is not None
        return torch.cat([read(self.before)[-1:], read(self)[:-1]])

    # --- states one by one -------------------------------------------------------------------

    def states(self) -> Iterator[State]:
        """Each state with the one before it and the first of all."""
        previous = None if self.before is None else self.before.state(-1)
        first = None if self.first is None else self.first.state(0)
        for index in range(len(self)):
            here = self.state(index)
            yield replace(here, previous=previous, first=first)
            previous = here

    def state(self, index: int) -> State:
        """Return one state, without those before it."""
        batch = self.batch
        return State(
            self.steps[index],
            self.times[index],
            self.sizes[index],
            self.geometry,
            self.formula,
            self.neurons.row(index),
            self.control[index],
            None if batch is None else batch.row(index),
            self.frozen(index),
        )

    def frozen(self, index: int) -> FrozenLayers | None:
        """Return copies of one state's layers; None where no probe needs them."""
        if self.layers.W is None:
            return None
        parts = (self.layers.W, self.layers.head, self.layers.bias, self.layers.head_bias)
        return FrozenLayers(self.formula, *(None if p is None else p[index] for p in parts))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class State:
    """One state as a function of yours reads it: the host's tables without a leading dimension.

    Attributes:
        step: optimizer steps taken before the state.
        time: sum of eta over those steps.
        sizes: the step that follows.
        geometry: the clusters.
        formula: what the layers compute.
        neurons: the network, float64 on the host.
        control: W in a random span of the signal's dimension, float64 (p, k).
        batch: outputs, targets and clusters; None if no loss call was seen or the batch is unusable.
        view: copies of the layers on their device: ``view.W``, ``view.A``, ``view.outputs(x)``; None
            where no probe needs them.
        previous: the state recorded before, whose own `previous` is None; None at the first.
        first: the first state recorded; None in that one itself.
    """

    step: int
    time: float
    sizes: StepSizes
    geometry: Geometry
    formula: Formula
    neurons: Neurons
    control: Tensor
    batch: Batch | None
    view: FrozenLayers | None = None
    previous: State | None = None
    first: State | None = None


def _joined(column: Sequence[Tensor | None]) -> Tensor | None:
    return None if column[0] is None else torch.cat(column)  # type: ignore[arg-type]


def _joined_inputs(parts: Sequence[LossInputs | None]) -> LossInputs | None:
    seen = [part for part in parts if part is not None]
    if not seen:
        return None
    outputs, targets, traces, finite, inputs, values, weights, reasons, moments = zip(
        *seen, strict=True
    )
    doubts = None
    if any(flag is not None for flag in finite):
        sure = torch.ones(1, dtype=torch.bool, device=outputs[0].device)
        doubts = torch.cat([sure if flag is None else flag.to(sure.device) for flag in finite])
    joined = (_joined(outputs), _joined(targets), _joined(traces))
    return LossInputs(
        *joined,  # type: ignore[arg-type]
        doubts,
        tuple(chain.from_iterable(inputs)),
        _joined(values),
        _joined(weights),
        reasons[0],
        _joined(moments),
    )
