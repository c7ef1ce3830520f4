"""Attributes that forward() uses and that change in training: readings are right or absent."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from phasetrack import ClusterGeometry, TrackingWarning, attach

D, P, STEPS = 6, 8, 9
CENTRES = 2.0 * torch.eye(D)[:3]
GEOMETRY = ClusterGeometry(CENTRES, [0, 1, 2])


class Net(nn.Module):
    """Divides its outputs by an attribute, and bends by a function or a module that is one."""

    def __init__(self, act, *, counts):
        super().__init__()
        self.hidden, self.head, self.act = nn.Linear(D, P), nn.Linear(P, 3), act
        self.temperature, self.counts, self.calls, self.last = 2.0, counts, 0, None

    def forward(self, x):
        if self.counts:
            self.calls += 1
            self.last = float(x[0, 0])
        return self.head(self.act(self.hidden(x))) / self.temperature


def anneal(model, step):
    model.temperature = 2.0 / (1 + step // 3)


def anneal_always(model, step):
    model.temperature = 2.0 / (1 + step)


def bend(model, step):
    model.act = F.gelu if step >= 4 else torch.tanh


def exchange(model, step):
    if step == 4:
        model.act = nn.ELU()


def nothing(*_):
    pass


def margins(model):
    with torch.no_grad():
        f = model(CENTRES)
    own = f.diagonal()
    return (own - f.masked_fill(torch.eye(3, dtype=torch.bool), -torch.inf).amax(1)).tolist()


def trained(model, change, **options):
    right, optimizer = [], torch.optim.SGD(model.parameters(), lr=0.3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with attach(model, optimizer, geometry=GEOMETRY, **options) as tracker:
            for step in range(STEPS):
                change(model, step)
                y = torch.randint(3, (20,))
                optimizer.zero_grad()
                F.cross_entropy(model(CENTRES[y] + torch.randn(20, D)), y).backward()
                right.append(margins(model))
                optimizer.step()
    said = [str(w.message) for w in said if issubclass(w.category, TrackingWarning)]
    return tracker, np.array(right), said


@pytest.mark.parametrize(
    ("change", "act", "missing"),
    [
        (nothing, torch.tanh, 1),  # counters that leave the formula are asked about once
        (anneal, torch.tanh, 3),
        (anneal_always, torch.tanh, 5),
        (bend, torch.tanh, 2),
        (exchange, nn.Tanh(), 2),
    ],
)
def test_clean_margins_are_right_or_absent(change, act, missing):
    torch.manual_seed(0)
    tracker, right, said = trained(Net(act, counts=change is nothing), change)
    read = np.array([tracker.history[f"margin/clean/c{c}"] for c in range(3)]).T
    absent = np.isnan(read).any(axis=1)
    assert 0 < absent.sum() <= missing
    np.testing.assert_allclose(read[~absent], right[~absent], rtol=1e-4, atol=1e-5)
    assert all("an attribute of the model" in line for line in said)
    assert len(set(said)) == len(said) <= 3
    assert not np.isnan(tracker.history["loss/train"]).any()


# --- settings elsewhere -----------------------------------------------------------------------

TEMPERATURE, SETTINGS = 2.0, {"deep": {"temperature": 2.0}}


class OfTheClass:
    temperature = 2.0


def divided_by_a_global(outputs):
    return outputs / TEMPERATURE


class Configured(Net):
    """Has the same temperature in many places; its outputs are as they come."""

    shared = 2.0

    def __init__(self):
        super().__init__(torch.tanh, counts=False)
        self.config, self.table, self.entries = SimpleNamespace(temperature=2.0), {}, [2.0]
        set_everywhere(self, 2.0)

    def logits(self, x):
        return self.head(self.act(self.hidden(x)))


def set_everywhere(model, temperature):
    global TEMPERATURE  # noqa: PLW0603
    TEMPERATURE = SETTINGS["deep"]["temperature"] = OfTheClass.temperature = temperature
    model.config.temperature = model.table["temperature"] = temperature
    model.entries[0] = Configured.shared = temperature


PLACES = {
    "attribute of an attribute": lambda self, x: self.logits(x) / self.config.temperature,
    "dictionary": lambda self, x: self.logits(x) / self.table["temperature"],
    "list": lambda self, x: self.logits(x) / self.entries[0],
    "module-level name": lambda self, x: self.logits(x) / TEMPERATURE,
    "module-level dictionary": lambda self, x: self.logits(x) / SETTINGS["deep"]["temperature"],
    "helper": lambda self, x: divided_by_a_global(self.logits(x)),
    "other class": lambda self, x: self.logits(x) / OfTheClass.temperature,
    "own class": lambda self, x: self.logits(x) / self.shared,
}


@pytest.mark.parametrize("place", PLACES)
def test_settings_that_the_code_names_are_seen_to_change(place):
    torch.manual_seed(0)
    model = type("Annealed", (Configured,), {"forward": PLACES[place]})()
    tracker, right, said = trained(model, lambda m, step: set_everywhere(m, 2.0 / (1 + step // 3)))
    read = np.array([tracker.history[f"margin/clean/c{c}"] for c in range(3)]).T
    absent = np.isnan(read).any(axis=1)
    assert np.flatnonzero(absent).tolist() == [3, 6]  # where the temperature changes
    np.testing.assert_allclose(read[~absent], right[~absent], rtol=1e-4, atol=1e-5)
    assert len(said) == 1


class Unrelated(Configured):
    """Its code names none of the settings."""

    def forward(self, x):
        return self.logits(x)


@pytest.mark.parametrize("counts", [False, True])
def test_a_compiled_model_is_compared_again_after_a_change(counts):
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Net(torch.tanh, counts=False)
    change = anneal if not counts else lambda m, step: setattr(m, "calls", step)
    model = torch.compile(model, backend="aot_eager")
    tracker, right, said = trained(model, lambda m, step: change(m._orig_mod, step))
    read = np.array([tracker.history[f"margin/clean/c{c}"] for c in range(3)]).T
    absent = np.isnan(read).any(axis=1)
    assert 0 < absent.sum() <= 3 and not absent[7:].any()
    np.testing.assert_allclose(read[~absent], right[~absent], rtol=1e-3, atol=1e-5)
    assert all("is not what it was" in line for line in said) and len(said) <= 2


def test_settings_that_the_code_does_not_name_are_no_change():
    torch.manual_seed(0)
    change = lambda model, step: set_everywhere(model, 2.0 / (1 + step))  # noqa: E731
    tracker, right, said = trained(Unrelated(), change)
    read = np.array([tracker.history[f"margin/clean/c{c}"] for c in range(3)]).T
    np.testing.assert_allclose(read, right, rtol=1e-4, atol=1e-5)
    assert not said


def test_attributes_around_a_block_are_not_looked_at():
    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.head = (
                nn.Sequential(nn.Linear(D, P), nn.ReLU(), nn.Linear(P, 4)),
                nn.Linear(4, 3),
            )
            self.scale = 1.0

        def forward(self, x):
            return self.head(self.block(x)) * self.scale

    torch.manual_seed(0)
    block = {"layers": ("block.0", "block.2"), "readout": torch.eye(4)[:3]}
    change = lambda model, step: setattr(model, "scale", 1.0 + step)  # noqa: E731
    _, _, said = trained(Large(), change, **block)
    assert not any("is not what it was" in line for line in said)


# --- the mode ---------------------------------------------------------------------------------


def test_the_mode_of_a_network_without_dropout_is_no_change():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, P), nn.ReLU(), nn.Linear(P, 3))

    def alternate(model, step):
        model.train(step % 2 == 0)

    tracker, right, said = trained(model, alternate)
    read = np.array([tracker.history[f"margin/clean/c{c}"] for c in range(3)]).T
    np.testing.assert_allclose(read, right, rtol=1e-4, atol=1e-5)
    assert not said


def test_a_pass_in_evaluation_mode_does_not_hide_dropout():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, P), nn.ReLU(), nn.Dropout(0.5), nn.Linear(P, 3))

    def look_first(model, step):
        if step == 0:
            model.eval()(CENTRES)
            model.train()

    tracker, _, said = trained(model, look_first)
    assert np.isnan(tracker.history["margin/clean/c0"]).all()
    assert "dropout" in tracker.undefined["margin/clean/c0"]
    assert len(said) == 2
