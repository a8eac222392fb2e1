"""`boosted` on yes-or-no requests: records of items, the regression, trees on top of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from penchant.platform.config import Requests as Spec
from penchant.platform.errors import DataError
from penchant.platform.recipes import BoostedRecipe
from penchant.platform.requests import all_requests, latest_requests
from penchant.platform.timeline import Window
from penchant.trainers.boosted import answers
from penchant.trainers.boosted.answer_lens import answer_lens, training_features
from penchant.trainers.boosted.answer_odds import answer_odds, kinds_of
from penchant.trainers.boosted.logistic import fit_logistic
from penchant.trainers.boosted.model import BoostedMember, fit_boosted
from penchant.trainers.fit import load_member
from penchant.trainers.member import Past

HOUR_MS = 3_600_000
RECIPE = BoostedRecipe(kind="boosted", trees=20, leaves=7)


@pytest.fixture
def offers(make_log):
    """Offers 0 to 3, two of kind `a` and two of kind `b`; those of `a` are taken up."""
    random = np.random.default_rng(0)
    rows = [(u, (10 * offer + 1) * HOUR_MS + u, offer) for u in range(60) for offer in range(4)]
    log = make_log(rows, 4)
    chance = np.where(log.item % 2 == 0, 0.7, 0.1)
    label = (random.random(log.num_events) < chance).astype(np.float32)
    log = replace(log, label=label, label_ms=log.time_ms)
    texts = ("A: milk", "b: milk", "a; tea", "B, tea")
    spec = Spec(task="binary", metric="auc")
    return Past(log=log, spec=spec, until_ms=99 * HOUR_MS, texts=texts, types=("offer",))


def test_kinds_are_the_words_before_the_first_mark():
    assert kinds_of(("a b: x", "A B, y", "", "c", ", z"), 5).tolist() == [1, 1, -1, 2, -1]
    assert kinds_of((), 2).tolist() == [-1, -1]


def test_odds_of_an_item_are_its_own_and_those_of_its_kind_leave_it_out(offers):
    found = answer_odds(offers, kinds_of(offers.texts, 4))
    asked = all_requests(offers.log, offers.spec, 0, offers.until_ms)
    overall = (asked.label.sum() + 1) / (240 + 2)
    rates = [
        (asked.label[asked.candidate == item].sum() + 20 * overall) / (60 + 20) for item in range(4)
    ]
    own = np.log(rates) - np.log1p(-np.array(rates)) - np.log(overall / (1 - overall))
    np.testing.assert_allclose(found[:, 0], own, rtol=1e-5)
    # one other item, and one more of zero
    np.testing.assert_allclose(found[:, 1], own[[2, 3, 0, 1]] / 2, rtol=1e-5)


def test_an_item_that_nobody_was_asked_about_has_the_record_of_its_kind(offers):
    early = answer_odds(replace(offers, until_ms=25 * HOUR_MS), kinds_of(offers.texts, 4))
    assert early[3, 0] == 0
    assert early[3, 1] == pytest.approx(early[1, 0] / 2)
    assert early[3, 1] < 0 < early[2, 1]
    none = answer_odds(replace(offers, until_ms=0), kinds_of(offers.texts, 4))
    assert not none.any()


@pytest.mark.parametrize("task", ["label", "value"])
def test_no_training_feature_knows_an_answer_of_its_own_slice_of_time(task, offers, world):
    """Turning the answers of the last slice around changes no feature of it."""
    past = offers if task == "label" else replace(world("binary").past, until_ms=2**62)
    log, spec = past.log, past.spec
    requests = latest_requests(log, spec, past.until_ms, 10_000, 0)
    lens = answer_lens(Window(events=1), past)
    late = requests.time_ms >= np.quantile(requests.time_ms, 0.95)
    rows = requests.row[late]
    if task == "label":
        other = replace(log, label=log.label.copy())
        other.label[rows] = 1 - other.label[rows]
    else:
        other = replace(log, value=log.value.copy())
        other.value[rows] = 1 - other.value[rows]
    first = training_features(lens, past, requests)
    second = training_features(lens, replace(past, log=other), requests)
    visible = np.isin(requests.end - 1, rows)  # a value may be history of the user's next request
    same = ~visible if task == "value" else np.ones(len(requests), dtype=bool)
    assert (late & same).sum() > 5
    np.testing.assert_array_equal(first[same], second[same])


def test_the_regression_finds_weights_at_any_scale_and_through_gaps():
    random = np.random.default_rng(0)
    sign = random.normal(size=2000)
    label = (random.random(2000) < 1 / (1 + np.exp(-3 * sign))).astype(np.float32)
    features = np.stack([sign * 1e6, random.normal(size=2000), np.full(2000, 7.0)], axis=1)
    features[::5, 1] = np.nan
    model = fit_logistic(features.astype(np.float32), label)
    odds = model.log_odds(features.astype(np.float32))
    assert metrics.roc_auc_score(label, odds) > 0.99 * metrics.roc_auc_score(label, sign)
    assert np.isfinite(odds).all()
    assert model.num_parameters == 2 * 3 + 1
    assert model.weights[2] == 0  # says nothing


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_equal_answers_give_one_score_that_is_sure_but_not_infinite(answer):
    model = fit_logistic(np.zeros((9, 2), np.float32), np.full(9, answer, np.float32))
    odds = model.log_odds(np.ones((3, 2), np.float32))
    assert np.isfinite(odds).all()
    assert ((odds > 0) == bool(answer)).all()


def test_trees_start_from_the_regression_where_there_are_enough_answers(
    world, monkeypatch, tmp_path
):
    here = world("binary")
    alone = fit_boosted(RECIPE, here.past)
    assert alone.trees is None
    monkeypatch.setattr(answers, "_ENOUGH_FOR_TREES", 100)
    both = fit_boosted(RECIPE, here.past)
    features = both.lens.rows(here.log, here.asked())
    expected = both.logistic.log_odds(features) + both.trees.log_odds(features)
    scores = both.score(here.log, here.asked())
    np.testing.assert_allclose(scores[:, 0], expected, rtol=1e-5)
    assert both.num_parameters > alone.num_parameters
    for name, member in (("alone", alone), ("both", both)):
        member.save(tmp_path / name)
        again = load_member(tmp_path / name)
        np.testing.assert_array_equal(
            again.score(here.log, here.asked()), member.score(here.log, here.asked())
        )
        assert again.num_parameters == member.num_parameters


def test_a_member_of_labels_comes_back_as_it_was(offers, tmp_path):
    member = fit_boosted(RECIPE, offers)
    asked = all_requests(offers.log, offers.spec, 0, offers.until_ms)
    scores = member.score(offers.log, asked)
    member.save(tmp_path)
    np.testing.assert_array_equal(load_member(tmp_path).score(offers.log, asked), scores)
    assert metrics.roc_auc_score(asked.label, scores[:, 0]) > 0.7  # by kinds alone


def test_a_binary_member_of_before_is_refused(world, tmp_path):
    fit_boosted(RECIPE, world("baskets").past).save(tmp_path)
    card = json.loads((tmp_path / "member.json").read_text())
    card["state"]["positive_above"] = 3.0
    (tmp_path / "member.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match=r"earlier Penchant.*Fit the member again"):
        BoostedMember.load(tmp_path)
