"""Probes that no run has unless it asks for them, one file each; a further file is a further probe.

A module has METRICS, the reference of its readings, and a class whose name is the module's in capitals with Probe:
``neural_collapse`` has `NeuralCollapseProbe`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any


def _modules_by_class() -> dict[str, str]:
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return {f"{name.title().replace('_', '')}Probe": name for name in found}


def names() -> list[str]:
    """Return the names of the classes.

    >>> "OverlapProbe" in names()
    True
    """
    return sorted(_modules_by_class())


def kind(name: str) -> Any:
    """Return the class of a name.

    Raises:
        AttributeError: if no module has it.
    """
    module = _modules_by_class().get(name)
    if module is None:
        raise AttributeError(f"module 'phasetrack.probes' has no attribute {name!r}", name=name)
    return getattr(import_module(f"{__name__}.{module}"), name)


def modules() -> list[ModuleType]:
    """Import and return all modules."""
    return [
        import_module(f"{__name__}.{module}") for module in sorted(_modules_by_class().values())
    ]
