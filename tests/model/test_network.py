"""The paper's network."""

import numpy as np
import pytest
import torch
from helpers import references as naive

from phasetrack import LogisticLoss, TwoLayerNet, attach
from phasetrack.model.network import FusedTwoLayerNet
from phasetrack.tasks import XOR
from phasetrack.training import int8_matmul as digits
from phasetrack.training.matmul import DIGITS, Matmul


def test_formula():
    net = TwoLayerNet(7, 5, theta=0.3, seed=1).double()
    W, a = net.first.weight.detach().numpy(), net.second.weight.detach().numpy()[0]
    x = np.random.default_rng(0).standard_normal((9, 7))
    expected = [naive.output(W, a, row) for row in x]
    np.testing.assert_allclose(net(torch.from_numpy(x)).detach().numpy(), expected)


def test_start_on_the_sphere():
    state = torch.random.get_rng_state()
    net = TwoLayerNet(50, 4000, theta=0.3, seed=0)
    assert torch.equal(state, torch.random.get_rng_state())
    W, a = net.first.weight.detach(), net.second.weight.detach()
    torch.testing.assert_close(W.norm(dim=1), torch.full((4000,), 0.3))
    assert (a.abs() == torch.tensor(0.3)).all() and abs(a.sign().mean()) < 5 / 63
    assert W.mean(dim=0).abs().max() < 5 * 0.3 / np.sqrt(50 * 4000)  # no direction preferred
    assert torch.equal(W, TwoLayerNet(50, 4000, theta=0.3, seed=0).first.weight)
    assert not torch.equal(W, TwoLayerNet(50, 4000, theta=0.3, seed=1).first.weight)


def gradients(net, x, y, loss):
    net.zero_grad()
    loss(net(x), y).backward()
    return [weight.grad.clone() for weight in net.parameters()]


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-14)], ids=["float32", "float64"]
)
@pytest.mark.parametrize("d, width, m", [(7, 5, 9), (64, 128, 256), (512, 256, 1000)])
def test_both_passes_written_out_are_those_of_autograd(d, width, m, dtype, tolerance):
    plain, fused = (kind(d, width, seed=3).to(dtype) for kind in (TwoLayerNet, FusedTwoLayerNet))
    x, y = XOR(d).sample(m, seed=1, step=0, dtype=dtype)
    torch.testing.assert_close(fused(x), plain(x), rtol=tolerance, atol=tolerance)
    pairs = zip(
        gradients(fused, x, y, LogisticLoss()), gradients(plain, x, y, LogisticLoss()), strict=True
    )
    for ours, theirs in pairs:
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.skipif(not digits.available(), reason="no matrix units for bytes")
def test_gradients_in_digits_are_those_of_autograd():
    plain, fused = (kind(512, 256, seed=3) for kind in (TwoLayerNet, FusedTwoLayerNet))
    x, y = XOR(512).sample(1000, seed=1, step=0)
    expected = gradients(plain.double(), x.double(), y.double(), LogisticLoss())
    by_floats = gradients(fused, x, y, LogisticLoss())
    fused.passes = Matmul(DIGITS).passes
    torch.testing.assert_close(fused(x).double(), plain(x.double()), rtol=1e-6, atol=1e-6)
    found = gradients(fused, x, y, LogisticLoss())
    any_x = (x * 0.3).requires_grad_(True)  # a gradient by the inputs is taken of any inputs
    torch.testing.assert_close(fused(any_x).double(), plain(any_x.double()), rtol=1e-5, atol=1e-6)
    for ours, theirs, floats in zip(found, expected, by_floats, strict=True):
        assert (ours.double() - theirs).norm() <= 1e-6 * theirs.norm()
        assert not torch.equal(ours, floats)  # another way, it was


