"""Commands that the guides name within their sentences and tables have the arguments and options that they are shown with."""

import re
import shlex
from typing import Any

import pytest
import typer

from lakehouse.cli.main import app
from tests.docs.test_documented_commands import PAGES

NAMED = sorted(
    {
        (page.name, command)
        for page in PAGES
        for command in re.findall(r"`lakehouse ([a-z][^`\n]*)`", page.read_text(encoding="utf-8"))
        # What is left out or may be left out is no argument.
        if not any(sign in command for sign in ("...", "[", "&&"))
    }
)


@pytest.mark.parametrize(("page", "command"), NAMED, ids=lambda text: text)
def test_a_named_command_is_one(page: str, command: str) -> None:
    arguments = shlex.split(command)
    found: Any = typer.main.get_command(app)
    while hasattr(found, "commands") and arguments:
        assert arguments[0] in found.commands, f"{page}: lakehouse {command}"
        found = found.commands[arguments.pop(0)]
    for parameter in getattr(found, "params", ()):
        # A sentence may leave out what every call needs.
        parameter.required = False
        if arguments and arguments[-1] in parameter.opts and not parameter.is_flag:
            arguments.append("1")
    if not hasattr(found, "commands"):
        found.make_context(found.name, arguments)
