"""How long a text may be for a language model: the places that it numbers."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["most_tokens"]


def most_tokens(config: PreTrainedConfig) -> int | None:
    """Tokens of the longest text that a model reads; None where its configuration names no limit.

    Models after RoBERTa number places from `padding_idx + 1` on, so that the first rows of their
    table are never a token's: of 514 rows 512 can be used.
    """
    rows = getattr(config, "max_position_embeddings", None)
    return None if rows is None else int(rows) - _rows_before_the_first(config, int(rows))


def _rows_before_the_first(config: PreTrainedConfig, rows: int) -> int:
    """What the model's own class says: its table of places is looked at, without any weights."""
    import torch
    from torch import nn
    from transformers import AutoModel

    auto: Any = AutoModel
    with torch.device("meta"):
        model = auto.from_config(deepcopy(config))
    for name, module in model.named_modules():
        is_table = isinstance(module, nn.Embedding) and module.num_embeddings == rows
        if is_table and "position" in name and module.padding_idx is not None:
            return int(module.padding_idx) + 1
    return 0
