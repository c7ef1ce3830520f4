"""Vocabularies: what one is, how several speak about one run, and how their state is kept."""

import json
import math
from typing import ClassVar

import pytest
from helpers.vocabulary import Height

from phasetrack.errors import ExpectedError
from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.history import History
from phasetrack.phases.level_watch import LevelWatch
from phasetrack.phases.run_labels import Labels, RunLabels
from phasetrack.phases.summary import summarise_again
from phasetrack.phases.vocabularies import chosen, kind, names, of_config
from phasetrack.phases.vocabulary_set import VocabularySet


def labelled(values, vocabulary=None):
    labels = Labels(vocabulary or Height())
    found = [labels.update(step, {"h": value}).label for step, value in enumerate(values)]
    return labels, found


def test_hysteresis_enters_at_the_inner_level_and_leaves_at_the_outer_one():
    _, found = labelled([0.5, 1.5, 2.5, 1.5, 0.5, 1.5])
    assert found == ["LOW", "LOW", "HIGH", "HIGH", "LOW", "LOW"]


def test_boundary_is_dated_by_the_outer_level_and_marked_when_left():
    labels, _ = labelled([2 ** (step - 1.5) for step in range(4)] + [0.5])
    (up,) = labels.boundaries
    assert (up.onset, up.detected, up.left) == (pytest.approx(1.5), 3, 4)


def test_readings_at_log_spaced_steps_are_dated_between_the_records_about_the_crossing():
    # a power of the steps: a line through all of them in plain steps would cross at 1.6 times the step
    labels = Labels(Height())
    for step in (1, 2, 3, 4, 6, 10, 16, 25, 40):
        labels.update(step, {"h": (step / 14) ** 1.2})
    (up,) = labels.boundaries
    assert (up.low, up.high) == (10, 16) and up.onset == pytest.approx(14, rel=0.03)


def test_noise_decides_nothing():
    watch = LevelWatch(2.0, 1.0, rising=True)
    begun = [watch.holds for value in (0.5, 2.5, 3.5) if watch.update(9, value, noise=1.0) is None]
    left = [watch.holds for value in (0.5, -0.5) if watch.update(9, value, noise=1.0) is None]
    assert (begun, left) == ([False, False, True], [True, False])
    falling = LevelWatch(1.0, 2.0, rising=False)
    begun = [
        falling.holds for value in (3.0, 0.5, -0.5) if falling.update(9, value, noise=1) is None
    ]
    left = [falling.holds for value in (2.5, 3.5) if falling.update(9, value, noise=1.0) is None]
    assert (begun, left) == ([False, False, True], [True, False])


def test_regime_of_the_start_has_no_boundary():
    labels, found = labelled([3.0, 3.0])
    assert found == ["HIGH", "HIGH"] and labels.boundaries == []


def test_alert_is_raised_once_in_its_own_words():
    labels, _ = labelled([1.0, 11.0, 12.0])
    (alert,) = labels.alerts
    assert (alert.step, alert.vocabulary) == (1, "height")
    assert alert.sentence == "TALL at step 1: h is tall; h is 11."
    assert alert.advice == "Usual causes: growth. Remedy: cut h."


def test_transitions_are_members_of_the_vocabularys_own_enumeration():
    labels, _ = labelled([0.5, 2.5])
    (change,) = labels.transitions
    assert (change.before.name, change.after.name, change.after.value) == ("LOW", "HIGH", 2)
    assert change.vocabulary == "height"


@pytest.mark.parametrize("cut", range(1, 6))
def test_restored_labels_continue_as_if_never_interrupted(cut):
    values = [0.5, 1.5, 2.5, 11.0, 0.5, 2.5]
    whole, _ = labelled(values)
    part, _ = labelled(values[:cut])
    state = json.loads(json.dumps(part.state_dict()))
    rest = Labels(Height()).restored(state)
    for step in range(cut, len(values)):
        rest.update(step, {"h": values[step]})
    assert rest.summary() == whole.summary() and rest.transitions == whole.transitions
    assert rest.state_dict() == whole.state_dict()


# --- several --------------------------------------------------------------------------------


def several(*further):
    return VocabularySet(RunLabels(Thresholds()), list(further))


class Counting(Height):
    """Counts how often it is asked for a label."""

    asked: ClassVar[list[int]] = []

    def label(self, seen):
        self.asked.append(seen.step)
        return super().label(seen)


