"""Runs of known truth; each file has some as RUNS, and a further file is found by itself."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module

from phasetrack.errors import ExpectedError
from phasetrack.studies.bench.known_run import KnownRun


def all_runs() -> list[KnownRun]:
    """Return the runs of every file."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [run for name in modules for run in import_module(f"{__name__}.{name}").RUNS]


def chosen(names: Sequence[str]) -> list[KnownRun]:
    """Return the runs of some names; all for no names.

    Raises:
        ExpectedError: naming `only`, if none has one of them.
    """
    runs = {run.name: run for run in all_runs()}
    for name in names:
        if name not in runs:
            raise ExpectedError(
                "only", f"{name!r} is not a run of the bench.", f"Choose from {', '.join(runs)}."
            )
    return [run for run in runs.values() if not names or run.name in names]
