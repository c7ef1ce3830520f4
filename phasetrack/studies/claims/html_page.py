"""Write the results of claims as one HTML page that needs no network. No torch."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from phasetrack._version import __version__
from phasetrack.storage.atomic_files import write_output
from phasetrack.studies.claims.figures import svg
from phasetrack.studies.claims.findings import ClaimResult, ClaimVerdict, Finding
from phasetrack.studies.claims.registry import Claim

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>arXiv 2309.15111 on trial · phasetrack</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1b1b; background: #fff; }}
h2 {{ margin: 2.5rem 0 .3rem; font-size: 1.15rem; }}
table {{ border-collapse: collapse; margin: .6rem 0; }}
th, td {{ text-align: left; padding: .2rem 1.1rem .2rem 0; border-bottom: 1px solid #ddd; }}
td.number {{ font-variant-numeric: tabular-nums; white-space: nowrap; }}
.yes, .no, .open {{ font-weight: 600; }}
.yes {{ color: #006b4f; }} .no {{ color: #a63a00; }} .open {{ color: #555; }}
.source {{ color: #444; white-space: pre-line; }}
svg {{ max-width: 100%; height: auto; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #e6e6e6; background: #161616; }}
  .source {{ color: #bbb; }} th, td {{ border-color: #444; }} .yes {{ color: #4fd1a5; }}
  .no {{ color: #ff9a5c; }} .open {{ color: #bbb; }} svg {{ background: #fff; }} }}
</style>
</head>
<body>
<h1>arXiv 2309.15111 on trial</h1>
<p>{setting}. Numbers are estimates over seeds with 95 percent intervals. A statement is supported where
every interval lies in its required range, contradicted where one lies outside, and undecided at these
sizes otherwise: once with each interval at 95 percent, once corrected for the number of ranges on this page
(Bonferroni). Blocks are disjoint sets of seeds; those that come to the first verdict alone are counted. phasetrack {version}.</p>
<table><thead><tr><th></th><th>statement</th><th>each at 95 %</th><th>corrected</th><th>blocks</th></tr></thead>
<tbody>{rows}</tbody></table>
{sections}
</body>
</html>
"""
SECTION = """<section id="claim-{number}">
<h2>{number}. {statement}: <span class="{mark}">{verdict}</span></h2>
<p class="source">{source}</p>
<p>{setting}</p>
{findings}
{figure}
</section>
"""
TABLE = """<table><thead><tr><th>measured</th><th>estimate</th><th>required</th><th></th></tr></thead>
<tbody>{rows}</tbody></table>"""
FOLDED = """<details><summary>{count} further numbers</summary>{table}</details>"""
FEW = 10  # further numbers up to this many are not folded up


def write_page(results: Sequence[tuple[Claim, ClaimResult]], report: Path, setting: str) -> None:
    """Write claims, their findings and their charts as an HTML page.

    Args:
        results: each claim with its result.
        report: the file; an existing file is replaced.
        setting: sizes and seeds of the runs, in words.

    Raises:
        ExpectedError: if the file cannot be written.
    """
    write_output(report, page(results, setting).encode(), "report")


def page(results: Sequence[tuple[Claim, ClaimResult]], setting: str) -> str:
    """Return the page of `write_page` as text."""
    rows = "".join(
        f'<tr><td class="number">{claim.number}</td><td><a href="#claim-{claim.number}">'
        f"{html.escape(claim.statement)}</a></td>{_verdict(result.verdict)}{_verdict(result.corrected)}"
        f'<td class="number">{result.agreement}</td></tr>'
        for claim, result in results
    )
    return PAGE.format(
        setting=html.escape(setting),
        version=__version__,
        rows=rows,
        sections="\n".join(_section(claim, result) for claim, result in results),
    )


def _verdict(verdict: ClaimVerdict | None) -> str:
    return f'<td class="{verdict.word}">{verdict.value}</td>' if verdict else "<td></td>"


def _section(claim: Claim, result: ClaimResult) -> str:
    return SECTION.format(
        number=claim.number,
        statement=html.escape(claim.statement),
        mark=result.verdict.word,
        verdict=result.verdict.value,
        source=html.escape(_paragraphs(claim.docstring)),
        setting=html.escape(result.setting),
        findings=_tables(result.findings),
        figure=svg(result.charts),
    )


def _tables(findings: Sequence[Finding]) -> str:
    """Return the findings as a table; many findings without a range are folded up."""
    deciding = [finding for finding in findings if finding.verdict]
    rest = [finding for finding in findings if not finding.verdict]
    if len(rest) <= FEW:
        return _table(findings)
    return _table(deciding) + FOLDED.format(count=len(rest), table=_table(rest))


def _table(findings: Sequence[Finding]) -> str:
    return TABLE.format(rows="".join(map(_row, findings)))


def _row(finding: Finding) -> str:
    return (
        f"<tr><td>{html.escape(finding.name)}</td><td class='number'>{finding.estimate}</td>"
        f"<td class='number'>{html.escape(finding.required_range)}</td>{_verdict(finding.verdict)}</tr>"
    )


def _paragraphs(text: str) -> str:
    """Join the lines of each paragraph of a docstring."""
    parts = text.split("\n\n")
    return "\n".join(" ".join(part.split()) for part in parts)
