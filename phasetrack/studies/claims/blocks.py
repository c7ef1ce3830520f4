"""Claims over disjoint blocks of seeds: joint estimates, and a correction for the number of ranges on trial. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from phasetrack.studies import confidence
from phasetrack.studies.claims.findings import ClaimResult, Finding

# Between the first seeds of two blocks; a claim takes fewer seeds than that.
STRIDE = 10_000


def pooled(blocks: Sequence[ClaimResult], level: float = confidence.LEVEL) -> ClaimResult:
    """Return the joint result of a claim over some blocks of seeds, with the verdict of each.

    Args:
        blocks: the result of each block, at least one. A finding that some blocks lack is that of the others.
        level: confidence of each interval.
    """
    found: dict[str, list[Finding]] = {}
    for block in blocks:
        for finding in block.findings:
            found.setdefault(finding.name, []).append(finding)
    findings = [
        replace(same[0], estimate=confidence.pooled([each.estimate for each in same], level))
        for same in found.values()
    ]
    words = f", {len(blocks)} blocks of seeds" if len(blocks) > 1 else ""
    return ClaimResult(
        findings,
        blocks[0].charts,
        blocks[0].setting + words,
        [block.verdict for block in blocks],
    )


def corrected(trials: Sequence[Sequence[ClaimResult]]) -> list[ClaimResult]:
    """Return the joint result of each claim with its corrected verdict (Bonferroni).

    Each of the N intervals with a range then has the level 1 - 0.05 / N: by chance alone one of them all misses
    its truth once in twenty times.

    Args:
        trials: of each claim the results of its blocks.
    """
    joint = [pooled(blocks) for blocks in trials]
    ranges = sum(finding.verdict is not None for result in joint for finding in result.findings)
    level = 1 - (1 - confidence.LEVEL) / max(ranges, 1)
    return [
        replace(result, corrected=pooled(blocks, level).verdict)
        for result, blocks in zip(joint, trials, strict=True)
    ]
