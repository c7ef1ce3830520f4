"""The tables that the measures read: float64 on the host, made from snapshots by one transfer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phasetrack._precision import is_away
from phasetrack.errors import ExpectedError
from phasetrack.measures.noise import Noise
from phasetrack.model.formula import Formula
from phasetrack.model.geometry import Geometry, Neurons, head_length
from phasetrack.tracking.batch import Batch
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.step_copies import LayerState, LossInputs

# Weights that differ by no more, relative to their mean, are alike (rounding of float32 gradients).
ALIKE = 1e-6


@dataclass(frozen=True)
class HostTable:
    """K states on the host.

    Attributes:
        neurons: tables of (K, p, ...), float64.
        control: W in a random span, (K, p, k), float64.
        batch: tables of (K, m, ...); None if no loss call was seen.
        finite: whether no input was NaN or infinite, bool (K,); None where nothing raises doubt.
        gradient: the gradient that each step takes (see `LayerState`), float64 (K, p, k + 2), or None.
        moments: where the samples of each cluster lie (`cluster_moments`), (K, clusters, d + 3), or None.
    """

    neurons: Neurons
    control: Tensor
    batch: Batch | None
    finite: Tensor | None
    gradient: Tensor | None
    moments: Tensor | None = None

    @classmethod
    def from_device(
        cls,
        geometry: Geometry,
        formula: Formula,
        layers: LayerState,
        seen: LossInputs | None,
        loss: HostLoss,
        noise: Noise | None = None,
    ) -> HostTable:
        """Move K states to the host, and read what was not read yet."""
        if layers.coordinates is not None:
            layers = layers._replace(W=None)
        columns: list[Tensor | None] = list(layers)
        layer_count = len(columns)
        if seen is not None:
            columns += [seen.outputs, seen.targets, seen.finite, _clusters(geometry, seen)]
            columns += [seen.value, seen.weights, seen.moments]
        moved = _to_host(columns)
        # read on the host, where the last digits do not depend on how many networks are read at once
        hosted = type(layers)(*moved[:layer_count])  # type: ignore[arg-type]
        hosted = hosted.read(geometry, keep=False)
        neurons, control = _neurons(geometry, formula, hosted, noise)
        gradient = None if hosted.gradient is None else hosted.gradient.double()
        if seen is None:
            return cls(neurons, control, None, None, gradient)
        outputs, targets, finite, clusters, value, weights, moments = moved[layer_count:]
        assert outputs is not None and targets is not None and clusters is not None
        batch = Batch(
            outputs.double(),
            _as_the_loss_takes_them(targets, seen.targets.dtype),
            clusters.long(),
            loss,
            value=None if value is None else value.double(),
            weights=None if weights is None else _unlike(weights.double()),
            precision=seen.outputs.dtype,
            reason=seen.reason,
        )
        return cls(neurons, control, batch, finite, gradient, moments)

    def __getitem__(self, part: slice) -> HostTable:
        """Some of the states."""
        batch = None if self.batch is None else self.batch.row(part)
        finite = None if self.finite is None else self.finite[part]
        gradient = None if self.gradient is None else self.gradient[part]
        moments = None if self.moments is None else self.moments[part]
        return HostTable(
            self.neurons.row(part), self.control[part], batch, finite, gradient, moments
        )

    def problems(self) -> tuple[ExpectedError | None, ...]:
        """Return for each state why its batch cannot be used; None where it can."""
        if self.batch is None:
            return (None,) * len(self.control)
        if self.finite is None:
            return (None,) * len(self.control)
        return tuple(None if fine else _not_finite() for fine in self.finite.tolist())


def _as_the_loss_takes_them(targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Return targets as float64, bool or class indices."""
    if dtype == torch.bool:
        return targets.bool()
    return targets.double() if dtype.is_floating_point else targets.long()


def _unlike(weights: Tensor) -> Tensor | None:
    """Return weights (K, m) with mean 1, exactly 1 in a state whose samples count alike; None if all do.

    NaN in a state whose weights cancel.
    """
    mean, size = weights.mean(dim=-1, keepdim=True), weights.abs().mean(dim=-1, keepdim=True)
    weights = weights / mean.where(mean.abs() > ALIKE * size, torch.nan)
    alike = (weights - 1).abs().amax(dim=-1, keepdim=True) <= ALIKE
    return None if alike.all() else torch.where(alike, 1.0, weights)


def _not_finite() -> ExpectedError:
    return ExpectedError(
        "inputs", "The batch contains NaN or infinity.", "Check the data that the loop loads."
    )


def _neurons(
    geometry: Geometry, formula: Formula, layers: LayerState, noise: Noise | None
) -> tuple[Neurons, Tensor]:
    """Return the networks as the measures take them, and W in the random span."""
    wide = [None if part is None else part.double() for part in layers[:-1]]
    head, coordinates, perp, bias, head_bias, _, along_mean = wide
    assert head is not None and coordinates is not None and perp is not None
    readout, many, k = formula.read_out(head.mT), formula.heads > 2, geometry.signal_dim
    neurons = Neurons(
        geometry,
        coordinates=coordinates[..., :k],
        perp=perp,
        second_layer=head_length(readout) if many else readout,
        head=readout if many else None,
        bias=bias,
        output_bias=None
        if head_bias is None
        else formula.bias_factor * formula.read_out(head_bias),
        scale=formula.scale,
        activation=formula.activation,
        noise=None if noise is None else noise.spread(perp, along_mean),
    )
    return neurons, coordinates[..., k:]


def _clusters(geometry: Geometry, seen: LossInputs) -> Tensor:
    """Return the cluster of each sample, (K, m); -1 where samples belong to none."""
    if seen.traces is not None:
        return geometry.nearest(seen.traces)
    return torch.full(seen.outputs.shape[:2], -1, device=seen.outputs.device)


def _to_host(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return the tensors on the host, moved in one transfer."""
    away = [tensor for tensor in tensors if tensor is not None and is_away(tensor)]
    moved: Iterator[Tensor] = iter(())
    if away:
        wide = torch.float64 if any(t.dtype == torch.float64 for t in away) else torch.float32
        packed = torch.cat([tensor.reshape(-1).to(wide) for tensor in away]).cpu()
        pieces = torch.split(packed, [tensor.numel() for tensor in away])
        moved = iter([p.view(t.shape).to(t.dtype) for p, t in zip(pieces, away, strict=True)])
    return [next(moved) if t is not None and is_away(t) else t for t in tensors]
