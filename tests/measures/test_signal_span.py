"""Signal spans found without being told, and refused where there is none."""

import numpy as np
import pytest
import torch

from phasetrack import ExpectedError, RunSettings, TwoLayerNet, attach, discover, train
from phasetrack.measures.label_moment import label_moment
from phasetrack.measures.signal_span import gradient_moment
from phasetrack.model.losses import LogisticLoss
from phasetrack.tasks import XOR
from phasetrack.tracking.probes.default import SpanProbe

D = 32
SPAN = XOR(D).geometry.basis


@pytest.fixture(scope="module")
def data():
    return XOR(D).sample(8000, seed=5, step=0)


@pytest.fixture(scope="module")
def found_in_data(data):
    """The span found from the sample alone."""
    return discover(*data)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The last weights of a run that learned, and of one on labels without signal."""
    nets = {}
    for shuffled in (False, True):
        out = tmp_path_factory.mktemp("runs")
        settings = RunSettings(d=D, width=64, steps=160, shuffle_labels=shuffled)
        train(settings, out=out, name="run")
        state = torch.load(out / "run" / "checkpoint.pt", weights_only=True)["model"]
        nets[shuffled] = TwoLayerNet(D, 64)
        nets[shuffled].load_state_dict(state)
    return nets


def test_moments_by_definition():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 4)), rng.choice([-1.0, 1.0], 50)
    x = x + 3.0
    centred = x - x.mean(axis=0)
    expected = sum((s - y.mean()) * np.outer(v, v) for v, s in zip(centred, y, strict=True)) / 50
    np.testing.assert_allclose(label_moment(torch.from_numpy(x), torch.from_numpy(y)), expected)
    weights = torch.randn(4, dtype=torch.float64)
    agop = gradient_moment(lambda at: (at @ weights).square())
    gradients = 2 * (x @ weights.numpy())[:, None] * weights.numpy()
    np.testing.assert_allclose(
        agop(torch.from_numpy(x), torch.from_numpy(y)), gradients.T @ gradients / 50
    )


def test_from_data_alone(found_in_data):
    found = found_in_data
    assert found.trustworthy and found.dim == 2
    assert found.angles_to(SPAN).max() < 10
    assert found.stability > 10 * found.chance == pytest.approx(20 / D)


def test_from_a_trained_network(data, trained):
    found = discover(*data, trained[False].double())
    assert found.trustworthy and found.dim == 2 and found.accuracy > 0.99
    assert found.angles_to(SPAN).max() < 5


@pytest.mark.parametrize("case", ["untrained network", "shuffled network", "shuffled data"])
def test_without_signal_nothing_is_trusted(case, data, trained):
    x, y = XOR(D, shuffle_labels=case.startswith("shuffled")).sample(8000, seed=5, step=0)
    nets = {"untrained network": TwoLayerNet(D, 64), "shuffled network": trained[True]}
    found = discover(x, y, nets[case].double() if case in nets else None)
    assert not found.trustworthy
    assert found.reason.endswith("are guessed")


def test_found_clusters_are_those_of_the_task(data, trained):
    geometry = discover(*data, trained[False].double()).geometry(*data)
    assert geometry.splits and sorted(geometry.labels.tolist()) == [-1, -1, 1, 1]
    for centre, label in zip(XOR(D).geometry.centres, XOR(D).geometry.labels, strict=True):
        distance, nearest = (geometry.centres - centre).norm(dim=1).min(dim=0)
        assert distance < 0.1 and geometry.labels[nearest] == label


def test_found_clusters_can_be_attached_to(data, trained):
    geometry = discover(*data, trained[False].double()).geometry(*data)
    net, loss = TwoLayerNet(D, 64), LogisticLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2 * 64)
    with attach(net, optimizer, loss=loss, geometry=geometry) as tracker:
        for step in range(140):
            x, y = XOR(D).sample(128, seed=3, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
    assert [b.name for b in tracker.boundaries] == ["signal_heavy", "linear_exit", "fitted"]


def test_the_span_at_every_step(data):
    """It is not trusted at the start, and is the task's by the end."""
    net, loss = TwoLayerNet(D, 64), LogisticLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2 * 64)
    options = {"loss": loss, "geometry": XOR(D).geometry, "probes": [SpanProbe(*data)], "every": 10}
    with attach(net, optimizer, **options, strict=True) as tracker:
        for step in range(61):
            x, y = XOR(D).sample(128, seed=3, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
    history = tracker.history
    assert history["span/trustworthy"][0] == 0 and history["span/trustworthy"][-1] == 1
    assert history["span/angle"][0] > 45 and history["span/angle"][-1] < 5
    assert history["span/dim"][-1] == 2


def test_classes_apart_by_their_means():
    rng = np.random.default_rng(0)
    y = rng.choice([0.0, 1.0], 4000)
    x = rng.standard_normal((4000, 6)) + 3 * np.outer(2 * y - 1, [1, 0, 0, 0, 0, 0])
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    found = discover(x, y, lambda at: torch.tanh(at[:, 0] / 3))
    assert found.dim == 1 and found.trustworthy
    centres = found.geometry(x, y).centres
    np.testing.assert_allclose(centres[:, 0], [3, -3], atol=0.2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            (torch.zeros(3, 4), torch.zeros(3)),
            r"inputs: Shapes .* are not those of a sample. Pass a \(m, d\) table of at least 4",
        ),
        ((torch.zeros(5, 4), torch.zeros(4)), r"Shapes \(5, 4\) and \(4,\)"),
        ((torch.full((5, 4), torch.nan), torch.ones(5)), "inputs: The inputs contain NaN"),
        ((torch.zeros(5, 4), torch.ones(5)), "labels: All labels are of one class"),
    ],
)
def test_wrong_data_is_explained(arguments, message):
    with pytest.raises(ExpectedError, match=message):
        discover(*arguments)


