"""Saving and restoring a run in training: weights, optimizer, tracker, and time spent."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from phasetrack.errors import ExpectedError
from phasetrack.storage.checkpoint import (
    checkpoints,
    largest_state,
    load_checkpoint,
    save_checkpoint,
)
from phasetrack.storage.file_names import CONFIG
from phasetrack.theory.settings import RunSettings
from phasetrack.tracking.guard import warn
from phasetrack.tracking.tracker import Tracker
from phasetrack.training.distributed import Processes


class Checkpointing:
    """Saves a run to its directory, and restores it from there.

    Args:
        directory: of the run.
        settings: a checkpoint of other settings is refused.
        net: the network.
        optimizer: its optimizer.
        tracker: its tracker.

    Attributes:
        step: the step of the last checkpoint; -1 before the first.
        seconds: seconds that the run had taken at the restored checkpoint.
    """

    def __init__(
        self,
        directory: Path,
        settings: RunSettings,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        tracker: Tracker,
    ) -> None:
        self._directory, self._settings = directory, settings
        self._net, self._optimizer, self._tracker = net, optimizer, tracker
        self.step, self.seconds = -1, 0.0

    def save(self, seconds: float) -> None:
        """Save the run as it is between two steps, after so many seconds."""
        self._tracker.sync()
        state = {
            "step": self._tracker.step,
            "seconds": seconds,
            "settings": self._settings.to_dict(),
            "model": self._net.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "tracker": self._tracker.state_dict(),
        }
        save_checkpoint(self._directory, state)
        self.step = self._tracker.step

    def restore(self) -> None:
        """Load the last checkpoint that can be used; without any, begin the run again.

        Raises:
            ExpectedError: if there are checkpoints, and none can be used.
        """
        found = list(checkpoints(self._directory))
        if not found:
            self._tracker.start_over()
            return
        problems, most = [], largest_state(self._settings.d, self._settings.width)
        for path in found:
            try:
                self._load(load_checkpoint(path, most))
            except ExpectedError as error:
                problems.append(f"{path.name}: {error.message}")
                continue
            if problems:
                warn(
                    f"resuming from {path.name}, step {self.step}, for this reason: {' '.join(problems)}"
                )
            return
        raise ExpectedError(
            "run",
            f"No checkpoint in {str(self._directory)!r} can be used: {' '.join(problems)}",
            "Delete the checkpoints to start the run from its beginning.",
        )

    def _load(self, state: Mapping[str, Any]) -> None:
        """Restore a checkpoint, or change nothing.

        Raises:
            ExpectedError: if it is not one of this run.
        """
        try:
            self._check(state)
            before = copy.deepcopy((self._net.state_dict(), self._optimizer.state_dict()))
            try:
                self._net.load_state_dict(state["model"])
                self._optimizer.load_state_dict(state["optimizer"])
                self._tracker.load_state_dict(state["tracker"])
            except BaseException:
                self._net.load_state_dict(before[0])
                self._optimizer.load_state_dict(before[1])
                raise
        except ExpectedError:
            raise
        except Exception as error:  # whatever a file that is not ours makes torch raise
            line = (str(error) or repr(error)).splitlines()[0]
            raise ExpectedError(
                "checkpoint",
                f"The file is not a checkpoint of such a run ({line[:200]}).",
                "Resume from a checkpoint that this run saved.",
            ) from None
        self.step, self.seconds = int(state["step"]), float(state["seconds"])

    def _check(self, state: Mapping[str, Any]) -> None:
        if (found := state["settings"]) != self._settings.to_dict():
            raise ExpectedError(
                "checkpoint",
                f"The checkpoint was saved with other settings than those in {CONFIG} ({found}).",
                "Resume from a checkpoint that this run saved.",
            )
        float(state["seconds"])
        step, counted = int(state["step"]), int(state["tracker"]["capture"]["step"])
        if not 0 <= step == counted <= self._settings.step_limit:
            raise ExpectedError(
                "checkpoint",
                f"The checkpoint is of step {step}, its tracker counts {counted}, and the run has at most "
                f"{self._settings.step_limit}.",
                "Resume from a checkpoint that this run saved.",
            )
        if failed := [name for name in state["tracker"]["off"] if name.startswith("sink:")]:
            raise ExpectedError(
                "checkpoint",
                f"The checkpoint was saved after {', '.join(failed)} had failed, so that the run's "
                "files are not whole.",
                "Resume from an earlier checkpoint.",
            )

    def broadcast(self, processes: Processes) -> None:
        """Give all processes what the main one has restored: the weights, and the coming step."""
        if processes.count == 1:
            return
        processes.copy_first(list(self._net.parameters()))
        taken = processes.decided(self._taken)
        if not processes.leads:
            self._tracker.load_state_dict({**self._tracker.state_dict(), **taken})

    def _taken(self) -> dict[str, Any]:
        """What another process's tracker needs of ours: steps taken, and the last one recorded."""
        history, state = self._tracker.history, self._tracker.state_dict()
        steps = torch.from_numpy(history.steps[-1:])
        columns = {"phase/id": torch.from_numpy(history["phase/id"][-1:])} if len(steps) else {}
        last = {"steps": steps, "columns": columns}
        return {"capture": state["capture"], "history": last, "records": len(steps)}
