"""Weights against scikit-learn, against the likelihood that drew the data, and for leaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression

from penchant.ensembles.combiners.weights import ListwiseLoss, LogisticLoss, WeightsCombiner
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block


def asked(target: np.ndarray, counts: np.ndarray, label: np.ndarray | None = None) -> Requests:
    size = len(counts)
    return Requests(
        row=np.arange(size),
        user=np.arange(size, dtype=np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.concatenate([[0], np.cumsum(counts)]),
        target=target.astype(np.int32),
        target_seen=np.zeros(len(target), dtype=np.bool_),
        candidate=None if label is None else np.zeros(size, dtype=np.int32),
        label=label,
    )


def drawn(weights: list[float], size: int, width: int, seed: int = 0) -> Predictions:
    """Targets drawn from softmax(sum of weight x score): the model that is fitted."""
    random = np.random.default_rng(seed)
    scores = {f"m{i}": random.normal(size=(size, width)).astype(np.float32) for i in range(4)}
    sums = sum(w * part for w, part in zip(weights, scores.values(), strict=True))
    noise = random.gumbel(size=(size, width))
    target = (sums + noise).argmax(axis=1)
    return Predictions(
        block=Block.BLEND, requests=asked(target, np.ones(size, np.int64)), scores=scores
    )


def binary(size: int = 3000) -> Predictions:
    random = np.random.default_rng(1)
    odds = random.normal(0, 1.5, size)
    label = (random.random(size) < special.expit(odds)).astype(np.float32)
    scores = {
        name: (odds + random.normal(0, noise, size)).astype(np.float32)[:, None]
        for name, noise in {"good": 0.5, "fair": 1.0, "poor": 3.0}.items()
    }
    requests = asked(np.zeros(0), np.zeros(size, np.int64), label)
    return Predictions(block=Block.BLEND, requests=requests, scores=scores)


def test_the_weights_that_drew_the_targets_are_found_again():
    predictions = drawn([2.0, 1.0, 0.0, 1.0], size=4000, width=12)
    found = WeightsCombiner().fit(predictions, "ndcg@10").weights
    assert found["m0"] == pytest.approx(0.5, abs=0.02)
    assert found["m1"] == pytest.approx(0.25, abs=0.02)
    assert found["m3"] == pytest.approx(0.25, abs=0.02)
    assert found.get("m2", 0.0) < 0.02


def test_a_member_that_is_wrong_is_left_out_and_weighs_nothing_negative():
    predictions = drawn([2.0, 1.0, -1.0, 0.0], size=3000, width=12)
    found = WeightsCombiner().fit(predictions, "ndcg@10").weights
    assert "m2" not in found
    assert min(found.values()) >= 1e-3


def test_where_no_member_helps_the_best_alone_is_left():
    predictions = drawn([-1.0, -2.0, -1.0, -3.0], size=1000, width=12)
    assert WeightsCombiner().fit(predictions, "ndcg@3").weights == {"m0": 1.0} or (
        WeightsCombiner().fit(predictions, "ndcg@3").weights == {"m2": 1.0}
    )


def test_log_odds_are_weighed_as_by_scikit_learn():
    predictions = binary()
    x = np.column_stack([part[:, 0] for part in predictions.scores.values()])
    peer = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    peer.fit(x, predictions.requests.label)
    expected = peer.coef_[0] / peer.coef_[0].sum()
    assert (expected > 0.001).all()
    found = WeightsCombiner().fit(predictions, "log_loss").weights
    assert [found[name] for name in predictions.scores] == pytest.approx(expected, abs=1e-4)


def losses():
    random = np.random.default_rng(2)
    x = random.normal(size=(30, 4))
    starts = np.array([0, 4, 5, 17])
    chosen = np.zeros(30)
    chosen[[1, 4, 6, 9, 20]] = [1, 1, 0.5, 0.5, 1]
    label = (random.random(30) < 0.5).astype(np.float32)
    return [ListwiseLoss(x, starts, chosen), LogisticLoss(x, label)]


@pytest.mark.parametrize("loss", losses(), ids=["listwise", "logistic"])
def test_gradients_are_those_of_the_losses(loss):
    for seed in range(3):
        at = np.random.default_rng(seed).normal(size=4)
        assert optimize.check_grad(lambda w: loss(w)[0], lambda w: loss(w)[1], at) < 1e-6


def test_the_listwise_loss_by_hand():
    """Two requests: scores 0, ln 3 with the second chosen; one alternative, certain."""
    loss = ListwiseLoss(np.log([[1.0], [3.0], [7.0]]), np.array([0, 2]), np.array([0.0, 1.0, 1.0]))
    assert loss(np.ones(1))[0] == pytest.approx(-np.log(3 / 4) / 2)


def test_the_listwise_loss_of_many_alternatives_is_that_of_its_halves():
    """More alternatives than are looked at together: a mean of means, and of gradients."""
    random = np.random.default_rng(5)
    starts = np.arange(0, 40_000, 20)
    x, chosen = random.normal(size=(40_000, 3)), np.zeros(40_000)
    chosen[starts + random.integers(0, 20, len(starts))] = 1
    whole = ListwiseLoss(x, starts, chosen)
    halves = [
        ListwiseLoss(x[part], starts[:1000], chosen[part])
        for part in (slice(20_000), slice(20_000, None))
    ]
    for weights in random.random((3, 3)):
        first, second = (half(weights) for half in halves)
        loss, gradient = whole(weights)
        assert loss == pytest.approx((first[0] + second[0]) / 2, rel=1e-12)
        np.testing.assert_allclose(gradient, (first[1] + second[1]) / 2, rtol=1e-9)
        logs = special.log_softmax((x @ weights).reshape(-1, 20), axis=1)
        assert loss == pytest.approx(-logs.reshape(-1)[chosen > 0].mean(), rel=1e-12)


def test_several_targets_share_the_weight_of_their_request():
    """Scipy's softmax, request by request, at the weights that are found."""
    random = np.random.default_rng(4)
    scores = {m: random.normal(size=(200, 10)).astype(np.float32) for m in "ab"}
    counts = random.integers(1, 4, 200)
    target = np.concatenate(
        [
            np.argsort(-(scores["a"] + scores["b"])[i] - random.gumbel(size=10))[:n]
            for i, n in enumerate(counts)
        ]
    )
    predictions = Predictions(block=Block.BLEND, requests=asked(target, counts), scores=scores)

    def loss(weights: np.ndarray) -> float:
        logs = special.log_softmax(weights[0] * scores["a"] + weights[1] * scores["b"], axis=1)
        parts = np.split(target, np.cumsum(counts)[:-1])
        return -float(np.mean([logs[i, part].mean() for i, part in enumerate(parts)]))

    peer = optimize.minimize(loss, [0.5, 0.5], method="Nelder-Mead", options={"xatol": 1e-7}).x
    found = WeightsCombiner().fit(predictions, "ndcg@5").weights
    assert found["a"] == pytest.approx(peer[0] / peer.sum(), abs=1e-4)


