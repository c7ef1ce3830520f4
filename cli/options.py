"""The options that commands share, each with its default's origin in the help text."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from phasetrack.theory.settings import RunSettings

Command = Callable[..., None]

Task = Annotated[
    str,
    typer.Argument(
        help="The distribution to learn: xor, and, or, majority, parity3, parity4, staircase, "
        "two-xors, equal-xors, unequal-xors, quadratic, rotated, unbalanced, noisy or gaussian.",
        metavar="TASK",
    ),
]
# Those that decide a run, in the order of the help text; `RunSettings` has their defaults.
SETTINGS: dict[str, Any] = {
    "d": Annotated[int, typer.Option("--d", help="Input dimension, >= 2 (512).")],
    "width": Annotated[
        int,
        typer.Option(help="Number of neurons p (512; from 32 on it hardly matters)."),
    ],
    "batch": Annotated[
        int | None,
        typer.Option(
            help="Fresh samples a step, m (default: 4 d: the paper asks for d polylog(d)).",
            show_default=False,
        ),
    ],
    "eta": Annotated[
        float,
        typer.Option(
            help="Step of each neuron; SGD's lr is eta * width (0.2; paper: eta <= theta, "
            "which works too and takes more steps)."
        ),
    ],
    "theta": Annotated[
        float,
        typer.Option(
            help="Radius of the initial sphere and |a| at the start (0.1; paper: 1 / polylog(d))."
        ),
    ],
    "steps": Annotated[
        int | None,
        typer.Option(
            help="Take exactly so many steps (default: until the loss target, at most 3 times the "
            "predicted number of steps).",
            show_default=False,
        ),
    ],
    "seed": Annotated[int, typer.Option(help="Of the weights and the samples (0).")],
    "train": Annotated[
        str, typer.Option(help="Which layers move: both, first or second (both: the paper).")
    ],
    "target": Annotated[float, typer.Option(help="Loss at which a run is FITTED (0.05).")],
    "every": Annotated[
        int, typer.Option(help="Record every n-th step (1: the whole run is in the history).")
    ],
    "micro_batch": Annotated[
        int | None,
        typer.Option(
            help="Samples in memory at once; the result stays the same up to rounding (default: chosen "
            "from d, batch, width and memory).",
            show_default=False,
        ),
    ],
    "shuffle_labels": Annotated[
        bool, typer.Option("--shuffle-labels", help="Labels without signal: a run that must fail.")
    ],
    "gradient_error": Annotated[
        bool,
        typer.Option(
            "--gradient-error",
            help="Also read the gradient's first-order error (two backward passes a record).",
        ),
    ],
    "snapshots": Annotated[
        int | None,
        typer.Option(
            help="Save the weights at every n-th step, for `phasetrack replay` (default: none).",
            show_default=False,
        ),
    ],
}
FORECAST = ("d", "width", "batch", "eta", "theta", "steps", "seed", "train", "target")
PLAN = (*(name for name in FORECAST if name != "train"), "micro_batch")  # both layers move
SWEEP = (*FORECAST, "every")
Device = Annotated[str, typer.Option(help="cpu or cuda[:index]; samples do not depend on it.")]
Threads = Annotated[
    int | None,
    typer.Option(help="Threads of torch (default: torch's choice).", show_default=False),
]
Matmul = Annotated[
    str,
    typer.Option(
        help="How the processor multiplies matrices: default, onednn, digits (inputs that are signs), or auto "
        "for the fastest whose measured error is that of float32; what was taken is in config.json."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder of runs.")]
Name = Annotated[
    str | None,
    typer.Option(
        help="The run's directory in OUT (default: task, d, seed and time).", show_default=False
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        help="Go on with a run that was stopped or killed, from its last checkpoint; other options "
        "may be left out, or repeated as they were.",
        metavar="RUN",
        show_default=False,
    ),
]
CheckpointSteps = Annotated[
    int | None,
    typer.Option(
        help="Save a checkpoint at every n-th step (default: by --checkpoint-seconds).",
        show_default=False,
    ),
]
CheckpointSeconds = Annotated[
    float | None,
    typer.Option(
        help="Save a checkpoint every so many seconds (default: 60), or as rarely as "
        "to take 1 percent of the time.",
        show_default=False,
    ),
]
RunPath = Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")]
RunPaths = Annotated[list[Path], typer.Argument(help="Run directories.", metavar="RUN...")]
Size = Annotated[str, typer.Option(help="screen, or paper: 7 inches wide, 300 dots an inch.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SummaryJson = Annotated[
    bool, typer.Option("--json", help="Print JSON, with the keys of summary.json.")
]


def settings_options(*names: str) -> Callable[[Command], Command]:
    """Put these of `SETTINGS` in the place of a command's parameter `options`, which is their dict."""
    shared = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=getattr(RunSettings, name),
            annotation=SETTINGS[name],
        )
        for name in names
    ]

    def decorate(command: Command) -> Command:
        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            parameters += shared if own.name == "options" else [own]

        @wraps(command)
        def wrapped(**given: Any) -> None:
            command(options={name: given.pop(name) for name in names}, **given)

        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return wrapped

    return decorate
