"""How long a text may be: one token more is refused by the model itself."""

from __future__ import annotations

import pytest
import torch
import transformers

from penchant.platform.positions import most_tokens

SMALL = {"vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
ENDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


@pytest.mark.parametrize(
    ("kind", "tokens"),
    # of 20 rows, RoBERTa's first place is row 2: padding is 1
    [("Bert", 20), ("Roberta", 18), ("XLMRoberta", 18), ("Camembert", 18), ("MPNet", 18)]
    + [("GPT2", 20), ("DistilBert", 20)],
)
def test_the_longest_text_is_read_and_one_token_more_is_not(kind, tokens):
    more = {} if kind == "GPT2" else {"intermediate_size": 16}
    config = getattr(transformers, f"{kind}Config")(
        **SMALL, **more, **ENDS, max_position_embeddings=20
    )
    assert most_tokens(config) == tokens
    model = transformers.AutoModel.from_config(config).eval()
    with torch.inference_mode():
        assert model(torch.full((1, tokens), 5))[0].shape == (1, tokens, 8)
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, tokens + 1), 5))


def test_places_that_are_turned_and_not_looked_up_are_those_of_the_configuration():
    llama = transformers.LlamaConfig(**SMALL, intermediate_size=16, max_position_embeddings=20)
    assert most_tokens(llama) == 20


def test_a_configuration_that_names_no_limit_has_none():
    assert most_tokens(transformers.PreTrainedConfig()) is None
