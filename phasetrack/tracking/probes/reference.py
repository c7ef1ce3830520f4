"""The reference of every metric that a run records: unit, section of docs/theory.md, one line.

The optional probes have the reference of their metrics beside them, as METRICS.
"""

from __future__ import annotations

from functools import cache

from phasetrack.tracking.probes.metric import Metric
from phasetrack.tracking.probes.optional import modules

_SHARE, _NONE, _RATE, _LOSS = "share", "ratio", "1 / time", "loss"
_PARTS = {
    "signal": "the part along the neuron's own clusters",
    "opposing": "the part along the other clusters",
    "perp": "the part outside the signal span",
    "second_layer": "the second-layer weight",
}
_GROUPS = {"": "all neurons", "_heavy": "heavy neurons", "_rest": "the other neurons"}

METRICS: tuple[Metric, ...] = (
    Metric("loss/train", _LOSS, "1", "mean loss of the step's samples"),
    Metric("loss/mean", _LOSS, "8", "mean loss per sample, where the loop's loss is a sum"),
    Metric("loss/samples", "samples", "8", "number of the step's samples"),
    Metric("loss/spread", _LOSS, "8", "standard deviation of the samples' losses"),
    Metric("loss/constant", _LOSS, "8", "loss of the best constant output on the first samples"),
    Metric("error/train", _SHARE, "4", "share of the step's samples on the wrong side"),
    Metric(
        "heaviness/zeta_star", _NONE, "3", "smallest zeta for which the network is signal-heavy"
    ),
    Metric("heaviness/zeta_star_paper", _NONE, "3", "the same with neurons weighed by |w|^2"),
    Metric("heaviness/zeta_star_is_bound", "0 or 1", "3", "whether zeta* is an upper bound"),
    Metric("heaviness/heavy_mass", _SHARE, "3", "share of |a||w| in neurons that need zeta <= 1/2"),
    Metric("heaviness/signal_share", _SHARE, "2", "share of squared length in the signal span"),
    Metric("heaviness/chance", _SHARE, "2", "the same share of a random direction: k / d"),
    Metric("heaviness/control", _SHARE, "2", "the same share for a random span of dimension k"),
    Metric("norm/first", "length", "2", "root mean square of |w|; without declared clusters"),
    Metric("norm/second", "length", "2", "root mean square of |a|; without declared clusters"),
    Metric("norm/first_rate", _RATE, "6", "growth of norm/first"),
    Metric("norm/second_rate", _RATE, "6", "growth of norm/second"),
    Metric("direction/overlap/<direction>", "cosine", "10", "largest |cosine| of a neuron with it"),
    Metric("direction/chance", "cosine", "10", "the same, passed by random neurons once in 100"),
    Metric("margin/min", "output", "4", "smallest clean cluster margin"),
    Metric("margin/mean", "output", "4", "mean clean cluster margin"),
    Metric("margin/max", "output", "4", "largest clean cluster margin"),
    Metric("margin/balance", _NONE, "4", "smallest clean margin divided by the largest"),
    Metric("margin/clean/<cluster>", "output", "4", "margin at the cluster's centre"),
    Metric("margin/empirical/<cluster>", "output", "4", "mean margin of the cluster's samples"),
    Metric("margin/empirical_low/<cluster>", "output", "4", "low quantile of those margins"),
    Metric("linearization/value_error", _NONE, "5", "distance of the loss from first order"),
    Metric("linearization/slope_drift", _NONE, "5", "distance of the loss's slope from that at 0"),
    Metric("linearization/loss_change", _LOSS, "5", "mean distance of the loss from that at 0"),
    Metric(
        "linearization/gradient_error_<layer>",
        _NONE,
        "5",
        "distance of a layer's gradient from first order; recorded on request",
    ),
    *(
        Metric(f"growth/{part}_rate{group}{kind}", _RATE, "6", f"growth of {what}, {whom}{how}")
        for part, what in _PARTS.items()
        for group, whom in _GROUPS.items()
        for kind, how in (("", ""), ("_predicted", ", by the mean-field law"))
    ),
    Metric("growth/perp_factor", _NONE, "8", "growth of |perp| since the start, growing neurons"),
    Metric(
        "growth/gradient_factor",
        _NONE,
        "6",
        "the first layer's gradient of the step divided by that of the mean loss",
    ),
    Metric("growth/gradient_factor_second_layer", _NONE, "6", "the same of the second layer"),
    Metric(
        "growth/law_ratio",
        _NONE,
        "6",
        "the first layer's gradient projected on that of the mean-field law, recent records; 1 where it holds",
    ),
    Metric("growth/law_ratio_second_layer", _NONE, "6", "the same of the second layer"),
    Metric("data/offset", "half-distances", "8", "distance of samples' means from their centres"),
    Metric("data/spread_inside", "half-distances", "8", "spread within clusters, in the span"),
    Metric("data/spread_outside", "length", "8", "the same per coordinate outside the span"),
    Metric("data/purity", _SHARE, "8", "labels of the first samples that the nearest centre tells"),
    Metric("data/told", _SHARE, "8", "the same beyond the commonest label, of all others"),
    Metric("data/separated", _SHARE, "8", "pairs of clusters told apart where they were made"),
    Metric("data/told_error", _SHARE, "8", "standard error of that share"),
    Metric("layers/balance", _NONE, "6", "root mean square of a divided by that of w"),
    Metric("layers/balance_heavy", _NONE, "6", "the same over heavy neurons"),
    Metric(
        "kernel/drift", _NONE, "9", "relative change of the tangent kernel since the start; sparse"
    ),
    Metric(
        "kernel/alignment",
        "cosine",
        "9",
        "angle of the tangent kernel to that of the start; sparse",
    ),
    Metric(
        "kernel/velocity",
        _RATE,
        "9",
        "change of the kernel per time since its last reading; sparse",
    ),
    Metric(
        "kernel/linearisation_error",
        _NONE,
        "9",
        "distance of the outputs from those of the network linearised at its start; sparse",
    ),
    Metric(
        "kernel/distance", _NONE, "9", "distance of all weights from the start, relative; sparse"
    ),
    Metric("forecast/zeta_star", _NONE, "6b", "zeta* that the forecast predicts for the step"),
    Metric("forecast/loss", _LOSS, "6b", "loss that the forecast predicts for the step"),
    Metric("forecast/margin_min", "output", "6b", "smallest margin that the forecast predicts"),
    Metric(
        "phase/<vocabulary>",
        "label",
        "8",
        "number of a vocabulary's label, 0 is UNDETERMINED (docs/vocabularies.md); `phase/id` is that of "
        "finds-then-tunes: 1 SIGNAL_FINDING, 2 SIGNAL_HEAVY, 3 FITTED",
    ),
    Metric("held_out/loss", _LOSS, "1", "`HeldOutProbe`: mean loss of a sample of its own"),
    Metric("held_out/standard_error", _LOSS, "8", "`HeldOutProbe`: standard error of that mean"),
    Metric("held_out/error", _SHARE, "4", "`HeldOutProbe`: share of it on the wrong side"),
    Metric("held_out/value_error", _NONE, "5", "`HeldOutProbe`: value error on it"),
    Metric("held_out/slope_drift", _NONE, "5", "`HeldOutProbe`: slope drift on it"),
    Metric("acquisition/<feature>", "output", "9", "`AcquisitionProbe`: gain of the feature"),
    Metric("acquisition/<feature>/neurons", "neurons", "9", "`AcquisitionProbe`: its holders"),
    Metric("gathering/share", _SHARE, "9", "`GatheringProbe`: share near their group's direction"),
    Metric("gathering/spread", _NONE, "9", "`GatheringProbe`: spread of neurons in their group"),
    Metric("gathering/block_spread", _NONE, "9", "`GatheringProbe`: spread of the groups' means"),
    Metric(
        "gathering/independent_spread",
        _NONE,
        "9",
        "`GatheringProbe`: that spread if neurons were independent",
    ),
    Metric("gathering/signal/<cluster>", "length", "9", "`GatheringProbe`: a group's mean signal"),
    Metric("gathering/neurons/<cluster>", "neurons", "9", "`GatheringProbe`: a group's size"),
    Metric("gathering/growing_blocks", _SHARE, "9", "`GatheringProbe`: groups whose signal grew"),
    Metric("gathering/growing_neurons", _SHARE, "9", "`GatheringProbe`: neurons whose signal grew"),
    Metric("span/dim", "dimensions", "9", "`SpanProbe`: dimension of the span that was found"),
    Metric("span/gap", _NONE, "9", "`SpanProbe`: gap in its eigenvalues"),
    Metric("span/stability", _NONE, "9", "`SpanProbe`: agreement with a second network's span"),
    Metric("span/chance", _NONE, "9", "`SpanProbe`: that agreement for random spans"),
    Metric("span/accuracy", _SHARE, "9", "`SpanProbe`: labels told from the span"),
    Metric("span/majority", _SHARE, "9", "`SpanProbe`: labels told without it"),
    Metric("span/trustworthy", "0 or 1", "9", "`SpanProbe`: whether the span can be trusted"),
    Metric("span/angle", "degrees", "9", "`SpanProbe`: largest angle to the declared span"),
)


@cache
def all_metrics() -> tuple[Metric, ...]:
    """Return `METRICS`, then those of the optional probes."""
    further = (metric for module in modules() for metric in module.METRICS)
    return (*METRICS, *further)


def metric_of(name: str) -> Metric | None:
    """Return the reference of a recorded name; None if there is none."""
    return next((metric for metric in all_metrics() if metric.matches(name)), None)


def description(name: str) -> str:
    """Return the meaning of a recorded reading or boundary in a line; empty for one of the user's own.

    >>> description("heaviness/chance")
    'the same share of a random direction: k / d (share; docs/theory.md, section 2)'
    """
    if name == "phase_alerts":
        return "alerts so far; the Phases tab and the text tab have their sentences"
    if name.startswith("phase_boundary/"):
        return (
            "step of the onset"
            if name.endswith("_onset")
            else "0 before its detection, 1 from then on"
        )
    metric = metric_of(name)
    if metric is None:
        return ""
    return f"{metric.line} ({metric.unit}; docs/theory.md, section {metric.section})"
