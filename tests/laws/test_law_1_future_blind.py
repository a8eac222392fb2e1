"""Law 1: changing, adding or removing any event at or after a request's time changes no score."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from penchant.platform import config
from penchant.platform.requests import Requests, all_requests, latest_requests
from penchant.trainers.boosted.item_facts import item_facts
from penchant.trainers.member import Past
from penchant.trainers.sequence.network import SequenceNetwork, basket_loss
from penchant.trainers.sequence.plan import TrainingPlan

HOUR_MS = 3_600_000
FUTURES = ("removed", "changed", "longer")
PLACES = ("baskets", "events", "sessions", "session-events")
#: Kinds that are fitted in one go; a sequence member's fit is its training losses.
FITTED = [
    *(
        (name, place)
        for name in ("popularity", "personal", "item_item", "boosted")
        for place in PLACES
    ),
    *((name, "binary") for name in ("popularity", "personal", "boosted")),
]


def one_of_each_user(world, seed=0):
    """A request of each user, from anywhere in the log."""
    found = all_requests(world.log, world.spec, 0, np.iinfo(np.int64).max)
    shuffled = np.random.default_rng(seed).permutation(len(found))
    return found.take(shuffled[np.unique(found.user[shuffled], return_index=True)[1]])


def with_future(log, end, at_ms, future, make_log, log_rows):
    """The log with another future for every user: from row `end[u]` on, at `at_ms[u]` or later.

    The other future begins with events that go on in the last visible group, where there is one.
    """
    random = np.random.default_rng(7)
    rows, changed = log_rows(log), []
    for user in range(log.num_users):
        past = rows[log.offsets[user] : end[user]]
        changed += past
        length = {"removed": 0, "changed": log.offsets[user + 1] - end[user], "longer": 40}[future]
        moment = int(at_ms[user])
        for number in range(length):
            group = None
            if log.group is not None:
                group = past[-1][3] if past and number < 2 else 10_000 + number // 3
            item, value = int(random.integers(log.num_items)), float(random.random())
            changed.append((user, moment, item, group, value))
            moment += int(random.integers(0, 9)) * HOUR_MS
    return make_log(changed, log.num_items, log.num_users)


def moved(requests, before, after):
    """The same requests on a log in which users' rows stand elsewhere."""
    shift = (after.offsets - before.offsets)[requests.user]
    return dataclasses.replace(requests, row=requests.row + shift, end=requests.end + shift)


def at_cut_off(log, until_ms):
    """Every user asked at the cut-off, as an endpoint would ask."""
    known = np.concatenate([[0], np.cumsum(log.time_ms < until_ms)])
    end = log.offsets[:-1] + known[log.offsets[1:]] - known[log.offsets[:-1]]
    users = np.arange(log.num_users, dtype=np.int32)
    return Requests(
        row=end,
        user=users,
        time_ms=np.full(len(users), until_ms),
        end=end,
        target_offsets=np.zeros(len(users) + 1, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
    )


@pytest.mark.parametrize("future", FUTURES)
def test_no_score_depends_on_what_comes_at_or_after_the_request(case, future, make_log, log_rows):
    member, world = case
    requests = one_of_each_user(world)
    assert len(requests) == world.log.num_users
    other = with_future(world.log, requests.end, requests.time_ms, future, make_log, log_rows)
    scores = member.score(world.log, requests)
    np.testing.assert_allclose(
        member.score(other, moved(requests, world.log, other)), scores, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("future", FUTURES)
@pytest.mark.parametrize(("name", "place"), FITTED)
def test_no_fit_depends_on_what_comes_at_or_after_the_cut_off(
    name, place, future, world, recipes, fit_member, make_log, log_rows
):
    here = world(place)
    asked = at_cut_off(here.log, here.until_ms)
    other = with_future(here.log, asked.end, asked.time_ms, future, make_log, log_rows)
    if place == "binary":
        asked = dataclasses.replace(asked, candidate=(asked.user % 30).astype(np.int32))
    first = fit_member(recipes[name], here.past)
    second = fit_member(recipes[name], dataclasses.replace(here.past, log=other))
    np.testing.assert_allclose(
        second.score(other, moved(asked, here.log, other)),
        first.score(here.log, asked),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("future", FUTURES)
@pytest.mark.parametrize("place", PLACES)
def test_no_training_loss_depends_on_what_comes_at_or_after_the_cut_off(
    place, future, world, recipes, make_log, log_rows
):
    here, recipe = world(place), recipes["sequence-groups"]
    asked = at_cut_off(here.log, here.until_ms)
    other = with_future(here.log, asked.end, asked.time_ms, future, make_log, log_rows)
    torch.manual_seed(0)
    network = SequenceNetwork(recipe, 30, None)
    losses = []
    for log in (here.log, other):
        plan = TrainingPlan(recipe, dataclasses.replace(here.past, log=log))
        pieces = plan.pieces(0)
        for chosen in plan.batches(0):
            step = plan.step(pieces, chosen, 0, 0, 1)
            loss = basket_loss(network(step.batch), step.target, step.target_request)
            losses.append(loss.detach().sum().item())
    half = len(losses) // 2
    assert losses[:half] == pytest.approx(losses[half:])


def test_training_targets_never_lie_at_or_after_the_cut_off(make_log):
    """Of a session that begins before the cut-off and ends after it, the first part is known."""
    log = make_log([(0, 1, 0, 0), (0, 5, 1, 1), (0, 9, 2, 1)], 3)
    spec = config.Requests(unit="group")
    assert all_requests(log, spec, 0, 9).target.tolist() == [0, 1]
    assert all_requests(log, spec, 0, 10).target.tolist() == [0, 1, 2]
    assert latest_requests(log, spec, 9, 10, 0).target.tolist() == [0, 1]
    pairs = config.Requests(unit="group", min_items=2)
    assert all_requests(log, pairs, 0, 9).row.tolist() == []
    assert all_requests(log, pairs, 0, 10).row.tolist() == [1]


def test_the_size_of_a_group_counts_only_what_is_known_of_it(make_log):
    rows = [(0, 1, 0, 0), (0, 2, 1, 0), (0, 8, 2, 0), (0, 9, 3, 0)]
    whole, known = make_log(rows, 4), make_log(rows[:2], 4)
    facts = [
        item_facts(Past(log=log, spec=config.Requests(), until_ms=8)) for log in (whole, known)
    ]
    np.testing.assert_array_equal(facts[0], facts[1])
