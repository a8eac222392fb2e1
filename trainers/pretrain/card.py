"""What is said of a pretrained model: its perplexities in rows, and the card beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["perplexity_rows", "pretrain_card"]

_LOAD = """```python
from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained("this/directory")
tokenizer = AutoTokenizer.from_pretrained("this/directory")
```"""
_FRESH = """The base brings no head over the vocabulary. One was drawn at random, its last layer
tied to the input embeddings, so "before" tells of an untrained head and not of what the base knows:
most of the fall in perplexity is that head's learning. The row without the head compares states and
input embeddings directly; it is no better measure, since the base was never trained for it."""


def perplexity_rows(report: Mapping[str, Any]) -> list[tuple[str, float]]:
    """What was measured on the held-out histories, and its perplexity; lower is better."""
    found = report["perplexity"]
    before = "before, the head untrained" if report["fresh"] else "before"
    named = (
        ("frequencies", "guessing by the frequency of each token"),
        ("before_embeddings", "before, states against the input embeddings, no head"),
        ("before_model", before),
        ("after", "after"),
    )
    return [(words, found[name]) for name, words in named if name in found]


def pretrain_card(report: Mapping[str, Any]) -> str:
    """Markdown with the metadata block that model hubs read.

    Args:
        report: what stands in `pretrain.json`.
    """
    settings, data, facts = report["settings"], report["data"], report["corpus"]
    masked = settings["masked"]
    what = "hidden tokens (masked language modelling)" if masked else "next tokens"
    lines = [
        "---",
        "library_name: transformers",
        f"base_model: {settings['base']}",
        f"pipeline_tag: {'fill-mask' if masked else 'text-generation'}",
        "tags: [penchant, user-behaviour]",
        "---",
        "",
        f"# {settings['base']}, pretrained further on the texts of `{data['experiment']}`",
        "",
        "| | |",
        "|---|---|",
        f"| task | {what} |",
        f"| parameters | {report['parameters']:,} |",
        f"| learned from | {facts['item_texts']:,} item texts and {facts['events']:,} events, "
        f"{facts['rows']:,} rows, {facts['tokens']:,} tokens |",
        f"| events from | {data['from']} |",
        f"| events until (exclusive) | {data['until']} |",
        f"| held out | {facts['held_out_events']:,} events from then until "
        f"{data['held_out_until']}, of which {facts['held_out_rows']:,} rows are asked |",
        f"| steps | {report['steps']:,} of {settings['batch_sequences']} rows |",
        f"| tokens read | {report['tokens']:,} |",
        "",
        "Nothing from the end of the window on was learned from. Do not fine-tune this model in an",
        "experiment whose `select` begins earlier: it would know of what it is asked.",
        "",
        f"## Perplexity of {report['perplexity']['asked_tokens']:,} held-out tokens",
        "",
        "| | perplexity |",
        "|---|---|",
        *(f"| {words} | {value:,.2f} |" for words, value in perplexity_rows(report)),
        "",
        *((_FRESH, "") if report["fresh"] else ()),
        "## Loading",
        "",
        "As the `base` of a text member: `base: this/directory`. With plain transformers:",
        "",
        _LOAD.format(auto="AutoModelForMaskedLM" if masked else "AutoModelForCausalLM"),
        "",
        "## Settings",
        "",
        "```json",
        json.dumps({**settings, "history": report["history"]}, indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)
