"""Losses in whatever form the loop calls them: the same readings as in the usual one."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from phasetrack import ClusterGeometry, attach
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.loss_arguments import USUAL, Form, form_of, in_form

D, P, STEPS = 6, 8, 4
CENTRES = 2.0 * torch.eye(D)[:3]
GEOMETRY = ClusterGeometry(CENTRES, [0, 1, 2])


class Usual(nn.Module):
    def forward(self, outputs, targets):
        return F.cross_entropy(outputs, targets, label_smoothing=0.1)


class TargetsFirst(nn.Module):
    def forward(self, truth, guess):
        return F.cross_entropy(guess, truth, label_smoothing=0.1)


class WithLogs(Usual):
    def forward(self, outputs, targets):
        return super().forward(outputs, targets), {"wrong": (outputs.argmax(1) != targets).sum()}


class InMapping(Usual):
    def forward(self, outputs, targets):
        return {"size": outputs.detach().norm(), "loss": super().forward(outputs, targets)}


FORMS = {
    "usual": (Usual(), lambda c, f, y: c(f, y)),
    "targets first": (TargetsFirst(), lambda c, f, y: c(y, f)),
    "by other names": (TargetsFirst(), lambda c, f, y: c(guess=f, truth=y)),
    "half by name": (TargetsFirst(), lambda c, f, y: c(y, guess=f)),
    "with logs": (WithLogs(), lambda c, f, y: c(f, y)[0]),
    "in a mapping": (InMapping(), lambda c, f, y: c(targets=y, outputs=f)["loss"]),
}


def trained(name, of_tracker):
    criterion, call = FORMS[name]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, P), nn.Tanh(), nn.Linear(P, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    loss = criterion.forward if of_tracker else criterion
    with attach(model, optimizer, loss=loss, geometry=GEOMETRY, strict=True) as tracker:
        for _ in range(STEPS):
            y = torch.randint(3, (20,))
            optimizer.zero_grad()
            f = model(CENTRES[y] + torch.randn(20, D))
            call(tracker.loss if of_tracker else criterion, f, y).backward()
            optimizer.step()
    return tracker.history


@pytest.mark.parametrize(
    ("name", "of_tracker"),
    [(name, False) for name in FORMS] + [(name, True) for name in ("targets first", "with logs")],
)
def test_readings_do_not_depend_on_the_form(name, of_tracker):
    history, usual = trained(name, of_tracker), trained("usual", of_tracker=False)
    for reading in (
        "loss/train",
        "error/train",
        "margin/empirical/c0",
        "linearization/value_error",
    ):
        np.testing.assert_allclose(history[reading], usual[reading], rtol=1e-5)
    assert usual["linearization/value_error"].all()


def test_names_of_torch_losses_are_the_usual_form():
    f, y = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, 2, 0])
    criterion = nn.CrossEntropyLoss()
    form = form_of((), {"target": y, "input": f}, criterion(f, y))
    assert form == Form("input", "target") and in_form(criterion, form) is criterion
    assert form_of((f, y), {}, f.sum()) is USUAL and form_of((f,), {}, f.sum()) is None


def test_a_loss_of_weights_beside_the_targets_has_no_first_order_errors():
    def weighted(f, y, weights):
        return (weights * F.cross_entropy(f, y, reduction="none")).mean()

    f, y = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, 2, 0])
    form = form_of((f, y, torch.ones(4)), {}, f.sum())
    assert form == USUAL
    with pytest.raises(TypeError):
        HostLoss.of(weighted, form)(f, y)


def test_the_readings_of_a_loss_that_is_called_one_by_one_do_not_depend_on_the_block():
    def looks(f, y):
        return torch.exp(-y * f).mean() if float(f.detach().sum()) < 1e9 else f.sum()

    def history(block):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(D, P), nn.Tanh(), nn.Linear(P, 1), nn.Flatten(0))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        geometry = ClusterGeometry(CENTRES[:2], [1, -1])
        with attach(model, optimizer, loss=looks, geometry=geometry, block=block) as tracker:
            for _ in range(6):
                y = torch.randint(2, (200,)) * 2.0 - 1
                optimizer.zero_grad()
                tracker.loss(model(y[:, None] * CENTRES[0] + torch.randn(200, D)), y).backward()
                optimizer.step()
        return tracker.history["linearization/value_error"]

    one, many = history(1), history(6)
    assert np.array_equal(one, many) and not np.isnan(one).any()