def test_a_target_that_no_member_has_among_its_first_teaches_nothing():
    """On a shortlist the catalogue's targets are there; only what members found may be learnt."""
    predictions = drawn([1.0, 1.0, 0.0, 0.0], size=600, width=200)
    hard = np.zeros(600, dtype=bool)
    known = np.zeros((600, 200), dtype=bool)
    for part in predictions.scores.values():
        known |= part >= np.sort(part, axis=1)[:, -8, None]
    hard = ~known[np.arange(600), predictions.requests.target]
    assert 50 < hard.sum() < 550
    fitted = WeightsCombiner(depth=8).fit(predictions, "ndcg@10").weights
    easy = predictions.take(np.flatnonzero(~hard))
    assert fitted == pytest.approx(WeightsCombiner(depth=8).fit(easy, "ndcg@10").weights, abs=1e-5)
    short = WeightsCombiner(depth=8).fit(predictions.shortlist(20), "ndcg@10").weights
    assert fitted == pytest.approx(short, abs=1e-5)


def test_constant_members_leave_nothing_to_learn_and_the_first_by_name_is_taken():
    predictions = drawn([1.0, 0.0, 0.0, 0.0], size=50, width=60)
    flat = {name: np.zeros_like(part) for name, part in predictions.scores.items()}
    same = replace(predictions, scores=flat)
    assert WeightsCombiner().fit(same, "ndcg@10").weights == {"m0": 1.0}


def test_more_than_fits_is_thinned_evenly_and_gives_nearly_the_same(monkeypatch):
    predictions = drawn([2.0, 1.0, 0.0, 1.0], size=4000, width=12)
    whole = WeightsCombiner().fit(predictions, "ndcg@10").weights
    monkeypatch.setattr("penchant.ensembles.combiners.weights._VALUES", 4 * 12 * 1500)
    thinned = WeightsCombiner().fit(predictions, "ndcg@10").weights
    assert thinned != whole
    for name in ("m0", "m1", "m3"):
        assert thinned[name] == pytest.approx(whole[name], abs=0.04)
