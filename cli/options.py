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
    "d": Annotated[
        int,
        typer.Option(
            "--d",
            help="Input dimension, 2 to 2^20 (512: both phases show, in seconds on a processor).",
        ),
    ],
    "width": Annotated[
        int,
        typer.Option(
            help="Number of neurons, p, 1 to 2^20 (512: as many as d; from 32 on p hardly matters)."
        ),
    ],
    "batch": Annotated[
        int | None,
        typer.Option(
            help="Fresh samples per step, m, at least 1 (default: 4 d; the paper asks for d polylog(d)).",
            show_default=False,
        ),
    ],
    "eta": Annotated[
        float,
        typer.Option(
            help="Step size of each neuron, > 0; SGD's learning rate is eta * width (0.2; the paper asks "
            "for eta <= theta, which takes more steps)."
        ),
    ],
    "theta": Annotated[
        float,
        typer.Option(help="Initial |w| and |a| of each neuron, > 0 (0.1; paper: 1 / polylog(d))."),
    ],
    "steps": Annotated[
        int | None,
        typer.Option(
            help="Take exactly this many steps (default: stop at the loss target, or after 3 times the "
            "predicted number of steps).",
            show_default=False,
        ),
    ],
    "seed": Annotated[
        int,
        typer.Option(
            help="Random seed of the weights and the samples, 0 to 2^63 - 1; the same seed repeats the run."
        ),
    ],
    "train": Annotated[
        str, typer.Option(help="Layers that are trained: both, first or second (both: the paper).")
    ],
    "target": Annotated[
        float,
        typer.Option(
            "--target",
            "--loss-target",
            help="Training loss per sample at which a run is FITTED and stops; from 10^-6 to 1.386, the loss at "
            "output 0 (0.05: by then the test error has long been 0).",
        ),
    ],
    "every": Annotated[
        int,
        typer.Option(
            help="Record every n-th step, n at least 1 (1: the history has the whole run)."
        ),
    ],
    "micro_batch": Annotated[
        int | None,
        typer.Option(
            help="Samples in memory at once, 1 to the batch; results agree up to rounding (default: chosen "
            "from d, batch, width and memory).",
            show_default=False,
        ),
    ],
    "shuffle_labels": Annotated[
        bool,
        typer.Option(
            "--shuffle-labels",
            help="Give each sample the label of another: a run that must fail (xor only).",
        ),
    ],
    "gradient_error": Annotated[
        bool,
        typer.Option(
            "--gradient-error",
            help="Also record the gradient's first-order error, for two backward passes more per record.",
        ),
    ],
    "snapshots": Annotated[
        int | None,
        typer.Option(
            "--snapshots",
            "--save-weights",
            help="Save the weights at every n-th recorded step, for `phasetrack replay` (default: never).",
            show_default=False,
        ),
    ],
}
# The panels of the help text.
PANELS = {
    "Experiment": ("d", "width", "batch", "theta", "seed", "shuffle_labels"),
    "Optimisation": ("eta", "steps", "target", "train"),
    "Recording": ("every", "gradient_error", "snapshots"),
    "Machine": ("micro_batch",),
}
for _panel, _names in PANELS.items():
    for _name in _names:
        SETTINGS[_name].__metadata__[0].rich_help_panel = _panel
FORECAST = ("d", "width", "batch", "eta", "theta", "steps", "seed", "train", "target")
PLAN = (*(name for name in FORECAST if name != "train"), "micro_batch")  # both layers move
SWEEP = (*FORECAST, "every")
Device = Annotated[
    str,
    typer.Option(
        help="cpu, cuda or cuda:INDEX; samples and first weights are the same on each.",
        rich_help_panel="Machine",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads of torch, at least 1 (default: torch's choice).",
        show_default=False,
        rich_help_panel="Machine",
    ),
]
Matmul = Annotated[
    str,
    typer.Option(
        help="How the processor multiplies matrices: default (torch), onednn, digits (8-bit integers, for "
        "inputs of -1 and 1) or auto, the fastest with the error of float32; config.json "
        "records the choice.",
        rich_help_panel="Machine",
    ),
]
Out = Annotated[Path, typer.Option(help="Folder of the runs.")]
Name = Annotated[
    str | None,
    typer.Option(
        help="Name of the run's directory in OUT (default: task, d and seed, such as xor-d512-s0, followed "
        "by -2, -3, ... where that name is taken).",
        show_default=False,
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        help="Resume a stopped or killed run, a path or a name in OUT, from its last checkpoint; "
        "leave the other options out, or repeat them unchanged.",
        metavar="RUN",
        show_default=False,
    ),
]
CheckpointSteps = Annotated[
    int | None,
    typer.Option(
        help="Save a checkpoint at every n-th step, n at least 1 (default: by --checkpoint-seconds).",
        show_default=False,
    ),
]
CheckpointSeconds = Annotated[
    float | None,
    typer.Option(
        help="Save a checkpoint every so many seconds, or more rarely where saving would take more than "
        "1 percent of the time (default: 60).",
        show_default=False,
    ),
]
RunName = Annotated[
    Path | None,
    typer.Argument(
        help="A run: its name in OUT, the beginning of its name, or a path (default: the newest run).",
        metavar="RUN",
        show_default=False,
    ),
]
_SEVERAL = "Runs: names in OUT, beginnings of names, or paths"
RunNames = Annotated[
    list[Path] | None,
    typer.Argument(
        help=f"{_SEVERAL} (default: the newest run).", metavar="RUN...", show_default=False
    ),
]
RunsToCompare = Annotated[
    list[Path] | None,
    typer.Argument(
        help=f"{_SEVERAL} (default: the two newest runs).", metavar="RUN...", show_default=False
    ),
]

Size = Annotated[
    str, typer.Option(help="screen, or paper: 7 inches wide, 300 dots per inch, without a title.")
]
Panels = Annotated[
    str | None,
    typer.Option(
        help="Panels to draw, in this order, of zeta, shares, margins, loss, first-order and growth, such as "
        "zeta,loss (default: all).",
        show_default=False,
    ),
]
Width = Annotated[
    float | None,
    typer.Option(
        help="Width in inches, 2.5 to 40, such as 3.25 for one column (default: by --size).",
        show_default=False,
    ),
]
Serif = Annotated[bool, typer.Option("--serif", help="Set the texts in a serif font.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SummaryJson = Annotated[
    bool, typer.Option("--json", help="Print JSON with the keys of summary.json.")
]


def panels_of(text: str | None) -> list[str] | None:
    """Return the panels in a comma-separated text; None for all."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def given(context: typer.Context, name: str) -> bool:
    """Whether an option was typed, not left at its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


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
