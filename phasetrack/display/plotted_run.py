"""A run read from disk that can draw itself: the `Run` and the `read_run` of the public names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from phasetrack.storage import directory

if TYPE_CHECKING:
    from phasetrack.display.drawing import Figure


class Run(directory.Run):
    """A run read from disk: its configuration, history and summary, as text, HTML and a figure."""

    def plot(
        self,
        *,
        size: str = "screen",
        title: str | None = None,
        panels: Sequence[str] | None = None,
        width: float | None = None,
        forecast: bool = True,
        serif: bool = False,
    ) -> Figure:
        """Draw the run on one page, as `phasetrack plot` does; a notebook shows the figure.

        Args:
            size: ``screen``, or ``paper`` for 7 inches.
            title: above the panels; None is the run's name, and no title on paper.
            panels: some of zeta, shares, margins, loss, first-order and growth; None is all.
            width: inches instead of those of `size`.
            forecast: whether the forecast is drawn.
            serif: whether the font is a serif one.

        Raises:
            ExpectedError: if `size`, `panels` or `width` is not one of those allowed.
        """
        from phasetrack.display.plots import run_figure

        return run_figure(
            self.history,
            self.labelled,
            title=("" if size == "paper" else self.name) if title is None else title,
            size=size,
            panels=panels,
            width=width,
            forecast=forecast,
            serif=serif,
        )


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run directory, finished or not, of `phasetrack run` or of `attach(logdir=)`.

    A last history line without its end (the run was killed, or is writing it now) is left out.

    Raises:
        ExpectedError: naming the file and line if the path is not a run directory, or a file in it is
            damaged.
    """
    return Run(**vars(directory.read_run(path)))
