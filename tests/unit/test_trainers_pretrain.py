"""What a pretraining reads and asks: nothing of the future, every event whole, BERT's shares."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from penchant.platform.errors import DataError
from penchant.platform.item_tokens import TokenLists
from penchant.platform.language_models import load_model, load_tokenizer
from penchant.platform.packing import pack, packed_rows
from penchant.platform.text import HistoryWriter, tokenizer_pieces
from penchant.platform.text_recipes import HistoryText
from penchant.trainers.pretrain.card import perplexity_rows, pretrain_card
from penchant.trainers.pretrain.corpus import Corpus, history_pieces, item_pieces, make_corpus
from penchant.trainers.pretrain.network import (
    PretrainNetwork,
    asked_loss,
    build_pretrain_network,
    frequency_perplexity,
    fresh_parameters,
)
from penchant.trainers.pretrain.plan import (
    Asker,
    PretrainSettings,
    batch_rows,
    drawn,
    total_steps,
)
from penchant.trainers.text.batches import frame_of

TOKENS = 32
LATER_MS = np.iinfo(np.int64).max


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return load_tokenizer(str(tiny_base))


@pytest.fixture(scope="module")
def writer_of(tokenizer):
    """A writer for a world, with room for so many tokens."""

    def made(world, room=TOKENS - 2, **settings):
        history = HistoryText(max_tokens=room, **settings)
        past = world.past
        return HistoryWriter.make(history, past.texts, past.types, tokenizer_pieces(tokenizer))

    return made


@pytest.fixture(scope="module")
def corpus_of(tokenizer, writer_of):
    def made(world, log=None, **settings):
        return make_corpus(
            log or world.log,
            world.past.texts,
            writer_of(world, **settings),
            frame_of(tokenizer),
            tokens=TOKENS,
            until_ms=world.until_ms,
            held_out_ms=LATER_MS,
            seed=0,
        )

    return made


# --- packing


@given(
    lengths=st.lists(st.integers(0, 12), max_size=40),
    capacity=st.integers(12, 30),
    seed=st.integers(0, 3),
)
def test_every_text_stands_in_one_row_whole_and_rows_are_not_overfull(lengths, capacity, seed):
    lengths = np.array(lengths, dtype=np.int64)
    rows = pack(lengths, capacity, seed)
    assert sorted(text for row in rows for text in row) == list(range(len(lengths)))
    assert all(sum(int(lengths[text]) for text in row) <= capacity for row in rows)


def test_the_fullest_row_that_has_room_is_taken():
    # 6 and 5 open rows of 10; 4 fits both and fills the first; 3 finds room in the second alone
    rows = pack(np.array([3, 4, 5, 6]), 10, seed=0)
    assert sorted(sorted(row) for row in rows) == [[0, 2], [1, 3]]


def test_a_text_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match="10 or less, got 11"):
        pack(np.array([3, 11]), 10, seed=0)


def test_rows_hold_the_models_marks_around_each_text():
    texts = TokenLists.of([[7, 7, 7], [8]])
    rows = packed_rows(texts, begin=[1], end=[2], tokens=7, seed=0)
    assert rows.ids.tolist() == [1, 7, 7, 7, 2, 8, 2]
    assert rows.offsets.tolist() == [0, 7]
    apart = packed_rows(texts, begin=[1], end=[2], tokens=6, seed=0)
    assert apart.offsets.tolist() == [0, 5, 8]


# --- the corpus


@pytest.mark.parametrize("place", ["baskets", "events", "binary"])
def test_what_happens_later_changes_nothing_that_is_learned(place, world, corpus_of):
    here = world(place)
    log = here.log
    later = log.time_ms >= here.until_ms
    assert later.any()
    random = np.random.default_rng(5)
    changed = replace(
        log,
        item=np.where(later, random.integers(0, log.num_items, len(later)), log.item).astype(
            np.int32
        ),
        value=np.where(later, 9.0, log.value).astype(np.float32),
        time_ms=np.where(later, log.time_ms + 86_400_000, log.time_ms),
    )
    before = corpus_of(here, gaps=True, values=True)
    after = corpus_of(here, log=changed, gaps=True, values=True)
    assert before.rows.ids.tolist() == after.rows.ids.tolist()
    assert before.rows.offsets.tolist() == after.rows.offsets.tolist()
    assert before.held_out.ids.tolist() != after.held_out.ids.tolist()


def test_an_item_that_first_comes_later_is_not_read(make_log, tokenizer):
    log = make_log([(0, 10, 0), (0, 20, 1), (0, 30, 2)], 4)
    texts = ("milk", "bread", "wine", "red")  # item 2 comes at the cut-off, item 3 never
    writer = HistoryWriter.make(HistoryText(), texts, ("buy",), tokenizer_pieces(tokenizer))
    read = item_pieces(log, texts, writer, until_ms=30)
    assert read.ids.tolist() == tokenizer.convert_tokens_to_ids(["milk", "bread"])


def test_items_with_the_same_text_are_read_once(make_log, tokenizer):
    log = make_log([(0, 10, 0), (0, 20, 1), (0, 30, 2)], 3)
    texts = ("milk", "bread", "milk")
    writer = HistoryWriter.make(HistoryText(), texts, ("buy",), tokenizer_pieces(tokenizer))
    read = item_pieces(log, texts, writer, until_ms=99)
    assert read.ids.tolist() == tokenizer.convert_tokens_to_ids(["milk", "bread"])


class Words:
    """A tokenizer of whole words, each a token."""

    def __init__(self) -> None:
        self.known: list[str] = []

    def __call__(self, texts):
        words = [text.split() for text in texts]
        self.known += sorted({word for text in words for word in text} - set(self.known))
        return [[self.known.index(word) for word in text] for text in words]

    def read(self, texts, at):
        return " ".join(self.known[token] for token in texts.take(np.array([at])).ids)


@pytest.mark.parametrize("settings", [{"gaps": True}, {"gaps": False}, {"values": True}])
@pytest.mark.parametrize("room", [8, 30])
def test_no_event_is_lost_or_cut(settings, room, world):
    """Item 4 takes seven tokens with its comma: too long for a row of 8 where ages are told."""
    log, until_ms = world("events").log, world("events").until_ms
    texts = tuple(f"item{at}" + " and so on and on" * (at == 4) for at in range(log.num_items))
    words = Words()
    writer = HistoryWriter.make(HistoryText(max_tokens=room, **settings), texts, ("buy",), words)
    pieces = history_pieces(log, writer, 0, until_ms)
    rows = np.flatnonzero(log.time_ms < until_ms)
    if room == 8 and settings != {"gaps": False}:
        rows = rows[log.item[rows] != 4]
    told = [words.read(pieces.texts, at) for at in range(len(pieces.texts))]
    assert [int(item) for item in re.findall(r"item(\d+)", " ".join(told))] == log.item[
        rows
    ].tolist()
    assert " ".join(told).count(",") == pieces.events == len(rows)
    assert all(text.startswith("item") and text.endswith(",") for text in told)
    assert pieces.texts.lengths.max() <= room
    assert pieces.left_out == np.count_nonzero(log.time_ms < until_ms) - len(rows)


def test_a_piece_is_told_as_of_the_next_event_and_the_last_as_of_the_cut_off(make_log):
    day = 86_400_000
    log = make_log([(0, 0, 0), (0, 2 * day, 1), (0, 5 * day, 0), (1, 6 * day, 1)], 2)
    words = Words()
    writer = HistoryWriter.make(HistoryText(max_tokens=10), ("milk", "bread"), ("buy",), words)
    pieces = history_pieces(log, writer, 0, 8 * day)
    # "milk 5 d ago ," is five tokens, so that two events fill a row
    assert [words.read(pieces.texts, at) for at in range(3)] == [
        "milk 5 d ago , bread 3 d ago ,",
        "milk 3 d ago ,",
        "bread 2 d ago ,",
    ]


def test_without_events_that_can_be_read_it_says_so(make_log, world, corpus_of):
    here = world("baskets")
    nothing = make_log([(0, here.until_ms + 1, 0)], here.log.num_items)
    with pytest.raises(DataError, match="no event before `select`"):
        corpus_of(here, log=nothing)
    early = make_log([(0, here.until_ms - 1, 0)], here.log.num_items)
    with pytest.raises(DataError, match="no event in `select`"):
        corpus_of(here, log=early)


def test_a_corpus_read_again_is_the_same(world, corpus_of, tmp_path):
    corpus = corpus_of(world("baskets"))
    corpus.save(tmp_path / "corpus.safetensors")
    assert Corpus.load(tmp_path / "corpus.safetensors").digest == corpus.digest
    assert corpus_of(world("baskets"), values=True).digest != corpus.digest


# --- what is asked


@pytest.fixture(scope="module")
def plenty(tokenizer):
    """400 rows of 30 words between the model's marks, drawn from words that are not special."""
    random = np.random.default_rng(3)
    low, high = 6, len(tokenizer)
    return TokenLists.of(
        [
            [tokenizer.cls_token_id, *random.integers(low, high, 30), tokenizer.sep_token_id]
            for _ in range(400)
        ]
    )


