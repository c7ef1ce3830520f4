"""The state of a tracker: everything that later readings and labels depend on, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.model.geometry import Geometry
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.phases.history import History
from phasetrack.phases.run_labels import RunLabels
from phasetrack.storage.history_sink import HistorySink
from phasetrack.storage.sink import Resumable
from phasetrack.tracking.capture import Capture
from phasetrack.tracking.host_loss import HostLoss
from phasetrack.tracking.recorder import Recorder
from phasetrack.tracking.restored import Restored
from phasetrack.tracking.snapshot import Snapshot
from phasetrack.tracking.step_copies import LayerState, LossInputs, StepSizes
from phasetrack.tracking.view_state import view_from_state

# The format of `Tracker.state_dict`; a state of another format is refused, except for format 2.
STATE_FORMAT = 3
# The sinks' state keys in format 2: the names of their classes at that time.
CLASS_NAMES = {
    "HistorySink": "history",
    "ClockSink": "clock",
    "TensorBoardSink": "tensorboard",
    "NeuronSink": "neurons",
    "WeightStore": "weights",
}
# The saved parts of `LayerState` and of `LossInputs`: neither whole weights nor inputs. The names
# "seen" and "sound" are those of the format.
LAYER_PARTS = ("coordinates", "perp", "head", "bias", "head_bias", "gradient")
LOSS_PARTS = {"outputs": "outputs", "targets": "targets", "traces": "traces", "sound": "finite"}


def state_of(capture: Capture, recorder: Recorder, sinks: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state that `torch.load` reads with ``weights_only=True``.

    Args:
        capture: steps counted, and the layers as they are known.
        recorder: labels, history and the states that later ones are compared with.
        sinks: state of each sink by state key.
    """
    kept = any(key.split()[0] == HistorySink.state_key for key in sinks)
    return {
        "format": STATE_FORMAT,
        "capture": capture.state_dict(),
        **recorder.labels.state_dict(),
        "vocabularies": recorder.vocabularies.state_dict(),
        "undefined": dict(recorder.guard.reasons),
        "off": list(recorder.guard.off),
        "previous": recorder.before and _snapshot_state(recorder.before[-1:]),
        "carried": dict(recorder.before.carried) if recorder.before else {},
        "first": recorder.first and _snapshot_state(recorder.first),
        "first_samples": recorder.first_samples.state_dict(),
        "first_W": recorder.first and _copy(recorder.first.layers.W),
        "records": recorder.history.count,
        "history": None if kept else _columns(recorder.history.load_all()),
        "sinks": dict(sinks),
    }


def restored(
    state: Mapping[str, Any],
    capture: Capture,
    geometry: Geometry,
    labels: RunLabels,
    sinks: Mapping[str, Resumable],
) -> Restored:
    """Read a state for a model, through a geometry, and for its sinks.

    Raises:
        ExpectedError: if the state does not fit them.
        LookupError, TypeError, ValueError, AttributeError, RuntimeError: if it is not a state at all.
    """
    view = view_from_state(state["capture"]["view"], capture.view)
    before, first = (
        None
        if state[name] is None
        else _snapshot_from(state[name], view, geometry, capture.host_loss)
        for name in ("previous", "first")
    )
    if before is not None:
        before.carried = dict(state.get("carried", {}))
    W = state.get("first_W")
    if first is not None and W is not None:
        first.layers = first.layers._replace(W=W.unsqueeze(0))
    return Restored(
        view,
        int(state["capture"]["step"]),
        float(state["capture"]["time"]),
        labels.restored(state),
        _saved_history(state, sinks),
        before,
        first,
        {str(name): str(reason) for name, reason in state["undefined"].items()},
        [str(name) for name in state["off"]],
        capture.first_samples.restored(state.get("first_samples")),
        dict(state.get("vocabularies", {})),  # version 0.1.0 had none
    )


