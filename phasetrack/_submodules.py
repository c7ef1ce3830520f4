"""Packages whose modules are there by attribute: ``phasetrack.tracking.probes.default`` needs no import."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType


def by_attribute(package: str) -> Callable[[str], ModuleType]:
    """Return a `__getattr__` for a package, which imports a module of it on its first use (PEP 562)."""

    def import_submodule(name: str) -> ModuleType:
        path = f"{package}.{name}"
        try:
            if not name.startswith(
                "_"
            ):  # tools ask every module for `__path__`, `_repr_html_`, ...
                return import_module(path)
        except ModuleNotFoundError as error:
            if error.name != path:  # a module that it needs is not installed
                raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name)

    return import_submodule
