"""What is left is told by what others of the same kind took, and what nobody knows is said."""

from __future__ import annotations

from penchant.platform.time_left import TimeLeft


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def after(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_kind_that_has_not_ended_a_step_is_named_and_not_guessed() -> None:
    """An epoch of a language model is not worth one of a small network."""
    clock = Clock()
    left = TimeLeft(clock=clock)
    left.expect({"small-a": 3, "small-b": 3, "text-a": 1})
    assert left.words() == "time left not known yet: no small, text has ended a step"
    clock.after(10)
    left.step("small-a", 2)
    assert left.words() == "about 1:10 left, and text"  # of 8 steps with the ends, 7 are left
    clock.after(20)
    left.finish("small-a")
    left.finish("small-b")
    assert left.words() == "time left not known yet: no text has ended a step"
    clock.after(200)
    left.step("text-a", 0)
    assert left.words() == "about 3:20 left"  # it still scores: the end is a step
    clock.after(100)
    left.finish("text-a")
    assert left.words() == "nothing left"


def test_what_runs_beside_shares_the_time() -> None:
    """Two at once, a step of each every ten seconds: the rest takes as long as it did."""
    clock = Clock()
    left = TimeLeft(clock=clock)
    left.expect({"a-1": 9, "b-1": 9})
    for made in range(1, 6):
        for part in ("a-1", "b-1"):
            clock.after(5)
            left.step(part, 9 - made)
    assert left.words() == "about 0:50 left"  # ten steps in 50 s, ten are left


def test_a_refit_knows_what_the_first_fit_took() -> None:
    clock = Clock()
    left = TimeLeft(clock=clock)
    left.expect({"a-1": 1})
    clock.after(60)
    left.finish("a-1")
    left.expect({"a-1@refit": 1})
    assert left.words() == "about 1:00 left"
