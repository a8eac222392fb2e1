"""PSI by hand, and what of it is chance."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.serve.watch.drift import Psi, psi, unbroken_since

#: Ten scores in each tenth.
REFERENCE = np.repeat(np.arange(10.0), 10) + np.tile(np.linspace(0.05, 0.95, 10), 10)


def test_the_same_scores_have_not_moved() -> None:
    found = psi(REFERENCE, REFERENCE)
    assert found is not None
    assert found.value == pytest.approx(0)
    assert found.level == "fine"


def test_psi_is_the_sum_over_tenths() -> None:
    """Scores of the lower five tenths alone: shares of 0.2 where there were 0.1, and half a score
    of fifty where there was a tenth: 5 * 0.1 * ln 2 + 5 * 0.09 * ln 10."""
    found = psi(REFERENCE, REFERENCE[:50])
    assert found is not None
    assert found.value == pytest.approx(0.5 * np.log(2) + 0.45 * np.log(10))
    # chi-squared with nine degrees of freedom stays below 16.919 in 95% of cases
    assert found.noise == pytest.approx(16.919 * (1 / 100 + 1 / 50), rel=1e-4)
    assert found.level == "act"


def test_candidates_of_one_request_are_no_independent_scores() -> None:
    found = psi(REFERENCE, REFERENCE, independent=(20, 10))
    assert found is not None
    assert found.noise == pytest.approx(16.919 * (1 / 20 + 1 / 10), rel=1e-4)


def test_a_score_that_all_had_is_missed_when_it_goes_either_way() -> None:
    constant = np.full(100, 3.0)
    for moved in (2.0, 4.0):
        found = psi(constant, np.full(100, moved))
        assert found is not None
        assert found.level == "act"
    same = psi(constant, constant)
    assert same is not None
    assert same.value == pytest.approx(0)


def test_scores_that_are_not_asked_for_are_left_out() -> None:
    found = psi(np.append(REFERENCE, -np.inf), np.append(REFERENCE, np.nan))
    assert found is not None
    assert found.value == pytest.approx(0)
    assert psi(np.array([np.nan]), REFERENCE) is None
    assert psi(REFERENCE, np.array([])) is None


def test_noise_holds_what_chance_gives_in_95_of_100_cases() -> None:
    """Within three standard errors of 600 trials."""
    random = np.random.default_rng(5)
    found = [psi(random.normal(size=5000), random.normal(size=5000)) for _ in range(600)]
    share = np.mean([one is not None and one.value <= one.noise for one in found])
    assert abs(share - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 600)


@pytest.mark.parametrize(
    ("value", "noise", "level"),
    [
        (0.09, 0.01, "fine"),
        (0.1, 0.01, "look"),
        (0.2, 0.01, "act"),
        (0.3, 0.31, "fine"),
        (0.3, 0.29, "act"),
    ],
)
def test_levels(value: float, noise: float, level: str) -> None:
    assert Psi(value=value, noise=noise).level == level


def test_since_when_it_has_been_at_least_so_bad() -> None:
    assert unbroken_since(["act", "fine", "look", "act", "look"]) == 2
    assert unbroken_since(["fine", "look", "act"]) == 2
    assert unbroken_since(["look"]) == 0
