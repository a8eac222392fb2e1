"""Histories as text: what they read as, what is left out, and a scan of the log as their law."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from penchant.platform.config import Requests as Spec
from penchant.platform.history import history_of
from penchant.platform.language_models import resolve_model
from penchant.platform.requests import Requests, all_requests
from penchant.platform.text import HistoryWriter, TokenLists, token_lists, tokenizer_pieces
from penchant.platform.text_recipes import HistoryText
from penchant.platform.timeline import DAY_MS, Window

NOW = 1000 * DAY_MS
WORDS: dict[str, int] = {}


def by_words(texts: list[str]) -> list[list[int]]:
    """A token a word, numbered as they come."""
    return [[WORDS.setdefault(word, len(WORDS)) for word in text.split()] for text in texts]


def read(lists: TokenLists) -> list[str]:
    names = list(WORDS)
    cuts = np.split(lists.ids, lists.offsets[1:-1])
    return [" ".join(names[token] for token in ids) for ids in cuts]


def ask(log, user: int = 0, at_ms: int = NOW, candidate: int | None = None) -> Requests:
    """One request that sees the rows of its user before `at_ms`."""
    rows = log.time_ms[log.offsets[user] : log.offsets[user + 1]]
    end = np.array([log.offsets[user] + np.searchsorted(rows, at_ms)], dtype=np.int64)
    return Requests(
        row=end,
        user=np.array([user], dtype=np.int32),
        time_ms=np.array([at_ms], dtype=np.int64),
        end=end,
        target_offsets=np.zeros(2, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
        candidate=None if candidate is None else np.array([candidate], dtype=np.int32),
    )


def written(log, texts: list[str], requests: Requests | None = None, **chosen) -> str:
    writer = HistoryWriter.make(HistoryText(**chosen), texts, ["event"], by_words)
    return read(writer.write(log, ask(log) if requests is None else requests, Window()))[0]


@pytest.fixture(scope="module")
def minilm():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(resolve_model("minilm"), local_files_only=True)


@pytest.fixture(scope="module")
def byte_pairs():
    """A byte-level BPE tokenizer such as GPT-2's, with few merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["whole milk 3 d ago, rye bread today,"] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


@pytest.fixture(scope="module", params=["minilm", "byte_pairs"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def plain(text: str) -> str:
    return text.replace(" ", "")


def test_a_history_reads_as_its_events_in_order_of_time(make_log):
    log = make_log([(0, NOW - 3 * DAY_MS, 0), (0, NOW - 5, 1)], 2)
    assert written(log, ["whole milk", "brie"]) == "whole milk 3 d ago , brie today ,"
    newest = written(log, ["whole milk", "brie"], order="newest_first")
    assert newest == "brie today , whole milk 3 d ago ,"
    assert written(log, ["whole milk", "brie"], gaps=False) == "whole milk , brie ,"


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (0.9, "today"),
        (1, "1 d ago"),
        (6.9, "6 d ago"),
        (7, "1 w ago"),
        (20, "2 w ago"),
        (29, "4 w ago"),
        (30, "1 mo ago"),
        (100, "3 mo ago"),
        (364, "12 mo ago"),
        (365, "1 y ago"),
        (800, "2 y ago"),
        (90_000, "20 y ago"),
    ],
)
def test_the_age_of_an_event_is_told_in_its_largest_whole_unit(days, words, make_log):
    log = make_log([(0, NOW - int(days * DAY_MS), 0)], 1)
    assert written(log, ["tea"]) == f"tea {words} ,"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (4, "(4)"),
        (4.5, "(4.5)"),
        (0, "(0)"),
        (10, "(10)"),
        (3.7, "(3.5)"),
        (0.31, "(0.3)"),
        (0.021, "(0.02)"),
        (1234, "(1000)"),
        (86, "(90)"),
        (-2, "(-2)"),
        (1e30, "(900000)"),
        (float("inf"), ""),
        (float("nan"), ""),
    ],
)
def test_a_value_is_told_as_the_nearest_that_has_words(value, words, make_log):
    log = make_log([(0, NOW - 1, 0, None, value)], 1)
    assert written(log, ["tea"], values=True, gaps=False).split() == ["tea", *words.split(), ","]


def test_types_are_named_where_there_are_several(make_log):
    log = make_log([(0, NOW - 2, 0), (0, NOW - 1, 0)], 1)
    log = replace(log, kind=np.array([1, 0], dtype=np.int8))
    chosen = HistoryText(types=True, gaps=False)
    for types, text in ((["buy", "add_to_cart"], "tea add to cart , tea buy ,"), (["buy"], None)):
        writer = HistoryWriter.make(chosen, ["tea"], types, by_words)
        if text is not None:
            assert read(writer.write(log, ask(log), Window())) == [text]
        else:
            one = replace(log, kind=np.zeros(2, dtype=np.int8))
            assert read(writer.write(one, ask(one), Window())) == ["tea , tea ,"]