def test_fifteen_in_a_hundred_are_asked_and_shown_in_berts_three_ways(plenty, tokenizer):
    asked = Asker(tokenizer, masked=True, tokens=40).ask(plenty, np.random.default_rng(0))
    whole = torch.full((400, 40), tokenizer.pad_token_id)
    whole[:, :32] = torch.from_numpy(plenty.ids.reshape(400, 32).astype(np.int64))
    chosen = asked.wanted >= 0
    number = int(chosen.sum())
    # 12,000 tokens can be asked: six standard deviations are 6 * sqrt(12,000 * .15 * .85) = 235
    assert abs(number - 1800) < 235
    torch.testing.assert_close(asked.wanted[chosen], whole[chosen])
    torch.testing.assert_close(asked.ids[~chosen], whole[~chosen])
    special = torch.isin(whole, torch.tensor(tokenizer.all_special_ids))
    assert not (chosen & special).any()
    hidden = int((asked.ids[chosen] == tokenizer.mask_token_id).sum())
    same = int((asked.ids[chosen] == whole[chosen]).sum())
    other = number - hidden - same
    assert abs(hidden / number - 0.8) < 6 * np.sqrt(0.8 * 0.2 / number)
    assert abs(same / number - 0.1) < 6 * np.sqrt(0.1 * 0.9 / number) + 0.01  # a random one fits
    assert abs(other / number - 0.1) < 6 * np.sqrt(0.1 * 0.9 / number)


