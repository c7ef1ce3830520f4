"""The lanes of a run in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from phasetrack.display.lanes import Lane
from phasetrack.display.style import PHASE_MARKS, PHASE_TERMINAL_COLOURS

LONGEST = 60  # characters of a lane
# Marks and colours of a vocabulary's labels in the order in which they come; for terminals whose encoding
# lacks the marks, plain ones.
MARKS = tuple(PHASE_MARKS.values())
PLAIN_MARKS = (".", "-", "=", "#", "+", "*")
COLOURS = tuple(PHASE_TERMINAL_COLOURS.values())


def drawn(found: Sequence[Lane], width: int, *, plain: bool) -> RenderableType:
    """Return the lanes under each other, each a bar with a coloured stretch per label, and their steps."""
    names = max(len(lane.name) for lane in found) if len(found) > 1 else 0
    last = max(lane.stretches[-1]["end"] + 1 for lane in found)
    bar_width = max(min(LONGEST, width - names - 1), 10)
    parts: list[RenderableType] = [Text()]
    for lane in found:
        name = Text(lane.name.ljust(names + 1) if names else "", "dim")
        bar, entries = _bar(lane, max(last, 1), bar_width, plain=plain)
        parts.append(name + bar)
        parts += _legend(entries, width, indent=len(name))
    return Group(*parts)


def _bar(lane: Lane, last: int, width: int, *, plain: bool) -> tuple[Text, list[Text]]:
    """Return the bar of a lane, and its legend's entries."""
    bar, entries = Text(), []
    places, marks, reached = lane.places, PLAIN_MARKS if plain else MARKS, 0
    for stretch, following in zip(
        lane.stretches, [*lane.stretches[1:], {"start": last}], strict=True
    ):
        place = places[stretch["phase"]]
        edge = max(reached + 1, round(width * min(max(following["start"], 0), last) / last))
        mark, colour = marks[place % len(marks)], COLOURS[place % len(COLOURS)]
        bar.append(mark * (edge - reached), colour)
        reached = edge
        span = f"{stretch['start']}-{stretch['end']}"
        entries.append(Text(mark, colour).append(f" {stretch['phase']} {span}", "dim"))
    return bar, entries


def _legend(entries: Sequence[Text], width: int, indent: int) -> Iterator[Text]:
    """Yield the lines of a legend, under the bar; no entry is broken."""
    line = Text(" " * indent)
    for entry in entries:
        if len(line) > indent and len(line) + len(entry) > width:
            yield line
            line = Text(" " * indent)
        line += entry + Text("  ")
    yield line


def in_words(lane: Lane) -> str:
    """Return a lane as text.

    >>> in_words(Lane("lazy-rich", [{"phase": "LAZY", "start": 0, "end": 9}]))
    'lazy-rich: LAZY 0-9'
    """
    parts = (f"{s['phase']} {s['start']}-{s['end']}" for s in lane.stretches)
    return f"{lane.name}: {', '.join(parts)}"
