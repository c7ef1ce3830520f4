"""The path for matrix products: chosen by measured error and speed, never left set."""

import pytest
import torch

from phasetrack import ExpectedError
from phasetrack.model.matmul_backend import PLAIN
from phasetrack.training import int8_matmul as digits
from phasetrack.training import matmul as products
from phasetrack.training.matmul import DEFAULT, DIGITS, ONEDNN, Matmul, chosen_matmul

onednn = pytest.mark.skipif(ONEDNN not in products.available(), reason="this PyTorch lacks oneDNN")


@pytest.fixture(autouse=True)
def fresh():
    cached = (products._measured, products._in_digits)  # a test may put others in their place
    for measured in cached:
        measured.cache_clear()
    yield
    for measured in cached:
        measured.cache_clear()


def setting():
    return torch.backends.mkldnn.matmul.fp32_precision


@onednn
def test_the_setting_is_there_within_and_as_before_afterwards():
    before = setting()
    with Matmul(ONEDNN).used():
        assert setting() == "bf16"
    assert setting() == before
    with pytest.raises(KeyError), Matmul(ONEDNN).used():
        raise KeyError
    assert setting() == before


@onednn
def test_a_users_own_setting_comes_back():
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"
    try:
        with Matmul(ONEDNN).used():
            pass
        assert setting() == "ieee"
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = "none"


@onednn
@pytest.mark.parametrize(
    "errors, seconds, expected",
    [
        ((2e-7, 4e-7), (2.0, 1.0), ONEDNN),
        ((2e-7, 2e-3), (8.0, 1.0), DEFAULT),  # bfloat16: fast and wrong
        ((2e-7, 4e-7), (1.1, 1.0), DEFAULT),  # no clear gain
        ((2e-7, float("nan")), (8.0, 1.0), DEFAULT),
    ],
    ids=["faster", "bfloat16", "no gain", "nan"],
)
def test_the_fastest_of_float32_error_is_chosen(errors, seconds, expected, monkeypatch):
    error, time = (
        dict(zip((DEFAULT, ONEDNN), values, strict=True)) for values in (errors, seconds)
    )
    monkeypatch.setattr(products, "_error", lambda path, *_: error[path.path])
    monkeypatch.setattr(products, "_seconds", lambda path, *_: time[path.path])
    chosen = chosen_matmul("auto", 1024, 512, 512)
    assert chosen.path == expected
    assert chosen.error == error[expected]


@pytest.mark.parametrize(
    "errors, shape, signs, expected",
    [
        ((1e-7, 3e-7), (2048, 512, 512), True, DIGITS),
        ((1e-7, 3e-7), (2048, 512, 512), False, DEFAULT),  # inputs that are no signs have none
        ((1e-3, 3e-7), (2048, 512, 512), True, DEFAULT),
        ((float("nan"), 3e-7), (2048, 512, 512), True, DEFAULT),
        ((1e-7, 3e-7), (2048, 512, 513), True, DEFAULT),
        ((1e-7, 3e-7), (2047, 512, 512), True, DEFAULT),  # where they gain nothing
        ((1e-7, 3e-7), (8192, 255, 512), True, DEFAULT),
        ((1e-7, 3e-7), (8192, 512, 192), True, DEFAULT),
        ((1e-7, 3e-7), (4096, 4096, 4096), True, DEFAULT),
    ],
)
def test_digits_are_chosen_of_signs_where_they_gain(errors, shape, signs, expected, monkeypatch):
    monkeypatch.setattr(products, "available", lambda: (DEFAULT, ONEDNN, DIGITS))
    monkeypatch.setattr(products, "_errors_in_digits", lambda *_: errors)
    monkeypatch.setattr(products, "_measured", lambda *_: Matmul(DEFAULT))
    assert chosen_matmul("auto", *shape, signs=signs).path == expected


@pytest.mark.parametrize(
    "shape, signs, error",
    [((8, 4, 64), False, 1e-7), ((8, 4, 65), True, 1e-7), ((8, 4, 64), True, 1e-3)],
    ids=["no signs", "no multiple of 64", "wrong"],
)
def test_digits_that_cannot_be_had_are_refused_with_what_they_take(
    shape, signs, error, monkeypatch
):
    monkeypatch.setattr(products, "available", lambda: (DEFAULT, DIGITS))
    monkeypatch.setattr(products, "_errors_in_digits", lambda *_: (error, 3e-7))
    line = "This run cannot use 'digits': digits take a processor with AMX, inputs that are signs, and d a multiple of 64"
    with pytest.raises(ExpectedError, match=line):
        chosen_matmul("digits", *shape, signs=signs)


def test_digits_can_be_fixed_where_they_gain_nothing(monkeypatch):
    monkeypatch.setattr(products, "available", lambda: (DEFAULT, DIGITS))
    monkeypatch.setattr(products, "_errors_in_digits", lambda *_: (1e-7, 3e-7))
    assert chosen_matmul("digits", 8, 4, 64, signs=True) == Matmul(DIGITS, 1e-7)


def test_digits_are_taken_by_a_network_that_is_given_them():
    assert isinstance(Matmul(DIGITS).passes, digits.SignDigits)
    assert Matmul(DEFAULT).passes is Matmul(ONEDNN).passes is PLAIN


@pytest.mark.skipif(not digits.available(), reason="no matrix units for bytes")
def test_the_errors_in_digits_are_measured():
    digit, floats = products._errors_in_digits(64, 512)
    assert 1e-9 < digit < floats < 1e-6


def test_the_errors_are_measured():
    left, right = torch.randn(64, 512), torch.randn(512, 64)
    exact = left.double() @ right.double()
    assert 1e-9 < products._error(Matmul(DEFAULT), left, right, exact) < 1e-6
    rounded = left.bfloat16().float()  # what a product in bfloat16 would lose
    assert products._error(Matmul(DEFAULT), rounded, right, exact) > 1e-4


def test_whatever_is_chosen_is_float32():
    chosen = chosen_matmul("auto", 1024, 512, 512)
    assert chosen.error is None or chosen.error < 2e-6


def test_small_products_are_not_measured(monkeypatch):
    monkeypatch.setattr(products, "_measured", lambda *_: pytest.fail("measured"))
    assert chosen_matmul("auto", 256, 128, 64) == Matmul(DEFAULT)


def test_a_path_can_be_fixed_and_a_wrong_one_is_refused(monkeypatch):
    assert chosen_matmul("default", 1024, 512, 512) == Matmul(DEFAULT)
    monkeypatch.setattr(products, "available", lambda: (DEFAULT,))
    assert chosen_matmul("auto", 1024, 512, 512) == Matmul(DEFAULT)
    with pytest.raises(ExpectedError, match="matmul: 'onednn' is not one of auto, default"):
        chosen_matmul("onednn", 1024, 512, 512)
