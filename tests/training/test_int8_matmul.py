"""Products of signs in bytes: what float32 gives, closer to the truth."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phasetrack.model.matmul_backend import PLAIN
from phasetrack.training import int8_matmul as digits
from phasetrack.training.int8_matmul import LARGEST, PLACES, SMALLEST, Digits, SignDigits

matrix_units = pytest.mark.skipif(not digits.available(), reason="no matrix units for bytes")
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def whole(found):
    """What some digits say, in float64."""
    places = zip(found.parts, PLACES, strict=True)
    return sum(part.double() * place for part, place in places) * found.unit.double()


def drawn(m, d, p, seed=0):
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randn(m, d, generator=generator).sign()
    # lengths of all sizes: each neuron has its own unit
    W = torch.randn(p, d, generator=generator) * 10 ** torch.linspace(-6, 3, p).unsqueeze(1)
    return signs, W, torch.randn(m, generator=generator)


@given(arrays.arrays(np.float32, (5, 3), elements=FINITE))
def test_digits_are_bytes_that_a_sign_may_turn_and_leave_out_a_unit_at_most(values):
    numbers = torch.from_numpy(values)
    numbers[0] = numbers[0].abs().clamp_min(SMALLEST)
    largest = numbers.abs().amax(dim=0)
    assert digits.countable(largest)
    found = Digits.of(numbers, largest)
    assert all(part.dtype == torch.int8 and (part != -128).all() for part in found.parts)
    left = (whole(found) - numbers.double()).abs()
    assert (left <= 1.5 * largest.double() / LARGEST).all()


@matrix_units
@pytest.mark.parametrize(
    "m, d, p", [(1, 64, 2), (3, 64, 5), (100, 128, 33), (257, 192, 100), (1000, 512, 512)]
)
def test_both_products_are_nearer_to_the_truth_than_those_of_floats(m, d, p):
    x, W, slopes = drawn(m, d, p)
    true = (x.double() @ W.double().T).relu()
    errors = {}
    for passes in (SignDigits(), PLAIN):
        bytes_ = passes.prepared(x)
        active = passes.activated(bytes_, W)
        off = (active.double() - true).norm(dim=0) / (m**0.5 * W.double().norm(dim=1))
        pulls = ((active > 0).double() * slopes.double().unsqueeze(1)).T @ x.double()
        missed = passes.pulled(active, slopes, bytes_).double() - pulls
        errors[passes] = off.max(), missed.norm() / pulls.norm()
    (off, missed), (floats_off, floats_missed) = errors.values()
    assert off < 3e-7 and missed < 2e-7
    if m == 1000:  # enough to tell them apart
        assert off < floats_off and missed < floats_missed


@matrix_units
@given(
    m=st.integers(1, 70),
    grains=st.integers(1, 9),
    p=st.integers(2, 70),
    seed=st.integers(0, 2**16),
)
def test_no_size_that_fits_is_multiplied_wrongly(m, grains, p, seed):
    generator = torch.Generator().manual_seed(seed)
    d = digits.GRAIN * grains
    x = torch.randn(m, d, generator=generator).sign()
    W = torch.randint(-127, 128, (p, d), generator=generator).float()
    bytes_ = SignDigits().prepared(x)
    active = SignDigits().activated(bytes_, W)
    true = (x.double() @ W.double().T).relu()
    assert (active.double() - true).abs().max() <= 1e-6 * d * 127
    assert torch.equal(active > 0.5, true > 0.5)
    ones = torch.ones(m)
    counted = SignDigits().pulled(active, ones, bytes_)
    mask = (active > 0).double()
    assert (counted.double() - mask.T @ x.double()).abs().max() <= 1e-6 * m


@matrix_units
def test_threads_change_no_bit():
    x, W, slopes = drawn(777, 320, 65)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            bytes_ = SignDigits().prepared(x)
            active = SignDigits().activated(bytes_, W)
            found.append((active, SignDigits().pulled(active, slopes, bytes_)))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *found))


@matrix_units
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_run_that_diverged_looks_like_one(value):
    x, W, slopes = drawn(20, 64, 3)
    bytes_ = SignDigits().prepared(x)
    finite = SignDigits().activated(bytes_, W)
    slopes[5], W[1, 7] = value, value
    torch.testing.assert_close(
        SignDigits().activated(bytes_, W), PLAIN.activated(x, W), equal_nan=True
    )
    pulled = SignDigits().pulled(finite.clone(), slopes, bytes_)
    torch.testing.assert_close(pulled, PLAIN.pulled(finite, slopes, x), equal_nan=True)
    assert not pulled.isfinite().all()


@matrix_units
def test_what_is_too_small_for_digits_is_left_to_floats():
    x, W, slopes = drawn(20, 64, 3)
    W *= 1e-33
    slopes *= 1e-36
    bytes_ = SignDigits().prepared(x)
    active = SignDigits().activated(bytes_, W)
    torch.testing.assert_close(active, PLAIN.activated(x, W), rtol=0, atol=0)
    pulled = SignDigits().pulled(active.clone(), slopes, bytes_)
    torch.testing.assert_close(pulled, PLAIN.pulled(active, slopes, x), rtol=0, atol=0)


@matrix_units
def test_a_neuron_of_no_weight_and_a_batch_of_no_slope_stay_zero():
    x, W, _ = drawn(20, 64, 3)
    W[1] = 0.0
    bytes_ = SignDigits().prepared(x)
    active = SignDigits().activated(bytes_, W)
    assert (active[:, 1] == 0).all() and (active[:, 2] > 0).any()
    assert (SignDigits().pulled(active, torch.zeros(20), bytes_) == 0).all()


@pytest.mark.parametrize(
    "shape, expected",
    [((8, 2, 64), True), ((8, 2, 65), False), ((8, 1, 64), False), ((2**24 + 1, 2, 64), False)],
)
def test_sizes_that_kernels_get_wrong_or_sums_overflow_do_not_fit(shape, expected):
    assert digits.fit(*shape) is expected


@pytest.fixture
def asked_again():
    digits.available.cache_clear()
    yield
    digits.available.cache_clear()


def test_without_matrix_units_there_are_no_digits(monkeypatch, asked_again):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_int8": False}, raising=False)
    assert not digits.available()


@pytest.mark.parametrize("gone", ["activated", "pulled"])
def test_without_the_operations_there_are_no_digits(gone, monkeypatch, asked_again):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_int8": True}, raising=False)

    def missing(*_):
        raise AttributeError("no such operation")

    monkeypatch.setattr(SignDigits, "activated", lambda *_: torch.full((2, 2), 64.0))
    monkeypatch.setattr(SignDigits, "pulled", lambda *_: torch.full((2, 64), 2.0))
    assert digits.available()
    digits.available.cache_clear()
    monkeypatch.setattr(SignDigits, gone, missing)
    assert not digits.available()
