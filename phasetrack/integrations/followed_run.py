"""FollowedRun: a callback's tracker, from the start of a framework's training to its end.

Each training has a tracker of its own. Its steps are those of the framework: a training that resumes
at step N records N, N + 1, ..., and its labels go on from a checkpoint that holds the tracker's state.
The files then go on as well; in memory a tracker holds the steps of its own training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from phasetrack.errors import ExpectedError
from phasetrack.model.geometry import ClusterGeometry, SpanGeometry
from phasetrack.model.losses import LogisticLoss, Loss
from phasetrack.storage.directory import absolute
from phasetrack.storage.file_names import HISTORY
from phasetrack.tracking.attach import attach
from phasetrack.tracking.guard import warn
from phasetrack.tracking.tracker import Tracker

LOSS_MODULES = (torch.nn.modules.loss._Loss, LogisticLoss)


class FollowedRun:
    """The part that all callbacks share.

    Args:
        geometry: the data's clusters, directions, or None, as `phasetrack.attach` takes them.
        loss: the loss, the name of its module within the model, or None.
        options: further arguments of `phasetrack.attach`.

    Attributes:
        tracker: the tracker of the last training; None before the first, and in copies.
    """

    def __init__(
        self,
        geometry: ClusterGeometry | SpanGeometry | None,
        loss: Loss | str | None,
        options: Mapping[str, Any],
    ) -> None:
        self.tracker: Tracker | None = None
        self._geometry, self._loss, self._options = geometry, loss, dict(options)
        self._last_state: dict[str, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy, and a pickle, has no tracker: hooks and files stay with the original."""
        return {**self.__dict__, "tracker": None}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Call the loss function given to the callback, and observe it while training is followed.

        Raises:
            ExpectedError: if the callback was not given a function or module as its loss.
        """
        if not callable(self._loss):
            raise ExpectedError(
                "loss",
                f"The callback was given {self._loss!r}, which cannot be called.",
                "Give the callback the loss function itself.",
            )
        if self.tracker is None or isinstance(self._loss, nn.Module):
            return self._loss(outputs, targets)
        return self.tracker.loss(outputs, targets)

    def begin(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        inside: nn.Module | None = None,
        step: int = 0,
        state: Mapping[str, Any] | None = None,
        again: bool = False,
        **options: Any,
    ) -> None:
        """Attach a tracker for a training that begins, or resumes.

        Args:
            model: the module with the two layers.
            optimizer: its optimizer.
            inside: the module in which the loss is searched by name; None means the model.
            step: the framework's count of optimizer steps so far.
            state: the tracker's state in the checkpoint from which training resumes.
            again: whether the training of the last call starts over, from its beginning.
            options: arguments of `attach` that the user may have given as well.

        Raises:
            ExpectedError: as `attach`.
        """
        earlier, self.tracker = self.tracker, None
        if earlier is not None:
            earlier.detach()
        loss = loss_of(inside or model, self._loss)
        given: dict[str, Any] = {**options, **self._options, "geometry": self._geometry}

        def attached(**changed: Any) -> Tracker:
            return attach(model, optimizer, loss=loss, **(given | changed))

        if state is not None and (tracker := _resumed(attached, state, given.get("logdir"))):
            self.tracker = tracker
            return
        if again and _holds_run(given.get("logdir")):
            self.tracker = attached(resume=True)
            if self.tracker.writes_files:
                self.tracker.start_over()
            return
        try:
            self.tracker = attached()
        except ExpectedError as error:
            if earlier is None or error.argument != "logdir":
                raise
            warn(f"this training is followed without files ({error})")
            self.tracker = attached(logdir=None, snapshots=None)
        _count_from(self.tracker, step, state)

    def end(self) -> None:
        """Detach, and keep the state for a checkpoint that is saved afterwards."""
        if self.tracker is not None:
            self._last_state = self.state()
            self.tracker.detach()

    def state(self) -> dict[str, Any] | None:
        """Return the tracker's state without the records; None where there is none to save."""
        if self.tracker is None or not self.tracker.between_steps:
            return self._last_state
        try:
            state = self.tracker.state_dict()
        except Exception as error:
            warn(f"the checkpoint is saved without the tracker's state ({error!r})")
            return None
        return state if state["history"] is None else {**state, **_NO_RECORDS}


# The records of a tracker without files, in a checkpoint: they stay in memory.
_NO_RECORDS = {
    "records": 0,
    "history": {"steps": torch.zeros(0, dtype=torch.int64, device="cpu"), "columns": {}},
}


def loss_of(model: nn.Module, given: Loss | str | None) -> Loss | None:
    """Return the loss itself: by name, or the one loss module of a model.

    Raises:
        ExpectedError: if the model has no loss module of that name.
    """
    if isinstance(given, str):
        found = getattr(model, given, None)
        if isinstance(found, nn.Module):
            return found
        names = [name for name, _ in model.named_children()]
        raise ExpectedError(
            "loss",
            f"{type(model).__name__} has no loss module {given!r}.",
            f"Pass one of {names}, a loss function, or leave it out.",
        )
    if given is not None:
        return given
    losses = [module for module in model.modules() if isinstance(module, LOSS_MODULES)]
    return losses[0] if len(losses) == 1 else None


def _holds_run(logdir: Any) -> bool:
    return logdir is not None and (absolute(logdir) / HISTORY).exists()


def _resumed(
    attached: Callable[..., Tracker], state: Mapping[str, Any], logdir: Any
) -> Tracker | None:
    """Return a tracker that continues the files of a state; None if they are not in `logdir`."""
    if not _holds_run(logdir):
        return None
    tracker = attached(resume=True)
    try:
        tracker.load_state_dict(state)
    except ExpectedError:
        tracker.release()
        return None
    return tracker


def _count_from(tracker: Tracker, step: int, state: Mapping[str, Any] | None) -> None:
    """Begin at the framework's step, with the labels of a state that was saved beside other files."""
    if state is not None:
        try:
            own = tracker.state_dict()
            files = {name: own[name] for name in ("off", "records", "history", "sinks")}
            tracker.load_state_dict({**state, **files})
        except ExpectedError as error:
            warn(f"the labels begin anew, as the checkpoint's cannot be used ({error})")
        else:
            return
    if step:
        tracker.start_at(step)
