"""Boosted trees: what they learn, how the rest of the catalogue stands below, parameters."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from penchant.platform.config import Requests as Spec
from penchant.platform.errors import DataError
from penchant.platform.metrics import quick_metric
from penchant.platform.recipes import BoostedRecipe
from penchant.platform.requests import all_requests
from penchant.platform.timeline import Window
from penchant.trainers.boosted import model as boosted
from penchant.trainers.boosted.model import fit_boosted
from penchant.trainers.boosted.trees import draws
from penchant.trainers.counting.popularity import item_shares
from penchant.trainers.fit import load_member
from penchant.trainers.member import Past

HOUR_MS = 3_600_000
RECIPE = BoostedRecipe(kind="boosted", trees=20, leaves=7, popular_candidates=4)


def habits(make_log):
    """Each user takes own items 3 u and 3 u + 1 in turn, every hour, on a catalogue of 30."""
    rows = [(u, (1 + t) * HOUR_MS + u, 3 * u + t % 2, t) for u in range(10) for t in range(60)]
    return make_log(rows, 30)


def test_trees_learn_whose_turn_it_is(make_log):
    log, until = habits(make_log), 40 * HOUR_MS
    past = Past(log=log, spec=Spec(unit="group"), until_ms=until)
    later = all_requests(log, past.spec, until, 99 * HOUR_MS)
    scores = fit_boosted(RECIPE, past).score(log, later)
    assert quick_metric(scores, later, "hr@1") == 1.0
    popular = np.tile(item_shares(past, Window()), (len(later), 1))
    assert quick_metric(popular, later, "hr@1") < 0.2


def test_items_that_the_trees_do_not_rank_stand_below_in_the_order_of_their_shares(world):
    here = world("baskets")
    member = fit_boosted(RECIPE, here.past)
    requests = here.asked()
    scores = member.score(here.log, requests)
    share = item_shares(here.past, Window(days=60))
    for at in range(0, len(requests), 5):
        user_rows = slice(here.log.offsets[requests.user[at]], requests.end[at])
        ranked = set(here.log.item[user_rows].tolist()) | set(member.lens.popular.tolist())
        rest = np.array(sorted(set(range(30)) - ranked))
        assert scores[at, rest].max(initial=-np.inf) <= scores[at, sorted(ranked)].min()
        assert (
            np.argsort(-scores[at, rest], kind="stable") == np.argsort(-share[rest], kind="stable")
        ).all()
    assert sorted(member.lens.popular) == sorted(np.argsort(-share, kind="stable")[:4])


def test_scores_do_not_depend_on_how_many_requests_are_held_at_once(world, monkeypatch):
    here = world("baskets")
    member = fit_boosted(RECIPE, here.past)
    scores = member.score(here.log, here.asked())
    monkeypatch.setattr(boosted, "_CHUNK", 7)
    np.testing.assert_array_equal(member.score(here.log, here.asked()), scores)
    again = fit_boosted(RECIPE, here.past)
    np.testing.assert_array_equal(again.score(here.log, here.asked()), scores)


def test_parameters_are_leaf_values_and_thresholds(world):
    """A tree of L leaves has L values and L - 1 splits."""
    member = fit_boosted(RECIPE, world("baskets").past)
    (trees,) = member.trees.bags
    leaves = [tree["num_leaves"] for tree in trees.dump_model()["tree_info"]]
    assert member.num_parameters == sum(n + n - 1 for n in leaves)
    assert trees.num_trees() == len(leaves) == 20


def test_binary_trees_use_labels_and_own_rates(make_log):
    """A yes depends on the user alone: half of them say yes to everything."""
    random = np.random.default_rng(0)
    rows = [
        (u, t * HOUR_MS, int(random.integers(5)), None, float(u % 2 == 0))
        for u in range(40)
        for t in range(20)
    ]
    log = make_log(rows, 5)
    spec = Spec(task="binary", positive_above=0.5, metric="auc")
    member = fit_boosted(RECIPE, Past(log=log, spec=spec, until_ms=15 * HOUR_MS))
    later = all_requests(log, spec, 15 * HOUR_MS, 99 * HOUR_MS)
    scores = member.score(log, later)
    assert scores.shape == (len(later), 1)
    assert scores[later.label == 1].min() > 0 > scores[later.label == 0].max()


def test_nothing_to_learn_from_is_refused(make_log):
    log = make_log([(0, 10, 0, 0)], 1)
    with pytest.raises(DataError, match="boosted: no request lies before the cut-off"):
        fit_boosted(RECIPE, Past(log=log, spec=Spec(unit="group"), until_ms=5))


def test_trees_are_kept_as_lightgbm_writes_them(world, tmp_path):
    member = fit_boosted(RECIPE, world("baskets").past)
    member.save(tmp_path)
    assert lightgbm.Booster(model_file=str(tmp_path / "trees.txt")).num_trees() == 20


def test_bags_are_grown_on_draws_of_their_own_and_their_log_odds_averaged(world, tmp_path):
    here = world("baskets")
    member = fit_boosted(RECIPE.model_copy(update={"bags": 3, "negative_share": 0.3}), here.past)
    _, features = member.lens.rows(here.log, here.asked())
    each = [trees.predict(features, raw_score=True) for trees in member.trees.bags]
    assert len({odds.tobytes() for odds in each}) == 3
    np.testing.assert_allclose(member.trees.log_odds(features), np.mean(each, axis=0))
    member.save(tmp_path)
    files = [lightgbm.Booster(model_file=str(path)) for path in sorted(tmp_path.glob("trees*.txt"))]
    leaves = [tree["num_leaves"] for bag in files for tree in bag.dump_model()["tree_info"]]
    assert member.num_parameters == sum(n + n - 1 for n in leaves)
    again = load_member(tmp_path).score(here.log, here.asked())
    np.testing.assert_array_equal(again, member.score(here.log, here.asked()))


@pytest.mark.parametrize(("share", "bags", "shared"), [(0.25, 4, 0), (0.5, 3, 500), (1.0, 2, 1000)])
def test_bags_have_every_yes_and_share_no_other_row_while_there_are_enough(share, bags, shared):
    answers = np.zeros(1100, np.float32)
    answers[::11] = 1
    recipe = BoostedRecipe(kind="boosted", bags=bags, negative_share=share)
    drawn = draws(recipe, answers, np.random.default_rng(0))
    assert drawn.shape == (bags, 1100)
    assert drawn[:, answers > 0].all()
    rest = drawn[:, answers == 0]
    assert np.abs(rest.mean(axis=1) - share).max() < 0.05
    assert abs((rest.sum(axis=0) > 1).sum() - shared) < 60
