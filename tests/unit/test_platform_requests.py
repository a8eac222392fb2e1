"""What is asked at which moment: histories end before the answer, targets pass the filters."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.platform.config import Requests as Spec
from penchant.platform.errors import DataError
from penchant.platform.requests import (
    all_requests,
    block_requests,
    latest_requests,
    ranges,
    read_requests,
    was_seen,
)
from penchant.platform.timeline import Block, Blocks

FOREVER = 10**9
GROUPS = Spec(unit="group")
EVENTS = Spec(unit="event")


def answers(requests) -> list[tuple]:
    """(user, time, end, targets, of which seen before), one a request."""
    offsets = requests.target_offsets
    return [
        (
            int(requests.user[at]),
            int(requests.time_ms[at]),
            int(requests.end[at]),
            requests.target[offsets[at] : offsets[at + 1]].tolist(),
            requests.target_seen[offsets[at] : offsets[at + 1]].tolist(),
        )
        for at in range(len(requests))
    ]


def slow_requests(rows, spec, start, stop) -> list[tuple]:
    """The same by scanning each user's rows; rows are (user, time, item, group) in log order."""
    found = []
    for user in sorted({row[0] for row in rows}):
        own = [(at, row) for at, row in enumerate(rows) if row[0] == user]
        asked: list[list] = []
        for at, row in own:
            new = spec.unit == "event" or not asked or asked[-1][-1][1][3] != row[3]
            asked += [[]] if new else []
            asked[-1].append((at, row))
        for group in asked:
            at, (_, time, *_) = group[0]
            if not start <= time < stop:
                continue
            past = [r for a, r in own if (a < at if spec.unit == "event" else r[1] < time)]
            had = {r[2] for r in past}
            known = [r[2] for _, r in group if r[1] < stop]
            items = sorted(set(known))
            if len(known) < spec.min_items:
                continue
            if spec.exclude_seen:
                items = [item for item in items if item not in had]
            if len(items) < spec.min_items:
                continue
            seen = [item in had for item in items]
            found.append((user, time, own[0][0] + len(past), items, seen))
    return found


def test_the_next_group_is_asked_with_its_distinct_items(make_log):
    log = make_log([(0, 1, 3, 0), (0, 1, 2, 0), (0, 1, 3, 0), (0, 2, 2, 1), (0, 2, 0, 1)], 4)
    assert answers(all_requests(log, GROUPS, 0, FOREVER)) == [
        (0, 1, 0, [2, 3], [False, False]),
        (0, 2, 3, [0, 2], [False, True]),
    ]


def test_groups_of_the_same_moment_are_not_in_one_anothers_history(make_log):
    log = make_log([(0, 1, 0, 0), (0, 5, 1, 1), (0, 5, 2, 2), (0, 5, 3, 3)], 4)
    assert [row[2] for row in answers(all_requests(log, GROUPS, 0, FOREVER))] == [0, 1, 1, 1]
    assert all_requests(log, GROUPS, 0, FOREVER).row.tolist() == [0, 1, 2, 3]


def test_events_of_the_same_moment_keep_their_input_order(make_log):
    log = make_log([(0, 5, 2), (0, 5, 0), (0, 5, 2), (0, 4, 1)], 3)
    assert answers(all_requests(log, EVENTS, 0, FOREVER)) == [
        (0, 4, 0, [1], [False]),
        (0, 5, 1, [2], [False]),
        (0, 5, 2, [0], [False]),
        (0, 5, 3, [2], [True]),
    ]


def test_small_groups_are_not_asked_but_stay_in_the_history(make_log):
    log = make_log([(0, 1, 0, 0), (0, 2, 0, 1), (0, 2, 1, 1), (0, 3, 2, 2), (0, 3, 2, 2)], 3)
    two = Spec(unit="group", min_items=2)
    # the last group has two events, but of one item
    assert answers(all_requests(log, two, 0, FOREVER)) == [(0, 2, 1, [0, 1], [True, False])]


def test_seen_items_are_not_asked_for_when_excluded(make_log):
    rows = [(0, 1, 0, 0), (0, 2, 0, 1), (0, 2, 1, 1), (0, 3, 0, 2), (0, 3, 1, 2)]
    spec = Spec(unit="group", exclude_seen=True)
    assert answers(all_requests(make_log(rows, 3), spec, 0, FOREVER)) == [
        (0, 1, 0, [0], [False]),
        (0, 2, 1, [1], [False]),
    ]


def test_binary_requests_have_a_candidate_and_the_label_of_its_value(make_log):
    rows = [(0, 1, 2, None, 3.0), (0, 2, 0, None, 3.5), (1, 1, 1, None, 4.0)]
    spec = Spec(task="binary", positive_above=3.0, metric="auc")
    found = all_requests(make_log(rows, 3), spec, 0, FOREVER)
    assert found.candidate.tolist() == [2, 0, 1]
    assert found.label.tolist() == [0.0, 1.0, 1.0]
    assert found.end.tolist() == [0, 1, 2]
    assert len(found.target) == 0


