"""SinkGroup: everything that writes a run, and the directory that no other process may write to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from phasetrack.display.tensorboard.sink import TensorBoardSink
from phasetrack.errors import ExpectedError
from phasetrack.phases.history import History, Record
from phasetrack.storage.clock_sink import CLOCK, ClockSink
from phasetrack.storage.file_names import HISTORY, SUMMARY
from phasetrack.storage.history_sink import HistorySink
from phasetrack.storage.lock import RunLock
from phasetrack.storage.neuron_sink import NeuronSink
from phasetrack.storage.sink import Resumable, Sink
from phasetrack.storage.summary_sink import SummarySink
from phasetrack.storage.weight_store import WeightStore
from phasetrack.tracking.guard import FailureGuard, warn
from phasetrack.tracking.probes.reference import description
from phasetrack.tracking.run_folder import clear, refusal, taken_by
from phasetrack.tracking.schedules import Schedule
from phasetrack.tracking.snapshot import Snapshot


class SinkGroup:
    """Sinks and saved weights; each that fails is released, with one warning.

    Args:
        sinks: the sinks of the caller.
        guard: runs everything that writes.
        before_history_lost: called before the history's file is released, while it can be read.
    """

    def __init__(
        self,
        sinks: Iterable[Sink],
        guard: FailureGuard,
        before_history_lost: Callable[[], object],
    ) -> None:
        self.sinks = list(sinks)
        self._guard, self._before_history_lost = guard, before_history_lost
        self._store: WeightStore | None = None
        self._store_schedule: Schedule = lambda _: False
        self._lock: RunLock | None = None
        self._in_directory: list[Resumable] = []  # the writers of the locked directory

    def open(
        self,
        logdir: Path,
        hparams: Mapping[str, object] | None,
        resume: bool,
        lock: RunLock | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write a run into a directory, and keep other processes from writing there.

        Args:
            logdir: the directory.
            hparams: hyperparameters of the run.
            resume: whether the directory may hold a run already.
            lock: the directory's lock, where the caller has taken it; it is released by `close`.
            overwrite: delete an earlier run in it.

        Raises:
            ExpectedError: if the directory cannot be written, holds a run already (unless `resume`),
                or another process writes to it. No file of the attempt is left then.
        """
        try:
            logdir.mkdir(parents=True, exist_ok=True)
            self._lock = lock or RunLock(logdir, "logdir")
            with _taken_back(logdir):
                if overwrite:
                    clear(logdir)
                if not resume and taken_by(logdir):
                    raise refusal(logdir)
                self._in_directory = _file_sinks(logdir, hparams, resume)
            self.sinks += self._in_directory  # type: ignore[arg-type]
        except OSError as error:
            raise ExpectedError(
                "logdir",
                f"{str(logdir)!r} cannot be written to ({error.strerror or error}).",
                "Choose a directory that you may write to.",
            ) from None

    def save_weights(self, store: WeightStore, schedule: Schedule) -> None:
        """Save the two layers at the recorded steps of a schedule."""
        self._store, self._store_schedule = store, schedule
        self._in_directory.append(store)

    def saves_weights_at(self, step: int) -> bool:
        """Whether the layers are saved at a step, if it is recorded."""
        return self._store is not None and bool(self._store_schedule(step))

    @property
    def history_sink(self) -> HistorySink | None:
        """The sink whose file holds all records."""
        return next((sink for sink in self.sinks if isinstance(sink, HistorySink)), None)

    @property
    def lost_files(self) -> list[str]:
        """The run's files that do not hold all of it."""
        lost = [HISTORY] if f"sink:{HistorySink.state_key}" in self._guard.off else []
        ends = [sink for sink in self._in_directory if isinstance(sink, SummarySink)]
        return [*lost, *([SUMMARY] if any(end.is_lost for end in ends) else [])]

    def write(self, record: Record) -> None:
        """Give every sink a record."""
        self._check_directory()
        for sink in list(self.sinks):
            self._run(sink, partial(sink.write, record))

    def save(self, snapshot: Snapshot) -> None:
        """Save a snapshot's weights, if its step is one of those."""
        step = snapshot.steps[0]
        if self._store is None or not self._store_schedule(step):
            return
        self._check_directory()
        if self._store is not None and (view := snapshot.frozen(0)) is not None:
            self._run(self._store, partial(self._store.save, step, view))

    # --- resuming ----------------------------------------------------------------------------

    def resumable(self) -> dict[str, Resumable]:
        """Return everything that writes and can resume, by state key; several of one key are numbered."""
        found: dict[str, Resumable] = {}
        for writer in (*self.sinks, self._store):
            if isinstance(writer, Resumable):
                key = writer.state_key
                found[key if key not in found else f"{key} {len(found)}"] = writer
        return found

    def state_dicts(self) -> dict[str, dict[str, Any]]:
        """Return the state of everything that can resume, by state key."""
        states: dict[str, dict[str, Any]] = {}

        def ask(key: str, writer: Resumable) -> None:
            states[key] = writer.state_dict()

        for key, writer in self.resumable().items():
            self._run(writer, partial(ask, key, writer))
        return states

    def check_states(self, states: Mapping[str, Any], off: Iterable[str]) -> dict[str, Resumable]:
        """Return the writers that resume from their states; the others had failed before the save.

        Args:
            states: state key to state, from `state_dicts`.
            off: names of `FailureGuard.off` at that time.

        Raises:
            ExpectedError: if the writers are not those of the states, or one cannot resume.
        """
        failed = {str(name).removeprefix("sink:") for name in off}
        kept = {
            key: writer
            for key, writer in self.resumable().items()
            if key in states or key.split()[0] not in failed
        }
        if differing := sorted(set(states) ^ set(kept)):
            raise ExpectedError(
                "state",
                f"The saved run and this one differ in their sinks: {', '.join(differing)}.",
                "Attach with the same logdir=, snapshots= and sinks= as before.",
            )
        for key, writer in kept.items():
            writer.check_state(states[key])
        return kept

    def sync(self) -> None:
        """Have on the disk everything that was written so far."""
        for writer in self.resumable().values():
            self._run(writer, writer.sync)

    # --- the end -----------------------------------------------------------------------------

    def release(self, writers: Iterable[object]) -> None:
        """Use some writers no more, and leave their files as they are."""
        gone = list(writers)
        if any(isinstance(writer, HistorySink) for writer in gone):
            self._before_history_lost()
        for writer in gone:
            if isinstance(writer, Resumable):
                with suppress(OSError):
                    writer.abandon()
        self.sinks = [sink for sink in self.sinks if not any(sink is w for w in gone)]
        if any(self._store is writer for writer in gone):
            self._store = None

    def leave(self) -> None:
        """Have on the disk what was written, and let other processes write to the directory."""
        self._check_directory()
        self.sync()
        if self._lock is not None:
            self._guard.run(self._lock.release, "the lock")

    def leave_files(self) -> None:
        """Write nothing more into the directory: it holds an earlier run, which was not resumed."""
        ends = [sink for sink in self.sinks if isinstance(sink, SummarySink)]
        self.release([*self.resumable().values(), *ends])

    def close(self, summary: Mapping[str, Any], history: History) -> None:
        """Close every sink, and let other processes write to the directory."""
        self._check_directory()
        for sink in list(self.sinks):
            close = partial(sink.close, summary, history)
            if not self._guard.run(close, f"closing {type(sink).__name__}"):
                self.release([sink])
        if self._lock is not None:
            self._guard.run(self._lock.release, "the lock")

    def write_whole(self, write: Callable[[], object]) -> None:
        """Write a file of the run in one piece, such as its checkpoint.

        Raises:
            OSError: if it cannot be written, or the directory is not the one that the run began in.
        """
        if self._lock is not None:
            self._lock.check()
        write()

    def _check_directory(self) -> None:
        """Release everything that writes to the directory once that is not ours any more, with one warning."""
        writers = [writer for writer in self._in_directory if writer in (*self.sinks, self._store)]
        if self._lock is None or not writers:
            return
        # one warning for all: the history, which matters most, comes last in it
        names = ", ".join(type(writer).__name__ for writer in reversed(writers))
        if not self._guard.run(self._lock.check, names):
            kept = [writer for writer in writers if isinstance(writer, Resumable)]
            self._guard.off += [f"sink:{writer.state_key}" for writer in kept]
            self.release(writers)

    def _run(self, writer: object, action: Callable[[], object]) -> None:
        """Run an action of a writer, and release the writer if the action fails."""
        if not self._guard.run(action, type(writer).__name__):
            if isinstance(writer, Resumable):
                self._guard.off.append(f"sink:{writer.state_key}")
            self.release([writer])


@contextmanager
def _taken_back(logdir: Path) -> Iterator[None]:
    """Delete the files that were made within, if it fails: the directory's lock is ours."""
    before = set(logdir.iterdir())
    try:
        yield
    except BaseException:
        for path in set(logdir.iterdir()) - before:
            with suppress(OSError):
                path.unlink()
        raise


def _file_sinks(
    logdir: Path,
    hparams: Mapping[str, object] | None,
    resume: bool,
) -> list[Any]:
    made: list[Any] = []
    try:
        made.append(HistorySink(logdir / HISTORY, resume=resume))
        made.append(SummarySink(logdir, warn))
        made.append(ClockSink(logdir / CLOCK, resume=resume))
        events = TensorBoardSink(logdir, hparams=hparams, describe=description, resume=resume)
        made += [events, NeuronSink(logdir)]
    except BaseException:
        for sink in made:
            if isinstance(sink, Resumable):
                sink.abandon()
        raise
    return made
