"""A run on disk: the file sinks, the readers of the same files, locks and checkpoints."""

from typing import TYPE_CHECKING

from phasetrack._submodules import by_attribute

if not TYPE_CHECKING:
    __getattr__ = by_attribute(__name__)
