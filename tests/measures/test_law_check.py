"""The step's gradient against that of the mean loss, exactly, and against the mean-field law's."""

import numpy as np
import pytest
import torch
from helpers import references as naive

from phasetrack.measures import law_check
from phasetrack.measures.mean_field import law
from phasetrack.model.geometry import Neurons

D, P = 10, 6
QUARTERS = torch.full((4,), 0.25, dtype=torch.float64)


def gradients(W, a, x, y, factor):
    """Gradient of factor times the mean of 2 log(1 + exp(-y f)), by autograd, (p, d + 1); then dl/df and f."""
    W, a, x, y = (torch.from_numpy(each).requires_grad_() for each in (W, a, x, y))
    f = (x @ W.T).relu() @ a / len(a)
    (factor * 2 * torch.nn.functional.softplus(-y * f).mean()).backward()
    slopes = -2 * y * torch.sigmoid(-y * f)
    return torch.cat([W.grad, a.grad.unsqueeze(1)], dim=1), slopes.detach(), f.detach()


def checked(x, y, factor=1.0, seed=0, a=None):
    W, own = naive.network(P, D, seed)
    a = own if a is None else a
    gradient, slopes, f = gradients(W, a, x, y, factor)
    neurons = Neurons.of(*naive.tensors(W, a), naive.xor(D))
    table = law_check.gradient_table(torch.from_numpy(W), gradient, naive.xor(D))
    work, slope = (slopes * f).mean(), slopes.abs().mean()
    return neurons, table, law_check.factors(neurons, table, work, slope, torch.float64)


def corners(count, seed=0):
    x = np.random.default_rng(seed).choice([-1.0, 1.0], (count, D))
    return x, -x[:, 0] * x[:, 1]


def test_table_holds_the_gradient_in_the_span_its_product_with_w_and_that_of_a():
    rng = np.random.default_rng(1)
    W, gradient = rng.standard_normal((P, D)), rng.standard_normal((P, D + 1))
    table = law_check.gradient_table(*naive.tensors(W, gradient), naive.xor(D)).numpy()
    lengths = np.hypot(gradient[:, 0], gradient[:, 1])
    np.testing.assert_allclose(np.hypot(table[:, 0], table[:, 1]), lengths)
    np.testing.assert_allclose(table[:, 2], (W * gradient[:, :-1]).sum(axis=1))
    np.testing.assert_allclose(table[:, 3], gradient[:, -1])


@pytest.mark.parametrize("factor", [1.0, 256.0, 0.03, -1.0])
def test_factor_is_exact_whatever_the_data(factor):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((7, D)) + 0.3, rng.choice([-1.0, 1.0], 7)
    *_, found = checked(x, y, factor)
    np.testing.assert_allclose(found.numpy(), [factor, factor], rtol=1e-9)


def test_factor_of_outputs_that_are_rounding_is_not_known():
    x, y = corners(50)
    *_, found = checked(x, y, a=np.zeros(P))
    assert found.isnan().all()


def agreement(x, y):
    neurons, table, _ = checked(x, y)
    # shares and slopes as declared: the samples alone decide
    products = law_check.agreement(neurons, table, law(neurons, 0.9 * torch.ones(4), QUARTERS))
    return (products[0, 0] / products[0, 1]).item()


def test_projection_on_the_law_tells_clusters_from_other_inputs():
    x, y = corners(20_000)
    far = np.random.default_rng(3).standard_normal(x.shape)
    assert agreement(x, y) == pytest.approx(1, abs=0.1)
    assert agreement(far, -np.sign(far[:, 0] * far[:, 1])) < 0.75


def by_hand(rows):
    """Weighted sums after the last of some records, one layer."""
    sums = np.zeros(6)
    for g, p in rows:
        if np.isfinite(g):
            new = np.array([g, p, g * g, g * p, p * p, 1])
            sums = sums * np.array([0.95, 0.95, *[0.95**2] * 3, 1]) + new
    return sums


def test_sums_over_records_by_hand_and_in_pieces():
    rng = np.random.default_rng(4)
    rows = rng.uniform(0.5, 1.5, (9, 2, 2))
    rows[3, 0] = np.nan
    whole = law_check.followed(None, torch.from_numpy(rows))
    for layer in range(2):
        np.testing.assert_allclose(whole[-1, layer].numpy(), by_hand(rows[:, layer]))
    start = law_check.followed(None, torch.from_numpy(rows[:4]))
    rest = law_check.followed(start[-1], torch.from_numpy(rows[4:]))
    assert torch.equal(torch.cat([start, rest]), whole)


@pytest.mark.parametrize(
    "centre, scatter, off", [(1, 0.5, False), (0.6, 0.1, True), (0.6, 2, False)]
)
def test_the_law_is_off_where_that_is_certain(centre, scatter, off):
    rng = np.random.default_rng(5)
    products = np.ones((30, 2, 2))
    products[..., 0] = centre + scatter * rng.standard_normal((30, 2))
    found = law_check.is_off(law_check.followed(None, torch.from_numpy(products)))
    assert found[-1].tolist() == [off, off]
    assert not found[: law_check.LEAST_RECORDS - 1].any()


def test_slopes_are_summed_as_by_hand_and_batches_that_tell_nothing_change_nothing():
    rng = np.random.default_rng(5)
    sizes, slopes, squares = (rng.uniform(1, 2, (4, 3)) for _ in range(3))
    slopes[2] = np.nan
    found = law_check.followed_slopes(None, *naive.tensors(sizes, slopes, squares)).numpy()
    expected = np.zeros((3, 2))
    for row in (0, 1, 3):
        new = np.stack([sizes[row] * slopes[row], sizes[row] * squares[row]], axis=1)
        expected = expected * [law_check.MEMORY, law_check.MEMORY**2] + new
    np.testing.assert_allclose(found[-1], expected)
    np.testing.assert_array_equal(found[2], found[1])


def test_random_slopes_seldom_pull_clearly_and_slopes_with_a_sign_do():
    """4 standard deviations of a chi-squared number with 4 degrees of freedom: 0.4 percent of 2000."""
    rng = np.random.default_rng(6)

    def share(wrong):
        signs = np.where(rng.random((2000, 4, 50)) < wrong, -1.0, 1.0)
        sums = np.stack([signs.sum(-1), (signs**2).sum(-1)], axis=-1)
        return law_check.pulls_clearly(torch.from_numpy(sums)).double().mean().item()

    assert share(0.5) < 0.015
    assert share(0.3) > 0.95
    assert not law_check.pulls_clearly(torch.zeros(4, 2)).any()
