"""A live figure shows the run so far, draws seldom enough, and leaves training as it is."""

import math

import pytest
import torch
from torch import nn

import phasetrack
from phasetrack.display import live_figure
from phasetrack.phases.history import History, Record
from phasetrack.phases.labels import Boundary, Phase
from phasetrack.tasks import XOR


def trained(steps, sinks=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.1), nn.BCEWithLogitsLoss()
    task, tracker = XOR(8), None
    if sinks is not None:
        tracker = phasetrack.attach(
            model, optimizer, loss=loss, geometry=task.geometry, sinks=sinks
        )
    for step in range(steps):
        x, y = task.sample(64, seed=0, step=step)
        optimizer.zero_grad()
        loss(model(x).squeeze(-1), (y > 0).float()).backward()
        optimizer.step()
    if tracker is not None:
        tracker.detach()
    return model, tracker


def losses(figure):
    panel = next(axes for axes in figure.axes if "Loss" in axes.get_title(loc="left"))
    return next(line for line in panel.lines if line.get_label() == "loss").get_xydata()


def test_the_last_figure_is_that_of_the_whole_run_and_training_is_unchanged():
    figures = []
    live = phasetrack.LiveFigure(seconds=math.inf, show=figures.append)
    model, tracker = trained(20, [live])
    assert len(figures) == 2  # the first record, and the end
    assert losses(figures[0]).shape == (1, 2)
    assert losses(figures[1])[:, 1] == pytest.approx(tracker.history["loss/train"])
    for ours, bare in zip(model.parameters(), trained(20)[0].parameters(), strict=True):
        assert torch.equal(ours, bare)


def test_drawing_takes_a_tenth_of_the_time_at_most(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(live_figure.time, "monotonic", lambda: clock[0])
    drawn = []

    def slow(figure):
        drawn.append(clock[0])
        clock[0] += 3.0

    live = phasetrack.LiveFigure(("loss",), seconds=2.0, show=slow)
    for step in range(100):
        live.write(Record(step, {"loss/train": 1.0}, Phase.UNDETERMINED))
        clock[0] += 1.0
    assert drawn == [0.0, 30.0, 60.0, 90.0, 120.0][: len(drawn)]
    assert 3.0 * len(drawn) <= 0.1 * clock[0] + 3.0


def test_a_boundary_that_was_left_says_so():
    live = phasetrack.LiveFigure(("loss",), show=lambda _: None)
    met = Boundary("fitted", 3.5, 4)
    live.write(Record(4, {"loss/train": 0.1}, Phase.FITTED, boundaries=(met,)))
    live.write(Record(9, {"loss/train": 1.0}, Phase.UNDETERMINED, left=("fitted",)))
    (boundary,) = live._summary("UNDETERMINED")["boundaries"]
    assert (boundary["onset"], boundary["left"]) == (3.5, 9)


def test_a_run_without_a_record_draws_nothing():
    figures = []
    phasetrack.LiveFigure(show=figures.append).close({}, History())
    assert figures == []


def test_an_unknown_panel_is_refused():
    with pytest.raises(phasetrack.ExpectedError, match="zeta"):
        phasetrack.LiveFigure(("zeta*",))
