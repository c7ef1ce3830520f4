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
        parts += _bar(lane, max(last, 1), bar_width, names, plain=plain)
    return Group(*parts)


def _bar(lane: Lane, last: int, width: int, names: int, *, plain: bool) -> Iterator[Text]:
    bar, legend = Text(), Text()
    if names:
        bar.append(lane.name.ljust(names + 1), "dim")
        legend.append(" " * (names + 1))
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
        legend.append(mark, colour).append(f" {stretch['phase']} {span}  ", "dim")
    yield bar
    yield legend


def in_words(lane: Lane) -> str:
    """Return a lane as text.

    >>> in_words(Lane("lazy-rich", [{"phase": "LAZY", "start": 0, "end": 9}]))
    'lazy-rich: LAZY 0-9'
    """
    parts = (f"{s['phase']} {s['start']}-{s['end']}" for s in lane.stretches)
    return f"{lane.name}: {', '.join(parts)}"
