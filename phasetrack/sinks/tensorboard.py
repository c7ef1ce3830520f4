"""TensorBoard: one event a recorded step, and boundaries that survive its sampling.

The loader keeps 1000 scalars a tag, so a boundary inside a long tag can vanish. Each boundary has
sparse tags of its own: ``boundary/<name>`` is 0 at the step before its detection and 1 at it, and
``boundary/<name>_onset`` holds the interpolated onset at the step of detection. Values that are
not finite cannot be drawn and are left out; the history file is the lossless record.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util

from phasetrack.records import History, Record

TIMELINE = "timeline"


class TensorBoardSink:
    """Writes one event file into a run directory.

    Args:
        logdir: the directory.
        clusters: cluster names, for the layout of the margin charts.
    """

    def __init__(self, logdir: Path, *, clusters: Sequence[str] = ()) -> None:
        self._writer: EventFileWriter | None = EventFileWriter(str(logdir), flush_secs=5)
        self._timeline: list[str] = []
        self._write_summary(0, _layout_summary(clusters))

    def write(self, record: Record) -> None:
        """Write all finite readings as one event, and what is new at this step."""
        values = {name: v for name, v in record.readings.items() if math.isfinite(v)}
        before: dict[str, float] = {}
        for boundary in record.boundaries:
            before[f"boundary/{boundary.name}"] = 0.0
            values[f"boundary/{boundary.name}"] = 1.0
            values[f"boundary/{boundary.name}_onset"] = boundary.onset
        if before and record.step > 0:
            self._write_summary(record.step - 1, _scalars(before))
        self._write_summary(record.step, _scalars(values))
        if news := record.news():
            self._timeline += [f"* {item}" for item in news]
            self._write_summary(record.step, _text(TIMELINE, "\n".join(self._timeline)))

    def close(self, summary: Mapping[str, Any], history: History) -> None:
        """Flush and close the file; further calls do nothing."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _write_summary(self, step: int, summary: Summary) -> None:
        if self._writer is None:
            raise ValueError("this TensorBoard sink is closed")
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def _scalars(values: Mapping[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in values.items()])


def _text(tag: str, markdown: str) -> Summary:
    tensor = tensor_util.make_tensor_proto([markdown.encode()])
    metadata = text_metadata.create_summary_metadata(display_name=tag, description="")
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])


def _layout_summary(clusters: Sequence[str]) -> Summary:
    tensor = tensor_util.make_tensor_proto(_layout(clusters).SerializeToString())
    metadata = layout_metadata.create_summary_metadata()
    tag = layout_metadata.CONFIG_SUMMARY_TAG
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])


def _layout(clusters: Sequence[str]) -> layout_pb2.Layout:
    """The Custom Scalars dashboard: measured beside predicted, margins as a band."""
    lines = {
        "Signal-heaviness": ("heaviness/zeta_star", "forecast/zeta_star"),
        "Loss": ("loss/train", "forecast/loss"),
        "Clean margin of each cluster": tuple(f"margin/clean/{name}" for name in clusters),
        "Signal growth, measured and predicted": (
            "growth/signal_rate",
            "growth/signal_rate_predicted",
        ),
        "Second layer, heavy neurons and the rest": (
            "growth/second_layer_rate_heavy",
            "growth/second_layer_rate_rest",
        ),
        "First-order errors": ("linearization/value_error", "linearization/slope_drift"),
    }
    charts = [
        layout_pb2.Chart(
            title=title,
            multiline=layout_pb2.MultilineChartContent(tag=[f"^{re.escape(t)}$" for t in tags]),
        )
        for title, tags in lines.items()
        if tags
    ]
    band = layout_pb2.MarginChartContent.Series(
        value="margin/mean", lower="margin/min", upper="margin/max"
    )
    margin = layout_pb2.MarginChartContent(series=[band])
    charts.append(layout_pb2.Chart(title="Cluster margins, min to max", margin=margin))
    return layout_pb2.Layout(category=[layout_pb2.Category(title="phasetrack", chart=charts)])
