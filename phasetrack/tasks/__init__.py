"""Distributions to train on, each with its geometry."""

from phasetrack.tasks.registry import TASKS, make_task
from phasetrack.tasks.task import Task
from phasetrack.tasks.xor import XOR

__all__ = ["XOR", "TASKS", "Task", "make_task"]
