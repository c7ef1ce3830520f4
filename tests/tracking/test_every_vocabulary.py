"""Every published vocabulary on one run: resumed to the bit, labelled again under other levels, named in callbacks."""

import io
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn

import phasetrack
from phasetrack import probes
from phasetrack.phases.vocabularies import chosen, names
from phasetrack.tasks import XOR

STEPS = 120
TASK = XOR(d=8)
TRAIN, HELD_OUT = (
    (x, (y > 0).long()) for x, y in (TASK.sample(128, seed=0, step=step) for step in (0, 1))
)


def begun(**options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    return net, torch.optim.SGD(net.parameters(), lr=0.8), options


def attached(net, optimizer, options):
    own = [
        probes.OverlapProbe(TASK.geometry.basis.T),
        probes.PlateauProbe(),
        probes.SharpnessProbe(*TRAIN),
        probes.GeneralisationProbe(TRAIN, HELD_OUT),
        probes.NeuralCollapseProbe(*TRAIN),
    ]
    return phasetrack.attach(
        net,
        optimizer,
        loss=nn.CrossEntropyLoss(),
        geometry=TASK.geometry,
        probes=[*probes.default_probes(), *own],
        **options,
    )


def take(steps, net, optimizer, tracker):
    x, y = TRAIN
    for _ in steps:
        optimizer.zero_grad()
        tracker.loss(net(x), y).backward()
        optimizer.step()


def trained(**options):
    net, optimizer, given = begun(**options)
    with attached(net, optimizer, given) as tracker:
        take(range(STEPS), net, optimizer, tracker)
    return tracker


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return trained(logdir=tmp_path_factory.mktemp("runs") / "run")


def test_every_vocabulary_speaks(whole):
    assert list(whole.phases) == names()
    silent = {name: labels.reason for name, labels in whole.phases.items() if not labels.applies}
    assert silent == {}
    events = [one for labels in whole.phases.values() for one in labels.boundaries]
    assert len(events) >= 5


@pytest.mark.parametrize("cut", [1, 57, 100])
def test_resumed_run_has_the_same_labels_to_the_bit(whole, cut):
    net, optimizer, given = begun()
    tracker = attached(net, optimizer, given)
    take(range(cut), net, optimizer, tracker)
    saved = io.BytesIO()
    torch.save(tracker.state_dict(), saved)
    tracker.detach()
    later = attached(net, optimizer, given)
    later.load_state_dict(torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
    take(range(cut, STEPS), net, optimizer, later)
    later.detach()
    assert repr(later.phases.summary()) == repr(whole.phases.summary())
    for name in names():
        column = f"phase/{name}"
        np.testing.assert_array_equal(later.history[column], whole.history[column])


@pytest.mark.parametrize("vocabulary", chosen(), ids=lambda one: one.name)
def test_history_labelled_again_is_a_run_under_those_levels(whole, vocabulary):
    levels = {f.name: 0.8 * getattr(vocabulary, f.name) for f in fields(vocabulary)}
    other = replace(vocabulary, **levels)
    live = trained(phases=["auto", other]).phases[vocabulary.name]
    run = phasetrack.read_run(whole.logdir)
    again = run.label_by(other)[vocabulary.name]
    assert repr(again.summary()) == repr(live.summary())
    same = run.label_by(vocabulary)[vocabulary.name]
    assert repr(same.summary()) == repr(whole.phases[vocabulary.name].summary())


def test_callbacks_name_the_vocabulary_of_each_change():
    said = []
    tracker = trained(
        on_transition=lambda _, change: said.append(
            (change.vocabulary, change.step, change.after.name)
        )
    )
    told = [
        (name, change.step, change.after.name)
        for name, labels in tracker.phases.items()
        for change in labels.transitions
    ]
    assert sorted(said) == sorted(told) and len({name for name, *_ in said}) >= 3
