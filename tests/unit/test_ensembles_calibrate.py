"""Probabilities: the same as the libraries', monotone, fitted on `blend` alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import special
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from penchant.ensembles.predictions import Predictions
from penchant.ensembles.promises import choose_calibrator
from penchant.ensembles.promises.calibrate import (
    Identity,
    Isotonic,
    Platt,
    Temperature,
    calibration_loss,
    fit_calibrator,
    fit_kind,
    parse_calibrator,
)
from penchant.ensembles.promises.choose_calibrator import best_calibrator
from penchant.platform.errors import DataError
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

KINDS = ("identity", "temperature", "platt", "isotonic")


def ask(baskets=None, label=None, users=20) -> Predictions:
    size = len(label) if baskets is None else len(baskets)
    target = [] if baskets is None else [item for basket in baskets for item in basket]
    counts = [0] * size if baskets is None else [len(basket) for basket in baskets]
    requests = Requests(
        row=np.arange(size),
        user=(np.arange(size) % users).astype(np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        target=np.array(target, dtype=np.int32),
        target_seen=np.zeros(len(target), dtype=np.bool_),
        candidate=None if label is None else np.zeros(size, dtype=np.int32),
        label=label,
    )
    return Predictions(block=Block.BLEND, requests=requests, scores={})


def yes_or_no(size=600, stretch=1.0, seed=0):
    """Log-odds that are right, then stretched."""
    random = np.random.default_rng(seed)
    odds = random.normal(-0.5, 1.5, size)
    label = (random.random(size) < special.expit(odds)).astype(np.float32)
    return (stretch * odds[:, None]).astype(np.float32), ask(label=label)


def picks(size=500, width=8, stretch=1.0, seed=0):
    """Logits that are right, then stretched; two items a basket."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (size, width))
    noise = random.gumbel(size=(2, size, width))
    baskets = [sorted({int(a), int(b)}) for a, b in (logits + noise).argmax(axis=2).T]
    return (stretch * logits).astype(np.float32), ask(baskets)


def test_platt_is_the_librarys_logistic_regression():
    scores, blend = yes_or_no()
    label = blend.requests.label
    peer = LogisticRegression().fit(scores.astype(np.float64), label)
    np.testing.assert_allclose(
        fit_calibrator(scores, blend, "platt").probabilities(scores)[:, 0],
        peer.predict_proba(scores.astype(np.float64))[:, 1],
        rtol=1e-12,
    )


def test_isotonic_is_the_librarys_between_and_beyond_what_it_saw():
    scores, blend = yes_or_no()
    least = 1 / 602
    peer = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
    peer.fit(scores[:, 0].astype(np.float64), blend.requests.label)
    asked = np.linspace(-9, 9, 333).astype(np.float32)[:, None]
    fitted = fit_calibrator(scores, blend, "isotonic")
    np.testing.assert_allclose(
        fitted.probabilities(asked)[:, 0], peer.predict(asked[:, 0].astype(np.float64)), rtol=1e-12
    )


def test_a_temperature_is_the_librarys_slope_without_intercept():
    scores, blend = yes_or_no(stretch=3.0)
    peer = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
    slope = peer.fit(scores.astype(np.float64), blend.requests.label).coef_[0, 0]
    assert fit_calibrator(scores, blend, "temperature").temperature == pytest.approx(
        1 / slope, rel=1e-3
    )


def test_at_the_best_temperature_expected_and_chosen_scores_agree():
    """The loss's derivative: the mean score under the softmax is the mean score of the targets."""
    scores, blend = picks(stretch=4.0)
    chance = fit_calibrator(scores, blend, "temperature").probabilities(scores)
    expected = (chance * scores).sum(axis=1).mean()
    requests = blend.requests
    request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    own = scores[request, requests.target]
    per_request = np.bincount(request, weights=own) / np.diff(requests.target_offsets)
    assert expected == pytest.approx(per_request.mean(), abs=2e-3)


def test_a_temperature_undoes_a_stretch():
    scores, blend = picks()
    plain = fit_calibrator(scores, blend, "temperature").temperature
    stretched = fit_calibrator(5 * scores, blend, "temperature").temperature
    assert stretched == pytest.approx(5 * plain, rel=1e-3)


def test_the_loss_is_the_librarys():
    scores, blend = yes_or_no()
    chance = special.expit(scores[:, 0].astype(np.float64))
    assert calibration_loss(Identity(), scores, blend.requests) == pytest.approx(
        log_loss(blend.requests.label, chance)
    )


def test_the_loss_of_a_basket_is_the_mean_over_its_targets():
    scores = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], dtype=np.float32))
    blend = ask([[0, 1], [2]])
    expected = ((-np.log(0.5) - np.log(0.25)) / 2 - np.log(0.8)) / 2
    assert calibration_loss(Identity(), scores, blend.requests) == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_chances_lie_in_their_range_and_keep_the_order(kind):
    scores, blend = yes_or_no()
    fitted = fit_calibrator(scores, blend, kind)
    asked = np.array([[-np.inf], [-60.0], [-1.0], [0.0], [0.3], [60.0]], dtype=np.float32)
    chance = fitted.probabilities(asked)[:, 0]
    assert chance[0] == 0
    assert np.all(np.diff(chance) >= 0)
    assert chance[-1] <= 1
    assert parse_calibrator(fitted.model_dump(mode="json")) == fitted