def test_an_item_without_text_leaves_no_trace_and_an_empty_history_gives_an_empty_list(make_log):
    log = make_log([(0, NOW - 3, 0), (0, NOW - 2, 1), (1, NOW - 1, 1)], 2, num_users=3)
    assert written(log, ["tea", " "]) == "tea today ,"
    for user in (1, 2):
        assert written(log, ["tea", ""], ask(log, user)) == ""


def test_an_event_over_the_budget_is_left_out_and_older_ones_that_fit_are_told(make_log):
    log = make_log([(0, NOW - 3, 0), (0, NOW - 2, 1)], 2)
    assert written(log, ["tea", "a b c d e f g h"], max_tokens=8) == "tea today ,"


SIZES = {0: "", 1: "tea", 2: "rye bread", 3: "ripe red apple"}
ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 30).map(lambda d: d * DAY_MS), st.integers(0, 3)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=80)
@given(
    rows=ROWS,
    texts=st.sampled_from([(0, 1, 2, 3), (1, 1, 2, 2)]),
    budget=st.integers(8, 20),
    events=st.none() | st.integers(1, 4),
    drop=st.booleans(),
    seed=st.integers(0, 5),
)
def test_the_latest_whole_events_that_fit_are_written(
    rows, texts, budget, events, drop, seed, make_log
):
    log = make_log(rows, 4)
    requests = all_requests(log, Spec(unit="event"), 0, 2**62)
    window = Window(events=events)
    history = history_of(log, requests, window)
    kept = np.random.default_rng(seed).random(len(history.row)) < 0.6 if drop else None
    names = [SIZES[at] for at in texts]
    chosen = HistoryText(max_tokens=budget, gaps=False)
    writer = HistoryWriter.make(chosen, names, ["event"], by_words)
    found = read(writer.write(log, requests, window, kept))
    for at, text in enumerate(found):
        stay = (history.request == at) & (True if kept is None else kept)
        expected: list[str] = []
        for row in history.row[stay][::-1]:
            words = names[log.item[row]].split()
            if words and len(expected) + len(words) + 1 > budget:
                break
            expected = [*words, ",", *expected] if words else expected
        assert text.split() == expected


@settings(max_examples=30)
@given(rows=ROWS, at=st.integers(0, 24), share=st.sampled_from([0.0, 0.5]))
def test_nothing_after_the_request_changes_its_text(rows, at, share, make_log):
    log = make_log(rows, 4)
    requests = all_requests(log, Spec(task="binary", positive_above=0.5, metric="auc"), 0, 2**62)
    requests = requests.take(np.array([min(at, len(requests) - 1)]))
    chosen = HistoryText(values=True, relevant_share=share)
    writer = HistoryWriter.make(chosen, list(SIZES.values()), ["event"], by_words)
    later = np.arange(log.num_events) >= requests.end[0]
    other = replace(
        log,
        item=np.where(later, 3 - log.item, log.item).astype(np.int32),
        value=np.where(later, 9, log.value).astype(np.float32),
    )
    before = writer.write(log, requests, Window())
    after = writer.write(other, requests, Window())
    np.testing.assert_array_equal(before.ids, after.ids)


TEXTS = ["green tea", "black tea", "soap", "rope"]


def test_a_share_of_the_budget_goes_to_the_events_most_like_the_candidate(make_log):
    rows = [(0, NOW - 9 + at, item) for at, item in enumerate([0, 1, 0, 2, 3, 2, 3, 2])]
    log = make_log(rows, 4)
    request = ask(log, candidate=0)
    few = {"max_tokens": 10, "gaps": False}
    # six tokens of ten: both events of the same item; the four left are two of the latest
    best = written(log, TEXTS, request, relevant_share=0.6, **few)
    assert best == "green tea , green tea , rope , soap ,"
    # nine tokens: the other tea too; what is left is too little for another event
    assert written(log, TEXTS, request, relevant_share=0.9, **few) == (
        "green tea , black tea , green tea ,"
    )
    # three tokens: the later of two equals
    assert written(log, TEXTS, request, relevant_share=0.3, order="newest_first", **few) == (
        "soap , rope , soap , green tea ,"
    )
    # without a candidate the share has no meaning
    assert written(log, TEXTS, relevant_share=0.6, **few) == (
        written(log, TEXTS, relevant_share=0.0, **few)
    )


def test_where_nothing_is_like_the_candidate_the_latest_take_the_whole_budget(make_log):
    log = make_log([(0, NOW - 9 + at, 2) for at in range(8)], 4)
    text = written(log, TEXTS, ask(log, candidate=3), relevant_share=1.0, max_tokens=10, gaps=False)
    assert text == " ".join(["soap ,"] * 5)


def test_likeness_is_the_weight_of_shared_tokens_over_that_of_all():
    from penchant.platform.item_tokens import SAME_ITEM, Likeness

    likeness = Likeness(token_lists([*TEXTS, ""], by_words))
    found = likeness.of(np.array([0, 0, 0, 4, 4]), np.array([1, 2, 0, 4, 0]))
    tea, once = np.log1p(5 / 2), np.log1p(5)  # five items; two have `tea`
    np.testing.assert_allclose(found, [tea / (tea + 2 * once), 0, SAME_ITEM, SAME_ITEM, 0])


