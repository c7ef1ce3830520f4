"""Every task: its labels written out, its geometry, and samples by counter."""

import itertools

import numpy as np
import pytest
import torch

from phasetrack import ExpectedError, RunSettings, read_run, train
from phasetrack.phases.boundaries import MILESTONES
from phasetrack.tasks.quadratic import MixedXORs
from phasetrack.tasks.registry import TASKS, make_task
from phasetrack.tasks.xor import XOR
from phasetrack.tasks.xor_variants import GaussianXOR, NoisyXOR, RotatedXOR, UnbalancedXOR
from phasetrack.theory.settings import TASK_NAMES
from phasetrack.training.run import fresh_sample

D, M = 8, 4096
SAMPLED = {"seed": 3, "step": 5, "dtype": torch.float64}


@pytest.fixture(params=TASKS)
def task(request):
    return make_task(request.param, D)


def test_inputs_that_are_said_to_be_signs_are(task):
    x, _ = task.sample(M, **SAMPLED)
    assert task.signs == bool((x.abs() == 1).all())


# y of the first coordinates, as in a truth table
LABELS = {
    "xor": lambda a, b, *_: -a * b,
    "and": lambda a, b, *_: 1 if a == b == 1 else -1,
    "or": lambda a, b, *_: 1 if 1 in (a, b) else -1,
    "majority": lambda a, b, c, *_: 1 if a + b + c > 0 else -1,
    "parity3": lambda a, b, c, *_: a * b * c,
    "parity4": lambda a, b, c, d, *_: a * b * c * d,
    "staircase": lambda a, b, c, *_: 1 if a + a * b + a * b * c > 0 else -1,
    "two-xors": lambda a, b, *_: -a * b,
    "quadratic": lambda a, b, c, d, *_: (a * b + b * c + c * d - a * d) // 2,
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_those_of_the_truth_table(name):
    x, y = make_task(name, D).sample(500, **SAMPLED)
    assert y.tolist() == [LABELS[name](*row) for row in x.int().tolist()]
    assert set(x.unique().tolist()) == {-1.0, 1.0}


def test_samples_do_not_depend_on_the_pieces(task):
    x, y = task.sample(100, **SAMPLED)
    pieces = [task.sample(n, start=s, **SAMPLED) for s, n in ((0, 37), (37, 1), (38, 62))]
    for whole, parts in zip((x, y), zip(*pieces, strict=True), strict=True):
        # a rotation is a matrix product, whose rounding depends on its size
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)
    other, _ = task.sample(100, seed=3, step=6, dtype=torch.float64)
    assert not torch.equal(other, x)


def test_the_geometry_is_that_of_the_samples(task):
    """Each sample's cluster has its label, and the cluster's mean lies at its centre."""
    x, y = task.sample(M, **SAMPLED)
    if isinstance(task, MixedXORs):  # at half of the corners there is no label
        agree = x[:, :4].prod(dim=1) > 0
        x, y = x[agree], y[agree]
    clusters = task.geometry.assign(x)
    wrong = float((task.geometry.labels[clusters] != y).double().mean())
    assert wrong == pytest.approx(0.1 if isinstance(task, NoisyXOR) else 0.0, abs=0.02)
    for index, centre in enumerate(task.geometry.centres):
        members = x[clusters == index]
        assert len(members) > 100
        assert (members.mean(dim=0) - centre).abs().max() < 5 / len(members) ** 0.5
    assert abs(float(x.square().mean()) - 1) < 0.05


def test_two_xors_agree_and_are_even():
    x, _ = make_task("two-xors", D).sample(M, **SAMPLED)
    assert bool((x[:, :4].prod(dim=1) == 1).all())
    counts = np.array([int((x[:, :3] == torch.tensor(c)).all(dim=1).sum()) for c in CORNERS])
    assert abs(counts / M - 1 / 8).max() < 0.02


CORNERS = list(itertools.product((1.0, -1.0), repeat=3))


