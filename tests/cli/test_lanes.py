"""One lane per vocabulary in the terminal."""

import io

from rich.console import Console

from phasetrack.display.lanes import lanes
from phasetrack.phases.labels import PAPERS
from phasetrack_cli.lanes import drawn, in_words

PHASES = [
    {"phase": "SIGNAL_FINDING", "start": 0, "end": 49},
    {"phase": "FITTED", "start": 50, "end": 99},
]
OTHER = [
    {"phase": "LAZY", "start": 0, "end": 24},
    {"phase": "UNDETERMINED", "start": 25, "end": 49},
    {"phase": "RICH", "start": 50, "end": 99},
]


def summary(**others):
    told = {"applies": True, "phase": "RICH", "timeline": OTHER}
    silent = {"applies": False, "phase": "UNDETERMINED", "timeline": OTHER}
    return {
        "timeline": PHASES,
        "vocabularies": {PAPERS: told, "lazy-rich": told, "grokking": silent, **others},
    }


def printed(found, width=70):
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(drawn(found, width, plain=True))
    return console.file.getvalue().splitlines()


def test_each_vocabulary_that_applies_has_a_lane_of_its_own():
    found = lanes(summary())
    assert [lane.name for lane in found] == [PAPERS, "lazy-rich"]
    assert in_words(found[1]) == "lazy-rich: LAZY 0-24, UNDETERMINED 25-49, RICH 50-99"


def test_a_run_read_again_has_a_lane_in_hindsight():
    back = {"trustworthy": True, "timeline": PHASES}
    found = lanes({**summary(), "hindsight": back})
    assert in_words(found[-1]) == "in hindsight: SIGNAL_FINDING 0-49, FITTED 50-99"
    untrusted = lanes({**summary(), "hindsight": {"trustworthy": False}})
    assert [lane.name for lane in untrusted] == [PAPERS, "lazy-rich"]


def test_lanes_are_aligned_at_the_same_steps():
    _, paper, _, other, legend = printed(lanes(summary()))
    start = len(PAPERS) + 1
    assert paper[start:].strip()[0] == "-" and paper[start:].strip()[-1] == "#"
    bar = other[start:].rstrip()
    assert len(bar) == len(paper[start:].rstrip())
    # LAZY, nothing, RICH: a quarter, a quarter, half
    middle = len(bar) // 2
    assert set(bar[: middle // 2]) == {"-"} and set(bar[middle + 1 :]) == {"="}
    assert paper[start:].index("#") == other[start:].index("=")
    assert "LAZY 0-24" in legend and "RICH 50-99" in legend


def test_a_lane_alone_has_no_name():
    (_, bar, _) = printed(lanes({"timeline": PHASES}))
    assert bar.startswith("-") and PAPERS not in bar


def test_a_long_legend_breaks_between_labels_under_its_bar():
    start = len(PAPERS) + 1
    lines = [line.rstrip() for line in printed(lanes(summary()), width=52)]
    assert lines[-2:] == [
        " " * start + "- LAZY 0-24  . UNDETERMINED 25-49",
        " " * start + "= RICH 50-99",
    ]
    assert max(map(len, lines)) <= 52
