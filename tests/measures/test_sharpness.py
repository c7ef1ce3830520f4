"""The largest eigenvalue of the Hessian against the full Hessian of torch.func, in float64."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from phasetrack import ExpectedError
from phasetrack.measures.sharpness import PARAMETERS, largest_eigenvalue, sharpness
from phasetrack.model.formula import Formula, FrozenLayers
from phasetrack.model.losses import LogisticLoss


def layers(p=4, d=3, heads=1, activation=torch.tanh, biased=True, scale=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    formula = Formula(p, heads, scale, activation, False, biased, False)
    biases = (draw(p), draw(heads)) if biased else (None, None)
    return FrozenLayers(formula, draw(p, d), draw(heads, p), *biases)


def sample(heads, d=3, m=12, seed=5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(m, d, generator=generator, dtype=torch.float64)
    if heads > 1:
        return x, torch.arange(m) % heads
    return x, torch.randn(m, generator=generator, dtype=torch.float64).sign()


def full_hessian(network, x, y, loss, names):
    """The whole matrix by torch.func, the tensors one after another."""
    given = {name: getattr(network, name) for name in names}
    sizes = [value.numel() for value in given.values()]

    def value(flat):
        parts = [
            part.view_as(like) for part, like in zip(flat.split(sizes), given.values(), strict=True)
        ]
        return loss(replace(network, **dict(zip(given, parts, strict=True))).outputs(x), y)

    return torch.func.jacrev(torch.func.jacrev(value))(
        torch.cat([value.flatten() for value in given.values()])
    )


@pytest.mark.parametrize(
    "heads, loss",
    [(1, nn.MSELoss()), (1, LogisticLoss()), (3, nn.CrossEntropyLoss())],
    ids=["mse", "logistic", "cross entropy"],
)
@pytest.mark.parametrize("activation", [torch.tanh, torch.relu], ids=["tanh", "relu"])
@pytest.mark.parametrize("biased", [True, False], ids=["biases", "no biases"])
def test_against_the_full_hessian(heads, loss, activation, biased):
    network = layers(heads=heads, activation=activation, biased=biased)
    x, y = sample(heads)
    names = PARAMETERS if biased else PARAMETERS[:2]
    hessian = full_hessian(network, x, y, loss, names)
    found = sharpness(network, x, y, loss, tolerance=1e-12)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-9)
    product = hessian @ found.vector - found.value * found.vector
    assert found.residual == pytest.approx(product.norm().item(), abs=1e-12)
    assert found.residual <= 1e-8 * found.value and found.vector.norm().item() == pytest.approx(1)


def test_fixed_layers_are_left_out():
    network, (x, y) = layers(), sample(1)
    hessian = full_hessian(network, x, y, nn.MSELoss(), ["A"])
    found = sharpness(network, x, y, nn.MSELoss(), parameters=["A"], tolerance=1e-12)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item())
    assert found.vector.shape == (4,)


def test_steps_of_each_layer_weigh_the_hessian():
    network, (x, y) = layers(biased=False), sample(1)
    steps = {"W": torch.rand(4, 3, dtype=torch.float64), "A": 0.3}
    spread = torch.cat([steps["W"].flatten(), torch.full((4,), 0.3, dtype=torch.float64)])
    hessian = full_hessian(network, x, y, nn.MSELoss(), ["W", "A"])
    # eigenvalues of D H, which is not symmetric, are those of the update
    expected = torch.linalg.eigvals(spread.diag() @ hessian).real.max().item()
    found = sharpness(
        network,
        x,
        y,
        nn.MSELoss(),
        parameters=["W", "A"],
        rates=list(steps.values()),
        tolerance=1e-12,
    )
    assert found.value == pytest.approx(expected)
    uniform = sharpness(network, x, y, nn.MSELoss(), rates=[0.1] * 4, tolerance=1e-12)
    plain = sharpness(network, x, y, nn.MSELoss(), tolerance=1e-12)
    assert uniform.value == pytest.approx(0.1 * plain.value)


@pytest.mark.parametrize("tolerance", [0.3, 1e-2, 1e-4])
def test_an_early_end_is_a_lower_bound_whose_residual_holds(tolerance):
    # a slowly falling spectrum, so that few products do not suffice
    values = torch.linspace(0.0, 1.0, 200, dtype=torch.float64) ** 2
    found = largest_eigenvalue(
        lambda x: (values * x.square()).sum() / 2, [torch.zeros(200)], tolerance=tolerance
    )
    assert found.value <= 1 + 1e-12
    assert (values - found.value).abs().min() <= found.residual + 1e-12
    assert found.residual <= tolerance * found.value * (1 + 1e-6)
    assert found.products < 60


def test_products_are_bounded():
    values = torch.linspace(0.0, 1.0, 300, dtype=torch.float64)
    found = largest_eigenvalue(
        lambda x: (values * x.square()).sum() / 2,
        [torch.zeros(300)],
        tolerance=0.0,
        most_products=7,
    )
    assert found.products == 7 and found.residual > 1e-3


def test_largest_is_the_most_positive_not_the_largest_in_size():
    found = largest_eigenvalue(lambda x: x[0] ** 2 - 50 * x[1] ** 2, [torch.ones(2)])
    assert found.value == pytest.approx(2)
    below = largest_eigenvalue(lambda x: -(x[0] ** 2) - 50 * x[1] ** 2, [torch.ones(2)])
    assert below.value == pytest.approx(-2)


def test_product_of_two_numbers_in_closed_form():
    # f = (u v - y)^2 / 2: at u v = y the eigenvalue is u^2 + v^2
    u, v = 1.5, 2.0
    found = largest_eigenvalue(
        lambda a, b: (a * b - u * v) ** 2 / 2, [torch.tensor(u), torch.tensor(v)]
    )
    assert found.value == pytest.approx(u**2 + v**2)


@pytest.mark.parametrize(
    "function, expected",
    [(lambda x: x.sum(), 0.0), (lambda _: torch.ones(()), 0.0), (lambda x: x[0] * 3 + 1, 0.0)],
    ids=["linear", "constant", "one of them"],
)
def test_function_without_curvature(function, expected):
    found = largest_eigenvalue(function, [torch.ones(3)])
    assert found.value == expected and found.residual == 0


def test_lost_weights_are_undefined():
    network, (x, y) = layers(), sample(1)
    network.W[0, 0] = torch.nan
    found = sharpness(network, x, y, nn.MSELoss())
    assert math.isnan(found.value) and math.isnan(found.residual)


def test_reading_depends_on_the_weights_alone_and_changes_nothing():
    network, (x, y) = layers(), sample(1)
    single = FrozenLayers(network.formula, *(v.float() for v in (network.W, network.A)))
    single.W.requires_grad_(True)
    before = torch.get_rng_state(), single.W.detach().clone()
    with torch.no_grad():
        first = sharpness(single, x.float(), y, nn.MSELoss())
    torch.manual_seed(123)
    with torch.inference_mode():
        second = sharpness(single, x.float(), y, nn.MSELoss())
    assert first.value == second.value and first.products == second.products
    torch.set_rng_state(before[0])
    sharpness(single, x.float(), y, nn.MSELoss())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(single.W, before[1]) and single.W.grad is None


def test_as_many_rates_as_tensors_are_asked_for():
    network, (x, y) = layers(), sample(1)
    with pytest.raises(ExpectedError, match="rates: 1 step sizes do not fit 4 tensors"):
        sharpness(network, x, y, nn.MSELoss(), rates=[0.1])
    with pytest.raises(ExpectedError, match="rates: 2 step sizes do not fit 1 tensors"):
        largest_eigenvalue(torch.sum, [torch.ones(2)], rates=[0.1, 0.1])


def test_default_device_changes_nothing():
    network, (x, y) = layers(), sample(1)
    plain = sharpness(network, x, y, nn.MSELoss(), rates=[0.1] * 4)
    with torch.device("meta"):
        assert sharpness(network, x, y, nn.MSELoss(), rates=[0.1] * 4).value == plain.value