@pytest.mark.parametrize("first", [0.5, 2 / 3, 0.9])
def test_mixed_xors_have_the_strengths_that_they_say(first):
    """The mean label is a quadratic form: -(s x1 x2 + (1 - s) x3 x4), and nothing else."""
    x, y = MixedXORs(D, first).sample(4 * M, **SAMPLED)
    pairs = {
        (i, j): float((y * x[:, i] * x[:, j]).mean()) for i in range(D) for j in range(i + 1, D)
    }
    strengths = {(0, 1): -first, (2, 3): first - 1}
    assert all(abs(mean - strengths.get(pair, 0.0)) < 0.04 for pair, mean in pairs.items())
    agree = x[:, 0] * x[:, 1] == x[:, 2] * x[:, 3]
    assert torch.equal(y[agree], -(x[:, 0] * x[:, 1])[agree])
    right = (y == -x[:, 0] * x[:, 1])[~agree].double().mean()
    assert float(right) == pytest.approx(first, abs=0.03)
    with pytest.raises(ExpectedError, match=r"first: 1\.5 is not a finite number"):
        MixedXORs(D, 1.5)


@pytest.mark.parametrize("positive", [0.5, 0.8, 0.05])
def test_unbalanced_labels(positive):
    x, y = UnbalancedXOR(D, positive).sample(M, **SAMPLED)
    assert float((y > 0).double().mean()) == pytest.approx(positive, abs=0.025)
    assert torch.equal(y, -x[:, 0] * x[:, 1])
    assert x.mean(dim=0).abs().max() < 0.06


def test_wrong_labels_are_wrong_on_their_own():
    x, y = NoisyXOR(D, 0.3).sample(M, **SAMPLED)
    wrong = (y != -x[:, 0] * x[:, 1]).double()
    assert float(wrong.mean()) == pytest.approx(0.3, abs=0.03)
    assert (x * (wrong - wrong.mean())[:, None]).mean(dim=0).abs().max() < 0.03


def test_a_rotation_is_undone_by_its_transpose():
    task = RotatedXOR(D)
    x, y = task.sample(50, **SAMPLED)
    plain, labels = XOR(D).sample(50, **SAMPLED)
    torch.testing.assert_close(x @ task.rotation.T, plain)
    assert torch.equal(y, labels) and task.geometry.splits


def test_gaussian_inputs_are_normal():
    x, y = GaussianXOR(D).sample(M, **SAMPLED)
    levels = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.5], dtype=torch.float64)
    below = (x.flatten()[:, None] < levels).double().mean(dim=0)
    torch.testing.assert_close(below, torch.special.ndtr(levels), rtol=0, atol=0.01)
    assert x.isfinite().all() and torch.equal(y, -(x[:, 0] * x[:, 1]).sign())
    assert (x.T @ x / M - torch.eye(D)).abs().max() < 0.1


@pytest.mark.parametrize(
    "name, least", [("majority", 3), ("two-xors", 4), ("equal-xors", 4), ("gaussian", 2)]
)
def test_too_small_dimensions_are_refused(name, least):
    with pytest.raises(ExpectedError, match=f"d: {least - 1} is not an integer >= {least}"):
        make_task(name, least - 1)


def test_labels_of_xor_alone_are_shuffled():
    with pytest.raises(
        ExpectedError, match="shuffle_labels: The task 'and' has no version with shuffled labels"
    ):
        make_task("and", D, shuffle_labels=True)
    with pytest.raises(ExpectedError, match="task: 'nor' is not one of xor, and, or, "):
        make_task("nor", D)


def test_names_are_those_of_the_settings():
    assert set(TASK_NAMES) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_be_run(name, tmp_path):
    settings = RunSettings(task=name, d=8, width=8, steps=2)
    summary = train(settings, out=tmp_path, name="run")
    assert summary["steps"] == 2
    assert set(summary["forecast"]) == {milestone.forecast for milestone in MILESTONES}
    x, y = fresh_sample(read_run(tmp_path / "run").config["settings"])
    assert len(x) == len(y) == 4096
    with pytest.raises(ExpectedError, match="d: 3 is not an integer >= 4"):
        train(RunSettings(task="parity4", d=3), out=tmp_path, name="other")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["and", "majority", "two-xors", "quadratic", "staircase"])
def test_the_forecast_holds_for_corners_of_any_function(name, tmp_path):
    settings = RunSettings(
        task=name, d=64, width=64, target=0.6, steps=160 if name == "quadratic" else 80
    )
    summary = train(settings, out=tmp_path, name="run")
    predicted = summary["forecast"]["loss_halving_step"]["value"]
    assert summary["loss_halving_step"] == pytest.approx(predicted, rel=0.08)
