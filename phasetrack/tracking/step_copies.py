"""What is copied at a step, still on the model's device: sizes of the step, layers, arguments of the loss."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from phasetrack.measures.law_check import gradient_table
from phasetrack.model.geometry import Geometry


class StepSizes(NamedTuple):
    """How far one optimizer step moves a neuron along its own mean-field gradient.

    Attributes:
        first: eta of the first layer, lr * scale; 0 if the optimizer does not train it.
        second: eta of the second layer.
        plain: whether the optimizer is SGD without momentum or decay, as the rates assume.
    """

    first: float
    second: float
    plain: bool

    @property
    def eta(self) -> float:
        """Length of a step in the paper's unit of time."""
        return max(self.first, self.second)


class LayerState(NamedTuple):
    """Copies of the layers at K steps, on the model's device and in its dtype.

    Attributes:
        head: the head's weights, (K, heads, p).
        coordinates: W in the signal span's basis, then in a random span of that dimension, (K, p, 2k);
            None until W is read.
        perp: length of each neuron's part outside the signal span, (K, p); None until W is read.
        bias: first-layer bias, (K, p), or None.
        head_bias: the head's bias as it stands in the model, (K, heads), or None.
        W: the first layer, (K, p, d), where it is still to be read or a probe needs it; else None.
        along_mean: w . mean of the noise, (K, p); None where the noise has none.
        gradient: the gradient that each step takes, by w and a of each neuron, (K, p, d + 1); (K, p, k + 2) once W is
            read (`gradient_table`). None where no law predicts it, or it was not seen.
    """

    head: Tensor
    coordinates: Tensor | None = None
    perp: Tensor | None = None
    bias: Tensor | None = None
    head_bias: Tensor | None = None
    W: Tensor | None = None
    along_mean: Tensor | None = None
    gradient: Tensor | None = None

    def read(self, geometry: Geometry, *, keep: bool = True) -> LayerState:
        """Return the state with W seen through the geometry; W itself stays if `keep`."""
        if self.coordinates is None and self.W is not None:
            coordinates, perp = geometry.read(self.W)
            seen = self.gradient
            gradient = None if seen is None else gradient_table(self.W, seen, geometry)
            read = self._replace(coordinates=coordinates, perp=perp, gradient=gradient)
        else:
            read = self
        return read if keep else read._replace(W=None)

    def unread(self) -> LayerState:
        """Return the state as before `read`, where W is at hand; what belongs to a geometry is dropped."""
        if self.W is None:
            return self
        return self._replace(coordinates=None, perp=None, along_mean=None, gradient=None)


class LossInputs(NamedTuple):
    """The arguments of the loss calls of K steps, micro-batches joined; copies.

    Attributes:
        outputs: (K, m), or logits (K, m, n).
        targets: (K, m) or (K, m, n); integers where they are class indices.
        traces: the numbers that decide each sample's cluster (`ClusterGeometry.traces`), (K, m, ...);
            None where samples belong to no cluster.
        finite: whether no input was NaN or infinite, bool (K,); None where nothing raises doubt.
        inputs: see `Batch`.
        value: the loss that the loop got, (K,); None where it is the mean over the samples.
        weights: how much each sample counts in the loss, (K, m), up to a factor; None: all alike.
        reason: why the samples are in no cluster, or why their inputs are not kept.
        moments: where the samples of each cluster lie (`cluster_moments`), (K, clusters, d + 3), of a run's
            first samples; None for all others.
    """

    outputs: Tensor
    targets: Tensor
    traces: Tensor | None
    finite: Tensor | None = None
    inputs: tuple[tuple[Tensor, ...], ...] = ()
    value: Tensor | None = None
    weights: Tensor | None = None
    reason: str = ""
    moments: Tensor | None = None

    def row(self, part: slice) -> LossInputs:
        """Some of the states."""
        tables = {name: each for name, each in self._asdict().items() if isinstance(each, Tensor)}
        rows = {name: each[part] for name, each in tables.items()}
        return self._replace(inputs=self.inputs[part], **rows)  # type: ignore[arg-type]
