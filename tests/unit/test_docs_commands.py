"""Every `penchant` command that a page shows exists, with the options that it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from penchant.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*")])


def commands(page: Path) -> list[str]:
    """Lines that begin with `penchant`, in code blocks of a page or comments of an example."""
    text = page.read_text()
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = text.splitlines() if page.suffix == ".yaml" else "\n".join(blocks).splitlines()
    bare = [line.strip().lstrip("#$ ").split(" #")[0] for line in lines]
    return [line for line in bare if re.match(r"penchant [a-z]", line)]


SHOWN = [(page.name, command) for page in PAGES for command in commands(page)]


def test_there_are_commands_on_the_pages() -> None:
    assert len(SHOWN) > 30


@pytest.mark.parametrize(("page", "command"), SHOWN, ids=lambda part: part[:60])
def test_a_command_that_is_shown_exists(page: str, command: str) -> None:
    """Parsed as the command line parses it, but run no further."""
    words = shlex.split(command)[1:]
    found = typer.main.get_command(app)
    while words and words[0] in (below := getattr(found, "commands", {})):
        found = below[words.pop(0)]
    assert not getattr(found, "commands", {}), f"{page}: no verb {words[:1]} in {command}"
    found.make_context("penchant", words, resilient_parsing=True)
    # Resilient parsing forgives unknown options, so they are looked for.
    known = {name for parameter in found.params for name in parameter.opts}
    asked = {word.split("=")[0] for word in words if word.startswith("--")}
    assert asked <= known | {"--help"}, f"{page}: {command}"
