"""Rows in order, against PyTorch's own sort."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from phasetrack.measures.sorting import order

ROWS = arrays.arrays(
    np.float64,
    arrays.array_shapes(max_dims=3, max_side=40),
    elements=st.floats(width=32) | st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan]),
)


@given(rows=ROWS)
def test_rows_are_sorted_each_by_itself(rows):
    values = torch.from_numpy(rows)
    expected = values.sort(dim=-1).values
    for ranked in (order(values), order(values, stable=True)):
        assert ranked.dtype == torch.int64
        places = torch.arange(rows.shape[-1]).expand(rows.shape)
        assert torch.equal(ranked.sort(dim=-1).values, places)
        placed = values.gather(-1, ranked)
        assert torch.equal(placed.nan_to_num(nan=-1), expected.nan_to_num(nan=-1))


def test_a_stable_order_keeps_equal_values_in_their_places():
    values = torch.randint(0, 3, (5, 200), generator=torch.Generator().manual_seed(0)).double()
    assert torch.equal(order(values, stable=True), values.sort(dim=-1, stable=True).indices)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_that_numpy_does_not_know(dtype):
    values = torch.tensor([3.0, float("nan"), -1.0, 2.0], dtype=dtype, requires_grad=True)
    assert order(values).tolist() == [2, 3, 0, 1]