@pytest.mark.skipif(not digits.available(), reason="no matrix units for bytes")
def test_gradients_in_digits_add_up_over_pieces():
    whole, parts = (FusedTwoLayerNet(64, 32, seed=1) for _ in range(2))
    x, y = XOR(64).sample(131, seed=1, step=0)
    whole.passes = parts.passes = Matmul(DIGITS).passes
    expected = gradients(whole, x, y, LogisticLoss())
    for piece in (slice(0, 65), slice(65, 130), slice(130, 131)):
        (LogisticLoss()(parts(x[piece]), y[piece]) * (len(y[piece]) / 131)).backward()
    for weight, gradient in zip(parts.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-5, atol=1e-7)


# torch.compile makes the function an instance, of which PyTorch itself warns
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_fused_network_compiles_whole():
    net = FusedTwoLayerNet(8, 4, seed=1)
    x = torch.ones(3, 8)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), net(x))


def test_a_fused_pass_has_the_gradient_by_the_inputs_too():
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for kind in (TwoLayerNet, FusedTwoLayerNet):
        at = x.clone().requires_grad_(True)
        kind(6, 5, theta=1.0, seed=0).double()(at).square().sum().backward()
        found.append(at.grad)
    torch.testing.assert_close(*found)


def test_fused_gradients_add_up():
    whole, parts = (FusedTwoLayerNet(16, 8, seed=1).double() for _ in range(2))
    x, y = XOR(16).sample(60, seed=1, step=0, dtype=torch.float64)
    expected = gradients(whole, x, y, LogisticLoss())
    for piece in (slice(0, 25), slice(25, 60)):
        (LogisticLoss()(parts(x[piece]), y[piece]) * (len(y[piece]) / 60)).backward()
    for weight, gradient in zip(parts.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-13, atol=1e-16)


def test_a_fused_pass_goes_back_once_and_says_so():
    net = FusedTwoLayerNet(8, 4)
    total = net(torch.ones(3, 8)).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_a_fused_network_keeps_the_same_state():
    plain, fused = TwoLayerNet(8, 4, seed=5), FusedTwoLayerNet(8, 4, seed=6)
    fused.load_state_dict(plain.state_dict())
    assert torch.equal(fused.first.weight, plain.first.weight)
    assert not any(parameter.grad_fn for parameter in fused.parameters())


def test_a_tracker_reads_a_fused_network_as_the_plain_one():
    histories = []
    for kind in (TwoLayerNet, FusedTwoLayerNet):
        net = kind(16, 32, seed=2).double()
        optimizer, loss = torch.optim.SGD(net.parameters(), lr=0.2 * 32), LogisticLoss()
        with attach(net, optimizer, loss=loss, geometry=XOR(16).geometry) as tracker:
            for step in range(40):
                x, y = XOR(16).sample(64, seed=4, step=step, dtype=torch.float64)
                optimizer.zero_grad()
                loss(net(x), y).backward()
                optimizer.step()
        histories.append(tracker.history)
    plain, fused = histories
    assert list(plain) == list(fused) and not tracker.undefined.keys() & {"hooks", "batch"}
    for name in plain:
        np.testing.assert_allclose(fused[name], plain[name], rtol=1e-9, atol=1e-12)


def test_seeds_of_more_than_32_bits_have_weights_of_their_own():
    seeds = (1, 1 + 2**32, 1 + 2**33, 2**32 - 1, -1, 2**63 - 1, 2**64 - 1)
    nets = [TwoLayerNet(6, 5, seed=seed).first.weight for seed in seeds]
    same = {(a, b) for a in range(7) for b in range(a) if torch.equal(nets[a], nets[b])}
    assert same == {(6, 4)}  # -1 is 2^64 - 1


def test_seeds_of_32_bits_keep_torchs_own_numbers():
    drawn = torch.randn(
        5, 6, generator=torch.Generator().manual_seed(2**32 - 1), dtype=torch.float64
    )
    expected = 0.1 * drawn / drawn.norm(dim=1, keepdim=True)
    assert torch.equal(TwoLayerNet(6, 5, seed=2**32 - 1).first.weight, expected.float())
