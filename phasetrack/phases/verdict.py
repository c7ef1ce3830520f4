"""What happened in a run, in two or three sentences: verdict, the numbers it rests on, and what to do next.

From the content of ``summary.json`` alone, so that runs of every version and every display have the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from phasetrack.phases.boundaries import FITTED, LINEAR_EXIT, LOSS_HALVED, SIGNAL_HEAVY, onset
from phasetrack.phases.labels import PAPERS, others_told
from phasetrack.phases.words import ALERTS

# Share of its first value above which the loss counts as hardly moved. A heuristic of ours.
HARDLY_MOVED = 0.9
# A forecast is met within its band, or within this share of its value: its own error at d >= 64. A
# heuristic of ours.
FORECAST_MET = 0.05
# Alerts of a failed run, the one that explains most first.
GRAVEST = ("DIVERGED", "SADDLE", "IMBALANCED", "NON_SIGNAL_GROWTH", "LAZY")
# Endings that the verdict names before anything else.
ENDINGS = {
    "running": "The run lasts; so far:",
    "stopped": "The run was stopped before its end; up to there:",
    "interrupted": "The run was interrupted; up to there:",
    "terminated": "The run was terminated; up to there:",
    "failed": "The run ended with an error; up to there:",
}


class Story(NamedTuple):
    """What a run says at its end.

    Attributes:
        verdict: what happened, in one sentence.
        why: the numbers that the verdict rests on.
        advice: what to look at or change; empty where nothing is wrong, or an alert says it.
    """

    verdict: str
    why: str
    advice: str

    @property
    def text(self) -> str:
        """All of it as one paragraph."""
        return " ".join(part for part in self if part)


def story(summary: Mapping[str, Any]) -> Story:
    """Return verdict, reasons and advice of a run.

    Args:
        summary: the content of ``summary.json``; of a run that lasts or was killed, that of its records
            so far, with its state under ``stopped``.
    """
    raised = [alert["name"] for alert in summary.get("alerts", ())]
    worst = next((name for name in GRAVEST if name in raised), raised[0] if raised else "")
    found, fitted = onset(summary, SIGNAL_HEAVY.key), onset(summary, FITTED.key)
    if not _knows_features(summary) and worst not in ("DIVERGED", "SADDLE"):
        return _told_without(summary)
    sentence = _verdict(summary, worst, found, fitted)
    return Story(
        _ending(summary, sentence), _why(summary, worst, found, fitted), _advice(summary, worst)
    )


def _ending(summary: Mapping[str, Any], sentence: str) -> str:
    """Return a verdict behind how the run ended."""
    ending = ENDINGS.get(summary.get("stopped", ""))
    return f"{ending} {sentence[0].lower()}{sentence[1:]}" if ending else sentence


def _knows_features(summary: Mapping[str, Any]) -> bool:
    """Whether the paper's vocabulary speaks about a run; of versions without vocabularies it always does."""
    told = summary.get("vocabularies", {}).get(PAPERS, {})
    return bool(told.get("applies", True)) or not summary.get("steps")


def _told_without(summary: Mapping[str, Any]) -> Story:
    """Return the story of a run without zeta*: the look back on it, or what other vocabularies say."""
    back = summary.get("hindsight", {})
    said = [told["meaning"] for told in others_told(summary).values() if told.get("meaning")]
    loss = _why({**summary, "reason": ""}, "", math.nan, onset(summary, FITTED.key))
    if back.get("trustworthy"):
        told = story({**back, "undefined": {}})
        spoken = told.verdict if _knows_features(back) else _share(back)
        return Story(_ending(summary, " ".join([*said, spoken])), f"{back['sentence']} {loss}", "")
    verdict = " ".join(said) or f"Whether features are found cannot be said{_unread(summary)}."
    return Story(_ending(summary, verdict), f"{loss} {back.get('sentence', '')}".strip(), "")


def _unread(summary: Mapping[str, Any]) -> str:
    """Return why zeta* could not be read."""
    reason = str(summary.get("undefined", {}).get("heaviness/zeta_star", ""))
    return f": {reason.rstrip('.')}" if reason else " without clusters or directions"


def _share(back: Mapping[str, Any]) -> str:
    """Return how much of the weights lies along the directions of a look back."""
    final = back.get("final", {})
    share, chance = (
        final.get(f"heaviness/{name}", math.nan) for name in ("signal_share", "chance")
    )
    if not (_known(share) and _known(chance)):
        return ""
    return f"In the end {share:.0%} of the first layer lies along the directions found, where chance gives {chance:.0%}."


def commands(run: str, folder: str) -> list[str]:
    """Return the commands to type next.

    Args:
        run: the run, as it is called on the command line.
        folder: the folder of runs that it is in.
    """
    return [
        f"phasetrack plot {run}",
        f"phasetrack report {run}",
        f"phasetrack tensorboard --out {folder}",
    ]


