"""matplotlib as it comes: no backend, and none of the settings that the user has for figures of one's own.

All that draws imports matplotlib from here. A notebook's kernel, a shell profile or a ``matplotlibrc`` may
ask for a backend or for LaTeX that this machine does not have.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, TextIO


@contextmanager
def _without_backend() -> Iterator[None]:
    """Import matplotlib without the backend of ``MPLBACKEND``, then hand that one over for pyplot."""
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(Exception):  # it does not exist
            matplotlib.rcParams["backend"] = backend


with _without_backend():
    import matplotlib
    import matplotlib.style
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.transforms import offset_copy


class ShownFigure(Figure):
    """A figure that a notebook shows by itself, without pyplot."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        write_figure(self, content, format="png", dpi=100)
        return content.getvalue()


__all__ = [
    "SERIF",
    "Axes",
    "Figure",
    "Line2D",
    "Patch",
    "ShownFigure",
    "offset_copy",
    "own_settings",
    "write_figure",
]
# Changes of the settings for a serif font, which matplotlib brings along.
SERIF = {"font.family": ["STIXGeneral", "DejaVu Serif"], "mathtext.fontset": "stix"}


@contextmanager
def own_settings(changes: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw with matplotlib's default settings and some changes; the user's own come back afterwards.

    Also a decorator of functions that draw.
    """
    with matplotlib.style.context(["default", dict(changes or {})]):
        yield


def write_figure(
    figure: Figure,
    file: BinaryIO | TextIO,
    changes: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Write a figure into a file in memory by its `savefig`, in `own_settings`."""
    with own_settings(changes):
        figure.savefig(file, **options)
