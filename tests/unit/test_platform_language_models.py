"""Where language models come from, and item vectors by hand from a tiny one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from penchant.platform import language_models
from penchant.platform.errors import ConfigError
from penchant.platform.language_models import ALIASES, item_vectors, resolve_model

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


def test_a_directory_with_a_config_is_a_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert resolve_model(str(tmp_path)) == tmp_path


def test_an_alias_whose_package_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(ALIASES, "absent", ("no-such-package-of-ours", "model"))
    with pytest.raises(ConfigError, match="comes with the package no-such-package-of-ours"):
        resolve_model("absent")


def test_an_alias_is_a_folder_of_its_installed_package(monkeypatch):
    monkeypatch.setitem(ALIASES, "here", ("numpy", "numpy/random"))
    assert resolve_model("here") == Path(np.__file__).parent / "random"


@pytest.mark.parametrize("name", ["nobody/has-this-model", "no/such/path", "mini lm"])
def test_an_unknown_model_without_a_network_fails_at_once_and_says_what_there_is(name, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def offline(model, **settings):
        asked.append(settings)
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ConfigError, match=f"base model '{name}' was found neither .*: minilm"):
        resolve_model(name)
    assert asked == [{"local_files_only": True}, {"etag_timeout": 5}]


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

    def encode(directory, texts):
        calls.append(texts)
        return np.ones((len(texts), 8), dtype=np.float32)

    monkeypatch.setattr(language_models, "_encode", encode)
    np.testing.assert_array_equal(item_vectors(str(tiny), ["milk", "wine"], tmp_path), first)
    assert calls == []
    for texts in (["wine", "milk"], ["milkwine"], ["milk", "wine", ""]):
        item_vectors(str(tiny), texts, tmp_path)
    assert calls == [["wine", "milk"], ["milkwine"], ["milk", "wine", ""]]
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_very_long_texts_are_cut(tiny, tmp_path):
    long, cut = (item_vectors(str(tiny), [" ".join(["milk"] * n)], tmp_path) for n in (500, 62))
    np.testing.assert_allclose(long, cut, atol=1e-6)  # 62 words between two marks are 64 tokens
