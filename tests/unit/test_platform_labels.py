"""Labels are answers: asked about, censored where a span ends, and in nobody's history."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.platform.config import Requests as Spec
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.requests import all_requests, block_requests, latest_requests
from penchant.platform.timeline import Block, Blocks

FOREVER = 10**9
LABELS = Spec(task="binary", metric="auc")
ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),  # user
        st.integers(0, 8),  # time
        st.integers(0, 3),  # item
        st.sampled_from([None, 0, 1]),  # label
        st.integers(0, 6),  # how much later a yes became known
    ),
    min_size=1,
    max_size=25,
)


@pytest.fixture(scope="module")
def labelled(make_log):
    """A log of rows (user, time, item, label, delay); a label of None asks nothing."""

    def made(rows):
        rows = sorted(rows, key=lambda row: row[:2])
        label = [np.nan if row[3] is None else row[3] for row in rows]
        log = make_log([row[:3] for row in rows], 4, 3)
        return dataclasses.replace(
            log,
            label=np.array(label, dtype=np.float32),
            label_ms=np.array([row[1] + row[4] for row in rows], dtype=np.int64),
        )

    return made


def asked(requests) -> list[tuple]:
    columns = (requests.user, requests.time_ms, requests.end, requests.candidate, requests.label)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_only_rows_with_a_label_are_asked_and_all_rows_are_history(labelled):
    log = labelled([(0, 1, 3, None, 0), (0, 2, 0, 1, 0), (0, 3, 1, None, 0), (0, 4, 2, 0, 0)])
    found = all_requests(log, LABELS, 0, FOREVER)
    assert asked(found) == [(0, 2, 1, 0, 1.0), (0, 4, 3, 2, 0.0)]
    assert found.row.tolist() == [1, 3]


def test_events_of_the_same_moment_are_not_in_the_history(labelled):
    log = labelled([(0, 1, 3, None, 0), (0, 2, 3, None, 0), (0, 2, 0, 1, 0), (0, 2, 1, 0, 0)])
    assert all_requests(log, LABELS, 0, FOREVER).end.tolist() == [1, 1]


def test_a_yes_that_became_known_where_the_span_ends_or_later_is_a_no(labelled):
    log = labelled([(user, 10, 0, 1, delay) for user, delay in enumerate((4, 5, 6))])
    assert all_requests(log, LABELS, 0, 15).label.tolist() == [1.0, 0.0, 0.0]
    assert all_requests(log, LABELS, 0, 16).label.tolist() == [1.0, 1.0, 0.0]
    assert latest_requests(log, LABELS, 15, 3, seed=0).label.tolist() == [1.0, 0.0, 0.0]


def test_without_a_label_time_the_answer_is_known_at_the_event(labelled):
    log = dataclasses.replace(labelled([(0, 10, 0, 1, 99)]), label_ms=None)
    assert all_requests(log, LABELS, 0, 11).label.tolist() == [1.0]


@settings(max_examples=80)
@given(rows=ROWS, start=st.integers(0, 4), length=st.integers(1, 7))
def test_requests_are_what_a_scan_finds(rows, start, length, labelled):
    stop = start + length
    ordered = sorted(rows, key=lambda row: row[:2])
    expected = [
        (user, time, sum(row[:2] < (user, time) for row in ordered), item, yes)
        for user, time, item, label, delay in ordered
        if label is not None and start <= time < stop
        for yes in [float(label == 1 and time + delay < stop)]
    ]
    assert asked(all_requests(labelled(rows), LABELS, start, stop)) == expected


@settings(max_examples=80)
@given(rows=ROWS, future=ROWS, cut=st.integers(0, 9))
def test_what_is_known_at_a_cut_off_is_blind_to_everything_later(rows, future, cut, labelled):
    """Law 1: later events, and answers that are not in yet, change no request to learn from."""
    past = [row for row in rows if row[1] < cut]
    if not past:
        return
    # A yes that is not in at the cut-off looks like a no; later rows are not there at all.
    seen = [(u, t, i, 0 if y == 1 and t + d >= cut else y, d) for u, t, i, y, d in past]
    later = past + [(user, cut + time, *rest) for user, time, *rest in future]
    one, other = (latest_requests(labelled(r), LABELS, cut, 9, seed=0) for r in (seen, later))
    columns = [(r.user, r.time_ms, r.candidate, r.label) for r in (one, other)]
    for first, second in zip(*columns, strict=True):
        np.testing.assert_array_equal(first, second)
    histories = [r.end - r.first(labelled(x)) for r, x in ((one, seen), (other, later))]
    np.testing.assert_array_equal(*histories)


def test_an_answer_comes_from_the_value_or_from_the_label_but_not_from_both(labelled, make_log):
    with pytest.raises(ConfigError, match=r"not set and the events have no labels.*map a column"):
        all_requests(make_log([(0, 1, 0)], 1), LABELS, 0, FOREVER)
    both = Spec(task="binary", positive_above=0.5, metric="auc")
    with pytest.raises(ConfigError, match=r"positive_above is 0.5, but the events have labels"):
        all_requests(labelled([(0, 1, 0, 1, 0)]), both, 0, FOREVER)


def test_next_items_do_not_mind_labels(labelled):
    log = labelled([(0, 1, 3, None, 0), (0, 2, 0, 1, 0)])
    assert all_requests(log, Spec(), 0, FOREVER).target.tolist() == [3, 0]


BLOCKS = Blocks(train_ms=0, select_ms=100, blend_ms=200, test_ms=300, end_ms=400)


def test_a_block_with_one_answer_or_none_is_refused_by_name(labelled):
    log = labelled(
        [(0, 150, 0, 1, 0), (1, 150, 0, 1, 9), (0, 250, 0, 0, 0), (1, 250, 0, 1, 50)]
        + [(2, 350, 0, None, 0)]
    )
    with pytest.raises(DataError, match=r"block select .* has 2 label\(s\) and each is a yes"):
        block_requests(log, LABELS, BLOCKS, Block.SELECT)
    with pytest.raises(DataError, match=r"block blend .* has 2 label\(s\) and each is a no"):
        block_requests(log, LABELS, BLOCKS, Block.BLEND)  # the yes came in where the block ends
    with pytest.raises(DataError, match=r"block test .* holds no request: .* with a label"):
        block_requests(log, LABELS, BLOCKS, Block.TEST)


def test_a_block_with_both_answers_is_asked(labelled):
    log = labelled([(0, 150, 0, 1, 49), (1, 150, 1, 0, 0)])
    assert asked(block_requests(log, LABELS, BLOCKS, Block.SELECT)) == [
        (0, 150, 0, 0, 1.0),
        (1, 150, 1, 1, 0.0),
    ]