def test_likeness_is_the_same_pair_by_pair_and_from_a_table():
    """Many pairs of few candidates are looked up, few pairs are computed one by one."""
    from penchant.platform.item_tokens import Likeness, TokenLists

    random = np.random.default_rng(0)
    items = TokenLists.of([random.integers(0, 40, size).tolist() for size in range(60)])
    likeness = Likeness(items)
    item, other = np.repeat(np.arange(60), 3), np.tile([0, 7, 59], 60)
    alone = [likeness.of(item[[at]], other[[at]])[0] for at in range(len(item))]
    np.testing.assert_allclose(likeness.of(item, other), alone, rtol=0, atol=1e-12)


def test_lists_are_taken_in_any_order_and_again():
    lists = token_lists(
        ["a b", "", "c"], lambda texts: [[len(w) for w in t.split()] for t in texts]
    )
    assert lists.lengths.tolist() == [2, 0, 1]
    numbered = TokenLists(ids=np.array([7, 8, 9], dtype=np.int32), offsets=lists.offsets)
    taken = numbered.take(np.array([2, 0, 1, 2], dtype=np.int32))
    assert (taken.ids.tolist(), taken.offsets.tolist()) == ([9, 7, 8, 9], [0, 1, 3, 3, 4])
    assert len(numbered.take(np.zeros(0, dtype=np.int64))) == 0


def test_texts_are_cut_to_their_first_tokens_and_none_is_lost_among_many():
    texts = [f"{at} x y" for at in range(25_001)]
    lists = token_lists(texts, lambda part: [[int(t.split()[0]), 1, 2] for t in part], 2)
    assert lists.ids[::2].tolist() == list(range(25_001))
    assert set(lists.lengths.tolist()) == {2}


def test_decoded_tokens_read_as_the_text(tokenizer, make_log):
    log = make_log([(0, NOW - 3 * DAY_MS, 0, None, 4.5), (0, NOW - 5, 1, None, 2.0)], 2)
    texts = ["whole  milk", "rye\nbread"]
    expected = "whole milk (4.5) 3 d ago, rye bread (2) today,"
    writer = HistoryWriter.make(
        HistoryText(values=True), texts, ["event"], tokenizer_pieces(tokenizer)
    )
    ids = writer.write(log, ask(log), Window()).ids.tolist()
    assert plain(tokenizer.decode(ids)) == plain(expected)
    # the tokens are those of the whole text, so pieces join as the model has learned them
    lead = "" if tokenizer.cls_token_id is not None else " "
    assert ids == tokenizer(lead + expected, add_special_tokens=False)["input_ids"]


def test_emoji_languages_long_and_empty_texts_are_cut_to_whole_tokens(tokenizer):
    texts = ["", "  \n", "🥛🧀", "молоко", "牛奶", "حليب", "Käse", "cheese " * 20_000]
    lists = token_lists(texts, tokenizer_pieces(tokenizer), 24)
    lengths = lists.lengths
    assert lengths[:2].tolist() == [0, 0]
    assert (lengths[2:] > 0).all()
    assert lengths[-1] == 24
    if tokenizer.cls_token_id is None:  # bytes lose nothing
        for at in range(2, 7):
            ids = lists.take(np.array([at])).ids.tolist()
            assert tokenizer.decode(ids).strip() == texts[at]


def test_the_name_of_a_special_token_in_a_text_is_plain_letters(tokenizer):
    name = tokenizer.sep_token or tokenizer.eos_token
    ids = token_lists([f"milk {name} x"], tokenizer_pieces(tokenizer)).ids
    assert not set(ids.tolist()) & set(tokenizer.all_special_ids)


def test_a_saved_writer_writes_the_same_without_a_tokenizer(draw):
    log = draw("events", users=5, groups=6, items=4)
    requests = all_requests(log, Spec(task="binary", positive_above=0.5, metric="auc"), 0, 2**62)
    chosen = HistoryText(values=True, types=True, relevant_share=0.5, max_tokens=20)
    writer = HistoryWriter.make(chosen, TEXTS, ["buy", "view"], by_words)
    card, arrays = writer.state()
    again = HistoryWriter.from_state(json.loads(json.dumps(card)), load(save(arrays)))
    assert (again.settings, again.types) == (writer.settings, writer.types)
    assert dict(again.pieces) == dict(writer.pieces)
    one, two = (w.write(log, requests, Window()) for w in (writer, again))
    np.testing.assert_array_equal(one.ids, two.ids)
    np.testing.assert_array_equal(one.offsets, two.offsets)
    assert len(one.ids)


def test_likeness_leaves_the_items_as_they_were() -> None:
    """A text that says a word twice is summed in a copy."""
    from penchant.platform.item_tokens import Likeness, TokenLists

    items = TokenLists.of([[1, 1, 2], [3, 3], [4, 5, 6]])
    Likeness(items)
    assert items.offsets.tolist() == [0, 3, 5, 8]
    assert items.ids.tolist() == [1, 1, 2, 3, 3, 4, 5, 6]
