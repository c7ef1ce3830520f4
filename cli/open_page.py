"""Open a page of a server in the browser once the server answers: a process of its own, beside the server."""

from __future__ import annotations

import socket
import sys
import time
import webbrowser
from urllib.parse import urlsplit

PATIENCE = 120.0  # seconds until the server has to answer
PAUSE = 0.2


def open_page(address: str) -> bool:
    """Wait for the server of an address on this machine, then open the address; False if none answers."""
    parts = urlsplit(address)
    for _ in range(int(PATIENCE / PAUSE)):
        try:
            socket.create_connection((parts.hostname or "localhost", parts.port or 80), 1.0).close()
        except OSError:
            time.sleep(PAUSE)
        else:
            return webbrowser.open(address)
    return False


if __name__ == "__main__":
    open_page(sys.argv[1])
