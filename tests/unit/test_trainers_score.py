"""What is kept of a member: masked scores of every block, then its facts."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from penchant.platform.binary import auc
from penchant.platform.config import Requests as Spec
from penchant.platform.metrics import quick_metric
from penchant.platform.requests import all_requests
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.trainers.fit import load_member
from penchant.trainers.score import keep_member, masked_scores, seen_items


@pytest.mark.parametrize("place", ["baskets", "binary"])
def test_the_card_of_a_model_tells_its_data_and_how_good_it_was(
    place, world, recipes, fit_member, tmp_path
):
    here, run = world(place), RunDirectory(tmp_path)
    member = fit_member(recipes["text"], here.past)
    asked, facts = here.asked(), {"until_ms": here.until_ms}
    halves = {Block.SELECT: asked.take(np.arange(12)), Block.TEST: asked}
    keep_member(run, "m", member, here.log, halves, facts, exclude_seen=False)
    card = (run.member("m") / "README.md").read_text()
    known = here.log.time_ms[here.log.time_ms < here.until_ms]
    day = datetime.fromtimestamp(known.min() / 1000, UTC).date()
    assert f"| events | {len(known):,}, from {day}T" in card
    scores = member.score(here.log, asked)
    if place == "binary":
        expected = f"auc {auc(scores[:, 0], asked.label):.4f}, log_loss "
    else:
        expected = f"ndcg@10 {quick_metric(scores, asked, 'ndcg@10'):.4f}, recall@10 "
    assert card.count(f"| `test` | {expected}") == 1
    assert card.count("\n| `select` | ") == 1


@pytest.mark.parametrize("place", ["baskets", "binary"])
@pytest.mark.parametrize("held_out", [True, False])
def test_the_card_of_a_model_is_silent_on_blocks_that_it_has_learned_from(
    place, held_out, world, recipes, fit_member, tmp_path
):
    """As a refit has from `select`: one request before the cut-off, and the mean is no proof."""
    here, run = world(place), RunDirectory(tmp_path)
    member, asked = fit_member(recipes["text"], here.past), here.asked()
    asked = asked.take(np.argsort(asked.time_ms, kind="stable"))
    first_ms = int(asked.time_ms[0])
    later = asked.take(np.flatnonzero(asked.time_ms > first_ms))
    blocks = {Block.SELECT: asked, Block.TEST: later}
    facts = {"until_ms": first_ms if held_out else first_ms + 1}
    keep_member(run, "m", member, here.log, blocks, facts, exclude_seen=False)
    card = (run.member("m") / "README.md").read_text()
    assert card.count("`select`") == held_out
    assert card.count("| `test` | ") == 1
    assert len(run.read_predictions(Block.SELECT, "m", asked.row)) == len(asked)


def test_seen_items_are_all_that_came_before_the_request(make_log):
    log = make_log([(0, 1, 2, 0), (0, 5, 0, 1), (0, 5, 2, 1), (1, 5, 1, 0), (0, 9, 1, 2)], 3)
    requests = all_requests(log, Spec(unit="group"), 0, 99)
    assert requests.row.tolist() == [0, 1, 3, 4]
    seen = seen_items(log, requests)
    assert seen.tolist() == [
        [False, False, False],
        [False, False, True],
        [True, False, True],
        [False, False, False],
    ]


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_only_seen_items_are_masked_and_only_when_asked(exclude_seen, world, recipes, fit_member):
    here = world("baskets")
    member = fit_member(recipes["popularity"], here.past)
    requests = here.asked()
    scores = masked_scores(member, here.log, requests, exclude_seen=exclude_seen)
    hidden = seen_items(here.log, requests) & exclude_seen
    np.testing.assert_array_equal(np.isneginf(scores), hidden)
    np.testing.assert_array_equal(scores[~hidden], member.score(here.log, requests)[~hidden])
    assert scores.dtype == np.float32


def test_a_candidate_of_a_binary_request_is_never_masked(world, recipes, fit_member):
    here = world("binary")
    member = fit_member(recipes["personal"], here.past)
    scores = masked_scores(member, here.log, here.asked(), exclude_seen=True)
    assert np.isfinite(scores).all()


def test_a_member_is_done_only_once_all_of_it_is_kept(
    world, recipes, fit_member, tmp_path, monkeypatch
):
    here, run = world("baskets"), RunDirectory(tmp_path)
    member = fit_member(recipes["personal"], here.past)
    requests = {block: here.asked() for block in (Block.SELECT, Block.TEST)}
    facts = {"train_s": 1.5, "history": []}

    def die(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(RunDirectory, "write_predictions", die)
        with pytest.raises(KeyboardInterrupt):
            keep_member(run, "p", member, here.log, requests, facts, exclude_seen=True)
    assert not run.has_member("p")
    keep_member(run, "p", member, here.log, requests, facts, exclude_seen=True)
    assert run.has_member("p")
    card = json.loads((run.member("p") / "metrics.json").read_text())
    assert card["train_s"] == 1.5
    assert card["params"] == member.num_parameters == 30
    assert 0 < card["score_ms"] < 1000
    kept = run.read_predictions(Block.TEST, "p", here.asked().row)
    expected = masked_scores(
        load_member(run.member("p")), here.log, here.asked(), exclude_seen=True
    )
    np.testing.assert_array_equal(kept, expected)
