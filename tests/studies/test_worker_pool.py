"""Worker processes end with their pool and with the process that started them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest

from phasetrack.studies.worker_pool import WorkerPool

PARENT = """
import os, time
from phasetrack.studies.worker_pool import WorkerPool
if __name__ == "__main__":
    with WorkerPool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def test_exception_terminates_workers_in_the_middle_of_a_call():
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), WorkerPool(1) as pool:
        pool.submit(os.getpid).result()
        pool.submit(time.sleep, 600)
        raise KeyboardInterrupt
    assert not multiprocessing.active_children() and time.monotonic() - started < 60


def test_workers_ignore_ctrl_c():
    with WorkerPool(1) as pool:
        os.kill(pool.submit(os.getpid).result(), signal.SIGINT)
        assert pool.submit(abs, -3).result() == 3


def test_killed_worker_breaks_the_call_under_way():
    with WorkerPool(1) as pool:
        worker = pool.submit(os.getpid).result()
        call = pool.submit(time.sleep, 600)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(BrokenProcessPool):
            call.result(timeout=60)


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
    worker.wait(timeout=60)
