"""Engines agree with torch or are not taken; what was read once is not read again."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from penchant.platform.errors import RunError
from penchant.platform.item_tokens import TokenLists
from penchant.trainers.text import onnx_engine as onnx
from penchant.trainers.text.batches import Frame, Padded, framed, like_lengths, padded, row_keys
from penchant.trainers.text.engine import VectorCache, choose
from penchant.trainers.text.network import TextNetwork
from penchant.trainers.text.reading import read_texts

FRAME = Frame(begin=(1,), middle=(2,), end=(2,), pad=0)


class Fake:
    """Says of each text the sum of its tokens, `off` beside it; notes what it was asked."""

    def __init__(self, name="torch", *, off=0.0, wait_s=0.0, batch_tokens=256):
        self.name, self.off, self.wait_s, self.batch_tokens = name, off, wait_s, batch_tokens
        self.read: list[int] = []

    def __call__(self, ids, mask):
        time.sleep(self.wait_s)
        self.read += (ids * mask).sum(axis=1).tolist()
        return ((ids * mask).sum(axis=1, keepdims=True) + self.off).astype(np.float32)


TRIALS = [(np.ones((2, 3), dtype=np.int64), np.ones((2, 3), dtype=np.int64))]


def chosen(name, other, plain=None):
    def make():
        if isinstance(other, Exception):
            raise other
        return other

    return choose(name, plain or Fake(), make, TRIALS, np.asarray).name


def test_auto_takes_the_faster_engine():
    slow = 0.002
    assert chosen("auto", Fake("onnx"), Fake(wait_s=slow)) == "onnx"
    assert chosen("auto", Fake("onnx", wait_s=slow)) == "torch"


@pytest.mark.parametrize("off", [2e-5, np.nan, np.inf])
def test_no_engine_with_other_answers_is_taken(off, caplog):
    other = Fake("onnx", off=off)
    assert chosen("auto", other, Fake(wait_s=0.002)) == "torch"
    assert len(caplog.records) == 1
    with pytest.raises(RunError, match=r"engine onnx answers .* beside torch .* Use the engine"):
        chosen("onnx", other)


def test_auto_stays_with_torch_where_the_export_fails_and_says_so_once(caplog):
    broken = NotImplementedError("an operator")
    assert chosen("auto", broken) == "torch"
    assert [record.getMessage() for record in caplog.records] == [
        "engine torch: the export to ONNX failed (NotImplementedError)"
    ]
    with pytest.raises(RunError, match=r"could not be made .*an operator"):
        chosen("onnx", broken)


def test_eight_bits_are_taken_by_choice_alone_and_their_difference_is_told(caplog):
    caplog.set_level(logging.INFO)
    assert chosen("onnx-int8", Fake("onnx-int8", off=0.25)) == "onnx-int8"
    assert "engine onnx-int8: ONNX answers 0.25 beside torch" in caplog.text
    with pytest.raises(RunError, match="engine onnx-int8 answers inf"):
        chosen("onnx-int8", Fake("onnx-int8", off=np.nan))


def test_torch_by_choice_makes_nothing_else():
    assert chosen("torch", AssertionError()) == "torch"


def vector(*numbers):
    return np.array(numbers, dtype=np.float32)


def test_a_cache_forgets_what_was_not_used_for_longest():
    cache = VectorCache(3 * (1 + 8 + 250))  # three keys of one byte with two numbers each
    for key in (b"a", b"b", b"c"):
        cache.put(key, vector(1, 2))
    assert cache.get(b"a") is not None
    cache.put(b"d", vector(3, 4))
    assert cache.get(b"b") is None
    assert [cache.get(key) is not None for key in (b"a", b"c", b"d")] == [True, True, True]
    assert (cache.hits, cache.misses, len(cache)) == (4, 1, 3)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=30))
def test_a_cache_never_takes_more_than_it_may_and_never_tells_what_was_not_put(puts):
    cache, last = VectorCache(900), {}
    for name, size in puts:
        key = bytes([name])
        last[key] = np.arange(size, dtype=np.float32)
        cache.put(key, last[key])
        assert 0 <= cache.num_bytes <= 900
    for key, put in last.items():
        found = cache.get(key)
        assert found is None or np.array_equal(found, put)
    cache.clear()
    assert (len(cache), cache.num_bytes) == (0, 0)


def test_a_cached_vector_does_not_change_with_the_array_that_was_put():
    cache, given_ = VectorCache(1000), vector(1, 2)
    cache.put(b"a", given_)
    given_[:] = 9
    np.testing.assert_array_equal(cache.get(b"a"), [1, 2])


def test_equal_texts_are_read_once_and_cached_ones_not_at_all():
    engine, cache = Fake(), VectorCache(10_000)
    texts = TokenLists.of([[5, 6], [7], [5, 6], []])
    for _ in range(2):
        said = read_texts(engine, np.asarray, texts, FRAME, 1, cache)
        np.testing.assert_array_equal(said[:, 0], [11, 7, 11, 0])
    assert sorted(engine.read) == [0, 7, 11]
    assert (cache.hits, cache.misses) == (3, 3)


def test_no_texts_give_no_vectors():
    assert read_texts(Fake(), np.asarray, TokenLists.of([]), FRAME, 4).shape == (0, 4)


def test_a_candidate_and_a_history_are_not_mistaken_for_others_with_the_same_tokens():
    one = framed(TokenLists.of([[6, 7]]), FRAME, TokenLists.of([[5]]))
    two = framed(TokenLists.of([[7]]), FRAME, TokenLists.of([[5, 6]]))
    assert one.ids.tolist() == [1, 5, 2, 6, 7, 2]
    assert row_keys(one) != row_keys(two)


def test_padding_stands_behind_each_text_and_outside_the_mask():
    text = padded(TokenLists.of([[5, 6], []]), FRAME, TokenLists.of([[7], [8]]))
    assert text.ids.tolist() == [[1, 7, 2, 5, 6, 2], [1, 8, 2, 2, 0, 0]]
    assert text.mask.tolist() == [[1] * 6, [1] * 4 + [0] * 2]


@given(st.lists(st.integers(0, 150), max_size=60), st.integers(1, 400))
def test_batches_hold_every_row_once_within_the_budget_and_in_order_of_length(lengths, budget):
    sizes = np.array(lengths, dtype=np.int64)
    batches = list(like_lengths(sizes, budget))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * max(1, sizes[b].max()) <= budget for b in batches)
    in_order = [sizes[row] for batch in batches for row in batch]
    assert in_order == sorted(in_order)


def ragged(vocabulary, rows, longest):
    random = np.random.default_rng(0)
    lengths = np.append(random.integers(1, longest + 1, rows - 1), longest)
    mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
    return random.integers(5, vocabulary, (rows, longest)), mask


def same_as_the_network(network, engine, vocabulary):
    for rows, longest in ((1, 1), (1, 9), (2, 2), (5, 17)):
        ids, mask = ragged(vocabulary, rows, longest)
        with torch.inference_mode():
            text = Padded(ids=torch.from_numpy(ids), mask=torch.from_numpy(mask))
            expected = network.vectors(text).numpy()
        np.testing.assert_allclose(engine(ids, mask), expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def encoder(tiny_base):
    base = transformers.AutoModel.from_pretrained(tiny_base, local_files_only=True)
    return TextNetwork(base, terms=0, binary=True).eval()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.mark.slow
def test_an_encoder_says_the_same_in_onnx_for_any_number_of_texts_and_tokens(encoder, kept):
    engine = onnx.onnx_engine(encoder, int8=False, threads=1, cache_dir=kept)
    same_as_the_network(encoder, engine, encoder.base.config.vocab_size)


@pytest.mark.slow
def test_a_decoder_says_the_same_in_onnx_from_its_last_token(tmp_path):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
    )
    network = TextNetwork(transformers.LlamaModel(config), terms=0, binary=True).eval()
    engine = onnx.onnx_engine(network, int8=False, threads=1, cache_dir=tmp_path)
    same_as_the_network(network, engine, 40)


@pytest.mark.slow
def test_eight_bits_point_where_the_network_points(encoder, kept):
    engine = onnx.onnx_engine(encoder, int8=True, threads=1, cache_dir=kept)
    ids, mask = ragged(encoder.base.config.vocab_size, 5, 17)
    with torch.inference_mode():
        text = Padded(ids=torch.from_numpy(ids), mask=torch.from_numpy(mask))
        expected = encoder.vectors(text)
    cosine = torch.nn.functional.cosine_similarity(expected, torch.from_numpy(engine(ids, mask)))
    assert cosine.min() > 0.99


@pytest.mark.slow
def test_replicas_that_start_together_export_once_and_other_weights_export_anew(
    encoder, kept, monkeypatch
):
    made = []

    def export(network, file):
        made.append(file)
        time.sleep(0.05)
        file.write_bytes((source / "fp32" / "model.onnx").read_bytes())
        data = source / "fp32" / "model.onnx.data"
        file.with_name(data.name).write_bytes(data.read_bytes())

    onnx.onnx_engine(encoder, int8=False, threads=1, cache_dir=kept)
    source = next(path for path in kept.iterdir() if path.is_dir())
    monkeypatch.setattr(onnx, "_export", export)
    other = TextNetwork(encoder.base, terms=0, binary=True).eval()
    with torch.no_grad():
        parameter = next(iter(encoder.base.parameters()))
        before = parameter[0, 0].item()
        parameter[0, 0] += 1
    try:
        with ThreadPoolExecutor(4) as pool:
            start = lambda _: onnx.onnx_engine(other, int8=False, threads=1, cache_dir=kept)  # noqa: E731
            engines = list(pool.map(start, range(4)))
    finally:
        with torch.no_grad():
            parameter[0, 0] = before
    assert len(engines) == 4
    assert len(made) == 1
    assert source not in made[0].parents
