"""Distributions to train on, each with its geometry."""

from typing import TYPE_CHECKING

from phasetrack._submodules import by_attribute
from phasetrack.tasks.modular_addition import ModularAddition
from phasetrack.tasks.registry import TASKS, make_task
from phasetrack.tasks.task import Task
from phasetrack.tasks.xor import XOR

__all__ = ["XOR", "ModularAddition", "TASKS", "Task", "make_task"]

if not TYPE_CHECKING:
    __getattr__ = by_attribute(__name__)
