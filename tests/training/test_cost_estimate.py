"""Plans: costs counted by hand, and what changes them."""

import math

import pytest
import torch

from phasetrack import ExpectedError, RunSettings, TwoLayerNet, train
from phasetrack.tasks import XOR
from phasetrack.training.cost_estimate import Gpu, Plan, Throughput, measure, plan
from phasetrack.training.memory import bytes_per_sample

PACE = Throughput(flops=1e11, signs=1e9, bits=1e10)
SMALL = RunSettings(d=64, width=128, batch=512)


@pytest.fixture(scope="module")
def made():
    return plan(SMALL, throughput=PACE)


def with_gpu(made, **figures):
    return Plan(made.settings, made.forecast, made.throughput, Gpu(**figures))


def test_steps_are_those_of_the_run(made, tmp_path):
    taken = train(SMALL, out=tmp_path, name="run")["steps"]
    assert made.steps == pytest.approx(taken, rel=0.08)
    assert made.samples == made.steps * 512
    assert plan(RunSettings(d=64, width=128, steps=7), throughput=PACE).steps == 7


def test_operations_are_those_that_torch_counts(made):
    """The two matrix products forwards, and those of the weights' gradients backwards."""
    from torch.utils.flop_counter import FlopCounterMode

    net, (x, _) = TwoLayerNet(64, 128), XOR(64).sample(512, seed=0, step=0)
    with FlopCounterMode(display=False) as counter:
        net(x).sum().backward()
    # autograd also takes the gradient by the hidden layer, 2 m p, which is not counted here
    assert made.step_flops == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert made.flops == made.steps * made.step_flops


def test_memory_holds_weights_gradient_and_batch(made):
    assert made.memory(512) == 4 * 2 * 128 * 64 + 512 * bytes_per_sample(64, 128)
    assert made.micro_batch == 512  # small enough to stay whole
    assert plan(RunSettings(d=2**16, width=1, steps=1), throughput=PACE).micro_batch < 2**16
    assert plan(RunSettings(d=64, micro_batch=32), throughput=PACE).micro_batch == 32


def test_time_on_a_core_is_arithmetic_and_drawing(made):
    drawn, computed = 512 * 64 / 1e9, 4 * 512 * 128 * 65 / 1e11
    assert made.core_seconds() == pytest.approx(made.steps * (drawn + computed))


def test_gpus_share_the_batch_but_not_the_sum(made):
    made = plan(RunSettings(d=2**15, width=4096, steps=1), throughput=PACE)
    one, eight = made.gpu_seconds(1), made.gpu_seconds(8)
    assert one / 8 < eight < one / 4
    slow = with_gpu(made, link=1.0)
    assert slow.gpu_seconds(1) == one and slow.gpu_seconds(8) > eight
    # arithmetic bounds a wide step, memory a narrow one
    assert with_gpu(made, tflops=1.0).gpu_seconds(1) > one
    narrow = plan(RunSettings(d=2**15, width=1, steps=1), throughput=PACE)
    assert with_gpu(narrow, tflops=40.0).gpu_seconds(1) == narrow.gpu_seconds(1)
    assert with_gpu(narrow, bandwidth=10.0).gpu_seconds(1) > narrow.gpu_seconds(1)


def test_a_gpu_may_be_too_small(made):
    assert made.fits_gpu and not with_gpu(made, memory=1e-4).fits_gpu


def test_a_run_that_never_fits_is_planned_to_its_limit():
    stuck = RunSettings(d=16, width=8, batch=64, train="second", theta=0.5)
    made = plan(stuck, throughput=PACE)
    assert math.isnan(made.forecast.fitted.value) and made.steps == stuck.step_limit


def test_measuring_leaves_torch_as_it_was():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    pace = measure(SMALL)
    assert min(pace.flops, pace.signs, pace.bits) > 0
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "figures, complaint",
    [
        ({"tflops": 0.0}, "gpu_tflops: 0 is not a finite number > 0"),
        ({"share": 1.5}, "gpu_share: 1.5 is not a finite number > 0 and <= 1."),
        ({"count": 0}, "gpus: 0 is not an integer >= 1."),
    ],
    ids=str,
)
def test_wrong_figures_are_named(figures, complaint):
    with pytest.raises(ExpectedError, match=complaint):
        Gpu(**figures)
