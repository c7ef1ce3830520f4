"""`phasetrack claims`: the paper's statements on trial, one after the other."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from . import options as opt
from .output import check_folder_of, console
from .tables import open_table

if TYPE_CHECKING:
    from phasetrack.studies.claims.findings import ClaimResult
    from phasetrack.studies.claims.kept import KeptResults
    from phasetrack.studies.claims.lab import Lab
    from phasetrack.studies.claims.registry import Claim

# Processes that may be asked for (beyond every machine).
MOST_JOBS = 1024
FULL_BLOCKS, MOST_BLOCKS = 5, 100
STYLES = {"supported": "bold green", "contradicted": "bold red"}


def claims(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Use small sizes and one block of seeds: about ten minutes in place of two hours.",
        ),
    ] = False,
    only: Annotated[
        list[int] | None,
        typer.Option(
            help="Test the statement of this number alone; repeatable (numbers: --list).",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write the results, with figures, to this HTML file.", show_default=False
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Write each figure to this folder, as a PNG.", show_default=False),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps each result as it comes; the same command takes them from there.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Worker processes, at least 1; the numbers are the same for any number of them.",
            show_default="one per core",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of the first run of each setting; further runs take the seeds after it."
        ),
    ] = 0,
    blocks: Annotated[
        int | None,
        typer.Option(
            help="Disjoint blocks of seeds, at least 1; every statement is tested on each.",
            show_default="1 with --quick, 5 without",
        ),
    ] = None,
    as_json: opt.Json = False,
    listed: Annotated[
        bool, typer.Option("--list", help="List the statements with their numbers; test none.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Start the full sizes without asking.")
    ] = False,
) -> None:
    """Test the statements of arXiv 2309.15111 on this machine: numbers, intervals, verdicts.

    The same seed gives the same numbers. The full sizes take about two hours on two cores; on a terminal
    the command asks before it starts them. The exit code is 0 whatever the verdicts are.

    Each statement gets two verdicts: one with every interval at 95 percent, one with intervals corrected for
    the number of ranges that this call tests.
    """
    from phasetrack._cores import available_cores
    from phasetrack._threads import one_thread
    from phasetrack.errors import check_int
    from phasetrack.studies.claims.registry import chosen

    check_int("seed", seed, minimum=0, maximum=2**62)
    tries = 1 if quick else FULL_BLOCKS
    tries = tries if blocks is None else check_int("blocks", blocks, minimum=1, maximum=MOST_BLOCKS)
    count = (
        available_cores() if jobs is None else check_int("jobs", jobs, minimum=1, maximum=MOST_JOBS)
    )
    trials = chosen(only or [])
    if listed:
        for claim in trials:
            typer.echo(f"{claim.number:>2}  {claim.statement}")
        return
    check_folder_of(report, "report")
    if not (quick or only or yes) and sys.stdin.isatty():
        typer.confirm(
            "All statements at full size take about two hours on two cores; --quick takes minutes. Start?",
            default=False,
            abort=True,
            err=True,
        )
    from phasetrack.studies.claims.blocks import corrected, pooled
    from phasetrack.studies.claims.kept import KeptResults
    from phasetrack.studies.claims.lab import Lab

    kept = None if keep is None else KeptResults(keep, quick=quick)
    screen = console(stderr=as_json)
    done: list[tuple[Claim, list[ClaimResult]]] = []
    interrupted = False
    try:
        with one_thread(), Lab(quick, seed, count) as lab:
            for claim in trials:
                started = time.monotonic()
                found = []
                for index in range(tries):
                    with screen.status(
                        f"{claim.number}. {claim.statement} ({index + 1}/{tries}) ..."
                    ):
                        found.append(_on_block(claim, lab.block(index), kept))
                done.append((claim, found))
                _print(screen, claim, pooled(found), time.monotonic() - started, whole=not as_json)
    except KeyboardInterrupt:  # what is done is still shown
        interrupted = True
    joint = corrected([found for _, found in done])
    results = [(claim, result) for (claim, _), result in zip(done, joint, strict=True)]
    if not as_json:
        _print_verdicts(screen, results)
    if as_json:
        content = {
            str(claim.number): {"statement": claim.statement, **result.as_json()}
            for claim, result in results
        }
        typer.echo(json.dumps(content, indent=2))
    if report is not None:
        from phasetrack.studies.claims.html_page import write_page

        runs = sum(len(lab.block(index).runs) for index in range(tries))
        word = "Quick sizes" if quick else "Full sizes"
        write_page(
            results,
            report,
            f"{word}, {tries} blocks of seeds, {runs} runs, first seed {seed}",
        )
        typer.echo(str(report), err=as_json)
    if figures is not None:
        _save_figures(results, figures)
    if interrupted:
        raise KeyboardInterrupt


def _on_block(claim: Claim, lab: Lab, kept: KeptResults | None) -> ClaimResult:
    """The result of a claim on a block of seeds, which is made unless it was kept."""
    if kept is not None and (found := kept.find(claim.number, lab.seed)) is not None:
        return found
    result = claim.evaluate(lab)
    if kept is not None:
        kept.keep(claim.number, lab.seed, result)
    return result


def _print(
    screen: Console, claim: Claim, result: ClaimResult, seconds: float, *, whole: bool
) -> None:
    """One trial: its verdict, and where the whole is wanted its numbers."""
    verdict = result.verdict.value
    title = Text(f"{claim.number:>2}. {claim.statement}: ", "bold")
    title.append(verdict, STYLES.get(verdict, "bold yellow"))
    screen.print(title.append(f"  ({seconds:.0f} s)", "dim"), highlight=False, soft_wrap=True)
    if not whole:
        return
    table = open_table()
    for header in ("measured", "estimate [95 %]", "asked", ""):
        table.add_column(header)
    for finding in result.findings:
        own = finding.verdict
        table.add_row(
            Text(finding.name),
            Text(str(finding.estimate), no_wrap=True),
            Text(finding.required_range, "dim", no_wrap=True),
            Text(own.word, STYLES.get(own.value, "yellow")) if own else "",
        )
    screen.print(Padding(table, (0, 0, 0, 4), expand=False), highlight=False)
    screen.print(Text(f"    {result.setting}\n", "dim"), highlight=False)


def _print_verdicts(screen: Console, results: list[tuple[Claim, ClaimResult]]) -> None:
    """Both verdicts of every statement, and how many blocks come to the first one alone."""
    table = open_table()
    for header in ("", "statement", "each at 95 %", "corrected", "blocks"):
        table.add_column(header)
    for claim, result in results:
        verdicts = [each for each in (result.verdict, result.corrected) if each]
        table.add_row(
            str(claim.number),
            claim.statement,
            *(Text(each.value, STYLES.get(each.value, "bold yellow")) for each in verdicts),
            result.agreement,
        )
    screen.print(table, highlight=False)


def _save_figures(results: list[tuple[Claim, ClaimResult]], folder: Path) -> None:
    from phasetrack.display.plots import save_figure
    from phasetrack.storage.atomic_files import make_output_folder
    from phasetrack.studies.claims.figures import figure

    make_output_folder(folder, "figures")
    for claim, result in results:
        save_figure(figure(result.charts), folder / f"claim-{claim.number:02}.png")
