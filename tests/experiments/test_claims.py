"""The quick verdicts against what theory.md section 7 records."""

import pytest

from phasetrack.experiments.lab import Lab
from phasetrack.experiments.registry import CLAIMS, chosen
from phasetrack.experiments.result import Verdict

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def results():
    lab = Lab(quick=True)
    return {claim.number: claim.run(lab) for claim in CLAIMS}


@pytest.mark.parametrize("number", [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15])
def test_what_was_seen_before_is_seen_again(results, number):
    shown = [f"{f.name}: {f.estimate} asked {f.asked}" for f in results[number].findings]
    assert results[number].verdict is Verdict.SUPPORTED, shown


def test_samples_grow_nearly_linearly(results):
    """From d = 64 the logarithm alone makes the power 1.2; the interval may pass 1.25."""
    power, per_d, fit, *_ = results[2].findings
    assert 0.95 <= power.estimate.value <= 1.3 and power.estimate.high < 1.6
    assert per_d.estimate.low > 0 and fit.estimate.value >= 0.95


def test_failures_are_detected_and_the_healthy_are_left_alone(results):
    found = {f.name.split()[0]: f.estimate for f in results[16].findings}
    for name in ("SADDLE", "IMBALANCED", "LAZY", "DIVERGED"):
        assert found[name].value == 1, name
    assert found["healthy"].value <= 0.05


def test_the_same_seed_gives_the_same_numbers():
    (claim,) = chosen([1])
    assert claim.run(Lab(seed=3)).as_json() == claim.run(Lab(seed=3)).as_json()
