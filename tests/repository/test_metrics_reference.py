"""docs/metrics.md has every metric that the probes record, and no other."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

import phasetrack
from phasetrack.probes import (
    AcquisitionProbe,
    Features,
    GatheringProbe,
    HeldOutProbe,
    SpanProbe,
    default_probes,
)
from phasetrack.tasks import XOR
from phasetrack.tracking.probes.reference import METRICS, all_metrics, metric_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recorded():
    """The names that a short run records with every probe there is."""
    task, loss = XOR(d=16), phasetrack.LogisticLoss()
    x, y = task.sample(64, seed=1, step=0)
    net = phasetrack.TwoLayerNet(16, 16)
    forecast = phasetrack.predict(task.geometry, phasetrack.RunSettings(d=16, width=16), draws=2)
    probes = [
        *default_probes(gradients=True),
        HeldOutProbe(x, y, loss),
        AcquisitionProbe(Features.products(16, 2, {"-x1 x2": (-1, 1, 2)})),
        GatheringProbe(),
        SpanProbe(x, y),
    ]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2 * 16)
    with phasetrack.attach(
        net, optimizer, loss=loss, geometry=task.geometry, probes=probes, forecast=forecast
    ) as tracker:
        for step in range(3):
            x, y = task.sample(64, seed=0, step=step)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
    summed = phasetrack.LogisticLoss("sum")
    with phasetrack.attach(net, optimizer, loss=summed, geometry=task.geometry) as of_sum:
        optimizer.zero_grad()
        summed(net(x), y).backward()
        optimizer.step()
    with phasetrack.attach(
        net, optimizer, loss=loss, geometry=phasetrack.SpanGeometry(torch.eye(16)[:1])
    ) as of_span:
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
    return {*tracker.history, *of_sum.history, *of_span.history}


def test_every_recorded_metric_is_in_the_reference(recorded):
    assert sorted(name for name in recorded if metric_of(name) is None) == []


def test_every_metric_of_the_reference_is_recorded(recorded):
    assert [m.name for m in METRICS if not any(map(m.matches, recorded))] == []


def test_each_name_belongs_to_one_metric(recorded):
    assert [n for n in sorted(recorded) if sum(m.matches(n) for m in all_metrics()) != 1] == []


def test_names_of_other_metrics_do_not_match():
    assert metric_of("margin/clean/mu1") and metric_of("margin/clean/-mu1")
    assert metric_of("margin/clean/mu1/extra") is None and metric_of("loss/trainx") is None


def test_page_is_the_generated_one():
    spec = importlib.util.spec_from_file_location("metrics_page", ROOT / "docs" / "metrics.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "metrics.md").read_text() == module.page()


def test_sections_exist():
    theory = (ROOT / "docs" / "theory.md").read_text()
    sections = set(re.findall(r"^## (\d+[a-z]?)\. ", theory, flags=re.MULTILINE))
    assert {metric.section for metric in METRICS} <= sections
