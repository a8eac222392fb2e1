"""Item vectors, by hand from a tiny encoder."""

from __future__ import annotations

import numpy as np
import torch

from penchant.platform import item_vectors as module
from penchant.platform.item_vectors import item_vectors, text_tokens
from penchant.platform.language_models import load_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "milk", "bread", "red", "wine"]


def test_a_vector_is_the_normalised_mean_of_the_real_tokens(grocer_bert, tmp_path):
    import transformers

    texts = ["milk", "", "red wine bread milk", "wine"]
    vectors = item_vectors(str(grocer_bert), texts, tmp_path)
    assert vectors.shape == (4, 8)
    assert vectors.dtype == np.float32
    assert not vectors[1].any()  # an item without a text
    model = transformers.BertModel.from_pretrained(grocer_bert).eval()
    for text, vector in zip(texts, vectors, strict=True):
        if text:  # alone, so without padding
            ids = [WORDS.index(word) for word in ["[CLS]", *text.split(), "[SEP]"]]
            with torch.inference_mode():
                states = model(torch.tensor([ids])).last_hidden_state[0].numpy()
            mean = states.mean(axis=0)
            np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_vectors_are_made_once_for_each_model_and_texts(grocer_bert, tmp_path, monkeypatch):
    first = item_vectors(str(grocer_bert), ["milk", "wine"], tmp_path)
    calls = []

    def encode(name, texts):
        calls.append(texts)
        return np.ones((len(texts), 8), dtype=np.float32)

    monkeypatch.setattr(module, "_encode", encode)
    np.testing.assert_array_equal(item_vectors(str(grocer_bert), ["milk", "wine"], tmp_path), first)
    assert calls == []
    for texts in (["wine", "milk"], ["milkwine"], ["milk", "wine", ""]):
        item_vectors(str(grocer_bert), texts, tmp_path)
    assert calls == [["wine", "milk"], ["milkwine"], ["milk", "wine", ""]]
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_equal_texts_are_read_once(grocer_bert, tmp_path, monkeypatch):
    read, tokens = [], module.text_tokens

    def spy(tokenizer, texts):
        read.extend(texts)
        return tokens(tokenizer, texts)

    monkeypatch.setattr(module, "text_tokens", spy)
    vectors = item_vectors(str(grocer_bert), ["milk", "red wine", "", "milk", ""], tmp_path)
    assert sorted(read) == ["", "milk", "red wine"]
    np.testing.assert_array_equal(vectors[3], vectors[0])
    assert not vectors[[2, 4]].any()
    assert abs(vectors[0] @ vectors[1]) < 1 - 1e-4


def test_very_long_texts_are_cut(grocer_bert, tmp_path):
    long, cut = (
        item_vectors(str(grocer_bert), [" ".join(["milk"] * n)], tmp_path) for n in (500, 62)
    )
    np.testing.assert_allclose(long, cut, atol=1e-6)  # 62 words between two marks are 64 tokens


def test_the_name_of_a_special_token_inside_a_text_is_plain_letters(grocer_bert):
    """CLS is token 2, SEP 3, an unknown word 1, milk 5, bread 6; `[`, `sep`, `]` are unknown."""
    tokens = text_tokens(load_tokenizer(str(grocer_bert)), ["milk [SEP] bread", "milk bread"])
    first, second = tokens.take(np.array([0])).ids, tokens.take(np.array([1])).ids
    assert first.tolist() == [2, 5, 1, 1, 1, 6, 3]
    assert second.tolist() == [2, 5, 6, 3]
