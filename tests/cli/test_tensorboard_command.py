"""`phasetrack tensorboard`: its address, the browser, a port in use, an empty folder, and its end."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from _browser import end_server

COMMAND = str(Path(sys.executable).parent / "phasetrack")


@pytest.fixture
def server(tmp_path):
    """A server with a browser that only writes down its page, and the lines that it printed."""
    opened = tmp_path / "opened"
    browser = tmp_path / "browser.sh"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    (tmp_path / "runs").mkdir()
    process = subprocess.Popen(
        [COMMAND, "tensorboard", "--logdir", str(tmp_path / "runs"), "--port", "0", "--open"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"BROWSER": f"{browser} %s"},
    )
    yield process, opened
    if process.poll() is None:
        end_server(process)
    process.stderr.close()


def wait_for(condition):
    for _ in range(1200):
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("the condition never held")


@pytest.mark.skipif(shutil.which("sh") is None, reason="the browser of this test is a shell script")
def test_tab_is_opened_once_the_server_answers_and_the_port_is_free_after_its_end(server):
    process, opened = server
    assert "holds no runs yet" in process.stderr.readline()
    page = re.fullmatch(r"the phases: (\S+)\n", process.stderr.readline())[1]
    assert re.fullmatch(r"http://localhost:\d+/#phases", page)
    wait_for(opened.exists)
    assert opened.read_text() == page
    address = page.removesuffix("#phases")
    with urllib.request.urlopen(f"{address}data/plugin/phases/runs", timeout=60) as answer:
        assert b'"runs": []' in answer.read()
    port = int(re.search(r":(\d+)/", page)[1])
    end_server(process)
    with socket.socket() as probe:  # no child lives on
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("localhost", port))
    assert process.returncode in (0, -signal.SIGTERM)


def test_port_in_use_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [COMMAND, "tensorboard", "--out", str(tmp_path), "--port", port],
            capture_output=True,
            check=False,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"--port: Port {port} of localhost is in use. Choose another, or 0 for any free one."
    )
