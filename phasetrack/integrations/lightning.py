"""A Lightning callback over `phasetrack.attach` (extra ``lightning``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from phasetrack.errors import ExpectedError
from phasetrack.integrations.followed_run import FollowedRun
from phasetrack.model.geometry import ClusterGeometry, SpanGeometry
from phasetrack.model.losses import Loss


class PhasetrackCallback(FollowedRun, lightning.Callback):
    """Follows a LightningModule from the start of training to its end, failures included.

    Each `fit` has a tracker of its own, whose steps are the trainer's `global_step`. Checkpoints hold
    the tracker's state: ``fit(..., ckpt_path=...)`` continues labels and, in the same `logdir`, the files.
    With the strategy ``ddp`` readings are of the whole batch and the first process writes.

    Args:
        geometry: the data's clusters.
        loss: the loss that training_step calls: a module, the name of one on the LightningModule, or a
            function. None takes the LightningModule's loss module, if there is exactly one; otherwise
            the loss is the function that the training calls.
        optimizer: which of the trainer's optimizers trains the two layers.
        model: name of the submodule with the two layers; None takes the LightningModule itself.
        options: further arguments of `phasetrack.attach`, such as `logdir` and `every`.

    Attributes:
        tracker: the tracker, from the start of training on; it can be read after fit. Strategies that
            start processes of their own (``ddp_spawn``) leave it None; read `logdir` then.

    Example::

        callback = PhasetrackCallback(geometry, loss="criterion", logdir="runs/mine")
        lightning.Trainer(callbacks=[callback]).fit(module, data)
        print(callback.tracker.phase)
    """

    def __init__(
        self,
        geometry: ClusterGeometry | SpanGeometry | None = None,
        *,
        loss: Loss | str | None = None,
        optimizer: int = 0,
        model: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(geometry, loss, options)
        self._optimizer, self._model = optimizer, model
        self._loaded: Mapping[str, Any] | None = None  # a checkpoint's state, until training starts
        self._end_step = 0  # the trainer's count of steps when the last fit ended

    @property
    def state_key(self) -> str:
        """The name of this callback's state in a checkpoint, where a trainer may have several."""
        return self._generate_state_key(model=self._model, optimizer=self._optimizer)

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Attach; optimizers, step and weights are restored, and tuners are done by now."""
        step = trainer.global_step
        loaded, self._loaded = self._loaded, None
        going_on = self._last_state if step == self._end_step else None  # with the same trainer
        # a search for learning rates restores a checkpoint as well, that of step 0
        state = (loaded or going_on) if step else None
        self.begin(
            self._followed(pl_module),
            self._chosen(trainer.optimizers),
            inside=pl_module,
            step=step,
            state=state,
            processes=_processes(trainer),
        )

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Note the trainer's step, at which a further `fit` goes on."""
        self._end_step = trainer.global_step

    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Detach; Lightning calls this after failures too."""
        if stage == "fit":
            self.end()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Detach at once when training fails."""
        self.end()

    def state_dict(self) -> dict[str, Any]:
        """Return the tracker's state for a checkpoint, without the records."""
        state = self._loaded or self.state()
        return {} if state is None else {"tracker": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a checkpoint when training starts."""
        self._loaded = state_dict.get("tracker")

    def _followed(self, pl_module: lightning.LightningModule) -> nn.Module:
        if self._model is None:
            return pl_module
        try:
            return pl_module.get_submodule(self._model)
        except AttributeError:
            raise ExpectedError(
                "model",
                f"{type(pl_module).__name__} has no submodule {self._model!r}.",
                f"Pass one of {[name for name, _ in pl_module.named_children()]}.",
            ) from None

    def _chosen(self, optimizers: list[Any]) -> Any:
        if self._optimizer not in range(len(optimizers)):
            raise ExpectedError(
                "optimizer",
                f"There is no optimizer {self._optimizer!r}; the trainer has {len(optimizers)}.",
                "Pass its index.",
            )
        return optimizers[self._optimizer]


def _processes(trainer: lightning.Trainer) -> Any:
    """Return the processes that train the module together: a callback is given the bare module."""
    wrapped = trainer.strategy.model
    return wrapped.process_group if isinstance(wrapped, DistributedDataParallel) else "auto"
