"""The terms of phasetrack, each in a sentence or two: for docs/glossary.md, tooltips and TensorBoard."""

from __future__ import annotations

TERMS: dict[str, str] = {
    "cluster": "A group of inputs around one centre that share a label; the geometry lists all centres.",
    "signal span": "The space that the cluster centres span. The rest of the input is noise.",
    "signal": "The part of a neuron's weights in the signal span of the label that its second-layer weight "
    "speaks for (sig); the part in the other labels' span is opp.",
    "perp": "The part of a neuron's weights outside the signal span: what it has of noise.",
    "feature": "A direction of the signal span that some neurons have turned to.",
    "zeta": "Noise over signal: a set of neurons is zeta-signal-heavy if each has at most zeta times as "
    "much perp as signal, and the set outweighs all other neurons.",
    "zeta*": "The smallest zeta for which the network is signal-heavy. It starts far above 1 and falls as "
    "features are found; infinite means that no set was found that classifies every cluster's centre.",
    "signal-heavy": "zeta* has come under 0.8 and has not been above 1 "
    "since: the features are found.",
    "heavy neuron": "A neuron that needs a zeta of at most 1/2; the heavy mass is the share of |a||w| in "
    "such neurons.",
    "signal share": "The share of squared first-layer weight in the signal span; chance is its value for "
    "a random direction.",
    "clean margin": "The output at a cluster's centre times its label. The empirical margin is the mean "
    "over samples, with their noise.",
    "balance": "The smallest clean margin divided by the largest: 1 if every cluster is served alike.",
    "value error": "How far the loss is from its first-order approximation at output 0, relative to it.",
    "slope drift": "How far the loss's slope is from that at output 0: at 0.25 it has three quarters left.",
    "first order": "While the loss is close to its linear approximation, features grow and the loss "
    "hardly moves.",
    "time": "A step lasts eta, the step size of each neuron; the optimizer's rate is eta times the width.",
    "onset": "The step at which a reading crossed the level of a boundary, interpolated between records.",
    "detection": "The recorded step at which a boundary was certain, such as zeta* under 0.8 after its "
    "onset at 1.",
    "forecast": "The run as the mean-field law predicts it before training, with a band over random starts.",
    "FITTED": "The training loss has met its target and has not been above twice that since.",
    "SIGNAL_FINDING": "Not signal-heavy, and the loss is still close to first order.",
    "SIGNAL_HEAVY": "The features are found, and the loss target is not met yet.",
    "UNDETERMINED": "None of the other labels applies, or a reading that they need is missing; the reason "
    "says which.",
}
