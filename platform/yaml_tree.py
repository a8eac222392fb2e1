"""YAML texts as trees of values: read strictly, overridden, and explained when refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from penchant.platform.errors import ConfigError

__all__ = ["apply_override", "explain", "read_yaml"]


def read_yaml(text: str | bytes, place: str) -> Any:
    """Values of a YAML text.

    Raises:
        ConfigError: it is not YAML, or repeats a key; the message names `place` and line.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)  # refuses duplicate keys
    except YAMLError as error:
        first = " ".join(str(error).split())
        raise ConfigError(
            f"{place} is not valid YAML: {first}. Correct the line it names."
        ) from error


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one value, such as `requests.per_block=500`, in place.

    Raises:
        ConfigError: the override has no `=`, or its path runs through a value.
    """
    path, equals, value = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set expects key.path=value, got {override!r}.")
    *parents, last = path.split(".")
    node = tree
    for name in parents:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise ConfigError(
                f"--set {override}: {name!r} holds a value, not keys; check the path."
            )
    node[last] = read_yaml(value, f"--set {override}")


def explain(error: ValidationError, path: Path) -> str:
    """Every problem of a file on a line of its own: place, what is wrong, what was received."""
    lines = [f"{path}: {error.error_count()} problem(s):"]
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"]) or "(top)"
        received = problem["input"] if problem["type"] != "extra_forbidden" else None
        shown = (
            ""
            if received is None or isinstance(received, dict)
            else f" (got {json.dumps(received, default=str)})"
        )
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            text = (
                "unknown key; remove it or correct its spelling (`penchant schema` lists all keys)"
            )
        if problem["type"] == "union_tag_not_found" and isinstance(problem["input"], dict):
            keys = ", ".join(map(str, problem["input"])) or "no keys"
            text = f"missing key `kind`, which says what it is (received: {keys})"
        lines.append(f"  {place}: {text}{shown}")
    return "\n".join(lines)
