"""How signal-heavy the neurons are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phasetrack.measures import heaviness
from phasetrack.tracking.probes.base import Measurement, Probe, Reading
from phasetrack.tracking.snapshot import Snapshot

ZETAS = tuple(f"heaviness/zeta_star{kind}" for kind in ("", "_paper", "_is_bound"))


@dataclass(frozen=True)
class HeavinessProbe(Probe):
    """zeta*, heavy mass, and the signal share with its chance level and control (theory.md 3).

    zeta* weighs the neurons outside its set by |a| |w|, a property of the function; ``zeta_star_paper`` weighs
    them by |w|^2, and ``zeta_star_is_bound`` is 1 where zeta* is an upper bound (`measures.heaviness.certificate`).

    Only zeta* rests on what the layers compute, and on clusters: it is undefined where the layers do not
    reproduce the model, and of a `SpanGeometry`. Everything else is read off the weights.

    Args:
        H: the paper's H in needed_zeta.
    """

    H: float = 0.0
    name: str = "heaviness"
    needs: frozenset[str] = frozenset({"span"})

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return the readings of each state."""
        neurons = snapshot.neurons
        needed = needed_zeta(snapshot, self.H)
        missing = snapshot.formula.missing or snapshot.geometry.no_clusters
        control = snapshot.control.square().sum(dim=(-2, -1)) / neurons.mass.sum(dim=-1)
        return {
            **(
                dict.fromkeys(ZETAS, Reading.undefined(missing))
                if missing
                else _zetas(snapshot, self.H, needed)
            ),
            "heaviness/heavy_mass": heaviness.heavy_mass_of(neurons, self.H, needed=needed),
            "heaviness/signal_share": heaviness.signal_share_of(neurons),
            "heaviness/chance": snapshot.geometry.chance,
            "heaviness/control": control,
            "neurons/log10_needed_zeta": needed.log10(),
            "neurons/signal": neurons.sig,
            "neurons/perp": neurons.perp,
            "neurons/second_layer": neurons.second_layer,
            **({} if missing else {"neurons/cluster": heaviness.served_of(neurons).double()}),
        }


def _zetas(snapshot: Snapshot, H: float, needed: Tensor) -> Measurement:
    """Return zeta* by the function's mass and by the paper's, and whether the first is a bound."""
    function, paper = heaviness.certificates_of(snapshot.neurons, H, needed)
    # where zeta* is NaN there is nothing to bound
    is_bound = function.is_bound.double().where(~function.zeta.isnan(), torch.nan)
    return dict(zip(ZETAS, (function.zeta, paper.zeta, is_bound), strict=True))


def needed_zeta(snapshot: Snapshot, H: float) -> Tensor:
    """Return `heaviness.needed_zeta` of each neuron, (K, p), computed once for all probes."""
    return snapshot.once(lambda: heaviness.needed_zeta_of(snapshot.neurons, H), f"needed zeta {H}")
