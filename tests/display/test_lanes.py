"""Lanes: one per vocabulary that applies, with colours that do not depend on the run."""

from phasetrack.display.lanes import Lane, described, lane_colours, lanes
from phasetrack.display.style import PHASE_COLOURS
from phasetrack.phases.classifier import Phase
from phasetrack.phases.labels import PAPERS


def stretch(phase, start=0, end=1):
    return {"phase": phase, "start": start, "end": end}


def test_label_has_one_colour_in_all_runs():
    early = Lane("lazy-rich", [stretch("LAZY"), stretch("RICH")])
    late = Lane("lazy-rich", [stretch("RICH"), stretch("LAZY")])
    colours = lane_colours([early, late])["lazy-rich"]
    assert colours["LAZY"] != colours["RICH"]
    assert lane_colours([early])["lazy-rich"]["RICH"] == colours["RICH"]


def test_papers_labels_keep_their_colours():
    colours = lane_colours([Lane(PAPERS, [stretch("FITTED")])])[PAPERS]
    assert colours == {phase.name: colour for phase, colour in PHASE_COLOURS.items()}
    assert set(colours) == {phase.name for phase in Phase}


def test_hindsight_and_applying_vocabularies_have_lanes():
    back = [stretch("SIGNAL_HEAVY")]
    summary = {
        "timeline": [stretch("UNDETERMINED")],
        "vocabularies": {
            PAPERS: {"applies": False},
            "lazy-rich": {"applies": True, "timeline": [stretch("LAZY")]},
            "grokking": {"applies": False, "timeline": [stretch("UNDETERMINED")]},
        },
        "hindsight": {"trustworthy": True, "timeline": back},
    }
    assert [lane.name for lane in lanes(summary)] == [PAPERS, "lazy-rich", "in hindsight"]
    told = described(lanes(summary))[-1]["stretches"]
    assert told == [
        back[0] | {"words": "signal-heavy", "colour": PHASE_COLOURS[Phase.SIGNAL_HEAVY]}
    ]
