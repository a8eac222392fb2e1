"""What a text member is taught at each step: shares, pools, log-Q, and nothing of the future."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from penchant.platform.cluster import Budget
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.text_recipes import HistoryText, TextRecipe
from penchant.trainers.course import Group
from penchant.trainers.text.batches import in_groups, padded
from penchant.trainers.text.network import build_network
from penchant.trainers.text.plan import TextPlan
from penchant.trainers.text.start import plan_memory
from penchant.trainers.text.words import read_words
from penchant.trainers.zero import memory_plan


@pytest.fixture(scope="module")
def plan_of(tiny_base):
    def made(world, past=None, **settings):
        recipe = TextRecipe(
            **{"kind": "text", "base": str(tiny_base), "fit_requests": 60, "batch_requests": 8}
            | {"negatives": 6}
            | settings
        )
        past = past or world.past
        config = build_network(recipe, binary=past.spec.task == "binary").base.config
        words = read_words(recipe, past, config)
        return TextPlan(recipe, past, words.writer, words.frame, words.log_share)

    return made


@pytest.mark.parametrize("place", ["baskets", "binary"])
def test_the_shares_of_the_workers_make_up_the_batch(place, world, plan_of):
    plan = plan_of(world(place))
    lists, batches = plan.epoch(0)
    whole = plan.step(lists, batches[0], (0, 0), 0, 1)
    shares = [plan.step(lists, batches[0], (0, 0), rank, 3) for rank in range(3)]
    assert sum(len(share.weight) for share in shares) == len(whole.weight) == 8
    for rank, share in enumerate(shares):
        torch.testing.assert_close(share.wanted, whole.wanted[rank::3])
    if whole.pool is not None:
        assert sum(len(share.pool.row) for share in shares) == whole.items
        assert {len(share.pool.text) for share in shares} == {3}  # all go through together


def test_a_worker_without_requests_takes_part_but_counts_nothing(world, plan_of):
    plan = plan_of(world("binary"))
    lists, batches = plan.epoch(0)
    step = plan.step(lists, batches[0], (0, 0), 9, 10)
    assert step.weight.tolist() == [0.0]


def test_a_worker_without_items_of_the_pool_encodes_one_that_nobody_scores(world, plan_of):
    plan = plan_of(world("baskets"), batch_requests=2, negatives=0)
    lists, batches = plan.epoch(0)
    step = plan.step(lists, batches[0][:1], (0, 0), 99, 100)
    assert step.items < 99
    assert [len(text.ids) for text in step.pool.text] == [1]


# Parts of 4 requests, 2 a worker; histories of 30 tokens, items of 1, [CLS] and [SEP] around each.
# A request has up to 4 targets; the catalogue has 30 items, of which a worker reads a half. Among 6
# negatives fewer than one is drawn twice in the mean.
@pytest.mark.parametrize(
    ("place", "negatives", "expected"),
    [
        ("baskets", 6, 2 * 32 + (4 * 4 + 6) // 2 * 3),
        ("baskets", 1000, 2 * 32 + 30 // 2 * 3),
        ("binary", 6, 2 * (30 + 1 + 3)),  # [SEP] between the two as well
    ],
)
def test_the_most_tokens_are_those_of_histories_and_of_the_pool(
    place, negatives, expected, world, plan_of
):
    history = HistoryText(max_tokens=30, item_tokens=1)
    plan = plan_of(world(place), negatives=negatives, accumulation=2, history=history)
    assert plan.most_tokens(workers=2) == expected


@pytest.mark.parametrize("negatives", [0, 6, 1000])
@pytest.mark.parametrize("place", ["baskets", "binary"])
def test_no_step_passes_more_than_the_most_tokens(place, negatives, world, plan_of):
    plan = plan_of(world(place), negatives=negatives)
    lists, batches = plan.epoch(0)
    for at, batch in enumerate(batches):
        step = plan.step(lists, batch, (0, at), 0, 2)
        texts = [step.text, *(step.pool.text if step.pool else ())]
        assert sum(text.ids.numel() for text in texts) <= plan.most_tokens(workers=2)


def test_memory_is_planned_for_the_pool_and_for_checkpointing(world, plan_of, monkeypatch):
    plan = plan_of(world("baskets"))
    twice = plan_of(world("baskets"), gradient_checkpointing=True)
    network = build_network(plan.recipe, binary=False)
    config = network.base.config
    assert config.num_hidden_layers == 2
    # fp32: weights, gradients and moments take 16 bytes a number, activations 68
    state = 16 * sum(p.numel() for p in network.parameters() if p.requires_grad)
    state += 4 * sum(p.numel() for p in network.parameters() if not p.requires_grad)
    needed = state + 68 * plan.most_tokens(workers=1) * config.hidden_size * 2
    alone = Group(rank=0, workers=1)
    monkeypatch.setattr(memory_plan.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        memory_plan, "cpu_budget", lambda: Budget(cpus=1, memory_bytes=int(needed / 0.8) + 9)
    )
    assert plan_memory("auto", network, plan, alone)[0].stage == 0
    monkeypatch.setattr(
        memory_plan, "cpu_budget", lambda: Budget(cpus=1, memory_bytes=int(needed / 0.8) - 9)
    )
    with pytest.raises(ConfigError, match="takes at least"):
        plan_memory("auto", network, plan, alone)
    assert plan_memory("auto", network, twice, alone)[0].stage == 0


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_items_of_the_pool_stand_in_groups_of_like_length(rank, world, plan_of):
    plan = plan_of(world("baskets"))
    lists, batches = plan.epoch(0)
    share = plan.step(lists, batches[0], (0, 0), rank, 3)
    lengths = [text.mask.sum(1).tolist() for text in share.pool.text]
    assert sum(lengths, []) == sorted(sum(lengths, []))
    assert [text.mask.shape[1] for text in share.pool.text] == [max(each) for each in lengths]


def test_groups_of_like_length_hold_every_text_at_its_place(world, plan_of):
    plan = plan_of(world("baskets"))
    texts = plan.writer.items.take(np.array([4, 29, 0, 7, 7, 3, 11]))  # item 29 has no text
    groups, place = in_groups(texts, plan.frame, 3)
    rows = [row[: int(mask.sum())] for g in groups for row, mask in zip(g.ids, g.mask, strict=True)]
    whole = padded(texts, plan.frame)
    for at, (ids, mask) in enumerate(zip(whole.ids, whole.mask, strict=True)):
        assert rows[place[at]].tolist() == ids[: int(mask.sum())].tolist()


def test_like_lengths_come_together_candidates_included(world, plan_of):
    plan = plan_of(world("binary"), history_dropout=0.0)
    lists, batches = plan.epoch(0)
    whole = lists.lengths + plan.writer.items.lengths[plan.requests.candidate]
    spans = sorted((whole[batch].min(), whole[batch].max()) for batch in batches)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_every_request_is_learned_once_an_epoch_and_epochs_differ(world, plan_of):
    plan = plan_of(world("baskets"))
    first, again, later = plan.epoch(0), plan.epoch(0), plan.epoch(1)
    assert sorted(np.concatenate(first[1])) == list(range(60))
    assert [b.tolist() for b in first[1]] == [b.tolist() for b in again[1]]
    assert [b.tolist() for b in first[1]] != [b.tolist() for b in later[1]]
    assert first[0].ids.tolist() == again[0].ids.tolist() != later[0].ids.tolist()


def test_targets_share_what_is_wanted_and_no_right_answer_counts_as_wrong(world, plan_of):
    plan = plan_of(world("baskets"))
    lists, batches = plan.epoch(0)
    step = plan.step(lists, batches[0], (0, 0), 0, 1)
    torch.testing.assert_close(step.wanted.sum(1), torch.ones(8))
    assert not (step.hidden & (step.wanted > 0)).any()
    targets = plan.requests.take(batches[0])
    whole = [set(t) for t in np.split(targets.target, targets.target_offsets[1:-1])]
    wanted_or_hidden = ((step.wanted > 0) | step.hidden).sum(1)
    assert (wanted_or_hidden <= torch.tensor([len(t) for t in whole])).all()


def test_log_q_is_the_expected_number_of_times_an_item_comes_into_the_pool(world, plan_of):
    """By hand: targets of the batch x the item's share + negatives x its chance to be drawn."""
    here = world("baskets")
    plan = plan_of(here)
    lists, batches = plan.epoch(0)
    step = plan.step(lists, batches[0], (0, 0), 0, 1)
    share = np.exp(plan.log_share.astype(np.float64))
    assert np.isclose(share.sum(), 1, atol=1e-3)
    chance = np.sqrt(share) / np.sqrt(share).sum()
    counts = np.diff(plan.requests.take(batches[0]).target_offsets)
    expected = np.minimum(counts.clip(max=4).sum() * share + 6 * chance, 1)
    for q in np.exp(step.log_q.numpy()):
        assert np.isclose(q, expected, rtol=1e-4).any()


