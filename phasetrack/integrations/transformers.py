"""A Hugging Face Trainer callback over `phasetrack.attach` (extra ``transformers``)."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from phasetrack.model.geometry import ClusterGeometry
from phasetrack.model.losses import Loss
from phasetrack.tracking.attach import attach
from phasetrack.tracking.tracker import Tracker


class PhasetrackCallback(TrainerCallback):
    """Follows the model of a Trainer from the start of train to its end.

    A Trainer whose training fails calls no callback: then detach `tracker` yourself.

    Args:
        geometry: the data's clusters.
        loss: the loss module that the model's forward, or the Trainer's loss function, calls.
        options: further arguments of `phasetrack.attach`, such as `logdir` and `layers`.

    Attributes:
        tracker: the tracker, from the start of train on; it can be read afterwards.

    Example::

        callback = PhasetrackCallback(geometry, loss=model.criterion)
        Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()
        print(callback.tracker.phase)
    """

    def __init__(self, geometry: ClusterGeometry, *, loss: Loss, **options: Any) -> None:
        self.tracker: Tracker | None = None
        self._geometry, self._loss, self._options = geometry, loss, options

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Attach to the model and to torch's own optimizer inside the Trainer's."""
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        self.tracker = attach(
            model,
            getattr(optimizer, "optimizer", optimizer),
            loss=self._loss,
            geometry=self._geometry,
            **self._options,
        )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Detach."""
        if self.tracker is not None:
            self.tracker.detach()
