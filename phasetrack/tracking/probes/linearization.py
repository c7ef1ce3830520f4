"""How far the loss is from its first-order approximation."""

from __future__ import annotations

import torch
from torch import Tensor

from phasetrack.measures.linearization import FirstOrder, errors_of, gradient_error, loss_change
from phasetrack.model.formula import FrozenLayers
from phasetrack.tracking.batch import Batch
from phasetrack.tracking.probes.base import Measurement, Reading
from phasetrack.tracking.snapshot import Snapshot

LAYERS = ("first", "second")


def linearization(snapshot: Snapshot) -> Measurement:
    """Read value error and slope drift of the loss's first-order approximation (theory.md 5)."""
    batch = snapshot.batch
    assert batch is not None
    found, undefined = batch.sample_losses
    names = (
        "linearization/value_error",
        "linearization/slope_drift",
        "linearization/loss_change",
    )
    if found is None:
        return dict.fromkeys(names, Reading.undefined(undefined[0][1]))
    return {
        name: Reading(errors, undefined).hidden()
        for name, errors in zip(names, _read(found, batch.weights), strict=True)
    }


def _read(found: FirstOrder, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return (*errors_of(found, weights), loss_change(found, weights))


def gradient_errors(snapshot: Snapshot) -> Measurement:
    """Read |grad L - grad L_0| / |grad L_0| of each layer, by two backward passes (theory.md 5)."""
    names = [f"linearization/gradient_error_{layer}" for layer in LAYERS]
    if snapshot.formula.submodule:
        nothing = Reading.undefined("the gradient error is that of a whole two-layer model")
        return dict.fromkeys(names, nothing)
    if missing := snapshot.formula.unlinked:
        return dict.fromkeys(names, Reading.undefined(missing))
    assert snapshot.batch is not None
    found, undefined = snapshot.batch.sample_losses
    if found is None or snapshot.batch.weights is not None:
        reason = undefined[0][1] if found is None else "the samples count unlike each other"
        return dict.fromkeys(names, Reading.undefined(reason))
    rows = []
    for state in snapshot.states():
        assert state.view is not None and state.batch is not None
        exact, linear = _gradients(state.view, state.batch)
        rows.append(torch.stack(gradient_error(exact, linear)))
    return dict(zip(names, torch.stack(rows, dim=-1), strict=True))


def _gradients(
    view: FrozenLayers, batch: Batch
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the gradient of L, and that of its linearisation L_0, by both layers."""
    W, A = view.W.clone().requires_grad_(True), view.A.clone().requires_grad_(True)
    network = FrozenLayers(view.formula, W, A, view.bias, view.head_bias)
    sizes = [len(piece) for piece in batch.inputs]
    found = batch.sample_losses.first_order
    assert found is not None
    slopes = found.start_slopes.to(W)
    exact = (torch.zeros_like(W), torch.zeros_like(A))
    linear = (torch.zeros_like(W), torch.zeros_like(A))
    parts = zip(
        batch.inputs, torch.split(batch.targets, sizes), torch.split(slopes, sizes), strict=True
    )
    with torch.enable_grad():
        for inputs, target, slope in parts:
            outputs = network.outputs(inputs.to(W))
            losses = batch.host_loss.each(outputs.cpu().double(), target).sum()
            first_order = (slope * outputs).sum()
            for totals, value in ((exact, losses), (linear, first_order)):
                gradients = torch.autograd.grad(value, (W, A), retain_graph=value is losses)
                for total, part in zip(totals, gradients, strict=True):
                    total.add_(part)
    return exact, linear