@pytest.mark.parametrize(
    "option", [{"dim": 0}, {"dim": 99}, {"min_gap": 0.5}, {"min_stability": 2}], ids=str
)
def test_wrong_options_are_explained(option, data):
    ((name, value),) = option.items()
    with pytest.raises(ExpectedError, match=f"{name}: {value} is not a"):
        discover(*data, **option)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("outputs", ["(m,)", "(m, 1)"])
def test_a_network_is_given_inputs_in_its_own_dtype(dtype, outputs, data, trained):
    net, seen = trained[False].to(dtype), []

    def function(x):
        seen.append(x.dtype)
        values = net(x)
        return values if outputs == "(m,)" else values.unsqueeze(1)

    found = discover(*data, function)
    assert seen[-1] == dtype
    reference = discover(*data, trained[False].double())
    assert found.dim == 2 and found.angles_to(reference.basis).max() < 1


@pytest.mark.parametrize(
    "turn",
    [
        lambda x, y: (x.numpy(), y.numpy()),
        lambda x, y: (x, y.unsqueeze(1)),
        lambda x, y: (x, y > 0),
        lambda x, y: (x, torch.nn.functional.one_hot((y > 0).long())),
        lambda x, y: (x.double(), (y > 0).numpy().astype(np.uint8)[:, None]),
        lambda x, y: (x.requires_grad_(), y.int()),
    ],
    ids=["numpy", "column", "bool", "one-hot", "float64 and bytes", "gradient"],
)
def test_every_spelling_of_a_sample_gives_one_span(turn, data, found_in_data, trained):
    net = trained[False].float()
    given = turn(data[0].clone(), data[1])
    found = discover(*given)
    torch.testing.assert_close(found.basis, found_in_data.basis)
    assert discover(*given, net).angles_to(SPAN).max() < 5
    centres = found_in_data.geometry(*data).centres
    torch.testing.assert_close(found.geometry(*given).centres, centres)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: x, r"function: It returns shape \(8000, 32\) for 8000 inputs"),
        (lambda x: x[:, 0].detach(), "function: It raises RuntimeError.*does not require grad"),
        (lambda x: x @ x, "function: It raises RuntimeError.*through which gradients flow"),
    ],
    ids=["all outputs", "no gradient", "wrong shapes"],
)
def test_a_function_that_cannot_be_read_is_explained(function, message, data):
    with pytest.raises(ExpectedError, match=message):
        discover(*data, function)


