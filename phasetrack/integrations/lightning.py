"""A Lightning callback over `phasetrack.attach` (extra ``lightning``)."""

from __future__ import annotations

from typing import Any

import lightning
from torch import nn

from phasetrack.errors import ExpectedError
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.tracking.attach import attach
from phasetrack.tracking.tracker import Tracker


class PhasetrackCallback(lightning.Callback):
    """Follows a LightningModule from the start of fit to its end, failures included.

    Args:
        geometry: the data's clusters.
        loss: name of the loss module on the LightningModule, which its training_step calls.
        optimizer: which of the trainer's optimizers trains the two layers.
        model: name of the submodule with the two layers; None takes the LightningModule itself.
        options: further arguments of `phasetrack.attach`, such as `logdir` and `every`.

    Attributes:
        tracker: the tracker, from the start of fit on; it can be read after fit.

    Example::

        callback = PhasetrackCallback(geometry, loss="criterion", logdir="runs/mine")
        lightning.Trainer(callbacks=[callback]).fit(module, data)
        print(callback.tracker.phase)
    """

    def __init__(
        self,
        geometry: ClusterGeometry,
        *,
        loss: str = "loss",
        optimizer: int = 0,
        model: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.tracker: Tracker | None = None
        self._geometry, self._options = geometry, options
        self._loss, self._optimizer, self._model = loss, optimizer, model

    def on_fit_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Attach; the trainer's optimizers exist by now."""
        loss = getattr(pl_module, self._loss, None)
        if not isinstance(loss, nn.Module):
            names = [name for name, _ in pl_module.named_children()]
            raise ExpectedError(
                "loss",
                f"{type(pl_module).__name__} has no loss module {self._loss!r}.",
                f"Pass one of {names}.",
            )
        model = pl_module if self._model is None else pl_module.get_submodule(self._model)
        optimizers = trainer.optimizers
        if self._optimizer >= len(optimizers):
            raise ExpectedError(
                "optimizer",
                f"There is no optimizer {self._optimizer!r}; the trainer has {len(optimizers)}.",
                "Pass its index.",
            )
        self.tracker = attach(
            model,
            optimizers[self._optimizer],
            loss=loss,
            geometry=self._geometry,
            **self._options,
        )

    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Detach; Lightning calls this after failures too."""
        self._detach()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Detach at once when training fails."""
        self._detach()

    def _detach(self) -> None:
        if self.tracker is not None:
            self.tracker.detach()
