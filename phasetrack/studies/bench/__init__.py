"""Definitions of phases scored on runs whose truth is known: ``phasetrack bench``."""

from typing import TYPE_CHECKING

from phasetrack._submodules import by_attribute

if not TYPE_CHECKING:
    __getattr__ = by_attribute(__name__)
