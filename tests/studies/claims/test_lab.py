"""A lab's runs equal those of `phasetrack run`; its variations differ as documented."""

import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
import torch

from phasetrack import RunSettings, TwoLayerNet, read_run, train
from phasetrack.studies.claims.claim_03_fixed_features import _needed_samples, _tangent
from phasetrack.studies.claims.claim_05_few_neurons import largest
from phasetrack.studies.claims.lab import VARIATIONS, Lab, error_on_fresh_samples, pruned
from phasetrack.studies.claims.task_features import FEATURES, features
from phasetrack.tasks.registry import make_task
from phasetrack.training.stopping import LOOK_EVERY

SMALL = RunSettings(d=16, width=32, batch=128)


@pytest.fixture(scope="module")
def lab():
    return Lab()


def test_run_equals_training(lab, tmp_path):
    summary = train(SMALL, out=tmp_path, name="run")
    one = lab.run(SMALL)
    history = read_run(tmp_path / "run").history
    # the fused network of `train` rounds differently from autograd
    for name in ("loss/train", "margin/min", "heaviness/heavy_mass"):
        # a run looks whether it is fitted at every eighth step
        alone, run = one.history[name], history[name]
        assert 0 <= len(run) - len(alone) < LOOK_EVERY
        np.testing.assert_allclose(alone, run[: len(alone)], rtol=1e-3, atol=1e-5)
    pairs = zip(one.summary["boundaries"], summary["boundaries"], strict=True)
    assert all(a["onset"] == pytest.approx(b["onset"], rel=1e-3) for a, b in pairs)
    assert one.boundary("fitted") < one.summary["steps"] and np.isnan(one.boundary("none"))
    assert error_on_fresh_samples(one.network, SMALL) < 0.01


def test_run_is_trained_once(lab):
    assert lab.run(replace(SMALL, batch=128)) is lab.run(SMALL)
    assert lab.seeds(SMALL, 2)[0] is lab.run(SMALL)


def test_alternating_trains_one_layer_per_step(lab):
    net = TwoLayerNet(4, 8)
    optimizer = torch.optim.SGD(
        [{"params": net.first.parameters()}, {"params": net.second.parameters()}], lr=1.0
    )
    VARIATIONS["alternating"].before_step(optimizer, 0, 3.0)
    assert [group["lr"] for group in optimizer.param_groups] == [3.0, 0.0]
    VARIATIONS["alternating"].before_step(optimizer, 1, 3.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 3.0]


def test_favoured_cluster_starts_with_a_larger_output():
    net = TwoLayerNet(16, 64)
    inputs = torch.zeros(2, 16)
    inputs[:, :2] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    before = net(inputs).tolist()
    VARIATIONS["favoured"].start(net)
    after = net(inputs).tolist()
    assert after[0] - before[0] > 1e-4 > abs(after[1] - before[1])


def test_pruning_silences_other_neurons(lab):
    one = lab.run(SMALL)
    keep = largest(one, 8)
    assert keep.sum() == 8
    small, x = pruned(one.network, keep), torch.randn(5, 16)
    W, a = one.network.first.weight[keep], one.network.second.weight[0, keep]
    torch.testing.assert_close(small(x), torch.relu(x @ W.T) @ a / 32)
    assert pruned(one.network, torch.ones(32, dtype=torch.bool))(x).equal(one.network(x))


def test_tangent_kernel_is_the_gradient_product_of_a_wide_network():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 10, generator=generator, dtype=torch.float64)
    x *= 10**0.5 / x.norm(dim=1, keepdim=True)
    W = torch.randn(200_000, 10, generator=generator, dtype=torch.float64)
    a = torch.randn(200_000, generator=generator, dtype=torch.float64)
    pre = x @ W.T / 10**0.5
    second = torch.relu(pre) @ torch.relu(pre).T
    first = (((pre > 0) * a) @ ((pre > 0) * a).T) * (x @ x.T / 10)
    expected = (first + second) / 200_000
    torch.testing.assert_close(_tangent(10, 0)(x, x), expected, atol=0.01, rtol=0.02)


def test_needed_samples_are_between_d_and_four_d_squared():
    assert 10 < _needed_samples(10, 0, _tangent) < 400


def _double(value, wait):
    return 2 * value


def test_map_keeps_the_order_of_its_arguments():
    assert Lab().map(_double, [(3, 0), (1, 9)]) == [6, 2]


@pytest.mark.slow
def test_workers_give_the_numbers_of_one_process_and_end_with_the_first_error():
    settings = {"a": replace(SMALL, steps=4), "b": replace(SMALL, steps=9)}
    alone = Lab(seed=5).grid(settings, 2, "tested")
    with pytest.raises(KeyError, match="none"), Lab(seed=5, workers=2) as lab:
        together = lab.grid(settings, 2, "tested")
        assert [one.settings.seed for one in together["b"]] == [5, 6]
        assert [variation for _, variation in lab.runs] == ["tested"] * 4
        for name, runs in alone.items():
            for one, other in zip(runs, together[name], strict=True):
                assert one.settings == other.settings
                for metric in one.history:
                    np.testing.assert_array_equal(one.history[metric], other.history[metric])
                assert torch.equal(one.network.first.weight, other.network.first.weight)
        lab.all([(SMALL, "none"), (replace(SMALL, seed=1), "none")])
    assert not multiprocessing.active_children()


def test_fixed_sample_is_the_first_batch(lab):
    fixed = lab.run(replace(SMALL, steps=3), "fixed sample")
    fresh = lab.run(replace(SMALL, steps=3))
    assert fixed.history["loss/train"][0] == fresh.history["loss/train"][0]
    assert fixed.history["loss/train"][2] != fresh.history["loss/train"][2]
    clusters = [fixed.history[f"margin/empirical/{name}"] for name in ("mu1", "mu2")]
    assert all(np.isfinite(one).all() for one in clusters)


def test_run_until_learned_ends_at_two_percent_error(lab):
    one = lab.run(SMALL, "until learned")
    errors = one.history["held_out/error"]
    assert errors[-1] <= 0.02 < errors[:-1].min()
    crossed = one.crosses("held_out/error", 0.02)
    assert len(errors) - 2 <= crossed <= len(errors) - 1
    assert np.isnan(one.crosses("held_out/error", -1.0))
    assert one.crosses("held_out/error", float(errors[0])) == 0.0


def test_features_have_a_positive_mean_product_with_the_label():
    for task, (k, _) in FEATURES.items():
        x, y = make_task(task, 8).sample(4096, seed=0, step=0, dtype=torch.float64)
        corners = features(task, 8)
        index = ((1 - x[:, :k]) / 2) @ 2.0 ** torch.arange(k - 1, -1, -1, dtype=torch.float64)
        assert torch.equal(corners.points[index.long(), :k], x[:, :k])
        assert ((corners.values[:, index.long()] * y).mean(dim=1) > 0.25).all(), task
