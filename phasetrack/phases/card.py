"""A run at a glance, as text for a prompt and as HTML for a notebook: label, timeline, boundaries, words."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping
from itertools import compress
from typing import Any

from phasetrack.phases.boundaries import MILESTONES, onset
from phasetrack.phases.labels import Phase
from phasetrack.phases.palette import ALERT_COLOUR, PHASE_COLOURS
from phasetrack.phases.verdict import story
from phasetrack.phases.words import ONSET_AND_DETECTION, alert_advice, alert_sentence, ended

CELL = "padding:1px 12px 1px 0;text-align:left;border:none"


def as_text(title: str, summary: Mapping[str, Any]) -> str:
    """Return a run in a few lines.

    Args:
        title: the kind and the name of the thing.
        summary: the content of ``summary.json``, as far as it is known.
    """
    told = story(summary)
    lines = [f"{title}: {ended(summary)}", told.verdict, told.why, told.advice]
    return "\n  ".join(line for line in (*lines, *_alerts(summary)) if line)


def as_html(title: str, summary: Mapping[str, Any], *, told: bool = True) -> str:
    """Return a run as an HTML fragment; every text in it is escaped.

    Args:
        title: the kind and the name of the thing.
        summary: the content of ``summary.json``, as far as it is known.
        told: whether the story is told; that of a forecast is its table.
    """
    colour = PHASE_COLOURS[Phase[summary.get("phase", Phase.UNDETERMINED.name)]]
    badge = f'<span style="background:{colour};color:#000;padding:1px 8px;border-radius:3px">'
    alerts = "".join(
        f'<p style="color:{ALERT_COLOUR};margin:4px 0">&#9650; {html.escape(line)}</p>'
        for line in _alerts(summary)
    )
    return (
        '<div style="max-width:70em">'
        f"<p style='margin:4px 0'><b>{html.escape(title)}</b> {badge}{html.escape(ended(summary))}"
        f"</span></p>{_timeline(summary)}"
        f"<p style='margin:4px 0'>{html.escape(story(summary).text if told else '')}</p>{alerts}"
        f"{_boundaries(summary, measured=told)}</div>"
    )


def _alerts(summary: Mapping[str, Any]) -> Iterator[str]:
    for alert in summary.get("alerts", ()):
        sentence = alert_sentence(alert["name"], alert["step"], alert["evidence"])
        yield f"{sentence} {alert_advice(alert['name'])}".rstrip()


def _timeline(summary: Mapping[str, Any]) -> str:
    """Return a bar with one coloured stretch per label."""
    stretches = summary.get("timeline", ())
    parts = "".join(
        f'<span title="{stretch["phase"]}: steps {stretch["start"]} to {stretch["end"]}" style="'
        f"flex:{stretch['end'] - stretch['start'] + 1};min-width:2px;"
        f'background:{PHASE_COLOURS[Phase[stretch["phase"]]]}"></span>'
        for stretch in stretches
    )
    return f'<div style="display:flex;height:12px;max-width:40em">{parts}</div>' if parts else ""


def _boundaries(summary: Mapping[str, Any], *, measured: bool) -> str:
    """Return the milestones of a run, measured beside forecast, or those of a forecast alone."""
    detected = {b["name"]: b["detected"] for b in summary.get("boundaries", ())}
    rows = []
    for milestone in MILESTONES:
        band = summary.get("forecast", {}).get(milestone.forecast, {})
        step, value = onset(summary, milestone.key), band.get("value", math.nan)
        if math.isnan(step) and math.isnan(value):
            continue
        ends = f" ({_step(band['low'])} to {_step(band['high'])})" if math.isfinite(value) else ""
        seen = detected.get(milestone.key, "")
        rows.append((milestone.title, _step(step), str(seen), _step(value) + ends))
    if not rows:
        return ""
    predicted = any(row[3] != "-" for row in rows)
    kept = [True, measured, measured, predicted]
    head = "".join(
        f'<th style="{CELL}" title="{html.escape(ONSET_AND_DETECTION)}">{name}</th>'
        for name in compress(("boundary", "onset", "detected", "forecast"), kept)
    )
    body = "".join(
        f"<tr>{''.join(f'<td style={CELL!r}>{html.escape(cell)}</td>' for cell in compress(row, kept))}</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _step(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"
