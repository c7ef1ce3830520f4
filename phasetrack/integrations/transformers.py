"""A Hugging Face Trainer callback over `phasetrack.attach` (extra ``transformers``)."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.training_args import ParallelMode

from phasetrack.integrations.followed_run import FollowedRun
from phasetrack.model.geometry import ClusterGeometry, SpanGeometry
from phasetrack.model.losses import Loss
from phasetrack.storage.atomic_files import replace_file
from phasetrack.tracking.guard import warn

# Said where the Trainer compiles the model, which it shows to no callback.
COMPILED = (
    "the Trainer compiles the whole model (torch_compile=True), and hooks within its graph are not called, so that "
    "losses and margins are missing; compile the module that holds the two layers instead, as in model.net = "
    "torch.compile(model.net)"
)


class PhasetrackCallback(FollowedRun, TrainerCallback):
    """Follows the model of a Trainer from the start of train to its end.

    Each `train` has a tracker of its own, whose steps are the Trainer's `global_step`. Checkpoints
    under `output_dir` hold the tracker's state in ``phasetrack_*.pt``:
    ``train(resume_from_checkpoint=...)`` continues labels and, in the same `logdir`, the files. Where
    ``auto_find_batch_size`` begins the training again, so do the records. With several processes
    readings are of the whole batch and the first process writes. A Trainer whose training fails calls no
    callback: then detach `tracker` yourself, or train again.

    Args:
        geometry: the data's clusters.
        loss: the loss that the model's forward, or the Trainer's loss function, calls: a module, the
            name of one on the model, or a function. None takes the model's loss module, if there is
            exactly one; otherwise the loss is the function that the training calls.
        options: further arguments of `phasetrack.attach`, such as `logdir` and `layers`.

    Attributes:
        tracker: the tracker, from the start of train on; it can be read afterwards.

    Example::

        callback = PhasetrackCallback(geometry, loss=model.criterion)
        Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()
        print(callback.tracker.phase)
    """

    def __init__(
        self,
        geometry: ClusterGeometry | SpanGeometry | None = None,
        *,
        loss: Loss | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(geometry, loss, options)
        self._training = False  # from on_train_begin to on_train_end

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Attach to the model and to torch's own optimizer inside the Trainer's."""
        if args.torch_compile:
            warn(COMPILED)
        again = self._training and args.auto_find_batch_size and state.global_step == 0
        self.begin(
            kwargs["model"],
            kwargs["optimizer"],
            step=state.global_step,
            state=_saved_state(args, state) if state.global_step else None,
            again=again,
            processes=_processes(args),
        )
        self._training = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save the tracker's state within the checkpoint."""
        path, saved = _state_path(args, state), self.state()
        if saved is None or not path.parent.is_dir():
            return
        content = io.BytesIO()
        try:
            torch.save(saved, content)
            replace_file(path, content.getvalue())
        except (OSError, RuntimeError) as error:
            warn(f"the checkpoint is saved without the tracker's state ({error!r})")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Detach."""
        self._training = False
        self.end()


def _processes(args: TrainingArguments) -> Any:
    """Return the processes that train the model together: a callback is given the bare model."""
    divided = (
        getattr(args, "parallelism_config", None) is not None
    )  # the model, not the batch alone
    if args.parallel_mode is not ParallelMode.DISTRIBUTED or divided:
        return "auto"
    return torch.distributed.group.WORLD


def _state_path(args: TrainingArguments, state: TrainerState) -> Path:
    folder = Path(str(args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
    return folder / f"phasetrack_{args.process_index}.pt"


def _saved_state(args: TrainingArguments, state: TrainerState) -> Any:
    """Return the tracker's state in the checkpoint of this step, if training resumes from that one."""
    path = _state_path(args, state)
    with suppress(OSError, ValueError, LookupError, TypeError, RuntimeError, UnpicklingError):
        # the Trainer does not say where it resumes from, and the folder may hold an older run
        there = json.loads((path.parent / "trainer_state.json").read_text())
        if there["log_history"] == state.log_history:
            return torch.load(path, map_location="cpu", weights_only=True)
    return None
