"""What each sink costs a record, with the records of a real run.

python benchmarks/sinks.py [--d 512] [--width 512] [--rounds 20]
"""

from __future__ import annotations

import argparse
import io
import itertools
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from _timing import milliseconds, publish, take_turns
from rich.console import Console

from phasetrack import History, RunSettings, train
from phasetrack.display.console_sink import ConsoleSink
from phasetrack.display.tensorboard.sink import TensorBoardSink
from phasetrack.phases.history import Record
from phasetrack.storage.clock_sink import ClockSink
from phasetrack.storage.history_sink import HistorySink
from phasetrack.storage.neuron_sink import NeuronSink
from phasetrack.storage.sink import Sink
from phasetrack.tasks import XOR

RECORDS, STEPS = 50, 80


class Keeper:
    """A sink that keeps the records."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)

    def close(self, summary: Mapping[str, Any], history: History) -> None:
        pass


def writing(sink: Sink, records: list[Record]) -> Callable[[], None]:
    """Writes one record after the other, at steps that go on."""
    endless = zip(itertools.count(), itertools.cycle(records))

    def write() -> None:
        step, record = next(endless)
        sink.write(replace(record, step=step))

    return write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/sinks.json"))
    asked = parser.parse_args()
    keeper = Keeper()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        settings = RunSettings(d=asked.d, width=asked.width, batch=256, steps=STEPS)
        train(settings, out=folder, name="run", sinks=[keeper])
        names = XOR(asked.d).geometry.names
        pipe = Console(file=io.StringIO(), force_terminal=False)
        screen = Console(file=io.StringIO(), force_terminal=True)
        console, live = (
            stack.enter_context(ConsoleSink(where, title="run", expected=1e6))
            for where in (pipe, screen)
        )
        sinks: dict[str, Sink] = {
            "history.jsonl": HistorySink(folder / "history.jsonl"),
            "clock.jsonl": ClockSink(folder / "clock.jsonl"),
            "TensorBoard": TensorBoardSink(folder / "events", clusters=names),
            "neurons/": NeuronSink(folder),
            "console, no terminal": console,
            "console, live": live,
        }
        # the middle of the run: no boundary is news
        records = keeper.records[10:40]
        cases = {title: writing(sink, records) for title, sink in sinks.items()}
        seconds = take_turns(cases, rounds=asked.rounds, calls=RECORDS)
        for title in ("history.jsonl", "clock.jsonl", "TensorBoard", "neurons/"):
            sinks[title].close({}, History())
    rows = [
        {"sink": title, "ms a record": milliseconds(times), "ms, least": 1e3 * min(times)}
        for title, times in seconds.items()
    ]
    publish(rows, asked.json, d=asked.d, width=asked.width, rounds=asked.rounds)


if __name__ == "__main__":
    main()
