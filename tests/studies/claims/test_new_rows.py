"""Pieces of claims that can be checked without their runs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.tracked_training import followed

from phasetrack import RunSettings, TwoLayerNet
from phasetrack.measures import heaviness
from phasetrack.model.geometry import Neurons
from phasetrack.studies.claims import claim_19_laws_of_growth as laws
from phasetrack.studies.claims import tuned as tuning
from phasetrack.studies.claims.lab import Lab
from phasetrack.studies.claims.second_phase import SecondPhaseProbe
from phasetrack.tasks import XOR

TASK = XOR(12)


def test_neurons_of_the_onset_are_followed_one_by_one():
    net = TwoLayerNet(12, 32, seed=0)
    tracker, seen = followed(
        net, TASK, lr=0.3 * 32, batch=128, steps=70, probes=[SecondPhaseProbe()], every=3
    )
    weights = [(W.double(), a.double()[0]) for W, a in seen[::3]]
    start = weights[0][1] ** 2 - weights[0][0].square().sum(1)
    members, kept, conserved = None, [], []
    for W, a in weights:
        neurons = Neurons.of(W, a, TASK.geometry)
        heavy = heaviness.needed_zeta_of(neurons) <= 1
        if members is None and heaviness.certificate_of(neurons) <= 1:
            members = heavy
        kept.append(np.nan if members is None else float((heavy & members).sum() / members.sum()))
        squares = a**2, W.square().sum(1)
        change = (squares[0] - squares[1] - start).abs().sum()
        conserved.append(float(change / (squares[0] + squares[1]).sum()))
    assert members is not None and np.isnan(kept[0])
    np.testing.assert_allclose(tracker.history["second_phase/kept"], kept)
    np.testing.assert_allclose(tracker.history["second_phase/conserved"], conserved, atol=1e-6)


def test_margin_of_the_balance_law_grows_at_its_own_rate():
    eta, margin = 0.2, [0.3]
    for _ in range(50):  # both layers by (1 + eta sqrt(2) / 4 g), the margin by its square
        slope = 2 / (1 + np.exp(margin[-1]))
        margin.append(margin[-1] * (1 + eta * np.sqrt(2) / 4 * slope) ** 2)
    run = SimpleNamespace(
        settings=RunSettings(eta=eta),
        history=SimpleNamespace(steps=np.arange(51)),
        boundary=lambda name: {"linear_exit": 10}[name],
    )
    run.history = type("History", (dict,), {"steps": np.arange(51)})(
        {laws.MARGIN: np.array(margin)}
    )
    assert laws._growth(run) == pytest.approx(1)


def test_tuning_takes_the_pair_with_the_fewest_samples_and_judges_other_seeds(monkeypatch):
    asked = []

    def train(lab, settings, count, variation=""):
        asked.append((lab.seed, count, len(settings)))
        return {
            key: [
                SimpleNamespace(
                    settings=each,
                    crosses=lambda *_, each=each: (
                        100 * (1 + abs(each.eta * each.d / each.batch - 2))
                    ),
                )
            ]
            * count
            for key, each in settings.items()
        }

    monkeypatch.setattr(Lab, "grid", train)
    goal = tuning.Goal(0.02, "until learned", batches=(8, 32), ratios=(1.0, 2.0, 4.0), most=50)
    found = tuning.tuned(Lab(seed=7), RunSettings(width=64), (16, 32), goal)
    assert found.chosen == {16: (8, 2.0), 32: (8, 2.0)}
    assert found.samples == {16: [800.0] * tuning.SEEDS, 32: [800.0] * tuning.SEEDS}
    assert asked == [(7 + tuning.TUNING_SEED, 1, 12), (7, tuning.SEEDS, 2)]
    assert torch.tensor(found.means[16].value) == 800