def test_what_comes_after_the_cut_off_is_not_learned_from(world, plan_of, make_log, log_rows):
    here = world("baskets")
    rows = [row for row in log_rows(here.log) if row[1] < here.until_ms]
    cut = replace(here.past, log=make_log(rows, here.log.num_items, here.log.num_users))
    whole, known = plan_of(here), plan_of(here, cut)
    for one, two in zip(whole.epoch(0)[1], known.epoch(0)[1], strict=True):
        assert one.tolist() == two.tolist()
    assert whole.epoch(0)[0].ids.tolist() == known.epoch(0)[0].ids.tolist()
    assert whole.requests.target.tolist() == known.requests.target.tolist()
    np.testing.assert_array_equal(whole.log_share, known.log_share)


def test_labels_of_one_class_texts_that_are_missing_or_too_long_are_refused(
    world, plan_of, make_log, log_rows
):
    here = world("binary")
    yes = [(*row[:4], 1.0) for row in log_rows(here.log)]
    past = replace(here.past, log=make_log(yes, 30))
    with pytest.raises(DataError, match="have the label 1; expected yes and no"):
        plan_of(here, past)
    with pytest.raises(DataError, match="no item has a text"):
        plan_of(here, replace(here.past, texts=("",) * 30))
    with pytest.raises(ConfigError, match=r"are 232 tokens, but .* reads at most 128"):
        plan_of(here, history=HistoryText(max_tokens=204))
