"""Every threshold in plain words: a short name, and a sentence for tooltips."""

from __future__ import annotations

THRESHOLD_WORDS: dict[str, tuple[str, str]] = {
    "zeta_enter": (
        "detection level of ζ*",
        "The features are certain to be found once ζ* is at or under this level.",
    ),
    "zeta_exit": (
        "onset level of ζ*",
        "The onset of signal-heaviness is the last crossing of this level; the phase ends above it.",
    ),
    "linear_exit": (
        "linear exit",
        "The loss leaves its first-order regime once the value error exceeds this share.",
    ),
    "finding_drift": (
        "most slope drift of finding",
        "SIGNAL_FINDING requires that the loss's slope has drifted by no more than this share.",
    ),
    "loss_target": (
        "loss target",
        "A run is FITTED once its loss is at or under this value, where the best constant output has 1.386; the same share of it in other problems.",
    ),
    "fitted_exit": (
        "loss that ends FITTED",
        "FITTED ends once the loss exceeds this multiple of its target.",
    ),
    "least_samples": (
        "samples per judgement",
        "The loss is judged by a mean over the last records that together hold this many samples.",
    ),
    "standard_errors": (
        "standard errors",
        "A mean counts as beyond a level once it is clear of the level by this many standard errors.",
    ),
    "linear_return": (
        "return to the linear regime",
        "The linear exit is left again once the value error is under this share of its level.",
    ),
    "most_offset": (
        "most offset of a cluster",
        "The data fit the clusters while each mean is at most this many half-distances from its centre.",
    ),
    "least_told": (
        "least labels explained",
        "The data fit the clusters only if the nearest centre explains this share of the rarer labels.",
    ),
    "least_separated": (
        "least pairs separated",
        "Clusters made of a sample fit if this share of the pairs with different labels is told apart.",
    ),
    "imbalance_mass": (
        "heavy mass for IMBALANCED",
        "IMBALANCED is checked once heavy neurons hold this share of the weights.",
    ),
    "imbalance_balance": (
        "balance of a cluster left behind",
        "A cluster without a positive margin is left behind under this ratio of smallest to largest margin.",
    ),
    "imbalance_fall": (
        "fall of the balance",
        "IMBALANCED also if the balance falls at every record to under this share of its first value.",
    ),
    "learned_loss": (
        "loss after learning",
        "Something is learned once the mean loss is under this share of the first one.",
    ),
    "patience": (
        "patience in records",
        "Records in a row that a failure must last before its alert.",
    ),
    "saddle_patience": (
        "escape times before SADDLE",
        "SADDLE is raised after this many predicted escape times without growth.",
    ),
    "saddle_growth": (
        "growth that leaves a saddle",
        "Factor by which the signal has to grow against the rest to count as growth.",
    ),
    "non_signal_ratio": (
        "noise rate over signal rate",
        "NON_SIGNAL_GROWTH from this ratio of the two growth rates on.",
    ),
    "non_signal_growth": (
        "growth of the noise",
        "NON_SIGNAL_GROWTH once the weights outside the signal span have grown by this factor.",
    ),
    "non_signal_odds": (
        "lead of the signal",
        "NON_SIGNAL_GROWTH only while the signal has grown against the rest by less than this factor.",
    ),
    "lazy_drift": (
        "kernel drift of LAZY",
        "LAZY if the tangent kernel has moved by no more than this share.",
    ),
    "lazy_linearisation": (
        "linear share of LAZY",
        "LAZY also if the outputs are within this share of their way of the network linearised at its start.",
    ),
    "diverged_factor": (
        "loss that counts as divergence",
        "DIVERGED once the loss exceeds this multiple of the first loss.",
    ),
}


def threshold_name(name: str) -> str:
    """Return a threshold's name for people; one without words keeps its own.

    >>> threshold_name("loss_target"), threshold_name("mine")
    ('loss target', 'mine')
    """
    return THRESHOLD_WORDS[name][0] if name in THRESHOLD_WORDS else name
