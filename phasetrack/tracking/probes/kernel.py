"""How far training moved the tangent kernel, on a fixed sample of the data."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from phasetrack.measures import kernel
from phasetrack.tracking.probes.base import Measurement, Reading
from phasetrack.tracking.probes.sparse import SparseProbe
from phasetrack.tracking.snapshot import Snapshot

NAMES = ("drift", "alignment", "velocity", "linearisation_error", "distance")
NO_START = (
    "the weights of the first record are not at hand: the run was resumed from a state without them"
)
NO_EARLIER = "the velocity needs an earlier reading of the kernel"


@dataclass(frozen=True)
class KernelProbe(SparseProbe):
    """Drift, alignment and velocity of the tangent kernel, and the network beside its linearisation (theory.md 9).

    Read at the first recorded step of each of `per_decade` stretches per factor of ten in the steps, since a reading
    costs about as much as all others together (d = 64, p = 128: 0.2 ms); other records do not have them.

    Args:
        per_decade: readings per factor of ten in the number of steps.
        samples: inputs of the fixed sample, the first of the run.
    """

    per_decade: int = 5
    samples: int = 64
    name: str = "kernel"
    needs: frozenset[str] = frozenset({"sample"})

    def measure(self, snapshot: Snapshot) -> Measurement:
        """Return the readings of the states that are due."""
        names = [f"kernel/{name}" for name in NAMES]
        first, previous = snapshot.first or snapshot, snapshot.before
        start = first.frozen(0)
        reason = snapshot.formula.missing or (NO_START if start is None else "")
        if reason:
            return dict.fromkeys(names, Reading.undefined(reason))
        carried = previous.carried if previous else {}
        places = self.due_places(snapshot)
        kept = {name: carried[name] for name in ("kernel", "time") if "kernel" in carried}
        snapshot.carried.update(kept)
        if not places:
            return {}
        assert start is not None and snapshot.sample is not None
        inputs, start = snapshot.sample[: self.samples].cpu().double(), start.on_host()
        then = first.once(lambda: kernel.preactivations(start, inputs), "kernel values")
        origin = first.once(lambda: kernel.kernel(start, inputs, then), "kernel")
        rows = torch.full((len(snapshot), len(NAMES)), torch.nan, dtype=torch.float64, device="cpu")
        read = torch.zeros(len(snapshot), dtype=torch.bool, device="cpu")
        for place in places:
            frozen = snapshot.frozen(place)
            assert frozen is not None
            layers, now = frozen.on_host(), snapshot.elapsed[place]
            values = kernel.preactivations(layers, inputs)
            found = kernel.kernel(layers, inputs, values)
            rows[place] = torch.stack(
                [
                    kernel.drift(found, origin),
                    kernel.alignment(found, origin),
                    kernel.velocity(found, kept["kernel"], now - kept["time"])
                    if kept
                    else origin.new_tensor(torch.nan),
                    kernel.linearisation_error(layers, start, inputs, values, then),
                    kernel.distance(layers, start),
                ]
            )
            read[place], kept = True, {"kernel": found, "time": now}
        snapshot.carried.update(kept)
        columns = dict(zip(names, rows.unbind(dim=1), strict=True))
        reasons = ((columns["kernel/velocity"].isnan(), NO_EARLIER),)
        return {
            name: Reading(values, reasons if name == "kernel/velocity" else (), read)
            for name, values in columns.items()
        }
