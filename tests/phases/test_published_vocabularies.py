"""Search and descent, saddle to saddle, edge of stability, grokking: labels of given readings."""

import json
import math

import pytest

from phasetrack.phases.run_labels import Labels
from phasetrack.phases.vocabularies.edge_of_stability import EdgeOfStability
from phasetrack.phases.vocabularies.grokking import Grokking
from phasetrack.phases.vocabularies.saddle_to_saddle import SaddleToSaddle
from phasetrack.phases.vocabularies.search_descent import SearchDescent


def labelled(vocabulary, **columns):
    """Labels of records, a column per reading ("a__b" is a/b); None is a record without it. Cut in two by a restore."""
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    rows = [{n.replace("__", "/"): v for n, v in row.items() if v is not None} for row in rows]
    labels, found = Labels(vocabulary), []
    for step, row in enumerate(rows):
        if step == len(rows) // 2:
            labels = Labels(vocabulary).restored(json.loads(json.dumps(labels.state_dict())))
        labels.update(step, row)
        found.append(labels.label)
    return labels, found


def searched(overlaps, chance=0.3):
    return labelled(
        SearchDescent(), overlap__span=overlaps, overlap__chance=[chance] * len(overlaps)
    )


def test_search_ends_at_weak_and_the_descent_at_strong_recovery():
    labels, found = searched([0.1, 0.2, 0.5, 0.7, 0.85, 0.95])
    assert found == ["SEARCHING"] * 3 + ["UNDETERMINED"] * 2 + ["RECOVERED"]
    assert [b.name for b in labels.boundaries] == ["weak_recovery", "strong_recovery"]
    assert [b.detected for b in labels.boundaries] == [3, 5]


def test_overlap_that_chance_reaches_is_no_recovery():
    labels, found = searched([0.1, 0.7, 0.95], chance=0.65)
    assert found == ["SEARCHING", "UNDETERMINED", "RECOVERED"]
    labels, found = searched([0.1, 0.7], chance=0.65)
    assert "random neurons" in labels.reason
    assert searched([0.1, 0.95], chance=1.0)[1] == ["SEARCHING", "UNDETERMINED"]


def dropped(slopes, errors=0.0, shares=0.5):
    count = len(slopes)
    return labelled(
        SaddleToSaddle(),
        plateau__slope=slopes,
        plateau__slope_error=[errors] * count,
        plateau__share=[shares] * count if isinstance(shares, float) else shares,
    )


def test_each_plateau_ends_in_a_drop_of_its_own():
    labels, found = dropped([0.0, 1.0, 0.4, 0.1, 0.3, 2.0, 0.0])
    plateau, drop = "PLATEAU", "DROP"
    assert found == [plateau, drop, drop, plateau, plateau, drop, plateau]
    assert [(b.detected, b.left) for b in labels.boundaries] == [(1, 3), (5, 6)]


def test_slope_within_its_noise_changes_nothing():
    assert dropped([0.0, 1.0, 0.0], errors=0.5)[1] == ["PLATEAU"] * 3
    assert dropped([0.0, 3.0, 0.2, -0.4], errors=0.2)[1] == ["PLATEAU", "DROP", "DROP", "PLATEAU"]


def test_drop_under_noise_begins_where_the_slope_itself_left_the_flat_level():
    labels, found = dropped([0.0, 0.3, 0.1, 0.2, 0.4, 2.0], errors=0.4)
    assert found[-2:] == ["PLATEAU", "DROP"]
    assert 3 < labels.boundaries[0].onset < 4


def test_valley_of_the_slope_parts_drops_that_run_into_each_other():
    labels, found = dropped([0.0, 2.0, 4.0, 3.0, 2.0, 2.2, 3.0, 6.0, 9.0])
    assert found == ["PLATEAU"] + ["DROP"] * 8
    assert [(b.detected, b.left) for b in labels.boundaries] == [(1, 6), (6, None)]
    second = labels.boundaries[1]
    assert (second.onset, second.low, second.high) == (4, 2, 6)


def test_valley_within_the_noise_or_too_shallow_parts_nothing():
    slopes = [0.0, 4.0, 2.9, 4.0, 3.5, 5.0]
    assert len(dropped(slopes)[0].boundaries) == 2
    assert len(dropped(slopes, errors=0.15)[0].boundaries) == 1
    assert len(dropped([0.0, 4.0, 3.5, 4.0, 3.5, 5.0])[0].boundaries) == 1


def test_neither_is_said_of_a_loss_that_rises_or_is_gone():
    labels, found = dropped([0.0, -1.0])
    assert found == ["PLATEAU", "UNDETERMINED"] and "rises" in labels.reason
    labels, found = dropped([0.0, 4.0, 4.0], shares=[1.0, 0.1, 1e-4])
    assert found == ["PLATEAU", "DROP", "UNDETERMINED"] and "no saddle" in labels.reason
    assert labels.boundaries[0].left == 2


def at_edge(products, losses):
    return labelled(EdgeOfStability(), sharpness__eta_lambda=products, loss__train=losses)


def test_edge_is_entered_at_two_and_kept_while_the_product_wavers():
    labels, found = at_edge([1.0, 1.4, 2.1, 1.7, None, 2.2, 1.2], [1.0] * 7)
    assert found == ["STABLE"] * 2 + ["EDGE"] * 4 + ["STABLE"]
    assert [b.name for b in labels.boundaries] == ["edge"] and labels.alerts == []


def test_catapult_needs_a_start_beyond_the_edge_and_a_loss_that_rose():
    labels, found = at_edge([2.9, 3.0, 1.7, 1.7], [1.0, 9.0, 5.0, 0.1])
    assert found == ["EDGE", "EDGE", "STABLE", "STABLE"]
    assert [b.name for b in labels.boundaries] == ["catapult"]
    assert at_edge([2.9, 3.0, 1.7, 1.7], [1.0, 1.5, 1.0, 0.1])[0].boundaries == []
    risen = at_edge([1.0, 2.1, 1.7, 1.7], [1.0, 5.0, 5.0, 0.1])[0]
    assert [b.name for b in risen.boundaries] == ["edge"]


@pytest.mark.parametrize("last", [1e7, math.inf])
def test_divergence_beyond_the_edge_is_an_alert(last):
    (alert,) = at_edge([4.5, None], [1.0, last])[0].alerts
    assert alert.name == "DIVERGED" and "sharpness at 4.5" in alert.sentence
    assert at_edge([1.5, None], [1.0, last])[0].alerts == []


def test_grokking_memorises_before_it_generalises():
    labels, found = labelled(
        Grokking(),
        generalisation__train=[1.0, 0.5, 0.05, 0.0, 0.0, 0.0],
        generalisation__held_out=[1.0, 1.0, 1.0, 0.9, 0.4, 0.1],
    )
    assert found == ["UNDETERMINED"] * 2 + ["MEMORISING"] * 3 + ["GENERALISING"]
    assert [(b.name, b.detected) for b in labels.boundaries] == [
        ("memorised", 2),
        ("generalised", 5),
    ]
    assert 1 < labels.boundaries[0].onset < 2 and 3 < labels.boundaries[1].onset < 4


def test_memory_of_a_training_set_alone_is_not_generalisation():
    labels, found = labelled(
        Grokking(), generalisation__train=[1.0, 0.0, 0.3], generalisation__held_out=[1.0, 1.0, 1.0]
    )
    assert found == ["UNDETERMINED", "MEMORISING", "UNDETERMINED"]
    assert "0.3 of the training set" in labels.reason
