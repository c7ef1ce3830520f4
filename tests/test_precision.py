"""Readings where the training's own products are rounded."""

import pytest
import torch
from helpers.torch_settings import float32_rounding
from torch import backends

from phasetrack._precision import can_choose, float32_products, unrounded
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.tasks import XOR

chosen = pytest.mark.skipif(not can_choose("cpu"), reason="this PyTorch has one setting for all")
LIKE = torch.ones(2, 3)


def setting():
    return backends.mkldnn.matmul.fp32_precision


@pytest.fixture(autouse=True)
def _unset():
    """What was set for the processor alone goes."""
    yield
    if can_choose("cpu"):
        backends.mkldnn.matmul.fp32_precision = "none"


@chosen
@pytest.mark.parametrize("precision", ["high", "medium"])
def test_float32_products_are_exact_within_and_as_before_afterwards(precision):
    with float32_rounding(precision):
        before = setting()
        with pytest.raises(KeyError), unrounded(LIKE):
            assert before != "ieee" and setting() == "ieee"
            raise KeyError
        assert setting() == before


@chosen
def test_what_was_set_further_up_is_still_set_there():
    backends.mkldnn.matmul.fp32_precision = "none"
    backends.mkldnn.fp32_precision = "bf16"
    try:
        assert setting() == "bf16"
        with float32_products("cpu", "ieee"):
            assert setting() == "ieee"
        backends.mkldnn.fp32_precision = "tf32"
        assert setting() == "tf32"
    finally:
        backends.mkldnn.fp32_precision = "none"


def test_one_setting_for_all_devices_is_put_back(monkeypatch):
    monkeypatch.setattr("phasetrack._precision._SETTINGS", {})
    with float32_rounding("medium"):
        with unrounded(LIKE):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"


def test_nothing_is_entered_where_nothing_is_rounded():
    with unrounded(LIKE) as entered:
        assert entered is None


@pytest.mark.parametrize("few", [True, False], ids=["few coordinates", "all coordinates"])
@pytest.mark.parametrize("precision", ["high", "medium"])
def test_readings_are_to_the_bit_those_of_exact_products(precision, few):
    """oneDNN, which these settings let in, has other last digits even where it stays in float32."""
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(256, 128, generator=generator)
    turn = torch.linalg.qr(torch.randn(128, 128, generator=generator, dtype=torch.float64)).Q
    plain = XOR(128).geometry
    geometry = plain if few else ClusterGeometry(plain.centres @ turn, plain.labels)
    exact = [*geometry.read(W), geometry.traces(W)]
    with float32_rounding(precision):
        rounded = [*geometry.read(W), geometry.traces(W)]
    assert all(map(torch.equal, exact, rounded))
