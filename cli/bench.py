"""`phasetrack bench`: definitions of phases scored on runs whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from . import options as opt
from .inspection import current_folder_importable
from .output import check_folder_of, console
from .tables import open_table, print_table


def bench(
    vocabulary: Annotated[
        list[str] | None,
        typer.Option(
            help="Score this definition alone: a vocabulary's name, or MODULE:NAME of your own; repeatable (default: all).",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Score on the run of this name alone; repeatable (names: --list; default: all).",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Repetitions of each run, at least 1, each with its own seed.")
    ] = 3,
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of the first repetition, 0 to 2^62; the table in docs/bench.md begins at 2000."
        ),
    ] = 0,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Also score two general detectors: change points (ruptures) and hidden states (hmmlearn).",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write all scores to this JSON file.", show_default=False),
    ] = None,
    as_json: opt.Json = False,
    listed: Annotated[bool, typer.Option("--list", help="List the runs; score none.")] = False,
) -> None:
    """Score definitions of phases on runs whose boundaries are known: delays, misses, false alarms, cost.

    The same seed gives the same scores, except the cost. All runs take about a minute per repetition.
    """
    from phasetrack._threads import one_thread
    from phasetrack.errors import check_int
    from phasetrack.storage.atomic_files import write_output
    from phasetrack.studies.bench import detectors as found
    from phasetrack.studies.bench.bench import (
        HEADERS,
        as_content,
        rows_of_table,
        rows_of_totals,
        scores_of,
    )
    from phasetrack.studies.bench.runs import chosen

    check_int("seeds", seeds, minimum=1)
    check_int("seed", seed, minimum=0, maximum=2**62)
    runs = chosen(only or [])
    if listed:
        for one in runs:
            typer.echo(f"{one.name}: {one.line}{' (control)' if one.control else ''}")
        return
    check_folder_of(out, "out")
    with current_folder_importable():
        own = [found.of_name(name) for name in vocabulary or []]
    chosen_ones = own or found.published()
    chosen_ones += found.baselines() if baselines else []
    screen = console(stderr=as_json)
    with one_thread(), screen.status("...") as status:
        scores = scores_of(
            chosen_ones,
            runs,
            range(seed, seed + seeds),
            lambda one, number: status.update(f"{one.name}, seed {number} ..."),
        )
    content = json.dumps(as_content(scores, runs), indent=1)
    if out is not None:
        write_output(out, content.encode() + b"\n", "out")
    if as_json:
        typer.echo(content)
        return
    table = open_table(*HEADERS)
    for row in [*rows_of_table(scores), *rows_of_totals(scores)]:
        table.add_row(*row)
    print_table(screen, table)
