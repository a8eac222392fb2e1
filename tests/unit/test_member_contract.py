"""What holds for every member, of every kind, on every world whose task it can answer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from penchant.platform import config
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.requests import Requests, all_requests
from penchant.trainers.fit import fit_baseline, load_member
from penchant.trainers.member import Past

DAY_MS = 86_400_000


def asked_at(log, users, ends, time_ms, candidate=None) -> Requests:
    """Requests without an answer, as an endpoint asks them."""
    number = len(users)
    return Requests(
        row=np.array(ends, dtype=np.int64),
        user=np.array(users, dtype=np.int32),
        time_ms=np.full(number, time_ms, dtype=np.int64),
        end=np.array(ends, dtype=np.int64),
        target_offsets=np.zeros(number + 1, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
        candidate=candidate,
    )


def candidates_for(world, number):
    binary = world.spec.task == "binary"
    return np.arange(number, dtype=np.int32) % world.log.num_items if binary else None


def test_scores_have_the_right_shape_and_are_finite(case):
    member, world = case
    requests = world.asked()
    assert len(requests) > 20
    scores = member.score(world.log, requests)
    width = 1 if world.spec.task == "binary" else world.log.num_items
    assert scores.shape == (len(requests), width)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert member.num_parameters > 0


def test_no_requests_give_no_scores(case):
    member, world = case
    scores = member.score(world.log, world.asked().take(np.zeros(0, dtype=np.int64)))
    assert scores.shape == (0, 1 if world.spec.task == "binary" else world.log.num_items)


def test_permuting_requests_permutes_scores(case):
    member, world = case
    requests = world.asked()
    order = np.random.default_rng(0).permutation(len(requests))
    np.testing.assert_allclose(
        member.score(world.log, requests.take(order)),
        member.score(world.log, requests)[order],
        rtol=0,
        atol=1e-5,
    )


def test_a_request_alone_scores_as_among_others(case):
    member, world = case
    requests = world.asked()
    together = member.score(world.log, requests)
    for at in range(0, len(requests), 4):
        alone = member.score(world.log, requests.take(np.array([at])))
        np.testing.assert_allclose(alone[0], together[at], rtol=0, atol=1e-5)


def test_the_same_request_twice_scores_the_same(case):
    member, world = case
    requests = world.asked().take(np.array([3, 3, 5]))
    first, second, _ = member.score(world.log, requests)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)


def test_an_empty_history_and_one_of_a_single_event_have_finite_scores(case, make_log):
    member, world = case
    log = make_log([(1, 10 * DAY_MS, 4, 0 if world.log.group is not None else None)], 30, 2)
    asked = asked_at(log, [0, 1, 1], [0, 0, 1], 11 * DAY_MS, candidates_for(world, 3))
    scores = member.score(log, asked)
    assert np.isfinite(scores).all()
    if world.spec.task != "binary":  # a user without events is like one whose events come later
        np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-6)


def test_a_log_without_any_event_has_finite_scores(case, make_log):
    member, world = case
    log = make_log([], 30, 1)
    scores = member.score(log, asked_at(log, [0], [0], 11 * DAY_MS, candidates_for(world, 1)))
    assert np.isfinite(scores).all()


def test_other_users_change_nothing_once_a_member_is_fitted(case, make_log, log_rows):
    """So that the log behind a request may be the ten events of an HTTP body."""
    member, world = case
    requests = world.asked()
    scores = member.score(world.log, requests)
    for at in (0, len(requests) - 1):
        user = int(requests.user[at])
        rows = log_rows(world.log)[world.log.offsets[user] : requests.end[at]]
        log = make_log([(0, *row[1:]) for row in rows], world.log.num_items, 1)
        candidate = None if requests.candidate is None else requests.candidate[[at]]
        alone = asked_at(log, [0], [len(rows)], requests.time_ms[at], candidate)
        np.testing.assert_allclose(member.score(log, alone)[0], scores[at], rtol=0, atol=1e-5)


def test_events_outside_the_window_change_nothing(case, make_log, log_rows):
    """All events that the window hides are replaced; popularity's window lies before its fit."""
    member, world = case
    window = member.recipe.window
    if member.recipe.kind == "popularity":
        window = window.model_copy(update={"events": 1})
    log, requests, random = world.log, world.asked(), np.random.default_rng(3)
    start = window.starts(log.time_ms, requests.first(log), requests.end, requests.time_ms)
    unlimited = window.days is None and window.events is None
    assert bool((start > requests.first(log)).any()) is not unlimited
    rows = log_rows(log)
    for user, first, end in zip(requests.user, start, requests.end, strict=True):
        # the group that the window cuts through is visible in part: it is left as it is
        if log.group is not None and first < end:
            first = log.group_starts[np.searchsorted(log.group_starts, first, side="right") - 1]
        for row in range(log.offsets[user], first):
            who, when, _, group, _ = rows[row]
            rows[row] = (who, when, int(random.integers(30)), group, float(random.random()))
    other = make_log(rows, log.num_items, log.num_users)
    np.testing.assert_allclose(
        member.score(other, requests), member.score(log, requests), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("unit", ["group", "event"])
def test_a_catalogue_of_one_item_is_learned_and_scored(unit, recipes, fit_member, make_log):
    rows = [(user, (1 + at) * DAY_MS + user, 0, at) for user in range(8) for at in range(9)]
    log = make_log(rows, 1)
    past = Past(log=log, spec=config.Requests(unit=unit), until_ms=8 * DAY_MS)
    asked = all_requests(log, past.spec, past.until_ms, 100 * DAY_MS)
    for name, recipe in recipes.items():
        scores = fit_member(recipe, past).score(log, asked)
        assert scores.shape == (len(asked), 1), name
        assert np.isfinite(scores).all(), name


def test_a_user_with_one_event_and_a_log_of_equal_items_has_finite_scores(
    recipes, fit_member, make_log
):
    """All events are of one item of five; members that count put it first."""
    rows = [(user, (1 + at) * DAY_MS + user, 2, at) for user in range(8) for at in range(9)]
    rows.append((8, 3 * DAY_MS, 2, 0))
    log = make_log(rows, 5)
    past = Past(log=log, spec=config.Requests(unit="group"), until_ms=8 * DAY_MS)
    asked = asked_at(log, [8], [log.num_events], 9 * DAY_MS)
    for name, recipe in recipes.items():
        scores = fit_member(recipe, past).score(log, asked)
        assert np.isfinite(scores).all(), name
        if recipe.kind in ("popularity", "personal"):
            assert int(scores[0].argmax()) == 2, name


def test_fitting_twice_gives_the_same_scores(world, recipes, fit_member):
    here = world("baskets")
    for name, recipe in recipes.items():
        scores = [fit_member(recipe, here.past).score(here.log, here.asked()) for _ in range(2)]
        np.testing.assert_array_equal(*scores, err_msg=name)


def test_a_sequence_member_is_not_fitted_in_one_task(recipes, world):
    with pytest.raises(TypeError, match="sequence members are trained by a worker group"):
        fit_baseline(recipes["sequence-groups"], world("baskets").past)


@pytest.mark.parametrize("name", ["item_item", "sequence-groups"])
def test_members_that_rank_refuse_a_binary_request(name, recipes, world, fit_member):
    here, binary = world("baskets"), world("binary")
    with pytest.raises(ConfigError, match="members rank items"):
        fit_member(recipes[name], here.past).score(binary.log, binary.asked())
    if name == "item_item":
        with pytest.raises(ConfigError, match="members rank items: remove them"):
            fit_member(recipes[name], binary.past)


@pytest.mark.parametrize(
    "name", ["popularity", "personal", "item_item", "boosted", "sequence-text"]
)
def test_a_member_of_another_kind_version_or_none_is_refused(
    name, recipes, world, fit_member, tmp_path
):
    member = fit_member(recipes[name], world("baskets").past)
    with pytest.raises(DataError, match=r"holds no member: expected a member\.json"):
        load_member(tmp_path / "member")
    member.save(tmp_path / "member")
    path = tmp_path / "member" / "member.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"version": 99}))
    with pytest.raises(DataError, match="version 99, expected 1"):
        load_member(tmp_path / "member")
    other = recipes["popularity" if name != "popularity" else "personal"]
    path.write_text(json.dumps(card | {"recipe": other.model_dump(mode="json")}))
    with pytest.raises(TypeError, match=f"holds a {other.kind} member, expected"):
        type(member).load(tmp_path / "member")
