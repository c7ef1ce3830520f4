"""Labels of the Phases tab with their sentences, which are those of the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phasetrack.phases.labels import PAPERS
from phasetrack.phases.verdict import story
from phasetrack.phases.words import ONSET_AND_DETECTION, alert_advice, alert_sentence, ended

# Entries of a summary that the story needs beside the labels.
TOLD = (
    "final",
    "units",
    "forecast",
    "undefined",
    "steps",
    "stopped",
    "loss_at",
    "loss_halving_step",
    "vocabularies",
    "hindsight",
)


def spoken(labels: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return labels with ``ended``, ``story``, ``terms``, and ``alert_words``: a text for each alert.

    Args:
        labels: under the keys of ``summary.json``.
        summary: the run's summary, or its `TOLD` entries as far as they are known.
    """
    told = {name: summary[name] for name in TOLD if name in summary} | dict(labels)
    if "vocabularies" not in told:  # a run that lasts
        told["vocabularies"] = {PAPERS: {"applies": labels.get("applies", True)}}
    sentences = [
        f"{alert_sentence(alert['name'], alert['step'], alert['evidence'])} {alert_advice(alert['name'])}"
        for alert in labels["alerts"]
    ]
    return {
        **labels,
        "alert_words": [sentence.rstrip() for sentence in sentences],
        "ended": ended(told),
        "story": story(told).text,
        "terms": ONSET_AND_DETECTION,
    }
