"""`phasetrack tensorboard`: a TensorBoard server on the runs of a folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from phasetrack.errors import ExpectedError, check_int, printable


def tensorboard(
    out: Annotated[Path, typer.Option("--out", "--logdir", help="Folder of the runs.")] = Path(
        "runs"
    ),
    port: Annotated[
        int,
        typer.Option(
            help="Port on localhost, up to 65535; 0 takes any free port (6006: TensorBoard's own)."
        ),
    ] = 6006,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Also open the Phases tab in the browser.")
    ] = False,
) -> None:
    """Serve the runs in a folder with TensorBoard and its Phases tab, on localhost only."""
    check_int("port", port, minimum=0, maximum=65535)
    if not out.is_dir():
        raise ExpectedError(
            "out", f"{str(out)!r} is not a folder.", "Make a run first: phasetrack run xor."
        )
    from phasetrack.storage.results import find_runs

    if not find_runs(out):
        typer.echo(
            f"tensorboard: {printable(out)} holds no runs yet; they appear as they begin", err=True
        )
    port = _free(port)
    page = f"http://localhost:{port}/#phases"
    typer.echo(f"the phases: {page}", err=True)
    if open_browser:  # in a process of its own, as this one becomes the server
        subprocess.Popen([sys.executable, "-P", "-m", f"{__package__}.open_page", page])
    # -P: packages are not imported from the current folder
    command = [sys.executable, "-P", "-m", "tensorboard.main", "--logdir", str(out)]
    command += ["--host", "localhost", "--port", str(port)]
    if sys.platform == "win32":  # there a process cannot become another one
        try:
            raise typer.Exit(subprocess.call(command))
        except KeyboardInterrupt:
            raise typer.Exit(0) from None  # how a server is stopped
    # a signal that ends this process then ends the server, and no server outlives it on the port
    os.execv(command[0], command)


def _free(port: int) -> int:
    """Return the port if it is free, and any free one for 0.

    Raises:
        ExpectedError: if the port is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("localhost", port))
        except OSError:
            problem = f"Port {port} of localhost is in use."
            raise ExpectedError("port", problem, "Choose another, or 0 for any free one.") from None
        found: int = probe.getsockname()[1]
        return found