def test_a_decoder_is_asked_for_each_next_token_and_for_nothing_behind_the_end(tokenizer):
    rows = TokenLists.of([[7, 8, 9, 2], [7, 2]])
    asked = Asker(tokenizer, masked=False, tokens=6).ask(rows, np.random.default_rng(0))
    assert asked.wanted.tolist() == [[8, 9, 2, -1, -1, -1], [2, -1, -1, -1, -1, -1]]
    assert asked.mask.tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]
    short = asked.take(np.array([1]))
    assert short.ids.tolist() == [[7, 2]]
    assert (short.places.tolist(), short.answers.tolist()) == ([0], [2])


def test_what_a_step_asks_follows_from_seed_and_step_alone(plenty, tokenizer):
    settings = PretrainSettings(base="x", batch_sequences=16)
    asker = Asker(tokenizer, masked=True, tokens=32)

    def asked(settings, step):
        rows = plenty.take(batch_rows(settings, len(plenty), step))
        return asker.ask(rows, drawn(settings, "mask", step)).ids.tolist()

    assert asked(settings, 3) == asked(settings, 3)
    assert asked(settings, 3) != asked(settings, 4)
    assert asked(settings, 3) != asked(settings.model_copy(update={"seed": 1}), 3)


def test_an_epoch_goes_through_every_row_once_and_the_next_in_another_order():
    settings = PretrainSettings(base="x", batch_sequences=4, epochs=2)
    assert total_steps(settings, 10) == 6
    assert total_steps(settings.model_copy(update={"steps": 7}), 10) == 7
    batches = [batch_rows(settings, 10, step).tolist() for step in range(6)]
    first, second = sum(batches[:3], []), sum(batches[3:], [])
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]


# --- the network