def test_a_sample_of_another_dimension_is_explained(data):
    with pytest.raises(ExpectedError, match=r"inputs: .*does not fit a span in R\^32"):
        discover(*data).geometry(data[0][:, :9], data[1])


def bits(k, *, offset=0.0, count=4000, d=12):
    """Parity of the first k signs, the inputs shifted."""
    x = torch.from_numpy(np.random.default_rng(k).choice([-1.0, 1.0], (count, d)))
    return x + offset, x[:, :k].prod(dim=1)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_found_clusters_lie_where_the_data_do(k, offset):
    """A network that is the parity itself, also where the bits are 0 and 2."""
    x, y = bits(k, offset=offset)
    found = discover(x, y, lambda at: (at[:, :k] - offset).prod(dim=1))
    assert found.dim == k and found.trustworthy and found.angles_to(torch.eye(12)[:, :k]).max() < 1
    geometry = found.geometry(x, y)
    told = geometry.labels[geometry.assign(x)] == y
    assert len(geometry.labels) == 2**k and told.all()
    corners = (geometry.centres[:, :k] - offset).abs()
    torch.testing.assert_close(corners, torch.ones_like(corners), atol=0.1, rtol=0.0)


def test_clusters_that_tell_no_labels_are_refused():
    x, y = bits(3)
    found = discover(x, y, lambda at: at[:, :3].prod(dim=1))
    with pytest.raises(ExpectedError, match="span: No clusters in it tell the labels"):
        found.geometry(x, torch.from_numpy(np.random.default_rng(0).choice([-1.0, 1.0], 4000)))


def test_a_direction_that_tells_nothing_is_dropped(data):
    """However strong it is in the estimate."""
    x, y = data
    found = discover(x, y, lambda at: at[:, 0] * at[:, 1] + 3.0 * at[:, 5])
    assert found.dim == 2 and found.angles_to(SPAN).max() < 1
    scaled = x.clone()
    scaled[:, 7] *= 6.0
    found = discover(scaled, y)
    assert found.dim == 2 and found.angles_to(SPAN).max() < 15


def test_a_constant_offset_of_the_data_is_no_direction():
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.choice([-1.0, 1.0], 4000))
    x = torch.from_numpy(rng.standard_normal((4000, 8))) + 5.0
    x[:, 0] += 1.5 * y
    found = discover(x, y)
    assert found.dim == 1 and found.trustworthy
    assert found.angles_to(torch.eye(8)[:, :1]).max() < 5


def test_two_networks_have_to_agree(data):
    x, y = data

    def tilted(at):
        return at[:, 0] * (0.6 * at[:, 1] + 0.8 * at[:, 5])

    agreed = discover(x, y, lambda at: at[:, 0] * at[:, 1], other=lambda at: at[:, 1] * at[:, 0])
    assert agreed.trustworthy and agreed.stability > 0.99
    apart = discover(x, y, lambda at: at[:, 0] * at[:, 1], other=tilted)
    assert not apart.trustworthy and "the two networks agree by" in apart.reason
    alone = discover(x, y, lambda at: at[:, 0] * at[:, 1])
    assert np.isnan(alone.stability) and alone.trustworthy
    with pytest.raises(ExpectedError, match="other: There is no first network"):
        discover(x, y, other=tilted)


@pytest.mark.parametrize("network", [False, True], ids=["data", "logits"])
def test_three_classes(network):
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(0, 3, 6000))
    x = torch.from_numpy(rng.standard_normal((6000, 10))) + 4.0 * torch.eye(10).double()[y]
    found = discover(x, y, (lambda at: torch.tanh(at[:, :3] / 4)) if network else None)
    assert found.trustworthy and found.dim == 2
    centres = torch.eye(10).double()[:, :3]
    assert found.angles_to(centres).max() < 5
    geometry = found.geometry(x, y)
    assert geometry.classes.tolist() == [0, 1, 2]