def test_vocabulary_is_asked_only_at_records_that_have_its_readings():
    Counting.asked.clear()
    spoken = several(Counting())
    rows = [{"x": 1.0}, {"x": 1.0, "h": math.nan}, {"h": 3.0}, {"x": 1.0}, {"h": 0.5}]
    columns = [spoken.update(step, row) for step, row in enumerate(rows)]
    assert Counting.asked == [2, 4]
    kept = {"phase/height": 2.0}
    assert columns == [{}, {}, kept, kept, {"phase/height": 1.0}]


def test_vocabulary_without_readings_says_which_probe_it_needs():
    spoken = several(Height())
    spoken.update(0, {"x": 1.0})
    entry = spoken.summary()["height"]
    assert not entry["applies"] and entry["phase"] == "UNDETERMINED"
    assert entry["reason"] == "h has no value so far: it needs a probe of h"
    assert spoken["height"].reason == entry["reason"] and entry["reason"] in repr(spoken["height"])
    assert spoken.update(1, {"h": 3.0}) and spoken["height"].applies


def test_vocabulary_is_silent_for_the_reason_of_its_readings():
    spoken = several(kind("neural-collapse")(), kind("edge-of-stability")())
    reason = spoken["neural-collapse"].missing
    assert (
        reason.count("they need probes.NeuralCollapseProbe") == 1 and "collapse/angles," in reason
    )
    told = spoken.summary({"sharpness/eta_lambda": "the optimizer is Adam"})["edge-of-stability"]
    assert told["reason"] == "sharpness/eta_lambda could not be read: the optimizer is Adam"


def test_vocabulary_that_raises_is_switched_off_alone():
    class Broken(Height):
        name: ClassVar = "broken"

        def label(self, seen):
            raise ZeroDivisionError("in label")

    failed, spoken = [], several(Broken(), Height())
    columns = spoken.update(0, {"h": 3.0}, lambda name, error: failed.append((name, repr(error))))
    assert columns == {"phase/height": 2.0}
    assert failed == [("broken", "ZeroDivisionError('in label')")]
    assert spoken.update(1, {"h": 3.0}, failed.append) == {"phase/height": 2.0}
    assert "in label" in spoken.summary()["broken"]["reason"]
    with pytest.raises(ZeroDivisionError):
        several(Broken()).update(0, {"h": 3.0})


def test_set_continues_from_a_state_and_from_one_without_vocabularies():
    spoken = several(Height())
    spoken.update(0, {"h": 3.0})
    first = RunLabels(Thresholds())
    assert several(Height()).restored(first, spoken.state_dict())["height"].label == "HIGH"
    older = several(Height()).restored(first, {})
    assert older["height"].label == "UNDETERMINED"
    assert older.update(1, {"h": 3.0}) == {"phase/height": 2.0}


def test_history_is_labelled_again_under_other_levels():
    history = History((step, {"h": float(step)}) for step in range(6))
    for high in (2.0, 4.0):
        summary = summarise_again(history, Thresholds(), vocabularies=[Height(high=high)])
        (up,) = summary["vocabularies"]["height"]["boundaries"]
        assert up["detected"] == high


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_each_file_is_a_whole_vocabulary(name):
    one = kind(name)()
    assert one.name == name and one.source and one.needs and one.labels
    assert one.phases["UNDETERMINED"].value == 0
    assert [label.value for label in one.phases][1:] == list(range(1, len(one.labels) + 1))
    if name != names()[0]:
        assert set(one.boundaries) <= set(one.watches())
    json.dumps(one.levels)


def test_choice_by_name_object_or_auto():
    assert [one.name for one in chosen()] == names()[1:]
    assert [one.name for one in chosen("lazy-rich")] == ["lazy-rich"]
    assert chosen("finds-then-tunes") == []
    own = kind("lazy-rich")(rich_drift=0.7)
    assert chosen([own, "auto"]).count(own) == 1 and len(chosen([own, "auto"])) == len(chosen())
    assert chosen(["auto", Height()])[-1] == Height()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("lazy-reich", "'lazy-reich' is not a vocabulary. Did you mean 'lazy-rich'?"),
        ([3], "3 is not a vocabulary"),
        ([Height(), Height(3.0)], "same name"),
        ([kind("finds-then-tunes")()], "Pass thresholds="),
    ],
)
def test_wrong_choices_are_refused(given, words):
    with pytest.raises(ExpectedError, match="phases") as refused:
        chosen(given)
    assert words in str(refused.value)


def test_config_names_vocabularies_with_their_levels():
    levels = {"lazy-rich": {"levels": {"rich_drift": 0.7}}, "height": {"levels": {"high": 2.0}}}
    found, unknown = of_config({"vocabularies": levels})
    assert [one.levels["rich_drift"] for one in found] == [0.7] and unknown == ["height"]
    assert of_config({}) == (chosen(), [])
