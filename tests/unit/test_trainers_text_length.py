"""What is longer than a language model reads is refused before anything is learned."""

from __future__ import annotations

import pytest
import transformers

from penchant.platform.errors import ConfigError
from penchant.platform.recipes import TextRecipe
from penchant.platform.text_recipes import HistoryText
from penchant.trainers.text.length import refuse_too_long


@pytest.mark.parametrize(
    ("kind", "reads"),
    # both have 130 rows; RoBERTa's first place is row 2
    [("Bert", 130), ("Roberta", 128)],
)
def test_a_history_an_item_and_what_stands_around_them_fill_the_model_and_no_more(kind, reads):
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=130,
        pad_token_id=1,
    )
    fits = HistoryText(max_tokens=reads - 24 - 4, item_tokens=24)
    longer = fits.model_copy(update={"max_tokens": fits.max_tokens + 1})
    refuse_too_long(TextRecipe(kind="text", base="b", history=fits), config, 4, "special ones")
    with pytest.raises(ConfigError, match=rf"are {reads + 1} tokens, but b reads at most {reads}"):
        refuse_too_long(
            TextRecipe(kind="text", base="b", history=longer), config, 4, "special ones"
        )
