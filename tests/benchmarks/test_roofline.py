"""The roofline's arithmetic, against operations and bytes counted one by one."""

import pytest
import roofline
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from roofline import Roof, Work
from torch.utils.flop_counter import FlopCounterMode

from phasetrack import LogisticLoss
from phasetrack.model.network import FusedTwoLayerNet
from phasetrack.tasks import XOR

SIZES = st.integers(1, 2**14)
RATES = st.floats(1e6, 1e15)


@pytest.mark.parametrize("d, p, m", [(8, 5, 7), (64, 16, 32), (130, 3, 50)])
def test_operations_are_those_of_a_steps_products(d, p, m):
    x, y = XOR(d).sample(m, seed=0, step=0)
    with FlopCounterMode(display=False) as counted:
        LogisticLoss()(FusedTwoLayerNet(d, p)(x), y).backward()
    assert Work(d, p, m).operations == counted.get_flop_counts()["Global"][torch.ops.aten.mm]


@pytest.mark.parametrize("d, p, m", [(8, 5, 7), (64, 16, 32), (130, 3, 50)])
def test_bytes_are_those_of_all_that_moves(d, p, m):
    x, active, W, gradient = (torch.empty(size) for size in ((m, d), (m, p), (p, d), (p, d)))
    packed = torch.empty(m, (d + 63) // 64, dtype=torch.int64)
    moved = [x, x, active, active, W, W, gradient, gradient, packed]
    assert Work(d, p, m).bytes == sum(each.numel() * each.element_size() for each in moved)


@settings(deadline=None, derandomize=True)
@given(SIZES, SIZES, SIZES, RATES, RATES)
def test_the_share_is_one_at_the_roof_and_halves_with_twice_the_time(d, p, m, rate, bandwidth):
    work, roof = Work(d, p, m), Roof(rate, bandwidth)
    least = roof.seconds(work)
    assert roof.share(work, least) == 1.0 and roof.share(work, 2 * least) == 0.5
    assert least >= work.operations / rate and least >= work.bytes / bandwidth
    slow = {"products": work.operations / rate, "memory": work.bytes / bandwidth}
    assert slow[roof.bound(work)] == least


def test_the_roof_is_the_faster_product_and_both_ways_of_a_copy():
    work = Work(2, 3, 5)
    seconds = {"square": 2.0, "products": 1.0, "copy": 4.0}
    assert roofline.roof(work, seconds, rows=10, floats=100) == Roof(1000.0, 200.0)
    assert roofline.roof(work, seconds, rows=2, floats=100) == Roof(120.0, 200.0)


def test_it_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(roofline.SQUARE, "cpu", 8)
    monkeypatch.setitem(roofline.COPIED, "cpu", 8)
    rows = roofline.measure(Work(8, 4, 16), torch.device("cpu"), 1, tmp_path)
    cases = ["products", "bare", "unprobed", "probed", "probed every 16"]
    assert [row["case"] for row in rows] == cases
    assert all(row["ms"] > 0 and row["share"] > 0 and row["device"] == "cpu" for row in rows)
    assert {path.name for path in tmp_path.iterdir()} == {"each", "sparse"}
