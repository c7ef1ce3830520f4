"""Metric: what the reference says about one metric."""

from __future__ import annotations

import re
from typing import NamedTuple


class Metric(NamedTuple):
    """One metric, or a family of metrics of one meaning.

    Attributes:
        name: its name in the history; ``<...>`` stands for the name of a cluster, part or feature.
        unit: of its values.
        section: the section of docs/theory.md that defines it.
        line: its meaning in one line.
    """

    name: str
    unit: str
    section: str
    line: str

    def matches(self, name: str) -> bool:
        """Whether a recorded name belongs to this metric."""
        if "<" not in self.name:
            return name == self.name
        literals = re.split(r"<\w+>", self.name)
        return re.fullmatch("[^/]+".join(map(re.escape, literals)), name) is not None
