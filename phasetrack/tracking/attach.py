"""attach(): from hooks to phases and files, without touching training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from phasetrack.errors import ExpectedError, check_int
from phasetrack.model.geometry import (
    Activation,
    ClusterGeometry,
    Geometry,
    NoGeometry,
    SpanGeometry,
)
from phasetrack.model.losses import Loss
from phasetrack.model.samples import Table
from phasetrack.model.two_layer_view import TwoLayerView
from phasetrack.phases.classifier import Alert, Thresholds, Transition
from phasetrack.phases.vocabularies import AUTO, chosen
from phasetrack.phases.vocabulary import Vocabulary
from phasetrack.storage.directory import absolute
from phasetrack.storage.sink import Sink
from phasetrack.tracking.optimizers import innermost_optimizer
from phasetrack.tracking.probes.base import Probe, as_probe
from phasetrack.tracking.probes.default import default_probes
from phasetrack.tracking.probes.forecast import ForecastProbe
from phasetrack.tracking.probes.held_out import HeldOutProbe
from phasetrack.tracking.probes.optional.generalisation import GeneralisationProbe
from phasetrack.tracking.process_group import Processes
from phasetrack.tracking.recorder import new_labels
from phasetrack.tracking.run_folder import free_folder, in_cells
from phasetrack.tracking.schedules import Schedule, as_schedule
from phasetrack.tracking.snapshot import State
from phasetrack.tracking.snapshot_queue import MAX_STACK
from phasetrack.tracking.tracker import Tracker, end_earlier
from phasetrack.tracking.undeclared import check_width, given_set, undeclared_of

if TYPE_CHECKING:
    from phasetrack.theory.forecast import Forecast


# Readings of `held_out` per factor of ten in the steps.
HELD_OUT_PER_DECADE = 20


def attach(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    loss: Loss | None = None,
    geometry: ClusterGeometry | SpanGeometry | None = None,
    logdir: str | Path | None = None,
    every: int | Schedule = 1,
    phases: str | Vocabulary | Sequence[str | Vocabulary] = AUTO,
    sample: tuple[Table, Table] | None = None,
    held_out: tuple[Table, Table] | None = None,
    probes: Sequence[Probe | Callable[[State], Mapping[str, object]]] | None = None,
    sinks: Sequence[Sink] = (),
    thresholds: Thresholds | None = None,
    forecast: Forecast | None = None,
    escape_steps: float | None = None,
    hparams: Mapping[str, object] | None = None,
    snapshots: int | Schedule | None = None,
    layers: tuple[str, str] | None = None,
    scale: float | None = None,
    activation: Activation | None = None,
    readout: Tensor | None = None,
    on_transition: Callable[[Tracker, Transition], object] | None = None,
    on_alert: Callable[[Tracker, Alert], object] | None = None,
    block: int = MAX_STACK,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    number: bool | None = None,
    processes: Processes = "auto",
) -> Tracker:
    """Follow a two-layer model in training, step by step, and leave training as it is.

    Args:
        model: any model with two linear layers, d to p and p to 1 (see `TwoLayerView.of`).
        optimizer: the optimizer that trains the model; its steps are counted. A wrapper's inner one
            is taken (accelerate, Fabric, Lookahead).
        loss: the loss that the training loop calls as ``loss(outputs, targets)``. A module is
            observed by a hook; for a plain function call `tracker.loss` in its place. A loss that is
            not seen, or None, is recognised by its gradient at the outputs, where it is a usual one
            of classes.
        geometry: the data's clusters, or a `SpanGeometry` of directions alone. None records all that needs neither,
            takes the means of the classes as clusters where they differ beyond their errors, and otherwise
            looks back at `detach` for the span that the network came to use (docs/attach.md).
        logdir: the run's directory: ``config.json`` from the start, ``history.jsonl`` and TensorBoard's
            event file as training goes, ``summary.json`` at `detach`; None writes no file.
        every: record every n-th step, or the steps for which a function of the step is true.
        phases: the definitions of phases that speak about the run, beside the paper's, which stands first:
            ``"auto"`` takes all whose readings are recorded, at no cost for the rest; or a name, a
            `Vocabulary` with levels of your own, or several of both. See `Tracker.phases`.
        sample: a fixed set on which kernels and clusters are read, inputs (m, d) and targets as the loss takes
            them; by default the run's own first samples, at most 4096 and 16 MB.
        held_out: likewise, a set that is not trained on: ``held_out/loss`` and ``held_out/error`` are read at 20
            recorded steps per factor of ten, at the cost of a forward pass over the set each; this loss, not
            that of the training, then decides FITTED, and a look back tests its span on the set. With `sample` of the
            training set, `probes.GeneralisationProbe` reads both, and the vocabulary ``grokking`` speaks.
        probes: in place of the default probes; functions from a `State` to readings are fine.
        sinks: further sinks.
        thresholds: the levels of the paper's vocabulary.
        forecast: a predicted run, whose values are recorded beside the measured ones.
        escape_steps: predicted steps until the loss halves, which the SADDLE alert needs; by default
            the forecast's.
        hparams: hyperparameters of the run, for TensorBoard's HParams dashboard.
        snapshots: save the two layers at such recorded steps under `logdir`, for
            `phasetrack.tracking.replay.replay`.
        layers: names of the two layers, where the model has others.
        scale: factor between the second layer's output and the model's (see `TwoLayerView.of`).
        activation: the activation, where the model shows none as a module and it is not ReLU.
        readout: for a block in a larger network, named by `layers`: the direction of its output
            that is measured, (outputs,), or one for each class, (n, outputs). Margins are then those
            of the block alone, and loss and first-order errors those of the whole network.
        on_transition: called with the tracker and each change of label, before the optimizer step
            of the state that carries the new label; its exceptions reach the training loop, which
            they can end.
        on_alert: called with the tracker and each failure signature, as `on_transition`.
        block: most recorded steps that are measured together, which on small networks costs hardly
            more than one. Readings are the same to the bit for every value. Files and sinks lag by
            less than `block` records, and by a second while steps go on; reading an attribute of the
            tracker measures the waiting steps first. Each step is measured at once with
            `on_transition`, `on_alert` or `strict`, with a probe that is a function of one state,
            and on large networks.
        strict: raise the exceptions of probes and sinks, instead of warning and switching them off.
        resume: `logdir` may hold a run already. Its files are then left alone until
            `Tracker.load_state_dict` says where to resume, or `Tracker.start_over` discards them.
        overwrite: replace the run that `logdir` holds, and detach the tracker of this process that
            writes there or follows this optimizer.
        number: write to ``logdir-2``, ``logdir-3``, ... where `logdir` holds a run, and detach the
            tracker that follows this optimizer. By default so in a notebook or at a prompt, where a
            cell is run again; a script is refused.
        processes: the `torch.distributed.ProcessGroup` whose processes train the model together, each
            on its part of the batch; readings are then of the whole batch. ``"auto"`` takes the group
            of DistributedDataParallel; None reads this process's part. If a process has no tracker
            or stops answering, the rest read their own parts, with a warning. The group's first
            process writes the files.

    Returns:
        The tracker: a handle, and a context manager that detaches at its end.

    Raises:
        ExpectedError: naming the argument, what is wrong with it and how to fix it. Nothing is
            attached then.

    Example:
        >>> from phasetrack.model.losses import LogisticLoss
        >>> from phasetrack.model.network import TwoLayerNet
        >>> from phasetrack.tasks import XOR
        >>> task, loss = XOR(d=16), LogisticLoss()
        >>> net = TwoLayerNet(d=16, width=32)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.2 * 32)
        >>> with attach(net, optimizer, loss=loss, geometry=task.geometry) as tracker:
        ...     for step in range(3):
        ...         x, y = task.sample(64, seed=0, step=step)
        ...         optimizer.zero_grad()
        ...         loss(net(x), y).backward()
        ...         optimizer.step()
        >>> tracker.phase.name, tracker.history.steps.tolist()
        ('SIGNAL_FINDING', [0, 1, 2])
    """
    if snapshots is not None and logdir is None:
        raise ExpectedError(
            "snapshots", "No logdir is given to save weights in.", "Pass logdir= as well."
        )
    schedule = None if snapshots is None else as_schedule(snapshots, "snapshots")
    _check_kinds(model, loss, geometry)
    optimizer = innermost_optimizer(optimizer)
    fixed, tested = given_set("sample", sample), given_set("held_out", held_out)
    sets = [pair[0].shape[1] for pair in (fixed, tested) if pair is not None]
    width = next(iter(sets), None) if geometry is None else geometry.dim
    view = TwoLayerView.of(
        model, layers, scale=scale, activation=activation, readout=readout, inputs=width
    )
    for name, pair in (("sample", fixed), ("held_out", tested)):
        check_width(name, pair, view)
    if geometry is not None:
        _check_geometry(view, geometry)
    undeclared = undeclared_of(view, fixed, tested, active=geometry is None)
    used: Geometry = geometry or undeclared.search.look(max(view.heads, 2)) or NoGeometry()
    number = not (resume or overwrite) and (in_cells() if number is None else number)
    folder = None if logdir is None else free_folder(logdir, number=number)
    earlier = end_earlier(optimizer, folder) if overwrite or number else []
    tracker = Tracker(
        model,
        optimizer,
        loss,
        view,
        used,
        undeclared=undeclared,
        schedule=as_schedule(every),
        probes=_probes(probes, forecast, geometry or NoGeometry(), fixed, tested),
        sinks=sinks,
        labels=new_labels(thresholds, escape_steps, forecast),
        vocabularies=chosen(phases),
        forecast=forecast,
        on_transition=on_transition,
        on_alert=on_alert,
        block=check_int("block", block, minimum=1),
        strict=strict,
        processes=processes,
    )
    # files come last: a mistake in the other arguments leaves none behind
    try:
        if earlier:
            tracker.note("the tracker that was attached before has been detached")
        if logdir is not None and folder is not None and tracker.writes_files:
            tracker.write_to(
                folder, hparams=hparams, snapshots=schedule, resume=resume, overwrite=overwrite
            )
            if folder != absolute(logdir):
                tracker.note(f"{str(logdir)!r} holds a run; this one is written to {str(folder)!r}")
    except BaseException:
        tracker.release()
        raise
    return tracker


def _check_kinds(model: object, loss: object, geometry: object) -> None:
    if not isinstance(model, nn.Module):
        problem = f"A value of type {type(model).__name__} is not a torch.nn.Module."
        raise ExpectedError("model", problem, "Pass the model that is trained.")
    if loss is not None and not callable(loss):
        fix = "Pass the module or function that the loop calls, such as nn.BCEWithLogitsLoss(), or None."
        raise ExpectedError("loss", f"{loss!r} cannot be called.", fix)
    if isinstance(geometry, Sequence | Tensor | np.ndarray | Mapping):
        problem = f"A value of type {type(geometry).__name__} is not a geometry: it has no labels."
        fix = "Pass ClusterGeometry(centres, labels), SpanGeometry(directions) or None."
        raise ExpectedError("geometry", problem, fix)


def _check_geometry(view: TwoLayerView, geometry: Geometry) -> None:
    inputs, classes = view.W.shape[1], max(view.heads, 2)
    if inputs != geometry.dim:
        raise ExpectedError(
            "geometry",
            f"{geometry} lies in R^{geometry.dim}, and {view.names[0]} takes {inputs} inputs.",
            f"Pass a geometry in R^{inputs}.",
        )
    if not geometry.no_clusters and classes != geometry.class_count:
        raise ExpectedError(
            "geometry",
            f"The geometry has labels of {geometry.class_count} classes, and {view.names[1]} "
            f"distinguishes {classes}.",
            "For a block in a larger network, pass readout= with the directions to measure."
            if view.directions is None
            else f"Pass labels of {classes} classes.",
        )


def _probes(
    given: Sequence[Probe | Callable[[State], Mapping[str, object]]] | None,
    forecast: Forecast | None,
    geometry: Geometry,
    sample: tuple[Tensor, Tensor] | None,
    held_out: tuple[Tensor, Tensor] | None,
) -> list[Probe]:
    chosen = [as_probe(probe) for probe in (default_probes(geometry) if given is None else given)]
    if held_out is not None:
        chosen.append(HeldOutProbe(*held_out, None, per_decade=HELD_OUT_PER_DECADE))
    read = any(isinstance(probe, GeneralisationProbe) for probe in chosen)
    if sample is not None and held_out is not None and not read:
        chosen.append(GeneralisationProbe(sample, held_out, per_decade=HELD_OUT_PER_DECADE))
    return chosen if forecast is None else [*chosen, ForecastProbe(forecast)]
