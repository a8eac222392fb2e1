"""Cards beside what transformers loads: what it is, from which data, how good, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from penchant.platform.events import EventLog
from penchant.platform.recipes import SequenceRecipe, TextRecipe
from penchant.platform.timeline import Block

__all__ = ["encoder_card", "model_card", "tell_measured"]

_LOAD = """```python
from transformers import AutoModel, AutoTokenizer

model = AutoModel.from_pretrained("{place}")
tokenizer = AutoTokenizer.from_pretrained("{place}")
```"""


def model_card(recipe: TextRecipe, parameters: int, facts: Mapping[str, Any]) -> str:
    """Markdown with the metadata block that model hubs read.

    Args:
        facts: `until_ms` (nothing from then on was learned from), `requests` learned from, `task`.
            How good it was on `select` is left to `tell_measured`, which knows whether it was
            learned from.
    """
    lines = [
        *_head(recipe.base, f"{recipe.label}: fine-tuned on user histories"),
        f"| task | {facts['task']} |",
        f"| base | {recipe.base} |",
        f"| parameters | {parameters:,} |",
        f"| window | {recipe.window.label} |",
        f"| learned from | {facts['requests']:,} requests before {_moment(facts['until_ms'])} |",
        "",
        "Plain transformers loads the model; the heads that turn states into scores are in",
        "`head.safetensors`, and the recipe in `member.json`.",
        "",
        *_loading_and_recipe(recipe),
    ]
    return "\n".join(lines)


def encoder_card(recipe: SequenceRecipe) -> str:
    """Markdown for the language model that made a sequence member's item vectors."""
    lines = [
        *_head(str(recipe.text), f"{recipe.text}: reads the items of a sequence member"),
        "| what | unit vectors of item texts: the mean of the real tokens' states, normalised |",
        f"| base | {recipe.text} |",
        "",
        "Adapters are merged. The network over these vectors is in the member's own directory, the",
        "one above.",
        "",
        *_loading_and_recipe(recipe),
    ]
    return "\n".join(lines)


def tell_measured(
    card: Path,
    log: EventLog,
    facts: Mapping[str, object],
    measured: Mapping[Block, Mapping[str, float]],
) -> None:
    """Add to a card from when to when its member learned, and how good it was where it was asked.

    Args:
        facts: of the member; `until_ms` is its cut-off.
        measured: means over the requests of each block that was not learned from.
    """
    lines = [card.read_text(), "## Data and quality", "", "| | |", "|---|---|"]
    if isinstance(until_ms := facts.get("until_ms"), int):
        known = log.time_ms[log.time_ms < until_ms]
        first = _moment(int(np.min(known, initial=until_ms)))
        lines.append(f"| events | {len(known):,}, from {first} until {_moment(until_ms)} |")
    for block, metrics in measured.items():
        named = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        lines.append(f"| `{block}` | {named} |")
    card.write_text("\n".join([*lines, ""]))


def _head(base: str, title: str) -> list[str]:
    """The metadata, the title, and the head of a table."""
    return [
        "---",
        "library_name: transformers",
        f"base_model: {base}",
        "tags: [penchant, user-behaviour]",
        "---",
        "",
        f"# {title}",
        "",
        "| | |",
        "|---|---|",
    ]


def _loading_and_recipe(recipe: TextRecipe | SequenceRecipe) -> list[str]:
    written = recipe.model_dump_json(indent=1)
    loading = _LOAD.format(place="this/directory")
    return [loading, "", "## Recipe", "", "```json", written, "```", ""]


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")
