"""Item vectors, by hand from a tiny encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from penchant.platform import item_vectors as module
from penchant.platform.item_vectors import item_vectors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "milk", "bread", "red", "wine"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A BERT of one layer and eight numbers a token, with nine words."""
    import transformers

    directory = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    settings = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=80,
    )
    transformers.BertModel(settings).save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(WORDS))
    card = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (directory / "tokenizer_config.json").write_text(json.dumps(card))
    return directory


def test_a_vector_is_the_normalised_mean_of_the_real_tokens(tiny, tmp_path):
    import transformers

    texts = ["milk", "", "red wine bread milk", "wine"]
    vectors = item_vectors(str(tiny), texts, tmp_path)
    assert vectors.shape == (4, 8)
    assert vectors.dtype == np.float32
    assert not vectors[1].any()  # an item without a text
    model = transformers.BertModel.from_pretrained(tiny).eval()
    for text, vector in zip(texts, vectors, strict=True):
        if text:  # alone, so without padding
            ids = [WORDS.index(word) for word in ["[CLS]", *text.split(), "[SEP]"]]
            with torch.inference_mode():
                states = model(torch.tensor([ids])).last_hidden_state[0].numpy()
            mean = states.mean(axis=0)
            np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_vectors_are_made_once_for_each_model_and_texts(tiny, tmp_path, monkeypatch):
    first = item_vectors(str(tiny), ["milk", "wine"], tmp_path)
    calls = []

    def encode(name, texts):
        calls.append(texts)
        return np.ones((len(texts), 8), dtype=np.float32)

    monkeypatch.setattr(module, "_encode", encode)
    np.testing.assert_array_equal(item_vectors(str(tiny), ["milk", "wine"], tmp_path), first)
    assert calls == []
    for texts in (["wine", "milk"], ["milkwine"], ["milk", "wine", ""]):
        item_vectors(str(tiny), texts, tmp_path)
    assert calls == [["wine", "milk"], ["milkwine"], ["milk", "wine", ""]]
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_very_long_texts_are_cut(tiny, tmp_path):
    long, cut = (item_vectors(str(tiny), [" ".join(["milk"] * n)], tmp_path) for n in (500, 62))
    np.testing.assert_allclose(long, cut, atol=1e-6)  # 62 words between two marks are 64 tokens
