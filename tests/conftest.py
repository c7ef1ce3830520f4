"""Markers by file, and how many examples property tests draw."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest

HERE = Path(__file__).parent
# Files whose tests start processes, interpreters or notebooks.
PROCESSES = {
    "acceptance/test_canonical_run.py",
    "cli/test_claims_command.py",
    "cli/test_main.py",
    "cli/test_sweep_command.py",
    "display/tensorboard/test_sink.py",
    "faults/test_disks.py",
    "faults/test_kills.py",
    "faults/test_long_runs.py",
    "faults/test_other_systems.py",
    "faults/test_processes.py",
    "faults/test_said_and_kept.py",
    "faults/test_whole_systems.py",
    "repository/test_docs.py",
    "repository/test_notebooks.py",
    "repository/test_packaging.py",
    "storage/test_directory.py",
    "studies/claims/test_claims.py",
    "studies/claims/test_lab.py",
    "studies/sweeps/test_sweep.py",
    "studies/test_worker_pool.py",
    "tracking/test_blocks_of_steps.py",
    "tracking/test_distributed.py",
    "training/test_distributed_run.py",
    "training/test_memory.py",
}

# Property tests that do not fix their own number draw this many; HYPOTHESIS_PROFILE=nightly draws more.
hypothesis.settings.register_profile("default", max_examples=40, deadline=None, derandomize=True)
hypothesis.settings.register_profile("nightly", max_examples=400, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


# Runs are listed, shown and drawn without torch, on Pythons that it is not installed on (tests/pythons.py).
NO_TORCH = "No module named 'torch'" if find_spec("torch") is None else None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Skip the files that need torch where there is none."""
    report = yield
    if NO_TORCH and report.failed and NO_TORCH in str(report.longrepr):
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, NO_TORCH)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call):
    """Skip the tests that need torch where there is none."""
    report = yield
    if NO_TORCH and call.excinfo and NO_TORCH in str(call.excinfo.value):
        report.outcome, report.longrepr = "skipped", (report.nodeid, 0, NO_TORCH)
    return report


def pytest_collection_modifyitems(items):
    """Mark the tests that `make test-fast` leaves out."""
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        name = item.path.relative_to(HERE).as_posix()
        if name.startswith("browser/"):
            item.add_marker(pytest.mark.browser)
        elif name in PROCESSES:
            item.add_marker(pytest.mark.process)


@pytest.fixture(autouse=True)
def warnings_of_the_tracking_are_errors(monkeypatch):
    """A warning that a test does not expect fails it, where phasetrack would only print it."""
    if "torch" in sys.modules:
        from phasetrack.tracking import guard

        def raised(warning):
            raise warning

        monkeypatch.setattr(guard, "print_refused", raised)


@pytest.fixture(autouse=True)
def no_mode_of_torch_stays():
    """A default device or a function mode that a test leaves behind fails that test, not a later one."""
    yield
    if torch := sys.modules.get("torch"):
        assert not torch.overrides._get_current_function_mode_stack()
