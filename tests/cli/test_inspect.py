"""`phasetrack inspect`: what a pass of a copy shows, in words and with sample values."""

import pytest
from helpers.command_line import call_here

MODELS = """
import math

import torch
from torch import nn
from torch.nn import functional as F


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.W, self.b = nn.Parameter(torch.randn(10, 32)), nn.Parameter(torch.randn(32))
        self.a = nn.Parameter(torch.randn(32))

    def forward(self, x):
        return F.softplus(x @ self.W / math.sqrt(10) + self.b) @ self.a / math.sqrt(32)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.W, self.V, self.A = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.A(F.silu(self.W(x)) * self.V(x))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.hidden, self.out = nn.Embedding(7, 5), nn.Linear(10, 32), nn.Linear(32, 7)

    def forward(self, tokens):
        return self.out(F.relu(self.hidden(self.embed(tokens).flatten(1))))


class Strict(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1))

    def forward(self, x, y):
        return self.net(x) * y


def images():
    conv = nn.Conv2d(1, 1, 3, padding=1)
    return nn.Sequential(
        conv, nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10), nn.LogSoftmax(dim=1)
    )


def lazy():
    return nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(1))


def deep():
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
"""


@pytest.fixture
def inspected(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MODELS)
    monkeypatch.setenv("COLUMNS", "80")

    def inspect(name, *options):
        done = call_here("inspect", f"mine:{name}", *options, cwd=tmp_path)
        assert all(len(line) <= 80 for line in done.stdout.splitlines())
        return done.returncode, " ".join(done.stdout.split()), done.stderr

    return inspect


def test_factors_orientation_and_samples_are_shown(inspected):
    code, shown, _ = inspected("Scaled")
    assert code == 0
    for words in (
        "W: 10 -> 32 neurons, bias b, kept as (inputs, outputs), times 0.3162",
        "activation softplus",
        "output the layers' times 0.1768",
        "yes: in evaluation mode the two layers alone make the model's output",
        "random input the layers the model difference 1 ",
    ):
        assert words in shown


def test_samples_of_the_layers_are_those_of_the_model(inspected):
    _, shown, _ = inspected("Tokens")
    numbers = shown.split("difference 1 ")[1].split()
    assert float(numbers[0]) == pytest.approx(float(numbers[1]), rel=1e-5)  # printed in float32


def test_a_gated_block_is_refused_with_the_reason(inspected):
    code, shown, _ = inspected("Gated", "--first", "W", "--second", "A")
    assert code == 0 and "a gated block" in shown
    assert "Margins, zeta* and rates are left out" in shown
    assert "activation not one function of each neuron" in shown


def test_images_and_links_are_tried(inspected):
    _, shown, _ = inspected("images")
    assert "through log_softmax" in shown and "2: 64 -> 16 neurons" in shown


def test_a_model_that_takes_other_inputs_says_so(inspected):
    code, shown, _ = inspected("Strict")
    assert code == 0
    assert "not seen: the model does not take random inputs of shape (64, 6) (TypeError" in shown
    assert "not known" in shown or "no: they hold" in shown


def test_lazy_layers_are_explained(inspected):
    code, _, error = inspected("lazy")
    assert code == 2
    assert error.startswith("MODULE:FACTORY: 0.weight has no shape yet: its layer is lazy. Run one")


def test_errors_name_the_options(inspected):
    code, _, error = inspected("deep")
    assert code == 2 and "with --first and --second" in error and "layers=" not in error
