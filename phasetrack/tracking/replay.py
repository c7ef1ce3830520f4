"""replay(): a run measured again from its saved weights, against a signal span found at its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.measures.noise import noise_of
from phasetrack.measures.signal_span import DiscoveredSpan, discover
from phasetrack.model.formula import Formula, FrozenLayers
from phasetrack.model.geometry import Geometry
from phasetrack.model.losses import LogisticLoss, Loss
from phasetrack.model.two_layer_view import ACTIVATIONS
from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.history import History
from phasetrack.phases.run_labels import RunLabels
from phasetrack.phases.vocabularies import chosen
from phasetrack.storage.weight_store import SavedWeights, read_weights
from phasetrack.tracking.first_samples import FirstSamples
from phasetrack.tracking.guard import FailureGuard, warn
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.probes.default import default_probes
from phasetrack.tracking.probes.kernel import KernelProbe
from phasetrack.tracking.recorder import Recorder
from phasetrack.tracking.snapshot import Snapshot
from phasetrack.tracking.snapshot_queue import SnapshotQueue
from phasetrack.tracking.step_copies import LayerState, LossInputs, StepSizes

# The last span has to agree with that of the checkpoint at this share of the run.
EARLIER = 0.75


@dataclass(frozen=True)
class Replay:
    """A run against clusters that need not have been known while it ran.

    Attributes:
        history: readings at the saved steps; growth rates are those between them.
        summary: labels, boundaries and alerts, under the keys of ``summary.json``.
        geometry: the clusters used.
        span: the span in which they were found; None where they were given.
    """

    history: History
    summary: dict[str, Any]
    geometry: Geometry
    span: DiscoveredSpan | None


def replay(
    run: str | Path,
    inputs: Tensor,
    targets: Tensor,
    *,
    geometry: Geometry | None = None,
    loss: Loss | None = None,
    thresholds: Thresholds | None = None,
    eta: float = 1.0,
) -> Replay:
    """Measure every saved step of a run again, on one sample of data.

    Args:
        run: its directory, with weights saved by ``attach(..., snapshots=)`` or ``--snapshots``.
        inputs: (m, d).
        targets: as the loss takes them, (m,).
        geometry: the clusters; None discovers the span from the last saved network on the data, and
            compares it with that of a checkpoint at three quarters of the run.
        loss: None takes the paper's logistic loss.
        thresholds: of the labels; None takes the defaults.
        eta: time that one step of the run took, for the growth rates; with 1 they are per step.

    Raises:
        ExpectedError: if no weights were saved, or the span found holds no clusters that differ. A
            span that is not trustworthy is used all the same: check ``.span``.
    """
    saved = read_weights(Path(run))
    for problem in saved.damaged:
        warn(f"a saved step is left out: {problem}")
    last = saved.states[max(saved.states)]
    if not all(bool(part.float().isfinite().all()) for part in last.values()):
        problem = f"The weights saved at step {max(saved.states)} hold NaN or infinity."
        raise ExpectedError("run", problem, "Replay a run that did not diverge.")
    if last["W"].shape[1] != inputs.shape[1]:
        raise ExpectedError(
            "inputs",
            f"The saved weights take {last['W'].shape[1]} inputs, and the data have {inputs.shape[1]}.",
            "Pass a sample of the data that the run was trained on.",
        )
    formula, span = _formula(saved), None
    networks = {step: _layers(state, formula) for step, state in saved.states.items()}
    if geometry is None:
        span = span_of(networks, inputs, targets)
        geometry = span.geometry(inputs, targets)
    history, summary = read_again(
        networks, inputs, targets, geometry, loss or LogisticLoss(), thresholds=thresholds, eta=eta
    )
    return Replay(history, summary, geometry, span)


def span_of(networks: Mapping[int, FrozenLayers], inputs: Tensor, labels: Tensor) -> DiscoveredSpan:
    """Find the signal span of the last network, which has to agree with that of an earlier one.

    Args:
        networks: the layers at saved steps.
        inputs: (m, d).
        labels: (m,), as `discover` takes them.
    """
    last = max(networks)
    earlier = [step for step in networks if step <= EARLIER * last]
    tried = [_function(networks[step]) for step in (last, *([max(earlier)] if earlier else []))]
    return discover(inputs, labels, tried[0], other=tried[1] if len(tried) > 1 else None)


def _function(layers: FrozenLayers) -> Callable[[Tensor], Tensor]:
    """Return a network as a function in float64."""
    wide = layers.on_host()
    return lambda x: wide.outputs(x.to(wide.W))


def read_again(
    networks: Mapping[int, FrozenLayers],
    inputs: Tensor,
    targets: Tensor,
    geometry: Geometry,
    loss: Loss | HostLoss,
    *,
    thresholds: Thresholds | None = None,
    eta: float = 1.0,
) -> tuple[History, dict[str, Any]]:
    """Measure networks of one run on one sample, as if each were a recorded step.

    Args:
        networks: the layers at saved steps, ascending, all of one formula.
        inputs: (m, d).
        targets: as the loss takes them.
        geometry: the clusters or the span.
        loss: of outputs and targets.
        thresholds: of the labels; None takes the defaults.
        eta: time that one step took.

    Returns:
        The readings, and labels, boundaries and alerts under the keys of ``summary.json``.
    """
    recorder = Recorder(
        default_probes(geometry),
        RunLabels(thresholds or Thresholds()),
        FailureGuard(strict=True),
        SnapshotQueue(patience=math.inf),
        FirstSamples(geometry),
        vocabularies=chosen(),
    )
    for snapshot in _snapshots(networks, geometry, loss, inputs, targets, eta):
        recorder.queue.append(snapshot)
    recorder.measure()
    history = recorder.history.load_all()
    return history, recorder.summary(history, max(networks) + 1)


def _snapshots(
    networks: Mapping[int, FrozenLayers],
    geometry: Geometry,
    loss: Loss | HostLoss,
    inputs: Tensor,
    targets: Tensor,
    eta: float,
) -> Iterator[Snapshot]:
    """Yield every saved step as a snapshot on one sample."""
    steps = list(networks)
    x = inputs.to(networks[steps[-1]].W)
    y = targets.to(x) if targets.is_floating_point() else targets
    host_loss = HostLoss.of(loss).with_targets(y)
    sample, noise = x[: KernelProbe.samples], noise_of(x, geometry)
    for step, after in zip(steps, [*steps[1:], steps[-1] + 1], strict=True):
        layers = networks[step]
        with torch.no_grad():
            outputs = layers.outputs(x)
        time, length = eta * (step - steps[0]), eta * (after - step)
        yield Snapshot(
            (step,),
            (time,),
            # the law is not integrated over several steps: predicted rates are left out
            (StepSizes(length, length, plain=False),),
            geometry,
            layers.formula,
            LayerState(
                layers.A.unsqueeze(0),
                bias=None if layers.bias is None else layers.bias.unsqueeze(0),
                head_bias=None if layers.head_bias is None else layers.head_bias.unsqueeze(0),
                W=layers.W.unsqueeze(0),
                along_mean=None
                if noise is None or noise.mean is None
                else (layers.W @ noise.mean.to(layers.W)).unsqueeze(0),
            ),
            LossInputs(outputs.unsqueeze(0), y.unsqueeze(0), geometry.traces(x).unsqueeze(0)),
            host_loss,
            sample=sample,
            noise=noise,
        )


def _formula(saved: SavedWeights) -> Formula:
    state = saved.states[max(saved.states)]
    width, heads = len(state["W"]), len(state["A"])
    return Formula(
        width=width,
        heads=heads,
        scale=saved.scale or 1 / width,
        activation=ACTIVATIONS[saved.activation],
        bias_scaled=saved.bias_scaled,
        biased="bias" in state or "head_bias" in state,
        submodule=False,
    )


def _layers(state: Mapping[str, Tensor], formula: Formula) -> FrozenLayers:
    return FrozenLayers(formula, state["W"], state["A"], state.get("bias"), state.get("head_bias"))
