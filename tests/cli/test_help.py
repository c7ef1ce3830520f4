"""Help texts: the examples in them are commands that parse."""

import shlex

import pytest
import typer

from phasetrack_cli.main import app

PARSERS = typer.main.get_command(app).commands


@pytest.mark.parametrize("name", PARSERS)
def test_examples_of_a_command_parse(name):
    _, _, examples = PARSERS[name].epilog.partition(": ")
    for example in examples.rstrip(".").split("; "):
        program, command, *arguments = shlex.split(example)
        assert program == "phasetrack"
        PARSERS[command].make_context(command, arguments)


@pytest.mark.parametrize("name", PARSERS)
def test_every_option_says_what_it_does(name):
    for option in PARSERS[name].params:
        assert (option.help and option.help[0].isupper()) or option.help.startswith(
            ("cpu", "screen")
        )
        assert option.help.endswith("."), option.name
        assert "[" not in option.help  # rich takes it for a style and leaves it out
