"""The head of the HTML report: each run in words, its lanes, boundaries and settings, and the glossary."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from phasetrack._version import __version__
from phasetrack.display.lanes import Lane, lane_colours, lanes, spoken
from phasetrack.display.style import setting
from phasetrack.phases.card import as_html
from phasetrack.phases.glossary import TERMS
from phasetrack.phases.labels import others_told
from phasetrack.phases.timeline import merged
from phasetrack.phases.words import ONSET_AND_DETECTION

# Pixels of a letter in a bar, and of a bar in a window of 1280.
LETTER, BAR = 6.5, 930
STYLE = """
#head { max-width: 1100px; margin: 0 auto; padding: 16px 20px 24px; }
#head h1 { font-size: 20px; margin: 0 0 4px; }
#head section { border-top: 1px solid var(--line); padding: 8px 0 4px; }
#head h2 { font-size: 16px; margin: 4px 0; }
#head .lane { display: grid; grid-template-columns: 130px 1fr; align-items: center; margin: 2px 0; }
#head .bar { display: flex; height: 16px; border-radius: 3px; overflow: hidden; }
#head .bar span { color: #000; font-size: 11px; line-height: 16px; text-align: center; overflow: hidden;
  white-space: nowrap; min-width: 2px; }
#head .where { color: var(--faint); overflow-wrap: anywhere; }
#head code { overflow-wrap: anywhere; }
#head dl { grid-template-columns: max-content 1fr; column-gap: 14px; }
#head .scroll { overflow-x: auto; }
@media print { #phases { display: none; } }
"""


class Told(NamedTuple):
    """What the head shows of a run.

    Attributes:
        name: its name in the report.
        config: the content of ``config.json``; empty where it cannot be read.
        summary: the content of ``summary.json``, or its entries as far as they are known.
        begun: when the run began, in seconds since 1970; 0 where that is unknown.
        problem: what is damaged; empty where nothing is.
    """

    name: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    begun: float
    problem: str


def head(runs: Sequence[Told]) -> str:
    """Return the head as HTML; every text of a run is escaped."""
    many = f"{len(runs)} runs" if len(runs) > 1 else html.escape(runs[0].name)
    onset = html.escape(f"{ONSET_AND_DETECTION[0].upper()}{ONSET_AND_DETECTION[1:]}.")
    return (
        f'<header id="head"><h1>Phases of training: {many}</h1>'
        f'<p class="where">A report of phasetrack {html.escape(__version__)}. {onset} The forecast is in steps, '
        "with its band over random starts. The charts are at the end.</p>"
        f"{''.join(map(_section, runs))}{_settings(runs)}{_glossary()}</header>"
    )


def _section(run: Told) -> str:
    every = lanes(run.summary)
    colours = lane_colours(every)
    problem = f"<p class='where'>damaged: {html.escape(run.problem)}</p>" if run.problem else ""
    ends = [(lane.stretches[0]["start"], lane.stretches[-1]["end"] + 1) for lane in every]
    limits = min((low for low, _ in ends), default=0), max((high for _, high in ends), default=0)
    bars = "".join(_lane(lane, colours[lane.name], limits) for lane in every)
    told = as_html(run.name, {**run.summary, "timeline": ()})  # the lanes have it
    return f"<section>{told}{bars}{_vocabularies(run.summary)}{problem}{_where(run)}</section>"


def _lane(lane: Lane, colours: Mapping[str, str], limits: tuple[int, int]) -> str:
    """Return the labels of a vocabulary as a bar over the steps of all of them; a label lasts until the next record.

    A short stretch has its label as a tooltip alone.
    """
    stretches = merged(lane.stretches)
    ends = [*(s["start"] for s in stretches[1:]), stretches[-1]["end"] + 1]
    bars = ""
    for stretch, end in zip(stretches, ends, strict=True):
        label, length = spoken(stretch["phase"]), end - stretch["start"]
        words = html.escape(f"{label}: steps {stretch['start']} to {stretch['end']}")
        fits = len(label) * LETTER < BAR * length / (limits[1] - limits[0])
        bars += (
            f'<span style="flex:{length};background:{colours[stretch["phase"]]}" title="{words}">'
            f"{html.escape(label) if fits else ''}</span>"
        )
    before, after = (
        f'<i style="flex:{steps}"></i>' if steps > 0 else ""
        for steps in (stretches[0]["start"] - limits[0], limits[1] - ends[-1])
    )
    name = html.escape(lane.name)
    return (
        f'<div class="lane"><span>{name}</span><span class="bar">{before}{bars}{after}</span></div>'
    )


def _vocabularies(summary: Mapping[str, Any]) -> str:
    """Return the last label of each further vocabulary that applies, with its meaning and its alerts."""
    lines = []
    for name, told in others_told(summary).items():
        said = [told.get("meaning") or told.get("reason") or ""]
        said += [f"▲ {a.get('sentence', a['name'])} {a.get('advice', '')}" for a in told["alerts"]]
        text = f"{name}: {spoken(told['phase'])}. {' '.join(said)}".strip()
        lines.append(f"<p>{html.escape(text)}</p>")
    return "".join(lines)


def _where(run: Told) -> str:
    """Return command, date and versions of a run."""
    parts = []
    if command := run.config.get("command"):
        parts.append(f"<code>{html.escape(str(command))}</code>")
    if run.begun:
        parts.append(f"{datetime.fromtimestamp(run.begun, UTC):%Y-%m-%d %H:%M} UTC")
    versions = run.config.get("versions")
    if isinstance(versions, Mapping):
        parts += [html.escape(f"{name} {version}") for name, version in versions.items()]
    return f'<p class="where">{" · ".join(parts)}</p>' if parts else ""


def _settings(runs: Sequence[Told]) -> str:
    """Return a table of the settings with a column per run; those that differ come first, in bold."""
    chosen = [_chosen(run.config) for run in runs]
    names = list(dict.fromkeys(name for of_run in chosen for name in of_run))
    if not names:
        return ""
    differ = {n for n in names if any(of_run.get(n) != chosen[0].get(n) for of_run in chosen)}
    top = _row("th", ["setting", *(run.name for run in runs)])
    rows = "".join(
        _row("td", [name, *(_shown(of_run.get(name)) for of_run in chosen)], bold=name in differ)
        for name in sorted(names, key=lambda name: name not in differ)
    )
    return (
        "<section><details open><summary>settings</summary><div class='scroll'><table>"
        f"<thead>{top}</thead><tbody>{rows}</tbody></table></div></details></section>"
    )


def _chosen(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run, or the hyperparameters, layers and optimizer of a model of the user's own."""
    if isinstance(settings := config.get("settings"), Mapping):
        return dict(settings)
    own = {key: config[key] for key in ("optimizer", "loss") if config.get(key)}
    for part in ("layers", "hparams"):
        if isinstance(entries := config.get(part), Mapping):
            own |= entries
    return own


def _shown(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return setting(value)


def _row(tag: str, cells: Iterable[str], *, bold: bool = False) -> str:
    style = ' style="font-weight:600"' if bold else ""
    inside = "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)
    return f"<tr{style}>{inside}</tr>"


def _glossary() -> str:
    terms = "".join(f"<dt>{html.escape(t)}</dt><dd>{html.escape(m)}</dd>" for t, m in TERMS.items())
    return f"<section><details><summary>what the terms mean</summary><dl>{terms}</dl></details></section>"
