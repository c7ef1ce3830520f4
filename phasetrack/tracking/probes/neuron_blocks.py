"""A probe of neuron blocks: do neurons gather, and do their blocks move as one?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phasetrack.measures import neuron_blocks as gathering
from phasetrack.tracking.probes.base import Measurement, Probe, Reading
from phasetrack.tracking.snapshot import Snapshot


@dataclass(frozen=True)
class GatheringProbe(Probe):
    """Neurons by the cluster that they serve (arXiv 2602.00172; `measures.neuron_blocks`).

    Readings, under ``gathering/``:

    - ``signal/<cluster>``, ``neurons/<cluster>``: mean projection of a block's neurons on its direction,
      and how many they are;
    - ``share``: share of the squared length within 30 degrees of its block's direction;
    - ``spread``: standard deviation of single neurons over their block's signal, mean over blocks;
    - ``block_spread``: the same of the block signals about their mean;
    - ``independent_spread``: what it would be if neurons were drawn from one distribution, independently:
      ``spread`` over the root of a block's neurons;
    - ``growing_blocks``, ``growing_neurons``: share whose signal has grown since the last recorded step.
    """

    name: str = "gathering"
    needs: frozenset[str] = frozenset({"clusters"})

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return the readings of each state."""
        neurons, names = snapshot.neurons, snapshot.geometry.names
        blocks = gathering.assigned(neurons)
        sizes = gathering.sizes(blocks, len(names))
        means, spreads = gathering.of_blocks(gathering.signals(neurons, blocks), blocks, len(names))
        empty = ((sizes == 0).any(dim=-1), "a cluster has no neurons")
        between = means.std(dim=-1, correction=0) / means.mean(dim=-1).abs()
        readings: dict[str, Tensor | Reading | float] = {
            "gathering/share": gathering.gathered(neurons, blocks),
            "gathering/spread": Reading(spreads.mean(dim=-1), (empty,)),
            "gathering/block_spread": Reading(between, (empty,)),
            "gathering/independent_spread": Reading(
                (spreads / sizes.sqrt()).mean(dim=-1), (empty,)
            ),
        }
        for index, name in enumerate(names):
            nobody = (sizes[..., index] == 0, "no neuron serves this cluster")
            readings[f"gathering/signal/{name}"] = Reading(means[..., index], (nobody,))
            readings[f"gathering/neurons/{name}"] = sizes[..., index]
        return {**readings, **self._growing(snapshot)}

    def _growing(self, snapshot: Snapshot) -> Measurement:
        if snapshot.before is None:
            nothing = Reading.undefined("growth needs an earlier recorded step")
            return {f"gathering/growing_{what}": nothing for what in ("blocks", "neurons")}
        # the blocks of before, at both ends: who changes sides has not grown
        then, start = snapshot.shifted(_placed).unbind(dim=1)
        blocks = then.long()
        grown = gathering.signals(snapshot.neurons, blocks) - start
        means, _ = gathering.of_blocks(grown, blocks, len(snapshot.geometry.names))
        return {
            "gathering/growing_blocks": (means > 0).sum(dim=-1) / (~means.isnan()).sum(dim=-1),
            "gathering/growing_neurons": (grown > 0).double().mean(dim=-1),
        }


def _placed(snapshot: Snapshot) -> Tensor:
    """The block that each neuron is in and its signal there, (K, 2, p)."""
    blocks = gathering.assigned(snapshot.neurons)
    return torch.stack([blocks.double(), gathering.signals(snapshot.neurons, blocks)], dim=1)
