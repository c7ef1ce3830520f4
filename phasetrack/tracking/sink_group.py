"""Where a run's records go: sinks, saved weights, and the directory that no other process may write to."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from phasetrack.display.tensorboard.sink import TensorBoardSink
from phasetrack.errors import expected_error
from phasetrack.model.geometry import ClusterGeometry
from phasetrack.phases.history import History, Record
from phasetrack.storage.clock_sink import CLOCK, ClockSink
from phasetrack.storage.history_sink import HISTORY, HistorySink
from phasetrack.storage.lock import RunLock
from phasetrack.storage.neuron_sink import NeuronSink
from phasetrack.storage.sink import Resumable, Sink
from phasetrack.storage.weight_store import WeightStore
from phasetrack.tracking.guard import Guard
from phasetrack.tracking.schedules import Schedule
from phasetrack.tracking.snapshot import Snapshot


class Outlets:
    """Sinks and saved weights; each that fails is let go, with one warning.

    Args:
        sinks: to begin with.
        guard: runs everything that writes.
        losing: called before the history's file is let go, while it can still be read.
    """

    def __init__(self, sinks: Iterable[Sink], guard: Guard, losing: Callable[[], object]) -> None:
        self.sinks = list(sinks)
        self._guard, self._losing = guard, losing
        self._store: WeightStore | None = None
        self._saved: Schedule = lambda _: False
        self._lock: RunLock | None = None

    def open(
        self,
        logdir: Path,
        geometry: ClusterGeometry,
        hparams: Mapping[str, object] | None,
        resume: bool,
    ) -> None:
        """Write a run into a directory from now on, and keep others from writing there.

        Raises:
            ExpectedError: if it cannot be written, holds a run already (unless `resume`), or
                somebody else writes to it.
        """
        try:
            logdir.mkdir(parents=True, exist_ok=True)
            self._lock = RunLock(logdir, "logdir")
            self.sinks += _file_sinks(logdir, geometry, hparams, resume)
        except OSError as error:
            allowed = "a directory to write to, without a run in it"
            raise expected_error("logdir", allowed, f"{error}") from None

    def save_weights(self, store: WeightStore, schedule: Schedule) -> None:
        """Save the two layers at the recorded steps of a schedule."""
        self._store, self._saved = store, schedule

    @property
    def history_sink(self) -> HistorySink | None:
        """The sink whose file holds all records."""
        return next((sink for sink in self.sinks if isinstance(sink, HistorySink)), None)

    def write(self, record: Record) -> None:
        """Give every sink a record."""
        for sink in list(self.sinks):
            self._run(sink, partial(sink.write, record))

    def save(self, snapshot: Snapshot) -> None:
        """Save a snapshot's live weights, if its step is one of those."""
        if self._store is None or not self._saved(snapshot.step):
            return
        if not snapshot.live:
            moved = "the optimizer's closure moved the weights before they could be saved"
            self._guard.reasons.setdefault("weights", moved)
        else:
            self._run(self._store, partial(self._store.save, snapshot.step, snapshot.view))

    def resumable(self) -> dict[str, Resumable]:
        """Everything that writes and can go on, by state key; several of one key are numbered."""
        found: dict[str, Resumable] = {}
        for writer in (*self.sinks, self._store):
            if isinstance(writer, Resumable):
                key = writer.state_key
                found[key if key not in found else f"{key} {len(found)}"] = writer
        return found

    def state_dicts(self) -> dict[str, dict[str, Any]]:
        """Name to state of everything that can go on."""
        states: dict[str, dict[str, Any]] = {}

        def ask(name: str, writer: Resumable) -> None:
            states[name] = writer.state_dict()

        for name, writer in self.resumable().items():
            self._run(writer, partial(ask, name, writer))
        return states

    def check_states(self, states: Mapping[str, Any], off: Iterable[str]) -> dict[str, Resumable]:
        """Those that go on from their states; others of ours had failed when those were saved.

        Args:
            states: name to state, as `state_dicts` gave them.
            off: what had failed until then, as in `Guard.off`.

        Raises:
            ExpectedError: if there are others than before, or one cannot go on from its state.
        """
        failed = {str(name).removeprefix("sink:") for name in off}
        kept = {
            name: writer
            for name, writer in self.resumable().items()
            if name in states or name.split()[0] not in failed
        }
        if differing := sorted(set(states) ^ set(kept)):
            raise expected_error("resume", "the same sinks as before", ", ".join(differing))
        for name, writer in kept.items():
            writer.check_state(states[name])
        return kept

    def sync(self) -> None:
        """Have on the disk what was written so far."""
        for writer in self.resumable().values():
            self._run(writer, writer.sync)

    def drop(self, writers: Iterable[object]) -> None:
        """Let some go, their files as they are."""
        gone = list(writers)
        if any(isinstance(writer, HistorySink) for writer in gone):
            self._losing()
        for writer in gone:
            if isinstance(writer, Resumable):
                with suppress(OSError):
                    writer.abandon()
        self.sinks = [sink for sink in self.sinks if not any(sink is w for w in gone)]
        if any(self._store is writer for writer in gone):
            self._store = None

    def close(self, summary: Mapping[str, Any], history: History) -> None:
        """Close every sink, and let others write to the directory."""
        for sink in list(self.sinks):
            close = partial(sink.close, summary, history)
            if not self._guard(close, f"closing {type(sink).__name__}"):
                self.drop([sink])
        if self._lock is not None:
            self._guard(self._lock.release, "the lock")

    def _run(self, writer: object, action: Callable[[], object]) -> None:
        """Have something written; what fails is let go."""
        if not self._guard(action, type(writer).__name__):
            if isinstance(writer, Resumable):
                self._guard.off.append(f"sink:{writer.state_key}")
            self.drop([writer])


def _file_sinks(
    logdir: Path,
    geometry: ClusterGeometry,
    hparams: Mapping[str, object] | None,
    resume: bool,
) -> list[Sink]:
    paths = (logdir / HISTORY, logdir / CLOCK)
    if not resume and (taken := [path for path in paths if path.exists()]):
        raise FileExistsError(errno.EEXIST, "it holds a run already", str(taken[0]))
    return [
        HistorySink(paths[0], resume=resume),
        ClockSink(paths[1], resume=resume),
        TensorBoardSink(logdir, clusters=geometry.names, hparams=hparams, resume=resume),
        NeuronSink(logdir),
    ]
