"""What every command prints: summaries on the screen or as JSON, and one line per mistake."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from phasetrack.errors import ExpectedError, printable
from phasetrack.training.launcher_env import Place, place

from .exit_codes import BAD_USAGE

if TYPE_CHECKING:
    from rich.console import Console

# Seconds by which the process that prints may come after the others: all start together.
LAGGING = 5.0
# Columns of what is not a terminal, unless the environment has COLUMNS: a row is a line, however long.
UNWRAPPED = 10_000


def check_folder_of(file: Path | None, argument: str) -> None:
    """Raise ExpectedError, before long work, if a file that is to be written has no folder; None is fine."""
    if file is not None and not file.parent.is_dir():
        problem = f"The folder of {str(file)!r} does not exist."
        raise ExpectedError(argument, problem, "Make the folder first.")


class LastingStream:
    """Standard output or error, whose end does not end the command: a closed pipe, a full device.

    What cannot be written is lost, and so is everything after it; a character that the terminal lacks
    becomes a question mark.

    Attributes:
        lost: why writing failed; None while all is written.

    Args:
        stream: `sys.stdout` or `sys.stderr`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream.errors == "strict" else stream.errors)

    def write(self, text: str) -> int:
        """Write a text, or lose it."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush, or lose what waits."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.lost = self.lost or error
        with suppress(OSError, ValueError):  # what Python flushes at its end must not fail again
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)


@contextmanager
def lasting_streams() -> Iterator[list[LastingStream]]:
    """Put `LastingStream` in the place of standard output and error; yields those that are open."""
    before = sys.stdout, sys.stderr
    # None where the stream was closed before the command began
    made = [None if stream is None else LastingStream(stream) for stream in before]
    sys.stdout, sys.stderr = made
    try:
        yield [stream for stream in made if stream is not None]
    finally:
        for stream in made:
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def console(*, stderr: bool = False) -> Console:
    """Return the terminal, which prints names as they are: no markup, no emoji codes."""
    from rich.console import Console

    screen = Console(stderr=stderr, markup=False, emoji=False)
    if not screen.is_terminal and "COLUMNS" not in os.environ:
        screen.width = UNWRAPPED
    return screen


def show_summary(summary: dict[str, Any], as_json: bool, title: str) -> None:
    """Print a summary, as JSON or for people."""
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_summary(console(), summary, title)


def print_summary(screen: Console, summary: dict[str, Any], title: str) -> None:
    """Print a summary for people."""
    from .panels import print_summary as print_panels

    print_panels(screen, summary, title)


def complain(name: str, message: str) -> int:
    """Print a mistake as one line, whatever the message quotes; of several processes one prints."""
    if own_place().leads:
        typer.echo(printable(f"{name}: {' '.join(message.split())}"), err=True)
    else:  # torchrun ends all processes once one has failed: the one that prints comes first
        with suppress(KeyboardInterrupt):
            time.sleep(LAGGING)
    return BAD_USAGE


def own_place() -> Place:
    """Return which of several processes this one is; every process prints if nothing says so."""
    try:
        return place()
    except ValueError:
        return Place()
