"""The content of ``summary.json``: labels, events and growth of a whole run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from phasetrack.phases.classifier import METRICS, Phase, Thresholds, first_crossing
from phasetrack.phases.history import History
from phasetrack.phases.run_labels import RunLabels
from phasetrack.phases.timeline import timeline
from phasetrack.phases.vocabulary import Vocabulary
from phasetrack.phases.vocabulary_set import VocabularySet, column, label_again

LOSS, PHASE = "loss/train", "phase/id"
# Growth rates of the signal over the neurons of a phase, and the ending of their predictions' names.
RATE, PREDICTED = "growth/signal_rate", "_predicted"
RATE_GROUPS = {Phase.SIGNAL_FINDING: "", Phase.SIGNAL_HEAVY: "_heavy"}


def summarise(
    history: History,
    labels: RunLabels,
    *,
    vocabularies: VocabularySet | None = None,
    undefined: Mapping[str, str],
    steps: int,
    final: Mapping[str, float] | None = None,
    forecast: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Summarise a labelled run as JSON values.

    Numbers that are not finite stay so (``NaN``, ``Infinity`` in the file).

    Args:
        history: every recorded step, with those at least of the metrics `read_by_summary` that exist.
        labels: of all its steps.
        vocabularies: the labels of every vocabulary; None is the paper's alone.
        undefined: metric or probe name to the reason why it could not be read.
        steps: the number of optimizer steps.
        final: the readings of the last record; None reads them from the history.
        forecast: predicted boundaries, each with `value`, `low` and `high`.
        notes: sentences about the run, for people.
    """
    spoken = vocabularies or VocabularySet(labels)
    if final is None:
        final = {name: float(history[name][-1]) for name in history} if history.count else {}
    return {
        "phase": labels.phase.name,
        "reason": labels.reason,
        "steps": steps,
        **labels.events(),
        "timeline": timeline(history),
        "loss_halving_step": loss_halving_step(history),
        "loss_at": loss_at(history, labels),
        "growth": growth_by_phase(history),
        "final": dict(final),
        "forecast": dict(forecast or {}),
        "undefined": dict(undefined),
        "notes": list(notes),
        "vocabularies": _with_timelines(spoken, history, undefined),
        "thresholds": asdict(labels.thresholds),
        "units": labels.units,
    }


def read_by_summary(vocabularies: VocabularySet) -> set[str]:
    """Return the metrics whose every record `summarise` reads."""
    rates = {f"{RATE}{group}{kind}" for group in RATE_GROUPS.values() for kind in ("", PREDICTED)}
    return {LOSS, PHASE, *map(column, vocabularies), *rates}


def _with_timelines(
    spoken: VocabularySet, history: History, undefined: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    told = spoken.summary(undefined)
    for name, labels in spoken.items():
        told[name]["timeline"] = timeline(history, column(name), labels.vocabulary.phases)
    return told


def summarise_again(
    history: History,
    thresholds: Thresholds,
    *,
    escape_steps: float | None = None,
    undefined: Mapping[str, str] | None = None,
    steps: int | None = None,
    forecast: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    vocabularies: Sequence[Vocabulary] = (),
) -> dict[str, Any]:
    """Label a history under `thresholds` and by further vocabularies, and summarise it."""
    labels = RunLabels(thresholds, escape_steps)
    names = METRICS.union(*(one.metrics for one in vocabularies))
    spoken, columns = label_again(vocabularies, history.rows(names=names), labels)
    labelled = History()
    labelled.extend(history.steps, {**history, **columns})
    return summarise(
        labelled,
        labels,
        vocabularies=spoken,
        undefined=undefined or {},
        steps=history.last_step + 1 if steps is None else steps,
        forecast=forecast,
        notes=notes,
    )


def loss_halving_step(history: History) -> float:
    """Interpolate the step at which the training loss halves; NaN if never."""
    if LOSS not in history:
        return math.nan
    losses = history[LOSS]
    return first_crossing(zip(history.steps.tolist(), losses.tolist(), strict=True), losses[0] / 2)


def loss_at(history: History, labels: RunLabels) -> dict[str, float]:
    """Return the first loss, and that of the last record before the onset of each boundary."""
    if LOSS not in history or not history.count:
        return {}
    losses, steps = history[LOSS], history.steps
    onsets = {b.name: b.onset for b in labels.boundaries if math.isfinite(b.onset)}
    places = {
        name: max(int(np.searchsorted(steps, step, "right")) - 1, 0)
        for name, step in onsets.items()
    }
    return {"first": float(losses[0])} | {n: float(losses[place]) for n, place in places.items()}


def growth_by_phase(history: History) -> dict[str, dict[str, float]]:
    """Return the median growth rate of the signal per phase, measured and predicted (theory.md 6).

    The median is over all neurons in SIGNAL_FINDING, over the heavy ones in SIGNAL_HEAVY.
    """
    rates: dict[str, dict[str, float]] = {}
    for phase, group in RATE_GROUPS.items():
        measured_name, predicted_name = f"{RATE}{group}", f"{RATE}{group}{PREDICTED}"
        if measured_name not in history or predicted_name not in history:
            continue
        during = history[PHASE] == phase.value
        pairs = np.stack([history[measured_name], history[predicted_name]])[:, during]
        known = pairs[:, np.isfinite(pairs).all(axis=0)]
        if known.size:
            measured, predicted = np.median(known, axis=1)
            rates[phase.name.lower()] = {
                "measured": float(measured),
                "predicted": float(predicted),
            }
    return rates
