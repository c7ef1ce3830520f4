"""The bench: how findings are matched with the truth, what is scored, and its page."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from phasetrack.errors import ExpectedError
from phasetrack.phases.vocabularies.grokking import Grokking
from phasetrack.studies.bench import bench, detectors
from phasetrack.studies.bench.detectors import VocabularyDetector, log_losses, of_name
from phasetrack.studies.bench.known_run import Event, KnownRun, Played
from phasetrack.studies.bench.runs import all_runs, chosen
from phasetrack.studies.bench.score import ANY, Found, as_json, of_json, scored, total

DOCS = Path(__file__).parents[3] / "docs"


def run_of(events, losses=(1.0,) * 30, end=30):
    rows = [(step, {"loss/train": loss}) for step, loss in enumerate(losses)]
    return Played(rows, [Event(*event) for event in events], end, 0.1)


def score_of(found, played, names=("a", "b"), **more):
    options = {"run": "r", "seed": 0, "control": False, "seconds": 3e-5} | more
    return scored([Found(*one) for one in found], played, frozenset(names), **options)


def test_each_finding_belongs_to_the_nearest_true_one_of_its_name():
    played = run_of([("a", 20.0), ("a", 26.0), ("b", 10.0)])
    score = score_of([("a", 22.0, 24), ("a", 25.0, 27), ("b", 12.0, 12), ("c", 1.0, 1)], played)
    assert (score.events, score.misses, score.false_alarms) == (3, 0, 0)
    assert score.offsets == pytest.approx((0.1, -1 / 26, 0.2))
    assert score.delays == pytest.approx((0.2, 1 / 26, 0.2))
    assert score.microseconds == pytest.approx(1.0)


def test_what_is_far_is_a_miss_and_a_false_alarm():
    score = score_of([("a", 31.0, 31)], run_of([("a", 20.0)]))
    assert (score.misses, score.false_alarms, score.delays) == (1, 1, ())
    near_start = score_of([("a", 6.0, 6)], run_of([("a", 2.0)]))
    assert near_start.misses == 0


def test_second_finding_of_one_boundary_is_a_false_alarm():
    score = score_of([("a", 20.0, 20), ("a", 21.0, 21)], run_of([("a", 20.0)]))
    assert (score.misses, score.false_alarms) == (0, 1)


def test_finding_without_a_name_stands_for_any():
    score = score_of([(ANY, 20.0, 20), (ANY, 5.0, 5)], run_of([("b", 21.0)]))
    assert (score.misses, score.false_alarms) == (0, 1)


def test_lead_is_counted_to_the_halving_of_the_loss_or_an_early_end():
    played = run_of([("a", 5.0)], losses=[1.0] * 12 + [0.4] * 18)
    assert score_of([("a", 5.0, 6)], played).leads == (10 - 6,)
    assert score_of([("a", 5.0, 6)], run_of([("a", 5.0)], end=100)).leads == (29 - 6,)
    assert score_of([("a", 5.0, 6)], run_of([("a", 5.0)])).leads == ()


def test_total_has_shares_with_intervals():
    one = score_of([("a", 20.0, 22)], run_of([("a", 20.0)]))
    none = score_of([("a", 3.0, 3)], run_of([("a", 20.0)]))
    sums = total([one, none])
    assert (sums.count, sums.misses.value, sums.false_alarms.value) == (2, 0.5, 0.5)
    assert 0 < sums.misses.low < 0.5 < sums.misses.high < 1
    assert sums.delay.value == pytest.approx(0.1)


def test_score_survives_its_file():
    score = score_of([("a", 21.0, 22)], run_of([("a", 20.0)]))
    again = of_json(json.loads(json.dumps(as_json(score))))
    assert again == score


# --- detectors and runs -------------------------------------------------------------------------


class Says:
    """A detector of one's own."""

    name = "says"
    names = frozenset({"a"})

    def find(self, rows):
        return [Found("a", 20.0, 20.0)]


