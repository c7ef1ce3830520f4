"""Strategies: JSON of any kind, and good files with something wrong in them."""

import json
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# `make fuzz` asks for many more, and for others each time
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
fuzzed = settings(
    max_examples=EXAMPLES or 25,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ODD_NUMBERS = [0, -1, 2**31, 2**63, 2**64, 10**400, 1e308, 5e-324, float("nan"), float("inf")]
ODD_TEXTS = [
    "",
    "step",
    "phase",
    "../..",
    "\x1b[31m",
    "\x00",
    "é\u202e",
    "A" * 5000,
    "[/bold]",
    "%s",
]


def json_values(leaves=8):
    """Any JSON value, odd ones more often than chance has it."""
    numbers = st.sampled_from(ODD_NUMBERS) | st.integers() | st.floats()
    texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=8)
    simple = st.none() | st.booleans() | numbers | texts
    return st.recursive(
        simple,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=leaves,
    )


@st.composite
def mutated_json(draw, text):
    """A good JSON file with some values replaced, added or taken away, as bytes."""
    content = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        _mutate(draw, content)
    return json.dumps(content).encode()


def _mutate(draw, value):
    """Change something within a container, chosen from all depths."""
    places = list(_places(value))
    container, key = draw(st.sampled_from(places))
    action = draw(st.sampled_from(["replace", "remove", "wrap", "copy"]))
    if action == "replace":
        container[key] = draw(json_values())
    elif action == "remove":
        del container[key]
    elif action == "wrap":
        container[key] = [container[key]]
    else:
        other, name = draw(st.sampled_from(places))
        container[key] = json.loads(json.dumps(other.get(name) if isinstance(other, dict) else 0))


def _places(value):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


@st.composite
def mutated(draw, content):
    """A good file cut off, with bytes changed, taken out, put in or repeated."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(changed) - 1, 0)))
        action = draw(st.sampled_from(["cut", "flip", "insert", "remove", "repeat"]))
        length = draw(st.integers(1, 64))
        if action == "cut":
            del changed[at:]
        elif action == "flip" and changed:
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif action == "insert":
            changed[at:at] = draw(st.binary(max_size=32))
        elif action == "remove":
            del changed[at : at + length]
        elif action == "repeat":
            changed[at:at] = changed[at : at + length]
    return bytes(changed)
