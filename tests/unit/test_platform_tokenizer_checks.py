"""Bases whose parts do not belong together, or are damaged, are refused in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from penchant.platform.errors import ConfigError
from penchant.platform.language_models import load_model, load_tokenizer
from penchant.platform.tokenizer_checks import check_tokenizer
from penchant.trainers.text.batches import frame_of

#: Ids of the words that the tokenizers here know; the first four are special where a mark says so.
WORDS = ["<s>", "<pad>", "</s>", "<unk>", "milk", "bread"]
MARKS = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"}


@pytest.fixture
def decoder(tmp_path):
    """A Llama of six tokens: its config names these ids, its tokenizer these marks."""

    def made(ids: dict[str, object], marks: dict[str, str]) -> str:
        import transformers
        from tokenizers import Tokenizer, models, pre_tokenizers

        place = tmp_path / "llama"
        config = transformers.LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
        transformers.LlamaModel(config).save_pretrained(place)
        card = json.loads((place / "config.json").read_text())
        card |= {f"{mark}_token_id": None for mark in ("bos", "eos", "pad")} | ids
        (place / "config.json").write_text(json.dumps(card))
        words = Tokenizer(
            models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>")
        )
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        words.save(str(place / "tokenizer.json"))
        kind = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}
        (place / "tokenizer_config.json").write_text(json.dumps(kind | marks))
        return str(place)

    return made


@pytest.mark.parametrize(
    "ids",
    [
        {},
        {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
        {"eos_token_id": [4, 2]},  # several ends, one of them the tokenizer's
        {"pad_token_id": 2},  # the end where the tokenizer has a mark of its own
        {"bos_token_id": 50256, "eos_token_id": 50256, "pad_token_id": -1},  # the class's own
        {"cls_token_id": 4},  # the tokenizer has no such mark
    ],
    ids=str,
)
def test_tokenizers_that_mean_the_same_or_say_nothing_are_taken(ids, decoder):
    tokenizer = load_tokenizer(decoder(ids, MARKS))
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1, 2)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"pad_token_id": 4}, "`pad_token_id` 4 .* the word 'milk', and pad_token_id is 1"),
        ({"bos_token_id": 5}, "`bos_token_id` 5 .* the word 'bread', and bos_token_id is 0"),
        ({"eos_token_id": [4, 5]}, "`eos_token_id` 4, 5 .* 'milk', 'bread', and eos_token_id is 2"),
    ],
)
def test_a_tokenizer_for_which_the_models_mark_is_a_word_is_refused(ids, message, decoder):
    with pytest.raises(ConfigError, match=message + ".*do not belong together"):
        load_tokenizer(decoder(ids, MARKS))


def test_texts_are_filled_up_with_the_mark_that_there_is_and_one_there_must_be(decoder):
    end, mark = {"eos_token": "</s>"}, {"sep_token": "</s>"}
    assert load_tokenizer(decoder({}, end)).pad_token_id == 2
    assert load_tokenizer(decoder({}, mark)).pad_token_id == 2
    with pytest.raises(ConfigError, match="names no `pad_token`, `eos_token` or `sep_token`"):
        load_tokenizer(decoder({}, {"bos_token": "<s>"}))


def test_a_mark_for_pictures_that_no_text_holds_needs_no_vector(decoder):
    place = decoder({}, MARKS)
    card = Path(place, "tokenizer_config.json")
    mark = {"content": "<image>", "special": True} | dict.fromkeys(
        ("lstrip", "rstrip", "normalized", "single_word"), False
    )
    decoded = {"added_tokens_decoder": {str(len(WORDS)): mark}}
    card.write_text(json.dumps(json.loads(card.read_text()) | decoded))
    tokenizer = load_tokenizer(place)
    assert tokenizer.get_vocab()["<image>"] == len(WORDS)
    with pytest.raises(ConfigError, match="gives ids up to"):
        check_tokenizer("it", tokenizer, {}, len(WORDS) - 1)


def test_an_empty_text_must_have_a_token(decoder):
    frame = frame_of(load_tokenizer(decoder({}, {"pad_token": "<pad>", "bos_token": "<s>"})))
    assert (frame.begin, frame.middle, frame.end, frame.pad) == ((0,), (), (), 1)
    alone = load_tokenizer(decoder({}, {"pad_token": "<pad>"}))
    with pytest.raises(ConfigError, match="names no cls_token, bos_token, sep_token or eos_token"):
        frame_of(alone)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path: Path, **settings: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


#: what was done to a base -> the file that is named, and why
DAMAGED = {
    "cut weights": ("model.safetensors", "SafetensorError"),
    "cut config": ("config.json", "JSONDecodeError"),
    "a list as config": ("config.json", "expected keys and values, got list"),
    "unknown class": ("config.json", "foo"),
    "cut settings": ("tokenizer_config.json", "JSONDecodeError"),
    "cut tokenizer": ("tokenizer.json", "JSONDecodeError"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_named(damage, grocer_bert, tmp_path):
    base = Path(shutil.copytree(grocer_bert, tmp_path / "base"))
    match damage:
        case "cut weights":
            cut(base / "model.safetensors")
        case "cut config":
            cut(base / "config.json")
        case "a list as config":
            (base / "config.json").write_text("[]")
        case "unknown class":
            change(base / "config.json", model_type="foo")
        case "cut settings":
            cut(base / "tokenizer_config.json")
        case "cut tokenizer":
            (base / "tokenizer.json").write_text('{"version": ')
    file, why = DAMAGED[damage]
    load = load_tokenizer if "tokenizer" in file else load_model
    with pytest.raises(ConfigError, match=rf"base/{file} cannot be read \(.*{why}"):
        load(str(base))


def test_a_tokenizer_that_brings_code_is_refused(grocer_bert, tmp_path):
    base = Path(shutil.copytree(grocer_bert, tmp_path / "base"))
    change(base / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Mine", None]})
    for load in (load_model, load_tokenizer):
        with pytest.raises(ConfigError, match="`auto_map` in its tokenizer_config.json"):
            load(str(base))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_too_little_memory_is_no_fault_of_a_file(error, grocer_bert, monkeypatch):
    import transformers

    def scarce(*_, **__):
        raise error

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", scarce)
    with pytest.raises(type(error)):
        load_model(str(grocer_bert))