def _verdict(summary: Mapping[str, Any], worst: str, found: float, fitted: float) -> str:
    """Return what happened."""
    if worst in ("DIVERGED", "SADDLE"):
        return f"{ALERTS[worst].title.capitalize()}."
    if not summary.get("steps") and not summary.get("final"):
        return "Nothing was recorded."
    known_found, known_fitted = not math.isnan(found), not math.isnan(fitted)
    if known_found and known_fitted:
        if found <= fitted:
            return "The features were found first, and then tuned until the loss met its target."
        return "The loss met its target first; the features were found afterwards."
    if known_found:
        return "The features were found; the loss has not met its target."
    if known_fitted:
        return "The data were fitted, but not by signal-heavy features."
    if summary.get("phase") == "SIGNAL_FINDING":
        return "The features are not found yet, and the loss has hardly moved from its first order."
    return "Whether features are found cannot be said."


def _why(summary: Mapping[str, Any], worst: str, found: float, fitted: float) -> str:
    """Return the numbers behind the verdict, in one or two sentences."""
    final, parts = summary.get("final", {}), []
    if worst == "DIVERGED":
        (alert,) = [a for a in summary["alerts"] if a["name"] == worst][:1]
        loss = alert["evidence"].get("loss/train", math.nan)
        start = alert["evidence"].get("first loss/train", math.nan)
        return f"The loss was {loss:.3g} at step {alert['step']}, after {start:.3g} at the start."
    if not math.isnan(found):
        parts.append(f"The network is signal-heavy from step {found:.0f}{_loss_then(summary)}")
    elif _known(zeta := final.get("heaviness/zeta_star")):
        level = summary.get("thresholds", {}).get("zeta_exit", 1.0)
        parts.append(
            f"At the end zeta* is {zeta:.3g}, where features count as found under {level:g}"
        )
    if not math.isnan(fitted):
        decided = "held-out loss" if "held_out/loss" in final else "loss"
        parts.append(f"the {decided} met its target{_target(summary)} at step {fitted:.0f}")
    elif _known(loss := final.get("loss/train")):
        parts.append(f"the loss is {loss:.3g}")
    elif missing := _missing(summary):
        parts.append(f"the loss was not read ({missing})")
    if not parts:
        return summary.get("reason", "") and f"{summary['reason'].capitalize()}."
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}.{_served_later(summary, found)}{_beside_forecast(summary)}"


def _served_later(summary: Mapping[str, Any], found: float) -> str:
    """Return that a cluster which was left behind was served later: a signal-heavy network serves every cluster."""
    behind = [
        alert["step"]
        for alert in summary.get("alerts", ())
        if alert["name"] == "IMBALANCED" and not alert["evidence"].get("margin/min", 0.0) > 0
    ]
    if not behind or not behind[0] < found:
        return ""
    return f" The cluster that was left behind at step {behind[0]} was served by step {found:.0f}."


def _target(summary: Mapping[str, Any]) -> str:
    """Return the loss at which the run counts as fitted, in the loop's own units."""
    target = summary.get("thresholds", {}).get("loss_target")
    if target is None:
        return ""
    return f" of {target * summary.get('units', {}).get('loss_target', 1.0):.3g}"


def _loss_then(summary: Mapping[str, Any]) -> str:
    """Return where the loss was when the features were found."""
    losses = summary.get("loss_at", {})
    first, then = losses.get("first"), losses.get(SIGNAL_HEAVY.key)
    if not (_known(first) and _known(then)):
        return ""
    if then >= HARDLY_MOVED * first:
        return f", while the loss had hardly moved ({then:.3g} of {first:.3g})"
    return f", when the loss was {then:.3g} of {first:.3g}"


def _beside_forecast(summary: Mapping[str, Any]) -> str:
    """Return how the boundaries compare with their forecast; empty where none was made."""
    compared = []
    for milestone in (SIGNAL_HEAVY, LINEAR_EXIT, LOSS_HALVED, FITTED):
        band = summary.get("forecast", {}).get(milestone.forecast, {})
        measured, predicted = onset(summary, milestone.key), band.get("value", math.nan)
        if _known(measured) and _known(predicted):
            inside = band["low"] <= measured <= band["high"]
            error = measured / predicted - 1
            compared.append((inside or abs(error) <= FORECAST_MET, error, milestone, band))
    if not compared:
        return ""
    met, error, milestone, band = min(compared, key=lambda one: (one[0], -abs(one[1])))
    if met:
        return f" The forecast was met, within {max(math.ceil(100 * abs(error)), 1)} percent."
    measured, side = onset(summary, milestone.key), "later" if error > 0 else "earlier"
    return (
        f" Against the forecast, the {milestone.title} came {100 * abs(error):.0f} percent {side} "
        f"(step {measured:.0f}, forecast {band['low']:.0f} to {band['high']:.0f})."
    )


def _advice(summary: Mapping[str, Any], worst: str) -> str:
    """Return what to look at or change."""
    if worst:
        return ""  # the alert has its own
    if summary.get("phase") == "SIGNAL_FINDING" and summary.get("stopped") != "running":
        return "Train longer: the phases come later than the last step."
    if summary.get("phase") == "UNDETERMINED" and summary.get("reason"):
        return f"The last label is UNDETERMINED: {summary['reason']}."
    return ""


def _missing(summary: Mapping[str, Any]) -> str:
    """Return why the loss could not be read; empty if no reason is known."""
    undefined = summary.get("undefined", {})
    return next(
        (str(undefined[key]) for key in ("loss/train", "loss", "batch") if key in undefined), ""
    )


def _known(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
