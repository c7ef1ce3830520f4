"""Rows in order, against PyTorch's own sort."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from phasetrack.measures.sorting import ascending, order

ROWS = arrays.arrays(
    np.float64,
    arrays.array_shapes(max_dims=3, max_side=40),
    elements=st.floats(width=32) | st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan]),
)


@given(rows=ROWS)
def test_rows_are_sorted_each_by_itself(rows):
    values = torch.from_numpy(rows)
    expected = values.sort(dim=-1).values
    assert torch.equal(ascending(values).nan_to_num(nan=-1), expected.nan_to_num(nan=-1))
    ranked = order(values)
    assert ranked.dtype == torch.int64
    assert torch.equal(ranked.sort(dim=-1).values, torch.arange(rows.shape[-1]).expand(rows.shape))
    placed = values.gather(-1, ranked)
    assert torch.equal(placed.nan_to_num(nan=-1), expected.nan_to_num(nan=-1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_that_numpy_does_not_know(dtype):
    values = torch.tensor([3.0, float("nan"), -1.0, 2.0], dtype=dtype, requires_grad=True)
    found = ascending(values)
    assert found.dtype == dtype and found[:3].tolist() == [-1.0, 2.0, 3.0] and found[3].isnan()
    assert order(values).tolist() == [2, 3, 0, 1]
