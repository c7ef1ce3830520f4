"""Phases, boundaries and alerts from scalars; histories and summaries. No torch."""

from typing import TYPE_CHECKING

from phasetrack._submodules import by_attribute

if not TYPE_CHECKING:
    __getattr__ = by_attribute(__name__)
