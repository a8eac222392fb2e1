"""What is longer than a language model reads is refused before anything is learned."""

from __future__ import annotations

import json

import pytest
import transformers

from penchant.platform.errors import ConfigError
from penchant.platform.recipes import TextRecipe
from penchant.platform.text_recipes import HistoryText
from penchant.trainers.pretrain.plan import PretrainSettings
from penchant.trainers.pretrain.run import _checked
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


def test_rows_of_pretraining_are_as_long_as_the_base_reads_and_no_longer(tmp_path):
    """RoBERTa's table has 130 rows, and its first place is row 2."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "milk"]
    model = {"type": "WordLevel", "vocab": {word: at for at, word in enumerate(words)}}
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "added_tokens": [], "model": model | {"unk_token": "<unk>"}})
    )
    marks = {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    card = {f"{mark}_token": word for mark, word in marks.items()}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(card | kind))
    config = transformers.RobertaConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=130,
    )
    transformers.RobertaModel(config).save_pretrained(tmp_path)
    assert _checked(PretrainSettings(base=str(tmp_path), tokens=128)).masked
    with pytest.raises(ConfigError, match=r"--tokens is 129, but .* reads at most 128"):
        _checked(PretrainSettings(base=str(tmp_path), tokens=129))
