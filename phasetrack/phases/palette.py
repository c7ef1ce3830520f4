"""The colour of each label, in every display: of the palette of Okabe and Ito, and grey."""

from __future__ import annotations

from phasetrack.phases.labels import Phase

# Of an alert.
ALERT_COLOUR = "#D55E00"

PHASE_COLOURS = {
    Phase.UNDETERMINED: "#999999",
    Phase.SIGNAL_FINDING: "#56B4E9",
    Phase.SIGNAL_HEAVY: "#E69F00",
    Phase.FITTED: "#009E73",
}
