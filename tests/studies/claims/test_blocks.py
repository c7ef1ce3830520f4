"""Claims over disjoint blocks of seeds: joint estimates and verdicts."""

import numpy as np
import pytest
from scipy import stats

from phasetrack.studies import confidence
from phasetrack.studies.claims.blocks import STRIDE, corrected, pooled
from phasetrack.studies.claims.findings import (
    ClaimChart,
    ClaimResult,
    ClaimVerdict,
    Finding,
    Series,
)
from phasetrack.studies.claims.html_page import page
from phasetrack.studies.claims.lab import Lab
from phasetrack.studies.claims.registry import CLAIMS
from phasetrack.theory.settings import RunSettings

YES, NO, OPEN = ClaimVerdict.SUPPORTED, ClaimVerdict.CONTRADICTED, ClaimVerdict.UNDECIDED


CHART = ClaimChart("a", "x", "y", [Series("s", [1, 2], [3, 4])])


def result(*findings):
    return ClaimResult(findings, [CHART], "words")


def test_shares_are_counted_together():
    joint = confidence.pooled([confidence.share(4, 5), confidence.share(5, 5)])
    expected = stats.binomtest(9, 10).proportion_ci(method="wilson")
    assert (joint.value, joint.low, joint.high) == pytest.approx((0.9, expected.low, expected.high))


@pytest.mark.parametrize("level", [0.95, 0.999])
def test_student_intervals_of_blocks_join_as_one_sample_with_a_mean_per_block(level):
    values = np.random.default_rng(3).normal(2, 1, (5, 4))
    joint = confidence.pooled([confidence.mean(block) for block in values], level)
    residuals = values - values.mean(axis=1, keepdims=True)
    error = np.sqrt((residuals**2).sum() / 15 / 20)
    half = stats.t.ppf((1 + level) / 2, 15) * error
    assert joint.value == pytest.approx(values.mean())
    assert joint.high - joint.value == pytest.approx(half)
    assert joint.count == 20


def test_estimates_of_another_kind_have_the_interval_of_their_values():
    blocks = [confidence.Interval(v, v - 9, v + 9, 3) for v in (1.0, 2.0, 3.0)]
    joint = confidence.pooled(blocks)
    assert (joint.low, joint.high) == pytest.approx(stats.t.interval(0.95, 2, 2, 3**-0.5))
    assert confidence.pooled(blocks[:1]) == blocks[0]


def test_joint_coverage_is_that_of_the_level():
    """At 95 percent 2000 joint intervals miss their truth 100 times, with a standard deviation of 10."""
    rng = np.random.default_rng(4)
    draws = rng.normal(0, 1, (2000, 3, 4))
    missed = 0
    for each in draws:
        joint = confidence.pooled([confidence.mean(block) for block in each])
        missed += not joint.low <= 0 <= joint.high
    assert 60 < missed < 140


def test_a_verdict_may_hold_alone_and_fall_to_the_correction():
    values = [[1.0, 1.2, 1.1], [1.05, 1.15, 1.0]]
    blocks = [result(Finding("a", confidence.mean(v), low=0.97)) for v in values]
    assert pooled(blocks).verdict is YES
    many = [result(*[Finding(str(i), confidence.share(9, 9), low=0.1) for i in range(200)])] * 2
    first, second = corrected([blocks, many])
    assert first.verdict is YES and first.corrected is OPEN
    assert second.verdict is second.corrected is YES


def test_blocks_are_counted_and_a_finding_may_lack_in_some():
    good, bad = (result(Finding("a", confidence.mean(v), low=2.0)) for v in ([3, 3.1], [1, 1.1]))
    more = result(
        Finding("a", confidence.mean([3, 3.1]), low=2.0), Finding("b", confidence.share(1, 1))
    )
    joint = pooled([good, more, bad])
    assert [f.name for f in joint.findings] == ["a", "b"]
    assert joint.blocks == [YES, YES, NO] and joint.setting == "words, 3 blocks of seeds"
    assert joint.agreement == {YES: "2 of 3", NO: "1 of 3", OPEN: "0 of 3"}[joint.verdict]


def test_page_has_both_verdicts():
    found = corrected([[result(Finding("a", confidence.mean([3, 3.1, 3.2]), low=2.0))]])
    text = page([(CLAIMS[0], found[0])], "")
    assert text.count("supported</td>") == 3 and "1 of 1" in text


def test_blocks_of_a_lab_share_its_runs_but_no_seeds():
    lab = Lab()
    other = lab.block(1)
    settings = RunSettings(d=8, width=8, steps=2)
    (first,), (second,) = lab.seeds(settings, 1), other.seeds(settings, 1)
    assert second.settings.seed == first.settings.seed + STRIDE
    assert lab.runs == [(first, "")] and other.runs == [(second, "")]
    assert other.block(-1).run(settings) is first


def test_one_block_is_its_own_estimate_to_the_bit():
    one = confidence.mean([0.1, 0.7, 0.4, 0.35])
    assert confidence.pooled([one]) is one
    wider = confidence.pooled([one], 0.999)
    assert wider.low < one.low and wider.value == one.value
