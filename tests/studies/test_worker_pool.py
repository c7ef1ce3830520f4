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


# No guard by `if __name__ == "__main__"`: a worker that imported it would start a pool of its own.
UNGUARDED = """
import sys
import __main__
print("imported")
from phasetrack.studies.worker_pool import WorkerPool
named = __main__.__spec__, getattr(__main__, "__file__", None)
with WorkerPool(2) as pool:
    print(sum(call.result() for call in [pool.submit(abs, -number) for number in (1, 2, 3)]))
assert named == (__main__.__spec__, getattr(__main__, "__file__", None))
"""


@pytest.mark.parametrize("way", ["standard input", "script", "module", "deleted script"])
def test_a_worker_does_not_import_the_callers_main_module(way, tmp_path):
    script, text = tmp_path / "mine.py", UNGUARDED
    if way == "deleted script":
        text = "import os; os.remove(__file__)" + text
    script.write_text(text)
    words = {"standard input": ["-"], "module": ["-m", "mine"]}.get(way, ["mine.py"])
    done = subprocess.run(
        [sys.executable, *words],
        input=text if way == "standard input" else None,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.split() == ["imported", "6"], done.stderr
