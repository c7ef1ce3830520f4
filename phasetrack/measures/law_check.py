"""Whether the mean-field law holds for the gradient that a step takes (theory.md 6).

Two comparisons, and a test of the slopes. For a bias-free ReLU network sum_j w_j . dL/dw_j = sum_j a_j dL/da_j = mean(dl/df f) on every
batch, whatever the data: one factor per layer therefore shows, exactly, that the step's gradient is a multiple of
the mean loss's. The gradient divided by that factor is then projected on the one that the law predicts.
Where labels say nothing of the clusters the law follows each batch's noise, and predicts no rate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phasetrack.measures.mean_field import Law
from phasetrack.model.geometry import Geometry, Neurons

# Weight of the records before, per record: about the last twenty count. A heuristic of ours.
MEMORY = 0.95
# The law fails where its projection is further from 1 than this, by so many standard errors, on so many
# records. Heuristics of ours; on tasks that the law holds for the projection is within 0.03 of 1.
TOLERANCE = 0.1
ERRORS = 3.0
LEAST_RECORDS = 8
# A factor closer to 1 is rounding, or not worth a note. A heuristic of ours.
FACTOR_TOLERANCE = 0.02
# Roundings of the outputs that the mean of dl/df f has to exceed to tell a factor. A heuristic of ours.
ROUNDINGS = 100
# Where rounding hides a factor, it counts as 1 if the step's own projection is within this ratio of it.
PLAUSIBLE = 2.0
# Standard deviations of its chi-squared statistic that the slopes have to be clear of noise by. A heuristic of ours.
CLEAR = 4.0


def gradient_table(W: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    """The gradient of a step in a few numbers per neuron.

    Args:
        W: first-layer weights, (..., p, d).
        gradient: by w and by a of each neuron, (..., p, d + 1).
        geometry: the clusters.

    Returns:
        (..., p, k + 2): the gradient by w in the signal span's basis, its product with w, and the gradient by a.
    """
    first = gradient[..., :-1]
    product = torch.linalg.vecdot(W, first).unsqueeze(-1)
    return torch.cat([geometry.coordinates(first), product, gradient[..., -1:]], dim=-1)


def factors(
    neurons: Neurons, gradient: Tensor, work: Tensor, slope: Tensor, precision: torch.dtype
) -> Tensor:
    """Return the step's gradient divided by that of the mean loss, one factor per layer, (..., 2).

    Args:
        neurons: the network, bias-free and ReLU.
        gradient: of the step, (..., p, k + 2); see `gradient_table`.
        work: mean of dl/df f over the batch, (...).
        slope: mean of |dl/df|, (...).
        precision: the dtype of the outputs.

    Returns:
        NaN where a gradient is not known, or the outputs' rounding hides the mean.
    """
    products = torch.stack(
        [gradient[..., -2].sum(-1), (gradient[..., -1] * neurons.second_layer).sum(-1)], dim=-1
    )
    rounding = torch.finfo(precision).eps * neurons.reach.sum(-1) * neurons.output_scale
    is_clear = work.abs() > ROUNDINGS * rounding * slope
    return torch.where(is_clear.unsqueeze(-1), products / work.unsqueeze(-1), torch.nan)


def agreement(neurons: Neurons, gradient: Tensor, motion: Law) -> Tensor:
    """Products of the step's gradient G and of the law's, P: <G, P> and <P, P> of either layer.

    Args:
        neurons: the network.
        gradient: of the step, (..., p, k + 2).
        motion: the law on the step's batch.

    Returns:
        (..., 2, 2), layers by products; of the first layer within the signal span.
    """
    steps = (-gradient[..., :-2], -gradient[..., -1:])
    laws = (motion.coordinates, motion.second_layer.unsqueeze(-1))
    rows = [
        torch.stack(
            [(step * law).sum((-1, -2)) / neurons.output_scale, law.square().sum((-1, -2))], dim=-1
        )
        for step, law in zip(steps, laws, strict=True)
    ]
    return torch.stack(rows, dim=-2)


def assumed(factor: Tensor, products: Tensor) -> Tensor:
    """Take a factor that is not known as 1 where the step's gradient is about the law's own.

    Args:
        factor: (..., 2), NaN where it is not known.
        products: of `agreement` with a factor of 1, (..., 2, 2).

    Returns:
        (..., 2); NaN where it is not known and not about 1.
    """
    own = products[..., 0] / products[..., 1]
    plausible = torch.where((own > 1 / PLAUSIBLE) & (own < PLAUSIBLE), 1.0, torch.nan)
    return factor.where(~factor.isnan(), plausible.to(factor))


def followed(before: Tensor | None, products: Tensor) -> Tensor:
    """Weighted sums of `agreement` up to each record.

    Args:
        before: sums at the record before, (2, 6); None at the first.
        products: of K records, (K, 2, 2); NaN in a record that tells nothing.

    Returns:
        (K, 2, 6): of <G, P>, <P, P>, <G, P>^2, <G, P> <P, P>, <P, P>^2, and the number of records.
    """
    step, law = products.unbind(dim=-1)
    known = (step.isfinite() & law.isfinite()).unsqueeze(-1)
    new = torch.stack([step, law, step**2, step * law, law**2, torch.ones_like(law)], dim=-1)
    return _running(before, new, known, [MEMORY, MEMORY, *[MEMORY**2] * 3, 1.0])


def followed_slopes(
    before: Tensor | None, sizes: Tensor, slopes: Tensor, squares: Tensor
) -> Tensor:
    """Weighted sums of the loss slopes of each cluster up to each record.

    Args:
        before: sums at the record before, (C, 2); None at the first.
        sizes: samples of K records in each cluster, (K, C).
        slopes: their mean of -label_c dl/df, (K, C); NaN in a record that tells nothing.
        squares: their mean of (dl/df)^2, (K, C).

    Returns:
        (K, C, 2): sums over samples of the slope and of its square.
    """
    new = torch.stack([sizes * slopes, sizes * squares], dim=-1)
    known = new.isfinite().all(dim=-1, keepdim=True)
    return _running(before, new, known, [MEMORY, MEMORY**2])


def pulls_clearly(sums: Tensor) -> Tensor:
    """Whether the slopes of some cluster have a sign: (..., C, 2) to bool (...).

    Without one each cluster adds about a squared normal number, sum^2 / (sum of squares): a chi-squared test.
    """
    total, squares = sums.unbind(dim=-1)
    seen = squares > 0
    statistic = (total.square() / squares).where(seen, 0.0).sum(dim=-1)
    count = seen.sum(dim=-1)
    return statistic > count + CLEAR * (2 * count).sqrt()


def _running(before: Tensor | None, new: Tensor, known: Tensor, kept: list[float]) -> Tensor:
    """Sums up to each of K records, those before weighed by `kept`; unknown records change nothing."""
    rows, weights = (
        table.where(known, rest).flatten(1).tolist()
        for table, rest in ((new, 0.0), (new.new_tensor(kept), 1.0))
    )
    sums = [0.0] * len(rows[0]) if before is None else before.flatten().tolist()
    found = []
    for row, weight in zip(rows, weights, strict=True):
        sums = [keep * old + value for keep, old, value in zip(weight, sums, row, strict=True)]
        found.append(sums)
    return new.new_tensor(found).view(new.shape)


def ratio(sums: Tensor) -> Tensor:
    """The step's gradient projected on the law's, 1 where the law holds: (..., 6) to (...)."""
    return torch.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], torch.nan)


def is_off(sums: Tensor) -> Tensor:
    """Whether the ratio is certainly not 1, bool (..., 6) to (...)."""
    _, law, step_square, product, law_square, count = sums.unbind(dim=-1)
    found = ratio(sums)
    residual = step_square - 2 * found * product + found**2 * law_square
    error = (residual.clamp_min(0) * count / (count - 1)).sqrt() / law
    return (count >= LEAST_RECORDS) & ((found - 1).abs() - ERRORS * error > TOLERANCE)
