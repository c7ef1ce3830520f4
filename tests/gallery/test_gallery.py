"""Trainings as their communities write them: the same bits, and readings that are right or absent."""

import functools
import math
import random
import warnings

import numpy as np
import pytest
import torch
from gallery.protocol import READINGS, Seen, added_lines, loaded, paths, refusal
from torch import nn

from phasetrack import ExpectedError

MOST_LINES = 5
PATHS = {path.stem: path for path in paths()}
# Outputs of the loops are of float32, and all that is read from them of float64.
ROUNDING, SCALE_ROUNDING = 1e-5, 1e-4


class Run:
    """One run of a loop: its last state, its steps, its warnings and the random numbers left."""

    def __init__(self, name, tracked):
        self.module, self.seen = loaded(PATHS[name], tracked=tracked), Seen()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                variables, self.refusal = self.module.train(self.seen), ""
            except ExpectedError as error:
                variables, self.refusal = {}, str(error)
        self.warnings = [str(warning.message) for warning in caught]
        self.random = (torch.get_rng_state(), np.random.get_state()[1], random.getrandbits(64))
        self.tracker, self.geometry = variables.get("tracker"), variables.get("geometry")
        self.state = [
            tensor.detach().clone()
            for kind in (nn.Module, torch.optim.Optimizer, torch.Tensor)
            for value in variables.values()
            if isinstance(value, kind)
            for tensor in tensors_in(value)
        ]


@functools.cache
def run(name, tracked=True):
    """Run a loop once; every test reads the same run."""
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(0)
    return Run(name, tracked)


def tensors_in(value):
    """Every tensor and number in a state, in order."""
    if isinstance(value, nn.Module | torch.optim.Optimizer):
        value = value.state_dict()
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for key in value:
            yield from tensors_in(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, bool | int | float):
        yield torch.tensor(value)


REFUSED = [name for name, path in PATHS.items() if refusal(path)]
every_loop = pytest.mark.parametrize("name", [name for name in PATHS if name not in REFUSED])


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_followed_is_refused(name):
    assert refusal(PATHS[name]) in run(name).refusal
    assert not run(name, tracked=False).refusal and run(name, tracked=False).seen


@every_loop
def test_training_is_the_same_to_the_bit(name):
    with_lines, without = run(name), run(name, tracked=False)
    assert without.tracker is None and len(without.seen) == len(with_lines.seen) > 0
    for one, other in zip(without.state, with_lines.state, strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())
    assert [step.loss for step in without.seen] == [step.loss for step in with_lines.seen]
    for one, other in zip(without.random, with_lines.random, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", PATHS)
def test_a_user_adds_few_lines(name):
    assert 0 < sum(map(bool, added_lines(PATHS[name]))) <= MOST_LINES


@every_loop
def test_warnings_are_those_declared(name):
    parts, bare = getattr(run(name).module, "WARNINGS", ()), run(name, tracked=False).warnings
    given = [line for line in run(name).warnings if line not in bare]
    assert all(any(part in line for line in given) for part in parts)
    assert [line for line in given if not any(part in line for part in parts)] == []


@every_loop
def test_every_optimizer_step_is_recorded(name):
    assert run(name).tracker.history.steps.tolist() == list(range(len(run(name).seen)))


@pytest.mark.parametrize("reading", READINGS)
@every_loop
def test_reading_is_right_or_absent_with_its_reason(name, reading, request):
    this = run(name)
    if (fault := getattr(this.module, "WRONG", {}).get(reading)) is not None:
        request.applymarker(pytest.mark.xfail(reason=fault, strict=True))
    absent = getattr(this.module, "ABSENT", {}).get(reading)
    recorded = {n: v for n, v in rows(this.tracker).items() if is_part_of(n, reading)}
    if absent is None:
        naive = [NAIVE[reading](this, step) for step in this.seen]
        for metric in naive[0]:
            wanted = np.array([values[metric] for values in naive])
            assert not np.isnan(wanted).all(), f"{metric} is never defined"
            size = np.nanmax(np.abs(wanted))
            tolerance = size * tolerance_of(this, reading)
            np.testing.assert_allclose(recorded[metric], wanted, rtol=0, atol=tolerance)
    else:
        assert all(np.isnan(values).all() for values in recorded.values())
        reasons = [r for n, r in this.tracker.undefined.items() if is_part_of(n, reading)]
        assert any(absent in reason for reason in (*reasons, *this.tracker.notes))


def is_part_of(metric, reading):
    return metric == reading or metric.startswith(f"{reading}/")


def tolerance_of(this, reading):
    if reading == "margin/clean":
        return getattr(this.module, "SCALE_ROUNDING", SCALE_ROUNDING)
    return ROUNDING


def rows(tracker):
    history = tracker.history
    return {name: history[name] for name in history}


# --- the naive reading, in float64 -------------------------------------------------------------


def loss(this, step):
    return {"loss/train": step.loss}


def error(this, step):
    margins = this.module.margins(step.outputs, step.targets)
    wrong = getattr(this.module, "wrong", lambda *_: (margins <= 0).double())
    counted = ~margins.isnan()
    shares = wrong(step.outputs, step.targets)[counted]
    return {"error/train": float(shares.mean())}


def empirical(this, step):
    margins = this.module.margins(step.outputs, step.targets).tolist()
    found = {name: [] for name in this.geometry.names}
    for x, margin in zip(step.inputs, margins, strict=True):
        nearest = int((x - this.geometry.centres).norm(dim=1).argmin())
        if not math.isnan(margin):
            found[this.geometry.names[nearest]].append(margin)
    return {
        f"margin/empirical/{name}": sum(of_cluster) / len(of_cluster) if of_cluster else math.nan
        for name, of_cluster in found.items()
    }


def clean(this, step):
    with torch.no_grad():
        outputs = step.network(this.geometry.centres)
    outputs = outputs.squeeze(-1) if outputs.shape[-1] == 1 else outputs
    found = {}
    for output, label, name in zip(
        outputs, this.geometry.labels.tolist(), this.geometry.names, strict=True
    ):
        if output.ndim == 0:
            margin = float(label * output)
        else:
            own = int(max(label, 0))  # of two classes the first is labelled -1
            margin = float(output[own] - max(v for c, v in enumerate(output) if c != own))
        found[f"margin/clean/{name}"] = margin
    return found


def linearization(this, step):
    """Theory.md 5: l_lin(f, y) = l(0, y) + dl/df(0, y) f."""
    f = step.outputs.clone().requires_grad_(True)
    start = torch.zeros_like(f).requires_grad_(True)
    at, at_start = (this.module.losses(values, step.targets) for values in (f, start))
    (slopes,) = torch.autograd.grad(at.sum(), f)
    (start_slopes,) = torch.autograd.grad(at_start.sum(), start)
    linear = at_start + (start_slopes * f).reshape(len(f), -1).sum(dim=1)
    drift = (slopes - start_slopes).reshape(len(f), -1).norm(dim=1).mean()
    start_size = start_slopes.reshape(len(f), -1).norm(dim=1).mean()
    value_error = (at - linear).abs().mean() / (at - at_start).abs().mean()
    return {
        "linearization/value_error": value_error.item(),
        "linearization/slope_drift": (drift / start_size).item(),
    }


NAIVE = dict(zip(READINGS, (loss, error, clean, empirical, linearization), strict=True))