def test_shares_sum_to_one_and_what_is_not_asked_for_gets_none():
    scores = np.array([[2, -np.inf, 1], [0, 0, -np.inf], [-np.inf] * 3], dtype=np.float32)
    shares = Temperature(temperature=2.0).probabilities(scores)
    np.testing.assert_allclose(shares.sum(axis=1), [1, 1, 0])
    assert shares[0, 1] == 0
    assert shares[0, 0] / shares[0, 2] == pytest.approx(np.exp(0.5))


@pytest.mark.parametrize(
    ("stretch", "expected"), [(1.0, {"identity", "platt"}), (6.0, {"temperature", "platt"})]
)
def test_the_best_kind_suits_what_was_done_to_the_scores(stretch, expected):
    scores, blend = yes_or_no(size=3000, stretch=stretch)
    assert best_calibrator(scores, blend).kind in expected
    assert best_calibrator(scores, blend) == best_calibrator(scores, blend)


def test_the_best_kind_of_a_crooked_score_is_isotonic():
    random = np.random.default_rng(0)
    score = random.uniform(0, 3, 4000)
    chance = np.choose(np.floor(score).astype(int), [0.05, 0.06, 0.95])
    label = (random.random(4000) < chance).astype(np.float32)
    best = best_calibrator(score[:, None].astype(np.float32), ask(label=label))
    assert best.kind == "isotonic"


def test_stretched_picks_get_a_temperature():
    scores, blend = picks(stretch=5.0)
    assert best_calibrator(scores, blend).kind == "temperature"


def test_of_a_large_catalogue_part_of_the_requests_says_the_temperature(monkeypatch):
    """Each score is raised to a power some thirty times: time is bounded, the answer is not off."""
    scores, blend = picks(size=4000, stretch=5.0)
    monkeypatch.setattr(choose_calibrator, "_TRIED_SCORES", 500 * scores.shape[1])
    monkeypatch.setattr(choose_calibrator, "_FITTED_SCORES", 1000 * scores.shape[1])
    asked = []

    def fit(scores, requests, kind):
        asked.append(len(requests))
        return fit_kind(scores, requests, kind)

    monkeypatch.setattr(choose_calibrator, "fit_kind", fit)
    found = best_calibrator(scores, blend)
    assert (max(asked[:-1]), asked[-1]) == (400, 1000)  # four fifths of 500, then 1,000
    assert found.temperature == pytest.approx(5.0, rel=0.1)  # what scores were stretched by


def test_scores_that_order_the_wrong_way_say_nothing():
    scores, blend = yes_or_no()
    fitted = fit_calibrator(-scores, blend, "platt")
    assert fitted.slope == 0
    np.testing.assert_allclose(fitted.probabilities(scores), blend.requests.label.mean(), rtol=1e-6)


def test_targets_without_a_score_do_not_count():
    scores, blend = picks(size=50)
    more = np.vstack([scores, np.full((1, 8), -np.inf, dtype=np.float32)])
    offsets, target = blend.requests.target_offsets, blend.requests.target
    baskets = [*(list(part) for part in np.split(target, offsets[1:-1])), [3]]
    assert fit_calibrator(more, ask(baskets), "temperature") == fit_calibrator(
        scores, blend, "temperature"
    )


@pytest.mark.parametrize("block", [Block.SELECT, Block.TEST])
def test_other_blocks_are_refused(block):
    scores, blend = yes_or_no(60)
    other = replace(blend, block=block)
    with pytest.raises(TypeError, match="blend"):
        fit_calibrator(scores, other, "platt")
    with pytest.raises(TypeError, match="blend"):
        best_calibrator(scores, other)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_picks_know_no_yes_and_no(kind):
    scores, blend = picks(20)
    with pytest.raises(DataError, match=f"`{kind}`.*next_item.*identity, temperature"):
        fit_calibrator(scores, blend, kind)


def test_nothing_to_learn_from_is_an_error():
    scores = np.zeros((4, 1), dtype=np.float32)
    with pytest.raises(DataError, match="0 yes among 4"):
        fit_calibrator(scores, ask(label=np.zeros(4, dtype=np.float32)), "isotonic")
    nothing = np.full((2, 3), -np.inf, dtype=np.float32)
    with pytest.raises(DataError, match="targets that have a score"):
        fit_calibrator(nothing, ask([[0], [1]]), "temperature")


def test_a_torn_calibrator_is_refused():
    with pytest.raises(ValidationError, match="x has to rise"):
        Isotonic(x=[1.0, 0.0], y=[0.1, 0.2])
    with pytest.raises(ValidationError, match="slope"):
        Platt(slope=-1.0, intercept=0.0)


@pytest.mark.parametrize("users", [1, 20])
def test_where_no_kind_can_be_tried_on_other_users_scores_are_taken_as_they_are(users):
    """Every yes is one user's: whoever is fitted on the others has seen none."""
    label = np.zeros(100, dtype=np.float32)
    label[[0, users, 2 * users]] = 1
    scores = np.random.default_rng(0).normal(size=(100, 1)).astype(np.float32)
    asked = ask(label=label, users=users)
    if users > 1:
        assert len(np.unique(asked.requests.user[label > 0])) == 1
    assert best_calibrator(scores, asked) == Identity()


def test_a_fold_without_a_yes_to_learn_from_is_left_out():
    """Two users have all the yes there are; only folds without the one learn from the other."""
    scores, blend = yes_or_no(size=400, stretch=6.0)
    label = np.where(blend.requests.user < 2, blend.requests.label, 0).astype(np.float32)
    few = replace(blend, requests=replace(blend.requests, label=label))
    assert best_calibrator(scores, few).kind in {"identity", "temperature", "platt", "isotonic"}
    assert 0 < label.sum() < len(label)
