"""Figures of samples that are written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.serve.load.plan import LoadPlan
from penchant.serve.load.report import GRACE_MS, LoadReport, make_report
from penchant.serve.load.samples import TIMEOUT, Samples, Taken


def report(
    rows: list[tuple[float, float, float, int, bool]], bodies: int = 10_000, **settings: object
) -> LoadReport:
    taken = Taken()
    for row in rows:
        taken.add(*row)
    usual = {"path": "/ask", "duration_s": 10.0, "warmup_s": 2.0}
    plan = LoadPlan(**(usual | settings))
    return make_report(taken.samples(), plan, bodies)


def answered(*waited_ms: float) -> list[tuple[float, float, float, int, bool]]:
    """Requests that were due in the middle of the measured time."""
    return [(5.0, 5.0, 5.0 + waited / 1000, 200, False) for waited in waited_ms]


def test_percentiles_are_the_samples_themselves() -> None:
    found = report(answered(*range(1, 1001)), rate=100.0).latency_ms
    assert found is not None
    # Of 1 to 1000: the 500th, 900th, 990th, 999th and the last.
    figures = (found.p50, found.p90, found.p99, found.p999, found.max)
    assert figures == pytest.approx((500, 900, 990, 999, 1000))


def test_one_slow_answer_among_ten_is_seen() -> None:
    found = report(answered(*[1.0] * 9, 700.0), rate=1.0).latency_ms
    assert found is not None
    assert (found.p50, found.p90, found.p99) == pytest.approx((1.0, 1.0, 700.0))


def test_latency_counts_from_when_a_request_was_due() -> None:
    found = report([(5.0, 5.4, 5.5, 200, False)], rate=1.0)
    assert found.latency_ms is not None
    assert found.latency_ms.p50 == pytest.approx(500)
    assert found.late_ms == pytest.approx(400)


def test_an_open_load_counts_what_was_due_in_the_measured_time() -> None:
    rows = [
        (1.9, 1.9, 2.1, 200, False),  # of the warm-up
        (2.0, 2.0, 2.1, 200, False),
        (11.9, 11.9, 14.0, 200, False),  # answered after the end
        (11.9, 11.9, 26.9, TIMEOUT, False),
        (12.0, 12.0, 12.1, 200, False),  # after it
    ]
    found = report(rows, rate=1.0)
    assert (found.sent, found.answered, found.errors) == (3, 2, {"timeout": 1})
    # Answers within the ten seconds, whenever they were due.
    assert found.requests_per_s == pytest.approx(0.2)


def test_a_closed_load_counts_what_came_to_an_end_in_the_measured_time() -> None:
    rows = [
        (1.9, 1.9, 2.1, 200, True),
        (11.9, 11.9, 12.1, 200, False),
        (3.0, 3.0, 3.1, 503, False),
    ]
    found = report(rows, concurrency=1)
    assert (found.sent, found.answered, found.degraded) == (2, 1, 1)
    assert (found.requests_per_s, found.errors) == (pytest.approx(0.1), {"503": 1})


def test_goodput_allows_an_answer_its_way_home() -> None:
    waited = (50.0, 100.0, 100.0 + 0.9 * GRACE_MS, 101.0 + GRACE_MS)
    found = report(answered(*waited), rate=1.0, deadline_ms=100)
    assert found.goodput_per_s == pytest.approx(0.3)
    assert report(answered(*waited), rate=1.0).goodput_per_s is None


def test_a_load_that_nobody_answered_has_a_report() -> None:
    found = report([], concurrency=3)
    assert (found.sent, found.latency_ms, found.refusal_ms) == (0, None, None)
    assert (found.requests_per_s, found.late_ms) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("bodies", "share"), [(10_000, 0.0), (12, 0.0), (10, 0.25), (4, 1.0), (1, 1.0)]
)
def test_bodies_that_were_sent_before_are_told(bodies: int, share: float) -> None:
    """Twelve requests, four of them in the warm-up: of the eight measured ones the last repeat."""
    found = report([(1.0, 1.0, 1.1, 200, False)] * 4 + answered(*[5.0] * 8), bodies, rate=1.0)
    assert found.repeated == share


def test_samples_of_processes_join() -> None:
    one, two = Taken(), Taken()
    one.add(1.0, 1.0, 2.0, 200, False)
    two.add(3.0, 3.0, 4.0, 503, False)
    joined = Samples.join([one.samples(), two.samples(), Taken().samples()])
    np.testing.assert_array_equal(joined.due_s, [1.0, 3.0])
    np.testing.assert_array_equal(joined.outcome, [200, 503])


@pytest.mark.parametrize(("callers", "processes"), [(8, 1), (8, 3), (5, 5), (7, 2)])
def test_processes_share_all_callers(callers: int, processes: int) -> None:
    plan = LoadPlan(path="/ask", concurrency=callers, processes=processes)
    shares = [plan.callers(at) for at in range(processes)]
    assert sum(shares) == callers
    assert max(shares) - min(shares) <= 1
