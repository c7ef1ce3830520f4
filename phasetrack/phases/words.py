"""The sentences about labels, boundaries and alerts: one table for terminal, tab, report and `repr`.

Pure text from the values of ``summary.json``. A name that the tables do not have keeps its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class AlertWords(NamedTuple):
    """What an alert says.

    Attributes:
        title: its meaning in a few words.
        numbers: the numbers behind it, as a format string over the names of its evidence.
        causes: its usual causes.
        remedy: what to do.
    """

    title: str
    numbers: str
    causes: str
    remedy: str


ALERTS: Mapping[str, AlertWords] = {
    "SADDLE": AlertWords(
        "no features are being found",
        "the signal share is {heaviness/signal_share}, as small as at the start "
        "({first heaviness/signal_share}), although the loss should have halved by step "
        "{predicted escape step}",
        "labels without signal, a first layer that does not train, or a learning rate that is too small",
        "check the labels and that the optimizer has the first layer, then raise the learning rate",
    ),
    "IMBALANCED": AlertWords(
        "a cluster is left behind",
        "heavy neurons hold {heaviness/heavy_mass} of the weights, and the smallest clean margin is only "
        "{margin/balance} of the largest",
        "too few neurons to serve every cluster, clusters of unequal frequency, or label noise",
        "look at the clean margin of each cluster; where one does not rise later, widen the network or start it smaller",
    ),
    "NON_SIGNAL_GROWTH": AlertWords(
        "noise is learned beside the signal",
        "outside the signal span the weights have grown to {growth/perp_factor} times their start, before "
        "the features were found",
        "a batch that is too small for the dimension, samples that repeat, or signal outside the geometry",
        "take larger or fresh batches, and check the geometry with phasetrack.discover",
    ),
    "DIVERGED": AlertWords(
        "training diverged",
        "the loss is {loss/train}, and was {first loss/train} at the start",
        "a learning rate that is too large, or inputs that are not scaled",
        "lower the learning rate, or clip the gradient",
    ),
    "LAZY": AlertWords(
        "the data were fitted without signal-heavy features",
        "the loss met its target ({loss/train}) while the kernel drift was {kernel/drift} and the "
        "linearisation error {kernel/linearisation_error}: the network stayed close to its linearisation",
        "a large initial scale, a first layer that hardly trains, or a second layer with a larger rate",
        "start the first layer smaller (such as 0.1 of the default), and compare",
    ),
}

# Labels and boundaries for people.
PHASES: Mapping[str, str] = {
    "UNDETERMINED": "undetermined",
    "SIGNAL_FINDING": "finding features",
    "SIGNAL_HEAVY": "features found",
    "FITTED": "fitted",
}
# The boundary at which a label begins.
BEGINS: Mapping[str, str] = {"SIGNAL_HEAVY": "signal_heavy", "FITTED": "fitted"}

ONSET_AND_DETECTION = (
    "onset: the step at which the reading crossed its level, interpolated; "
    "detected: the recorded step at which that was certain"
)


def alert_title(name: str) -> str:
    """Return the meaning of an alert in a few words; empty for an unknown one.

    >>> alert_title("LAZY")
    'the data were fitted without signal-heavy features'
    """
    return ALERTS[name].title if name in ALERTS else ""


def alert_sentence(
    name: str, step: float, evidence: Mapping[str, Any], words: AlertWords | None = None
) -> str:
    """Return what an alert says, with its numbers; `words` are those of its vocabulary, or of `ALERTS`.

    >>> alert_sentence("DIVERGED", 4, {"loss/train": 331.0, "first loss/train": 1.39})
    'DIVERGED at step 4: training diverged; the loss is 331, and was 1.39 at the start.'
    """
    numbers = {key: _short(value) for key, value in evidence.items()}
    words = words or ALERTS.get(name)
    listed = ", ".join(f"{key} {value}" for key, value in numbers.items())
    parts = [listed] if words is None else [words.title, _filled(words.numbers, numbers, listed)]
    said = "; ".join(part for part in parts if part)
    return f"{name} at step {step:.10g}" + (f": {said}." if said else ".")


def alert_advice(name: str, words: AlertWords | None = None) -> str:
    """Return usual causes and remedy of an alert; empty for an unknown one.

    >>> alert_advice("DIVERGED")
    'Usual causes: a learning rate that is too large, or inputs that are not scaled. Remedy: lower the learning rate, or clip the gradient.'
    """
    words = words or ALERTS.get(name)
    if words is None:
        return ""
    return f"Usual causes: {words.causes}. Remedy: {words.remedy}."


def ended(summary: Mapping[str, Any]) -> str:
    """Return the last label with the onset at which it began, and the length of the run.

    >>> boundary = {"name": "fitted", "onset": 140.9, "detected": 141}
    >>> ended({"phase": "FITTED", "steps": 144, "boundaries": [boundary]})
    'FITTED from step 140.9 on, 144 steps'
    """
    label = str(summary.get("phase", ""))
    start = last_onset(summary, BEGINS.get(label, ""))
    parts = [label if math.isnan(start) else f"{label} from step {start:.1f} on"]
    if summary.get("steps"):
        parts.append(f"{summary['steps']} steps")
    return ", ".join(part for part in parts if part)


def last_onset(summary: Mapping[str, Any], name: str) -> float:
    """Return the onset of the last boundary of a name; NaN if there is none."""
    onsets = [b["onset"] for b in summary.get("boundaries", ()) if b["name"] == name]
    return float(onsets[-1]) if onsets and onsets[-1] is not None else math.nan


def _filled(template: str, numbers: Mapping[str, str], otherwise: str) -> str:
    """Return a text with its numbers; another one where they are missing, as in a file of another version."""
    try:
        return template.format_map(numbers)
    except KeyError:
        return otherwise


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)
