"""Undeclared: what stands in for a geometry that nobody declared, in one run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.model.formula import FrozenLayers
from phasetrack.model.samples import Table, table
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.phases.history import History
from phasetrack.phases.thresholds import Thresholds
from phasetrack.tracking.geometry_search import GeometrySearch
from phasetrack.tracking.guard import FailureGuard
from phasetrack.tracking.hindsight import KeptWeights, LookBack, look_back
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.reservoir import Reservoir, reservoir_size
from phasetrack.tracking.snapshot import Snapshot


def given_set(argument: str, pair: tuple[Table, Table] | None) -> tuple[Tensor, Tensor] | None:
    """Return a fixed set as tensors, inputs (m, d) and targets with m rows.

    Raises:
        ExpectedError: if it is not a pair of such tables.
    """
    if pair is None:
        return None
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        problem = f"A value of type {type(pair).__name__} is not a pair of inputs and targets."
        raise ExpectedError(argument, problem, f"Pass {argument}=(inputs, targets).")
    inputs, targets = (table(argument, each) for each in pair)
    if inputs.ndim != 2 or not targets.ndim or len(inputs) != len(targets) or not len(inputs):
        problem = (
            f"Shapes {tuple(inputs.shape)} and {tuple(targets.shape)} are not those of a sample."
        )
        raise ExpectedError(argument, problem, "Pass inputs (m, d), and targets for each.")
    if not inputs.double().isfinite().all():
        raise ExpectedError(argument, "The inputs have NaN or infinity.", "Pass finite inputs.")
    return inputs, targets


def check_width(argument: str, pair: tuple[Tensor, Tensor] | None, view: TwoLayerView) -> None:
    """Raise ExpectedError unless a fixed set has as many inputs as the first layer takes."""
    width = view.first.shape[1]
    if pair is not None and pair[0].shape[1] != width:
        problem = f"The samples have {pair[0].shape[1]} inputs, and {view.names[0]} takes {width}."
        raise ExpectedError(argument, problem, f"Pass inputs of shape (m, {width}).")


def undeclared_of(
    view: TwoLayerView,
    sample: tuple[Tensor, Tensor] | None,
    held_out: tuple[Tensor, Tensor] | None,
    *,
    active: bool,
) -> Undeclared:
    """Return what stands in for the geometry of a run.

    Args:
        view: the layers.
        sample: a fixed set, or None.
        held_out: a set that is not trained on, or None.
        active: whether no geometry is declared.
    """
    width, inputs = view.first.shape
    if sample is not None:
        reservoir = Reservoir.of(*sample)
    else:
        reservoir = Reservoir(reservoir_size(inputs) if active else 0)
    search = GeometrySearch(reservoir, active=active)
    numbers = width * (inputs + view.heads + 1) + view.heads
    return Undeclared(search, KeptWeights(numbers) if active else None, held_out)


class Undeclared:
    """Searches for clusters as a run begins, and looks back on it at its end where none were found.

    Args:
        search: for clusters at the means of the classes; holds the reservoir.
        kept: networks for a look back; None where a geometry is declared.
        held_out: inputs and targets that are not trained on, or None.
    """

    def __init__(
        self,
        search: GeometrySearch,
        kept: KeptWeights | None = None,
        held_out: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.search, self._kept, self._held_out = search, kept, held_out
        self.found: LookBack | None = None
        self._is_open = kept is not None  # whether clusters may still be announced

    @property
    def history(self) -> History:
        """The states that were read again; empty where none were."""
        found = None if self.found is None else self.found.history
        return History() if found is None else found

    def keeps_weights_at(self, step: int) -> bool:
        """Whether the weights of a recorded step are kept."""
        return self._kept is not None and self._kept.due(step)

    def receive(self, snapshot: Snapshot, guard: FailureGuard) -> None:
        """Keep the weights of a recorded step, or say that clusters were found."""
        if not self._is_open:
            return
        if self.search.found is None:
            if self._kept is not None:
                self._kept.keep(snapshot)
            return
        self._is_open, self._kept = False, None
        guard.remark("clusters", self.search.sentence)

    def config(self) -> dict[str, int] | None:
        """Return the entry ``hindsight`` of ``config.json``."""
        return None if self._kept is None else self._kept.as_json()

    def look_back(
        self,
        last: tuple[int, FrozenLayers],
        loss: HostLoss,
        thresholds: Thresholds,
        *,
        eta: float,
        guard: FailureGuard,
    ) -> None:
        """Look back on the run from its last network (`hindsight.look_back`), and say the outcome."""
        if self._kept is None:
            return
        self.found = look_back(
            self._kept,
            last,
            self.search.reservoir,
            loss,
            held_out=self._held_out,
            thresholds=thresholds,
            eta=eta,
        )
        if self.search.sentence:
            guard.remark("classes", f"Clusters were not taken: {self.search.sentence}.")
        guard.remark("hindsight", self.found.sentence)

    def rows(self) -> bytes:
        """Return the content of ``hindsight.jsonl``: an object per state that was read again; or nothing."""
        lines = []
        for step, readings in self.history.rows():
            known = {name: value for name, value in readings.items() if not math.isnan(value)}
            lines.append(json.dumps({"step": int(step), **known}))
        return "".join(f"{line}\n" for line in lines).encode()

    def summary(self) -> dict[str, Any]:
        """Return the entry ``hindsight`` of ``summary.json``, where the run was looked back on."""
        return {} if self.found is None else {"hindsight": self.found.as_json()}

    def state_dict(self) -> dict[str, Any]:
        """Return all that later readings depend on."""
        kept = None if self._kept is None else self._kept.state_dict()
        return {"search": self.search.state_dict(), "kept": kept}

    def restored(self, state: Mapping[str, Any] | None) -> Undeclared:
        """Return one that continues from a state; None, of version 0.1.0, begins anew."""
        search = self.search.restored(None if state is None else state["search"])
        kept = self._kept
        if kept is not None:
            kept = kept.restored(None if state is None else state["kept"])
        if search.found is not None:
            kept = None
        found = Undeclared(search, kept, self._held_out)
        found._is_open = kept is not None
        return found