def test_a_span_holds_its_start_and_not_its_end(make_log):
    log = make_log([(0, t, 0) for t in (1, 2, 3, 4)], 1)
    assert all_requests(log, EVENTS, 2, 4).time_ms.tolist() == [2, 3]
    assert len(all_requests(log, EVENTS, 5, 9)) == 0


ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(0, 4), st.integers(0, 2)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=80)
@given(
    rows=ROWS,
    unit=st.sampled_from(["group", "event"]),
    least=st.integers(1, 2),
    exclude_seen=st.booleans(),
    start=st.integers(0, 4),
    length=st.integers(1, 7),
)
def test_requests_are_what_a_scan_of_each_user_finds(
    rows, unit, least, exclude_seen, start, length, make_log, log_rows
):
    least = least if unit == "group" else 1
    spec = Spec(unit=unit, min_items=least, exclude_seen=exclude_seen)
    log = make_log(rows, 5)
    found = all_requests(log, spec, start, start + length)
    assert answers(found) == slow_requests(log_rows(log), spec, start, start + length)


@settings(max_examples=50)
@given(rows=ROWS, data=st.data())
def test_was_seen_is_what_a_scan_finds(rows, data, make_log):
    log = make_log(rows, 5, 3)
    asked = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, len(rows))))
    )
    user, item, end = (
        (np.array(c, dtype=np.int32) for c in zip(*asked, strict=True))
        if asked
        else (np.zeros(0, np.int32),) * 3
    )
    expected = [any(log.user[r] == u and log.item[r] == i for r in range(e)) for u, i, e in asked]
    assert was_seen(log, user, item, end).tolist() == expected


def test_take_keeps_the_order_it_is_given(make_log):
    log = make_log([(0, t, t % 3, t // 2) for t in range(8)], 3)
    found = all_requests(log, GROUPS, 0, FOREVER)
    whole = answers(found)
    order = np.array([3, 0, 0, 2])
    assert answers(found.take(order)) == [whole[at] for at in order]
    assert answers(found.take(order[:0])) == []
    assert found.first(log).tolist() == [0, 0, 0, 0]


BLOCKS = Blocks(train_ms=0, select_ms=100, blend_ms=200, test_ms=300, end_ms=400)


def test_a_block_is_sampled_with_the_seed_in_the_logs_order_and_never_above_the_cap(make_log):
    log = make_log([(u, t, 0) for u in range(3) for t in range(0, 400, 2)], 1)
    spec = Spec(unit="event", per_block=40, seed=5)
    drawn = block_requests(log, spec, BLOCKS, Block.BLEND)
    assert len(drawn) == 40
    assert (np.diff(drawn.row) > 0).all()
    assert ((drawn.time_ms >= 200) & (drawn.time_ms < 300)).all()
    again = block_requests(log, spec, BLOCKS, Block.BLEND)
    np.testing.assert_array_equal(drawn.row, again.row)
    others = [
        block_requests(log, spec.model_copy(update={"seed": 6}), BLOCKS, Block.BLEND).time_ms,
        block_requests(log, spec, BLOCKS, Block.TEST).time_ms - 100,
    ]
    assert all(other.tolist() != drawn.time_ms.tolist() for other in others)
    whole = block_requests(log, spec.model_copy(update={"per_block": 150}), BLOCKS, Block.BLEND)
    assert len(whole) == 150


def test_a_block_without_a_request_is_refused(make_log):
    log = make_log([(0, 50, 0, 0), (0, 350, 0, 1)], 1)
    with pytest.raises(DataError, match=r"block blend .* holds no request: .* group of 2 item"):
        block_requests(log, Spec(unit="group", min_items=2), BLOCKS, Block.BLEND)


def test_the_latest_requests_come_from_just_before_the_cut_off(make_log):
    log = make_log([(u, t, 0) for u in range(2) for t in range(100)], 1)
    found = latest_requests(log, EVENTS, 80, 20, seed=0)
    assert len(found) == 20
    assert found.time_ms.min() >= 60  # of the latest 40, which two users make in 20 ms
    assert found.time_ms.max() < 80
    assert (np.diff(found.row) > 0).all()
    same, other = (latest_requests(log, EVENTS, 80, 20, seed=seed) for seed in (0, 1))
    assert same.row.tolist() == found.row.tolist() != other.row.tolist()
    assert len(latest_requests(log, EVENTS, 80, 1000, seed=0)) == 160
    assert len(latest_requests(log, EVENTS, 0, 10, seed=0)) == 0


@pytest.mark.parametrize(
    "spec",
    [
        GROUPS,
        EVENTS,
        Spec(task="binary", positive_above=0.5, metric="auc"),
        Spec(unit="group", min_items=99),
    ],
)
def test_requests_are_read_as_they_were_written(spec, draw, tmp_path):
    log = draw("baskets", users=4, groups=5, items=6)
    found = all_requests(log, spec, 0, 2**62)
    found.write(tmp_path / "requests.parquet")
    read = read_requests(tmp_path / "requests.parquet")
    for field in fields(found):
        one, two = getattr(found, field.name), getattr(read, field.name)
        assert (one is None) is (two is None)
        if one is not None:
            np.testing.assert_array_equal(one, two, err_msg=field.name)
            assert one.dtype == two.dtype, field.name


def test_missing_requests_are_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.parquet is missing: expected the requests"):
        read_requests(tmp_path / "gone.parquet")


def test_ranges_are_laid_end_to_end():
    starts, counts = np.array([5, 0, 9, 2]), np.array([2, 0, 1, 3])
    assert ranges(starts, counts).tolist() == [5, 6, 9, 2, 3, 4]
    assert ranges(starts[:0], counts[:0]).tolist() == []
