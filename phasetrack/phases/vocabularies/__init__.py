"""Published definitions of phases, one file each; a further file is a further vocabulary, and nothing else changes."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from phasetrack.errors import ExpectedError
from phasetrack.phases.labels import PAPERS
from phasetrack.phases.vocabulary import Vocabulary

AUTO = "auto"


def names() -> list[str]:
    """Return the names of all vocabularies, the paper's first.

    >>> names()[0]
    'finds-then-tunes'
    """
    found = sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))
    return sorted(found, key=lambda name: name != PAPERS)


def kind(name: str) -> type[Vocabulary]:
    """Return the class of a vocabulary.

    Raises:
        ExpectedError: if none has this name.
    """
    known = names()
    if name not in known:
        close = get_close_matches(name, known, n=1)
        fix = f"Did you mean {close[0]!r}?" if close else f"Pass one of {', '.join(known)}."
        raise ExpectedError("phases", f"{name!r} is not a vocabulary.", fix)
    found: type[Vocabulary] = import_module(f"{__name__}.{name.replace('-', '_')}").VOCABULARY
    return found


def chosen(phases: str | Vocabulary | Sequence[str | Vocabulary] = AUTO) -> list[Vocabulary]:
    """Return the vocabularies that ``attach(phases=)`` asks for, beside the paper's.

    Args:
        phases: ``"auto"`` for all of this package, the name of one, a `Vocabulary`, or several of these. A
            vocabulary that is given replaces the one of its name.

    Raises:
        ExpectedError: if one is neither a name nor a vocabulary, or two have one name.
    """
    given = [phases] if isinstance(phases, str | Vocabulary) else list(phases)
    own = {one.name: one for one in given if isinstance(one, Vocabulary)}
    if len(own) < sum(isinstance(one, Vocabulary) for one in given):
        problem = "Two of the vocabularies have the same name."
        raise ExpectedError("phases", problem, "Give each a name of its own.")
    if PAPERS in own:
        fix = "Pass thresholds= for its levels; it is always among the vocabularies."
        raise ExpectedError("phases", f"{PAPERS!r} is given as an object.", fix)
    wanted = dict.fromkeys(name for one in given for name in _names_of(one))
    found = (own[name] if name in own else kind(name)() for name in wanted if name != PAPERS)
    return list(found)


def of_config(config: Mapping[str, Any]) -> tuple[list[Vocabulary], list[str]]:
    """Return the vocabularies that a run's ``config.json`` names, with their levels there.

    Args:
        config: the content of the file; without an entry ``vocabularies`` all of this package are taken.

    Returns:
        The vocabularies, and the names that this version has no definition of.
    """
    if "vocabularies" not in config:
        return chosen(), []
    found, unknown = [], []
    for name, entry in config["vocabularies"].items():
        try:
            found.append(kind(name)(**entry.get("levels", {})))
        except (TypeError, ExpectedError):
            unknown.append(name)
    return found, unknown


def _names_of(given: object) -> Iterator[str]:
    if isinstance(given, Vocabulary):
        yield given.name
    elif given == AUTO:
        yield from names()
    elif isinstance(given, str):
        yield kind(given).name
    else:
        fix = 'Pass "auto", names of vocabularies, or objects of a class derived from Vocabulary.'
        raise ExpectedError("phases", f"{given!r} is not a vocabulary.", fix)
