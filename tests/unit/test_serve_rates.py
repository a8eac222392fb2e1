"""Rates: a burst at once, then so many a second, each key for itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.serve.gate.rates import Rates


class Clock:
    now_s = 5000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_burst_passes_at_once_and_then_one_for_each_token_that_comes_back() -> None:
    clock = Clock()
    rates = Rates(clock=clock)
    waits = [rates.take("a", 4.0, 3) for _ in range(5)]
    assert waits == [0, 0, 0, 0.25, 0.25]  # to be refused costs nothing
    clock.now_s += 0.125
    assert rates.take("a", 4.0, 3) == 0.125
    clock.now_s += 0.125
    assert [rates.take("a", 4.0, 3) for _ in range(2)] == [0, 0.25]
    clock.now_s += 1000
    assert [rates.take("a", 4.0, 3) for _ in range(4)] == [0, 0, 0, 0.25]


def test_one_key_over_its_rate_leaves_the_others_alone() -> None:
    rates = Rates(clock=Clock())
    assert [rates.take("a", 1.0, 1) for _ in range(3)] == [0, 1, 1]
    assert rates.take("b", 1.0, 1) == 0


@given(
    steps=st.lists(st.sampled_from([0.0, 0.01, 0.1, 0.3, 2.0]), max_size=60),
    rate_per_s=st.sampled_from([0.5, 3.0, 50.0]),
    burst=st.integers(1, 5),
)
def test_it_agrees_with_a_bucket_that_is_filled_step_by_step(
    steps: list[float], rate_per_s: float, burst: int
) -> None:
    clock = Clock()
    rates = Rates(clock=clock)
    tokens = float(burst)
    for step in steps:
        clock.now_s += step
        tokens = min(burst, tokens + step * rate_per_s)
        wait_s = rates.take("a", rate_per_s, burst)
        if wait_s == 0:
            assert tokens == pytest.approx(1, abs=1e-6) or tokens > 1
            tokens -= 1
        else:
            assert wait_s == pytest.approx((1 - tokens) / rate_per_s, abs=1e-6)


def test_keys_that_have_their_whole_burst_again_are_forgotten() -> None:
    clock = Clock()
    rates = Rates(clock=clock)
    for at in range(1000):
        rates.take(f"key-{at}", 1.0, 5)
        clock.now_s += 1.0
    assert len(rates._full_at_s) == 1


def test_what_is_owed_holds_the_next_ones_back_and_passes_with_time() -> None:
    clock = Clock()
    rates = Rates(clock=clock)
    assert rates.take("one", 10, 20) == 0
    rates.owe("one", 10, 63)
    assert rates.take("one", 10, 20) == pytest.approx(4.5)  # 65 tokens less a burst of 20, 10/s
    clock.now_s += 4.5
    assert rates.take("one", 10, 20) == 0
