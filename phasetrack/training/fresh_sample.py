"""A sample of a run's task that the run was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from phasetrack.errors import ExpectedError
from phasetrack.tasks.registry import make_task
from phasetrack.training.memory import host_memory

# Enough samples for two halves to agree on a span.
LEAST_SAMPLE, SAMPLE_PER_DIMENSION = 4096, 16
# The step whose samples they are: no training reaches it.
FRESH_STEP = 2**62


def fresh_sample(settings: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Draw inputs (m, d) and labels (m,) that no run has trained on.

    Args:
        settings: of the run, as ``config.json`` holds them.

    Raises:
        ExpectedError: if the sample, in float32, would take more than half of the memory there is.
    """
    d, shuffled = settings["d"], settings["shuffle_labels"]
    task = make_task(settings.get("task", "xor"), d, shuffle_labels=shuffled)
    count = max(LEAST_SAMPLE, SAMPLE_PER_DIMENSION * d)
    size, memory = 4 * count * d, host_memory()
    if memory is not None and size > memory / 2:
        raise ExpectedError(
            "settings",
            f"A sample of {count} inputs at d = {d} takes {size / 1e9:.3g} GB, and half of the memory "
            f"is {memory / 2e9:.3g} GB.",
            "Use a machine with more memory.",
        )
    return task.sample(count, seed=settings["seed"], step=FRESH_STEP)
