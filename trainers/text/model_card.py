"""The card beside a fine-tuned model: what it is, from which data, and how to load it elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from penchant.platform.recipes import TextRecipe

__all__ = ["model_card"]

_LOAD = """```python
from transformers import AutoModel, AutoTokenizer

model = AutoModel.from_pretrained("{place}")
tokenizer = AutoTokenizer.from_pretrained("{place}")
```"""


def model_card(recipe: TextRecipe, parameters: int, facts: Mapping[str, Any]) -> str:
    """Markdown with the metadata block that model hubs read.

    Args:
        facts: `until_ms` (nothing from then on was learned from), `requests` learned from, `task`,
            and the best epoch's `select_loss`, `metric`, `select_metric`.
    """
    until = datetime.fromtimestamp(facts["until_ms"] / 1000, UTC).isoformat(timespec="seconds")
    lines = [
        "---",
        "library_name: transformers",
        f"base_model: {recipe.base}",
        "tags: [penchant, user-behaviour]",
        "---",
        "",
        f"# {recipe.label}: fine-tuned on user histories",
        "",
        "| | |",
        "|---|---|",
        f"| task | {facts['task']} |",
        f"| base | {recipe.base} |",
        f"| parameters | {parameters:,} |",
        f"| window | {recipe.window.label} |",
        f"| learned from | {facts['requests']:,} requests before {until} |",
        f"| `select` loss | {facts['select_loss']:.4f} |",
        f"| `select` {facts['metric']} | {facts['select_metric']:.4f} |",
        "",
        "Plain transformers loads the model; the heads that turn states into scores are in",
        "`head.safetensors`, and the recipe in `member.json`.",
        "",
        _LOAD.format(place="this/directory"),
        "",
        "## Recipe",
        "",
        "```json",
        recipe.model_dump_json(indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)
