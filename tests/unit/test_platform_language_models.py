"""Where language models come from, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from penchant.platform.errors import ConfigError
from penchant.platform.language_models import ALIASES, load_model, load_tokenizer, resolve_model

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "milk", "bread", "red", "wine"]


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
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ConfigError,
        match=f"base model '{name}' was found neither as a path .*installed package .*cache.*hub ",
    ):
        resolve_model(name)


def refused(text, call, *arguments, **settings):
    with pytest.raises(ConfigError, match=text):
        call(*arguments, **settings)


def test_unsafe_or_unfit_bases_are_refused(grocer_bert, tmp_path):
    import shutil

    base = Path(shutil.copytree(grocer_bert, tmp_path / "base"))
    refused("is an encoder", load_model, str(base), head="causal")
    refused("got 2, but .* has 1 layers", load_model, str(base), layers=2)
    (base / "vocab.txt").write_text("\n".join([*WORDS, "more"]))
    refused("vectors of 9 tokens, but its tokenizer gives ids up to 9", load_tokenizer, str(base))
    (base / "vocab.txt").unlink()
    refused("has no tokenizer", load_tokenizer, str(base))
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    refused("has as weights: pytorch_model.bin", load_model, str(base))
    card = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(card | {"auto_map": {"AutoModel": "x.Y"}}))
    refused("auto_map", load_model, str(base))


@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "Roberta", "Llama", "GPT2", "ModernBert"])
def test_the_lowest_layers_are_kept_and_survive_saving(kind, tmp_path):
    import transformers

    torch.manual_seed(0)
    small = {"vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    more = {} if kind == "GPT2" else {"intermediate_size": 16}
    if kind == "ModernBert":
        ends |= {"cls_token_id": 1, "sep_token_id": 2}
    config = getattr(transformers, f"{kind}Config")(**small, **more, **ends)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path / "whole")
    cut = load_model(str(tmp_path / "whole"), layers=2)
    cut.save_pretrained(tmp_path / "cut")
    again = load_model(str(tmp_path / "cut"))
    assert again.config.num_hidden_layers == 2
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.inference_mode():
        states = load_model(str(tmp_path / "whole"))(ids, output_hidden_states=True)
        torch.testing.assert_close(again(ids)[0], cut(ids)[0])
        if kind in ("Bert", "DistilBert", "Roberta"):  # no norm after the last layer
            torch.testing.assert_close(cut(ids)[0], states.hidden_states[2])
