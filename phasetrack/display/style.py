"""Colours, marks, fonts and number formats of everything that phasetrack shows to people.

Pure data and text: no matplotlib, no rich, no torch. Figures, terminal and the Phases tab (which
receives its colours from the server) all take their look from here.
"""

from __future__ import annotations

import math

from phasetrack.phases.classifier import Phase
from phasetrack.phases.palette import PHASE_COLOURS as PHASE_COLOURS

# The palette of Okabe and Ito, which colour-blind readers can tell apart.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)

# Curves of one panel, in this order; the marker tells curves apart without colours.
CURVE_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Runs in the Phases tab: the palette on white or dark paper, then darker shades of it.
RUN_COLOURS = (
    *(BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY),
    *("#004A75", "#8A3D00", "#00664B", "#8F4A72", "#9C6B00", "#2B7FB0"),
)
# Clusters: each colour in the first dash, then each in the next one. Names as in plotly.
CLUSTER_COLOURS = (BLUE, SKY, VERMILION, ORANGE, GREEN, PURPLE)
CLUSTER_DASHES = ("solid", "dashdot", "dot", "longdashdot")
PREDICTED_DASH = "dash"  # of predictions alone

# Lanes: the paper's labels by number; those of other vocabularies in the order in which they come.
LANE_COLOURS = (*PHASE_COLOURS.values(), PURPLE, VERMILION, BLUE)

# Rich's names of the nearest terminal colours, and the label printed on them.
PHASE_TERMINAL_COLOURS = {
    Phase.UNDETERMINED: "bright_black",
    Phase.SIGNAL_FINDING: "cyan",
    Phase.SIGNAL_HEAVY: "yellow",
    Phase.FITTED: "green",
}
PHASE_STYLES = {phase: f"black on {colour}" for phase, colour in PHASE_TERMINAL_COLOURS.items()}
# Characters of a timeline in the terminal: it can be read without colours.
PHASE_MARKS = {
    Phase.UNDETERMINED: "\u2591",
    Phase.SIGNAL_FINDING: "\u2592",
    Phase.SIGNAL_HEAVY: "\u2593",
    Phase.FITTED: "\u2588",
}
BOUNDARY_COLOUR = BLACK
FORECAST_COLOUR = PURPLE  # the band in which a boundary was forecast
ALERT_COLOUR = VERMILION
# Neurons by the sign of their second-layer weight.
SIGN_COLOURS = {"a \u2265 0": BLUE, "a < 0": VERMILION}

SMALL_FONT = 8  # points, for everything that is not a title

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_UNITS = (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))


def number(value: float, digits: int = 3) -> str:
    """Format a reading with few significant digits; NaN is a dash.

    >>> number(0.123456), number(0.123456, 4), number(math.nan)
    ('0.123', '0.1235', '-')
    """
    return "-" if math.isnan(value) else f"{value:.{digits}g}"


def rounded(value: float) -> str:
    """Format a number with three digits, but thousands as whole numbers.

    >>> rounded(0.12345), rounded(1147.3), rounded(1.5e9), rounded(math.nan)
    ('0.123', '1147', '1.5e+09', '-')
    """
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else number(value)


def step(value: float) -> str:
    """Format an interpolated step with one decimal; NaN is a dash.

    >>> step(34.912), step(math.nan)
    ('34.9', '-')
    """
    return "-" if math.isnan(value) else f"{value:.1f}"


def setting(value: object) -> str:
    """Format a setting: floats in their shortest form, everything else as text.

    >>> setting(0.1), setting(1e-7), setting(64), setting(True), setting("xor")
    ('0.1', '1e-07', '64', 'True', 'xor')
    """
    return f"{value:g}" if isinstance(value, float) else str(value)


def cell(value: object) -> str:
    """Format a cell of a table: floats with four digits, None as a dash, everything else as text.

    >>> cell(34.91234), cell(None), cell("FITTED")
    ('34.91', '-', 'FITTED')
    """
    if value is None:
        return "-"
    return number(value, 4) if isinstance(value, float) else str(value)


def amount(value: float, unit: str = "") -> str:
    """Format a large number with an SI prefix.

    >>> amount(1_500_000.0, "B"), amount(12.0)
    ('1.5 MB', '12')
    """
    power = min(int(math.log10(value) // 3), len(_PREFIXES) - 1) if value >= 1 else 0
    return f"{_without_exponent(value / 1000**power)} {_PREFIXES[power]}{unit}".rstrip()


def duration(seconds: float) -> str:
    """Format a time in its largest unit of which it has two; NaN is a dash.

    >>> duration(90.0), duration(7200.0), duration(0.5)
    ('90 s', '2 h', '0.5 s')
    """
    if math.isnan(seconds):
        return "-"
    unit, size = next((u for u in _UNITS if seconds >= 2 * u[1]), _UNITS[-1])
    return f"{_without_exponent(seconds / size)} {unit}"


def _without_exponent(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