@pytest.fixture(scope="module")
def tiny_gpt(tiny_base, tmp_path_factory):
    """A GPT-2 drawn at random with the tokenizer of the tiny BERT, whose SEP ends a text."""
    place = tmp_path_factory.mktemp("gpt") / "gpt"
    tokenizer = load_tokenizer(str(tiny_base))
    torch.manual_seed(0)
    ends = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=2, n_head=2, **ends
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.mark.parametrize("masked", [True, False])
def test_the_loss_is_that_of_plain_transformers(masked, tiny_base, tiny_gpt, plenty, tokenizer):
    base = str(tiny_base if masked else tiny_gpt)
    network = build_pretrain_network(base, None, masked=masked).eval()
    asked = Asker(tokenizer, masked=masked, tokens=34).ask(
        plenty.take(np.arange(5)), np.random.default_rng(0)
    )
    plain = load_model(base, head="masked" if masked else "causal")
    with torch.inference_mode():
        ours = asked_loss(network(asked), asked)
        logits = plain(input_ids=asked.ids, attention_mask=asked.mask).logits
        theirs = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), asked.wanted.flatten(), ignore_index=-1, reduction="sum"
        )
    torch.testing.assert_close(ours, theirs)


def test_the_head_that_the_base_lacks_is_named_and_tied_to_the_embeddings(tiny_base, tmp_path):
    network = build_pretrain_network(str(tiny_base), None, masked=True)
    head = "model.cls.predictions"
    assert sorted(fresh_parameters(str(tiny_base), network)) == [
        f"{head}.bias",
        f"{head}.transform.LayerNorm.bias",
        f"{head}.transform.LayerNorm.weight",
        f"{head}.transform.dense.bias",
        f"{head}.transform.dense.weight",
    ]
    model = network.model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path / "whole")
    load_tokenizer(str(tiny_base)).save_pretrained(tmp_path / "whole")
    assert fresh_parameters(str(tmp_path / "whole"), network) == []


def test_a_decoder_brings_its_head(tiny_gpt):
    network = build_pretrain_network(str(tiny_gpt), 1, masked=False)
    assert fresh_parameters(str(tiny_gpt), network) == []
    assert network.model.config.num_hidden_layers == 1


def test_without_the_head_states_meet_the_input_embeddings(tiny_base, plenty, tokenizer):
    network: PretrainNetwork = build_pretrain_network(str(tiny_base), None, masked=True).eval()
    asked = Asker(tokenizer, masked=True, tokens=34).ask(
        plenty.take(np.arange(3)), np.random.default_rng(0)
    )
    plain = load_model(str(tiny_base))
    with torch.inference_mode():
        network(asked)
        found = network.by_embeddings()
        states = plain(input_ids=asked.ids, attention_mask=asked.mask).last_hidden_state
    table = plain.get_input_embeddings().weight
    torch.testing.assert_close(found, states.flatten(0, 1)[asked.places] @ table.T)


def test_guessing_by_frequency(tokenizer):
    rows = TokenLists.of([[0, 0, 1]])
    asked = Asker(tokenizer, masked=False, tokens=2).ask(
        TokenLists.of([[3, 0], [3, 1]]), np.random.default_rng(0)
    )
    # counts with one added: 3, 2, 1, 1 of 7; the answers are 0 and 1
    assert frequency_perplexity(rows, asked, words=4) == pytest.approx((7 / 3 * 7 / 2) ** 0.5)


# --- what is said of it


@pytest.fixture
def report():
    return {
        "settings": PretrainSettings(base="minilm").model_dump(mode="json"),
        "history": HistoryText().model_dump(mode="json"),
        "data": {"experiment": "likes", "from": "a", "until": "b", "held_out_until": "c"},
        "corpus": dict.fromkeys(
            ("item_texts", "events", "rows", "tokens", "held_out_events", "held_out_rows"), 5
        ),
        "steps": 3,
        "tokens": 60,
        "parameters": 9,
        "fresh": ["cls.predictions.bias"],
        "perplexity": {
            "frequencies": 400.0,
            "before_model": 30000.0,
            "before_embeddings": 90000.0,
            "after": 50.0,
            "asked_tokens": 700,
        },
    }


def test_the_card_says_that_the_head_was_untrained_and_only_then(report):
    assert "before, the head untrained | 30,000.00" in pretrain_card(report)
    assert "The base brings no head" in pretrain_card(report)
    report["fresh"] = []
    del report["perplexity"]["before_embeddings"]
    assert "untrained" not in pretrain_card(report)
    assert [words for words, _ in perplexity_rows(report)][1:] == ["before", "after"]
    block = pretrain_card(report).split("---")[1]
    assert "pipeline_tag: fill-mask" in block
    assert json.dumps(report["settings"]["base"]) in pretrain_card(report)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="extra"):
        PretrainSettings(base="minilm", token=64)
