"""Formulas compared with outputs: the factor, and which of several candidates reproduces them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from phasetrack.model.formula import LINKS, Formula, FrozenLayers

# How far a network's outputs may be from the formula's, relative to their spread, before phasetrack
# says that the layers are not all (well above float32 rounding); coarser dtypes get `ROUNDINGS`
# units in their last place.
REPRODUCTION_TOLERANCE = 1e-3
ROUNDINGS = 16
# A candidate that misses by more than this factor of the best one's miss does not fit equally well.
CLEARLY_WORSE = 10.0
# Outputs that have to agree before anything is settled by them alone: the factor takes one, and the
# others agree within a thousandth by chance about once in 10^20. Chosen here.
SETTLING_VALUES = 8
# Rows that are compared at most, and numbers in a layer from which on they are compared in float32.
MOST_ROWS, LARGE = 512, 2**24

# What undoes a link, up to a constant per row where `_UP_TO_A_CONSTANT` holds it.
_INVERSES: dict[str, Callable[[Tensor], Tensor]] = {
    "log_softmax": lambda outputs: outputs,
    "softmax": torch.log,
    "sigmoid": torch.logit,
    "logsigmoid": lambda outputs: outputs - torch.log(-torch.expm1(outputs)),
    "tanh": torch.atanh,
}
_UP_TO_A_CONSTANT = ("log_softmax", "softmax")


class Candidate(NamedTuple):
    """One reading of the layers.

    Attributes:
        formula: what they compute; its factor is measured where it is None.
        turned: whether the first and the second matrix are the other way round.
    """

    formula: Formula
    turned: tuple[bool, bool] = (False, False)


class Verdict(NamedTuple):
    """Candidates that reproduce the outputs equally well, factors measured.

    Attributes:
        fitting: the best one first; empty where none reproduces them.
        miss: how far the best candidate is off, as it decides: beyond rounding, relative to the
            spread of the outputs.
        distance: its difference relative to the outputs themselves, for people.
        informative: whether the outputs are more than rounding, so that they tell anything.
    """

    fitting: tuple[Candidate, ...]
    miss: float
    distance: float = math.inf
    informative: bool = True


def tolerance(*dtypes: torch.dtype | None) -> float:
    """Return how far values of these dtypes may differ, relative to their size, and be the same."""
    return max(REPRODUCTION_TOLERANCE, ROUNDINGS * unit_in_the_last_place(*dtypes))


def unit_in_the_last_place(*dtypes: torch.dtype | None) -> float:
    """Return the relative spacing of the coarsest of some floating-point dtypes."""
    return max(torch.finfo(dtype).eps for dtype in dtypes if dtype is not None)


def thinned(rows: Tensor, weight_count: int = 0) -> Tensor:
    """Return some rows from all parts of a table, fewer of them for large layers."""
    most = max(SETTLING_VALUES, min(MOST_ROWS, 2**31 // max(weight_count, 1)))
    return rows[:: max(1, math.ceil(len(rows) / most))]


def on_host(values: Tensor | None) -> Tensor | None:
    """Return a copy for comparisons: on the host, float64, or float32 where it is large."""
    if values is None:
        return None
    return values.detach().cpu().to(torch.float32 if values.numel() > LARGE else torch.float64)


def difference(ours: Tensor, theirs: Tensor, rounding: float) -> float:
    """Return how far two sets of outputs differ, relative to the spread of the second over samples.

    Args:
        ours: (n, outputs).
        theirs: (n, outputs).
        rounding: norm of a difference that is rounding alone.
    """
    spread = (theirs - theirs.mean(dim=0)).norm() if len(theirs) > 1 else theirs.norm()
    beyond = max(float((ours - theirs).norm()) - rounding, 0.0)
    return beyond / max(float(spread), rounding, 1e-300) if beyond else 0.0


def rounding_of(hidden: Tensor, A: Tensor, scale: float, bias: Tensor, unit: float) -> float:
    """Return the norm that rounding alone gives to outputs, of terms that may cancel each other.

    Args:
        hidden: (n, p).
        A: (outputs, p).
        scale: factor on the sum.
        bias: what is added to it.
        unit: relative spacing of the dtype.
    """
    terms = abs(scale) * (hidden.abs() @ A.abs().T).norm() / len(A.T) ** 0.5
    return 2 * unit * float(terms + bias.norm() * len(hidden) ** 0.5)


def compare(
    layers: FrozenLayers,
    candidates: Sequence[Candidate],
    inputs: Tensor,
    outputs: Tensor,
    precision: torch.dtype | None = None,
) -> Verdict:
    """Compare candidates with outputs that the same weights made.

    Args:
        layers: the weights, as they stand in the model.
        candidates: readings to try, likely ones first.
        inputs: of the first layer, (m, d).
        outputs: (m,) or (m, n).
        precision: dtype that they were computed in, where that is coarser than their own.
    """
    numbers = layers.W.numel()
    x, theirs = on_host(thinned(inputs, numbers)), on_host(thinned(outputs, numbers))
    assert x is not None and theirs is not None
    theirs = theirs.reshape(len(x), -1)
    within, unit = (of(outputs.dtype, precision) for of in (tolerance, unit_in_the_last_place))
    parts = [on_host(part) for part in (layers.W, layers.A, layers.bias, layers.head_bias)]
    fitted = (_fitted(each, parts, x, theirs, unit) for each in candidates)
    trials = [each for each in fitted if each is not None]
    if not trials:
        return Verdict((), math.inf)
    closest = min(trials, key=lambda trial: trial.miss)
    if closest.miss > within:
        return Verdict((), closest.miss, closest.distance)
    limit = max(CLEARLY_WORSE * closest.miss, within / 100)
    fitting = tuple(trial.candidate for trial in trials if trial.miss <= limit)
    tells = any(trial.tells for trial in trials)
    return Verdict(_distinct(fitting), closest.miss, closest.distance, tells)


class _Trial(NamedTuple):
    """A candidate with its factor, how far it is off, and whether the outputs tell anything of it."""

    candidate: Candidate
    miss: float
    distance: float
    tells: bool


def _fitted(
    candidate: Candidate,
    parts: Sequence[Tensor | None],
    x: Tensor,
    theirs: Tensor,
    unit: float,
) -> _Trial | None:
    """Return a candidate with its factor, compared; None where the outputs have another shape."""
    W, A, bias, head_bias = parts
    assert W is not None and A is not None
    first, second = candidate.turned
    W, A = W.T if first else W, A.T if second else A
    fits = W.shape[1] == x.shape[1] and A.shape == (theirs.shape[1], len(W))
    if not fits or (bias is not None and len(bias) != len(W)):
        return None
    formula = replace(candidate.formula, heads=len(A), width=len(W))
    plain = FrozenLayers(replace(formula, scale=1.0, link="identity"), W, A, bias, head_bias)
    hidden = formula.activation(torch.nn.functional.linear(x, W, bias))
    constant = x.new_zeros(()) if head_bias is None else head_bias
    total = plain.outputs(x).reshape(theirs.shape)
    scaled = total if formula.bias_scaled else total - constant
    fixed = torch.zeros_like(constant) if formula.bias_scaled else constant
    scale = formula.scale
    if scale is None:
        scale = _factor(formula.link, scaled, fixed, theirs)
    if not math.isfinite(scale):
        return None
    ours = LINKS[formula.link](scale * scaled + fixed)
    rounding = rounding_of(hidden, A, scale, fixed, unit)
    miss = difference(ours, theirs, rounding)
    spread = (theirs - theirs.mean(dim=0)).norm() if len(theirs) > 1 else theirs.norm()
    tells = bool(spread > ROUNDINGS * rounding)
    gap, size = float((ours - theirs).norm()), float(theirs.norm())
    distance = gap / size if size else (math.inf if gap else 0.0)
    found = candidate._replace(formula=replace(candidate.formula, scale=scale))
    return _Trial(found, miss, distance, tells)


def _factor(link: str, scaled: Tensor, fixed: Tensor, theirs: Tensor) -> float:
    """Return the factor by which the layers' sum comes closest to the outputs, before their link.

    A sum of zeros fits any factor: 1 then.
    """
    target = theirs if link == "identity" else _INVERSES[link](theirs)
    target, values = target - fixed, scaled
    if link in _UP_TO_A_CONSTANT:
        target = target - target.mean(dim=-1, keepdim=True)
        values = values - values.mean(dim=-1, keepdim=True)
    usable = target.isfinite()
    target, values = target[usable], values[usable]
    size = values.square().sum()
    return float((values * target).sum() / size) if size > 0 else 1.0


def _distinct(fitting: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Drop candidates that are the same function as one before them, whatever the weights become."""
    kept: list[Candidate] = []
    for each in fitting:
        twin = any(
            _but_for_the_bias(each) == _but_for_the_bias(other)
            and abs((each.formula.scale or 0.0) - 1) <= REPRODUCTION_TOLERANCE
            for other in kept
        )
        if not twin:
            kept.append(each)
    return tuple(kept)


def _but_for_the_bias(candidate: Candidate) -> tuple[object, ...]:
    formula = candidate.formula
    return formula.activation, formula.link, candidate.turned


def only_the_bias_is_open(candidates: Sequence[Candidate]) -> bool:
    """Whether candidates differ in nothing but whether the factor acts on the head's bias."""
    return len({_but_for_the_bias(each) for each in candidates}) == 1


def links_of(outputs: Tensor, heads: int) -> Iterator[str]:
    """Yield the links whose values the outputs (m, n) can be, besides the identity."""
    values = on_host(thinned(outputs))
    assert values is not None
    values = values.reshape(len(values), -1)
    near = 1e-3 if outputs.dtype.itemsize >= 4 else 0.05
    positive = bool((values >= 0).all() and (values <= 1).all())
    if heads > 1:
        if bool((values.logsumexp(dim=-1).abs() <= near).all()):
            yield "log_softmax"
        if positive and bool(((values.sum(dim=-1) - 1).abs() <= near).all()):
            yield "softmax"
    if positive:
        yield "sigmoid"
    if bool((values <= 0).all()):
        yield "logsigmoid"
    if bool((values.abs() <= 1).all()):
        yield "tanh"
