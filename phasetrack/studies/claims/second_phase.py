"""A probe of single neurons from the onset of signal-heaviness on, for claims about the second phase."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phasetrack.measures import heaviness
from phasetrack.tracking.probes.base import Measurement, Probe, Reading
from phasetrack.tracking.snapshot import Snapshot

NO_ONSET = "zeta* has not been at 1 or under"


@dataclass(frozen=True)
class SecondPhaseProbe(Probe):
    """Neurons followed one by one.

    Readings, under ``second_phase/``:

    - ``kept``: share of the neurons with needed zeta <= 1 at the first record with zeta* <= 1 that have it now;
    - ``conserved``: sum over neurons of the change of a^2 - |w|^2 since the start, without sign, over the sum of
      a^2 + |w|^2: 0 under gradient flow.
    """

    name: str = "second phase"
    needs: frozenset[str] = frozenset({"clusters"})

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return the readings of each state."""
        neurons = snapshot.neurons
        heavy = heaviness.needed_zeta_of(neurons) <= 1
        certified = heaviness.certificate_of(neurons) <= 1
        carried = snapshot.before.carried if snapshot.before else {}
        members = carried.get("second phase", torch.zeros_like(heavy[0]))
        kept = []
        for now, onset in zip(heavy, certified, strict=True):
            if onset and not members.any():
                members = now
            kept.append((now & members).sum() / members.sum())
        difference = neurons.second_layer.square() - neurons.mass
        start = carried.get("second phase start", difference[0])
        snapshot.carried.update({"second phase": members, "second phase start": start})
        total: Tensor = (neurons.second_layer.square() + neurons.mass).sum(dim=-1)
        shares = torch.stack(kept).double()
        return {
            "second_phase/kept": Reading(shares, ((shares.isnan(), NO_ONSET),)),
            "second_phase/conserved": (difference - start).abs().sum(dim=-1) / total,
        }