def test_detector_is_scored_on_the_runs_that_settle_its_names():
    asked = []

    def play(seed):
        asked.append(seed)
        return run_of([("a", 20.0)])

    runs = [
        KnownRun("one", "a run", frozenset({"a", "b"}), play),
        KnownRun("other", "a run", frozenset({"b"}), play),
    ]
    scores = bench.scores_of([Says()], runs, [4, 5])
    assert asked == [4, 5]
    assert [(s.run, s.seed, s.misses) for s in scores["says"]] == [("one", 4, 0), ("one", 5, 0)]
    (row,) = bench.rows_of_table(scores)
    assert row[:3] == ("says", "one", "2")
    assert bench.of_content(bench.as_content(scores, runs)).keys() == scores.keys()


def test_vocabulary_of_ones_own_is_taken_by_module_and_name(tmp_path, monkeypatch):
    (tmp_path / "mine_of_bench.py").write_text(
        "from phasetrack.phases.vocabularies.grokking import Grokking\n"
        "class Mine(Grokking):\n    name = 'mine'\n"
        "nothing = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    detector = of_name("mine_of_bench:Mine")
    assert detector.name == "mine" and "generalised" in detector.names
    assert of_name("grokking").name == "grokking"
    for wrong in ("mine_of_bench:nothing", "mine_of_bench:Absent", "no_such_module:A"):
        with pytest.raises(ExpectedError) as caught:
            of_name(wrong)
        assert caught.value.argument == "vocabulary"


def test_vocabulary_detector_labels_rows():
    rows = [
        (0, {"generalisation/train": 1.0, "generalisation/held_out": 1.0}),
        (1, {"loss/train": 1.0}),
        (9, {"generalisation/train": 0.0, "generalisation/held_out": 1.0}),
    ]
    (found,) = VocabularyDetector(Grokking()).find(rows)
    assert (found.name, found.detected) == ("memorised", 9)


def test_baselines_without_their_libraries_say_what_to_install(monkeypatch):
    monkeypatch.setattr(detectors, "find_spec", lambda _: None)
    with pytest.raises(ExpectedError, match=r"phasetrack\[baselines\]"):
        detectors.baselines()


def test_baselines_read_the_loss_at_log_spaced_records():
    rows = [(step, {"loss/train": 2.0 if step else 0.0}) for step in range(5000)]
    steps, loss = log_losses(rows)
    assert len(steps) <= detectors.POINTS and steps[:3] == [1, 2, 3] and steps[-1] == 4999
    assert loss == pytest.approx([math.log(2.0)] * len(steps))


def test_change_points_find_a_step_of_the_loss():
    pytest.importorskip("ruptures", reason="an optional library of the bench's baselines")
    noise = np.random.default_rng(0).normal(0.0, 0.05, 300)
    loss = np.where(np.arange(300) < 100, 1.0, 0.2) * np.exp(noise)
    rows = [(step, {"loss/train": float(value)}) for step, value in enumerate(loss)]
    (found,) = detectors.ChangePoints().find(rows)
    assert abs(found.onset - 100) <= 2


def test_names_of_runs_are_distinct_and_checked():
    runs = all_runs()
    assert len({run.name for run in runs}) == len(runs) > 15
    assert [run.name for run in chosen(["pure noise"])] == ["pure noise"]
    with pytest.raises(ExpectedError, match="pure silence"):
        chosen(["pure silence"])


@pytest.mark.parametrize("detector", detectors.published(), ids=lambda one: one.name)
def test_each_vocabulary_has_a_run_that_it_is_true_of(detector):
    truths = [run for run in all_runs() if not run.control and run.known & detector.names]
    assert truths


def test_page_is_the_generated_one():
    spec = importlib.util.spec_from_file_location("bench_page", DOCS / "bench.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "bench.md").read_text() == module.page()
