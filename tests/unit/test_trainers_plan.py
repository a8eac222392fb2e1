"""The training plan: pieces of histories, batches of like lengths."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.platform.config import Requests as Spec
from penchant.platform.errors import DataError
from penchant.platform.recipes import SequenceRecipe
from penchant.trainers.member import Past
from penchant.trainers.sequence.plan import TrainingPlan

EVENTS = Spec(unit="event")


def plan_of(log, *, until=2**62, spec=EVENTS, **settings) -> TrainingPlan:
    recipe = SequenceRecipe(kind="sequence", **settings)
    return TrainingPlan(recipe, Past(log=log, spec=spec, until_ms=until))


def spans(pieces) -> list[tuple[int, int]]:
    return sorted(zip(pieces.first_token.tolist(), pieces.last_token.tolist(), strict=True))


@pytest.fixture
def log(make_log):
    """Users of 3, 40 and 11 events."""
    lengths = (3, 40, 11)
    return make_log([(u, t, t % 4) for u, n in enumerate(lengths) for t in range(n)], 4)


def test_short_histories_are_one_piece_and_long_ones_are_cut_without_a_gap(log):
    plan = plan_of(log, max_tokens=6)
    cuts = set()
    for epoch in range(6):
        found = spans(plan.pieces(epoch))
        assert found[0] == (0, 3)
        assert found[-1] == (43, 54)
        middle = found[1:-1]
        assert middle[0][0] == 3
        assert middle[-1][1] == 43
        assert [end for _, end in middle[:-1]] == [begin for begin, _ in middle[1:]]
        assert all(end - begin <= 12 for begin, end in middle)
        cuts.add(middle[0][1])
    assert len(cuts) > 2  # the places move from epoch to epoch


def test_what_lies_after_the_cut_off_is_in_no_piece(log):
    assert spans(plan_of(log, until=9).pieces(0)) == [(0, 3), (3, 12), (43, 52)]


def test_pieces_without_a_request_are_not_read(log):
    """Each user is asked for something new three or four times, at the beginning."""
    plan = plan_of(log, spec=Spec(unit="event", exclude_seen=True), max_tokens=6)
    for epoch in range(3):
        first = [begin for begin, _ in spans(plan.pieces(epoch))]
        assert {0, 3, 43} <= set(first) <= {0, *range(3, 7), 43}


def test_nothing_to_learn_from_is_refused(log):
    for settings in ({"until": 0}, {"spec": Spec(unit="group", min_items=2)}):
        with pytest.raises(DataError, match="sequence: no request lies before the cut-off"):
            plan_of(log, **settings)


def test_a_batch_holds_about_its_tokens_in_pieces_of_like_lengths(make_log):
    log = make_log([(u, t, 0) for u in range(300) for t in range(1 + u % 20)], 1)
    whole = plan_of(log, batch_tokens=128)
    batches, pieces = whole.batches(0), whole.pieces(0)
    lengths = pieces.last_token - pieces.first_token + 1
    taken = np.concatenate(batches)
    assert sorted(taken.tolist()) == list(range(len(lengths)))
    sizes = np.array([lengths[chosen].sum() for chosen in batches])
    assert sizes.max() < 128 + lengths.max()
    assert np.median(sizes) > 128 - lengths.max()
    spread = [np.ptp(lengths[chosen]) for chosen in batches]
    assert np.mean(spread) < np.ptp(lengths) / 4
    longest = [int(lengths[chosen].max()) for chosen in batches]
    assert longest != sorted(longest)  # a batch of short ones may follow one of long ones


def test_a_user_whose_events_all_lie_after_the_cut_off_is_left_out(make_log):
    log = make_log([(0, 1, 0), (0, 2, 1), (1, 50, 0), (1, 60, 1), (2, 3, 1)], 2)
    plan = plan_of(log, until=10)
    assert spans(plan.pieces(0)) == [(0, 2), (4, 5)]
    step = plan.step(plan.pieces(0), np.array([0, 1]), 0, 0, 1)
    assert step.target.tolist() == [0, 1, 1]
    assert step.global_requests == 3


def test_users_without_any_event_ask_nothing_twice(make_log):
    log = make_log([(1, 1, 0), (1, 2, 1), (3, 3, 1)], 2, 5)
    plan = plan_of(log)
    steps = [plan.step(plan.pieces(0), chosen, 0, 0, 1) for chosen in plan.batches(0)]
    assert sum(step.global_requests for step in steps) == len(plan.requests) == 3


def test_dropout_follows_a_piece_into_whatever_batch_it_falls(log):
    plan = plan_of(log, dropout=0.5)
    pieces = plan.pieces(0)
    together = plan.step(pieces, np.arange(3), 0, 0, 1).batch.kept
    alone = [plan.step(pieces, np.array([at]), 0, 0, 1).batch.kept for at in range(3)]
    assert together.tolist() == [row for part in alone for row in part.tolist()]
    other = plan.step(pieces, np.array([1]), 1, 0, 1).batch.kept
    assert alone[1].tolist() != other.tolist()


def test_a_step_without_work_of_its_own_takes_part_and_adds_nothing(log):
    plan = plan_of(log)
    step = plan.step(plan.pieces(0), np.array([0, 1]), 0, 3, 5)
    assert step.global_requests == 43
    assert len(step.target) == len(step.batch.readout) == 0