def current_format(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state in the format of today.

    Raises:
        ExpectedError: if it has a format that is not known.
    """
    if state["format"] == 2:
        return _with_state_keys(state)
    if state["format"] != STATE_FORMAT:
        raise ExpectedError(
            "state",
            f"A state of format {state['format']!r} cannot be read; this version reads formats 2 "
            f"and {STATE_FORMAT}.",
            "Load it with the version of phasetrack that saved it.",
        )
    return state


def _with_state_keys(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state of format 2 as one of format 3: sinks by their state keys in place of class names."""

    def key(name: str) -> str:
        kind, _, number = name.partition(" ")
        return f"{CLASS_NAMES.get(kind, kind)} {number}".rstrip()

    sinks = {key(str(name)): each for name, each in state["sinks"].items()}
    off = [
        f"sink:{key(name.removeprefix('sink:'))}" if name.startswith("sink:") else name
        for name in map(str, state["off"])
    ]
    return {**state, "format": STATE_FORMAT, "sinks": sinks, "off": off}


# --- snapshots ---------------------------------------------------------------------------------


def _snapshot_state(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot of one state, without its leading dimension."""
    layers, seen = snapshot.layers.read(snapshot.geometry)._asdict(), snapshot.loss_inputs
    return {
        "step": snapshot.steps[0],
        "time": snapshot.times[0],
        "sizes": snapshot.sizes[0]._asdict(),
        "scale": snapshot.formula.scale,
        "layers": {name: _copy(layers[name]) for name in LAYER_PARTS},
        "seen": seen and {name: _copy(getattr(seen, part)) for name, part in LOSS_PARTS.items()},
    }


def _snapshot_from(
    state: Mapping[str, Any], view: TwoLayerView, geometry: Geometry, loss: HostLoss
) -> Snapshot:
    """Read a snapshot of one state; the formula, the geometry and the loss are the model's own.

    Raises:
        ExpectedError: if its tensors do not fit the model.
    """
    # version 0.1.0 saved no gradient
    layers = LayerState(**_tensors({"gradient": None, **state["layers"]}, LAYER_PARTS))
    scale = None if state["scale"] is None else float(state["scale"])
    formula = replace(view.formula, scale=scale)
    k = geometry.signal_dim
    shapes = {
        "coordinates": (1, formula.width, 2 * k),
        "perp": (1, formula.width),
        "head": (1, formula.heads, formula.width),
    }
    for name, shape in shapes.items():
        part = getattr(layers, name)
        if part is None or tuple(part.shape) != shape:
            got = "is missing" if part is None else f"has shape {tuple(part.shape[1:])}"
            raise ExpectedError(
                "state",
                f"The saved {name} {got}, and this model needs {shape[1:]}.",
                "Load the state into the model that it was saved from.",
            )
    seen = None
    if state["seen"] is not None:
        parts = _tensors(state["seen"], tuple(LOSS_PARTS))
        seen = LossInputs(**{LOSS_PARTS[name]: part for name, part in parts.items()})
    return Snapshot(
        (int(state["step"]),),
        (float(state["time"]),),
        (StepSizes(**state["sizes"]),),
        geometry,
        formula,
        layers,
        seen,
        loss,
    )


def _copy(tensor: Tensor | None) -> Tensor | None:
    """A tensor of its own, on the host: a slice would be saved with all that it is a slice of."""
    return None if tensor is None else tensor[0].detach().cpu().clone()


def _tensors(parts: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    for name in names:
        if parts[name] is not None and not isinstance(parts[name], Tensor):
            raise ExpectedError(
                "state",
                f"The saved {name} is a {type(parts[name]).__name__}, not a tensor.",
                "Load a state that Tracker.state_dict() returned.",
            )
    return {n: None if parts[n] is None else parts[n].unsqueeze(0) for n in names}


# --- history -----------------------------------------------------------------------------------


def _saved_history(state: Mapping[str, Any], sinks: Mapping[str, Resumable]) -> History:
    """Return the records that a state counts, from the history file or from the state itself."""
    if state["history"] is not None:
        history = _history(state["history"])
    else:
        (key, sink), *_ = ((k, s) for k, s in sinks.items() if isinstance(s, HistorySink))
        history = sink.records(state["sinks"][key])
    if history.count != state["records"]:
        raise ExpectedError(
            "state",
            f"The history holds {history.count} records, and the state counts {state['records']}.",
            "Load the state beside the history file that it was saved with.",
        )
    return history


def _columns(history: History) -> dict[str, Any]:
    columns = {name: torch.from_numpy(history[name]) for name in history}
    return {"steps": torch.from_numpy(history.steps), "columns": columns}


def _history(state: Mapping[str, Any]) -> History:
    history = History()
    columns = {str(name): values.numpy() for name, values in state["columns"].items()}
    if any(len(values) != len(state["steps"]) for values in columns.values()):
        raise ExpectedError(
            "state",
            "The saved columns of the history differ in length.",
            "Load a state that Tracker.state_dict() returned.",
        )
    history.extend(state["steps"].numpy(), columns)
    return history
