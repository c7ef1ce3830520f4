"""Build TensorBoard's Summary messages without TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import summary_v2 as hparams_summary
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.util import tensor_util

from phasetrack.display.charts import CLUSTER_PREFIX

HISTOGRAM_BINS = 30  # as many as TensorBoard's own writer makes


def scalars(values: Mapping[str, float], descriptions: Mapping[str, str] | None = None) -> Summary:
    """Put many scalars into one message, with descriptions where TensorBoard sees a tag the first time."""
    summary = Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in values.items()])
    if descriptions:
        for value in summary.value:
            value.metadata.summary_description = descriptions.get(value.tag, "")
    return summary


def text(tag: str, markdown: str) -> Summary:
    """Build a Markdown text."""
    metadata = text_metadata.create_summary_metadata(display_name=tag, description="")
    return _tensor(tag, metadata, [markdown.encode()])


def histogram(tag: str, values: NDArray[np.float64]) -> Summary:
    """Build a histogram of one value per neuron; infinite values count in the outermost bin.

    Args:
        tag: the histogram's name.
        values: (p,); NaN is left out.
    """
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    shown = np.nan_to_num(values[~np.isnan(values)], posinf=high, neginf=low)
    counts, edges = np.histogram(shown, bins=HISTOGRAM_BINS if high > low else 1)
    bins = np.stack([edges[:-1], edges[1:], counts], axis=1)  # (bins, [left, right, count])
    metadata = histogram_metadata.create_summary_metadata(display_name=tag, description="")
    return _tensor(tag, metadata, bins)


def hyperparameters(
    name: str, values: Mapping[str, object], metrics: Mapping[str, str]
) -> list[Summary]:
    """Build this run's row of the HParams dashboard, in the run's own file: no sub-run appears.

    Args:
        name: the row's name.
        values: hyperparameter to value; everything but numbers and booleans becomes text.
        metrics: scalar tag to the name of its column.
    """
    known = {
        key: value if isinstance(value, bool | int | float) else str(value)
        for key, value in values.items()
    }
    columns = [hparams_summary.HParam(key) for key in known]
    shown = [hparams_summary.Metric(tag, display_name=title) for tag, title in metrics.items()]
    return [
        hparams_summary.hparams_config_pb(columns, shown),
        hparams_summary.hparams_pb(known, trial_id=name),
    ]


def layout(clusters: Sequence[str]) -> Summary:
    """Build the Custom Scalars dashboard: measured beside predicted, margins as a band."""
    lines = {
        "Signal-heaviness": ("heaviness/zeta_star", "forecast/zeta_star"),
        "Loss": ("loss/train", "forecast/loss"),
        "Clean margin of each cluster": tuple(f"{CLUSTER_PREFIX}{name}" for name in clusters),
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
    category = layout_pb2.Category(title="phasetrack", chart=charts)
    # custom_scalar.summary.pb builds the same message, but imports TensorFlow
    return _tensor(
        layout_metadata.CONFIG_SUMMARY_TAG,
        layout_metadata.create_summary_metadata(),
        layout_pb2.Layout(category=[category]).SerializeToString(),
    )


def _tensor(tag: str, metadata: SummaryMetadata, content: object) -> Summary:
    tensor = tensor_util.make_tensor_proto(content)
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])
