"""How a text member reads a log: everything that can be said, tokenised once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig

from penchant.platform.errors import DataError
from penchant.platform.language_models import load_tokenizer
from penchant.platform.recipes import TextRecipe
from penchant.platform.text import HistoryWriter, tokenizer_pieces
from penchant.platform.timeline import Window
from penchant.trainers.counting.popularity import item_shares
from penchant.trainers.member import Past
from penchant.trainers.text.batches import Frame, frame_of
from penchant.trainers.text.length import refuse_too_long

__all__ = ["Words", "read_words"]


@dataclass(frozen=True, kw_only=True)
class Words:
    """Histories as tokens, what stands around them, and how common each item is."""

    writer: HistoryWriter
    frame: Frame
    log_share: NDArray[np.float32]  # (V,)


def read_words(recipe: TextRecipe, past: Past, config: PretrainedConfig) -> Words:
    """Tokenise all that can be said of the log.

    Args:
        config: of the base model.

    Raises:
        ConfigError: histories would be longer than the model reads.
        DataError: no item has a text.
    """
    if not any(text.strip() for text in past.texts):
        raise DataError(
            "text: no item has a text, expected a language model to have something to read. Give "
            "data.items with a `text` column, or use members that need ids alone."
        )
    refuse_too_long(recipe, config, 4, "special ones")
    tokenizer = load_tokenizer(recipe.base)
    writer = HistoryWriter.make(
        recipe.history, past.texts, tuple(past.types), tokenizer_pieces(tokenizer)
    )
    share = item_shares(past, Window())
    return Words(
        writer=writer,
        frame=frame_of(tokenizer),
        log_share=np.log(np.maximum(share, 1e-9)).astype(np.float32),
    )
