"""The loss's largest Hessian eigenvalue beside the step, at log-spaced steps (theory.md 12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from phasetrack.measures.sharpness import MOST_PRODUCTS, PARAMETERS, sharpness
from phasetrack.model.formula import FrozenLayers
from phasetrack.phases.history import Undefined
from phasetrack.tracking.probes.metric import Metric
from phasetrack.tracking.probes.sparse import SparseProbe, aims
from phasetrack.tracking.snapshot import Snapshot

METRICS = (
    Metric(
        "sharpness/value",
        "loss / weight^2",
        "12",
        "largest eigenvalue of the loss's Hessian over the trained layers; sparse",
    ),
    Metric(
        "sharpness/eta_lambda",
        "ratio",
        "12",
        "the same with each layer's step, beside which gradient descent is stable up to 2; sparse",
    ),
)
NOT_PLAIN = (
    "a step of this optimizer is not the gradient times a rate: 2 is the edge of SGD without "
    "momentum and weight decay"
)
NOT_TRAINED = "the optimizer trains neither layer"


@dataclass(frozen=True)
class SharpnessProbe(SparseProbe):
    """Sharpness on a fixed sample, and its product with the step (theory.md 12).

    A reading costs some ten to `most_products` Hessian-vector products, about twice a gradient on the sample each
    (d = 64, p = 128, 512 samples: 10 to 100 ms).

    Args:
        inputs: (m, d); the training set, or a part of it.
        targets: as the loss takes them, (m,) or (m, n).
        per_decade: readings per factor of ten in the number of steps.
        most_products: Hessian-vector products per reading at most.
    """

    inputs: Tensor
    targets: Tensor
    per_decade: int = field(default=20, kw_only=True)
    most_products: int = field(default=MOST_PRODUCTS, kw_only=True)
    name: str = field(default="sharpness", kw_only=True)

    def read(self, layers: FrozenLayers, snapshot: Snapshot, place: int) -> Mapping[str, float]:
        """Return the sharpness of one state."""
        sizes, scale = snapshot.sizes[place], layers.formula.scale or 1.0
        trained = {
            "W": sizes.first,
            "bias": sizes.first,
            "A": sizes.second,
            "head_bias": sizes.second,
        }
        rates = {name: trained[name] / scale for name in PARAMETERS if trained[name]}
        if (
            reason := layers.formula.unlinked
            or snapshot.loss.reason
            or ("" if rates else NOT_TRAINED)
        ):
            return {metric.name: Undefined(reason) for metric in METRICS}

        def largest(steps: list[float | Tensor] | None) -> float:
            found = sharpness(
                layers,
                self.inputs,
                aims(self.targets, layers),
                snapshot.loss,
                parameters=list(rates),
                rates=steps,
                most_products=self.most_products,
            )
            return found.value

        if not sizes.plain:
            return {"sharpness/value": largest(None), "sharpness/eta_lambda": Undefined(NOT_PLAIN)}
        alike = len(set(rates.values())) == 1
        value = largest(None)
        product = value * next(iter(rates.values())) if alike else largest(list(rates.values()))
        return {"sharpness/value": value, "sharpness/eta_lambda": product}
