"""What the trees know of items, by hand."""

from __future__ import annotations

import numpy as np

from penchant.platform.config import Requests as Spec
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.boosted.item_facts import ITEM_FACTS, item_facts
from penchant.trainers.counting.popularity import item_log_odds, item_shares
from penchant.trainers.member import Past

ROWS = [
    (0, 0 * DAY_MS, 0, 0),
    (0, 0 * DAY_MS, 1, 0),
    (0, 0 * DAY_MS, 2, 0),
    (0, 4 * DAY_MS, 0, 1),
    (0, 10 * DAY_MS, 0, 2),
    (1, 1 * DAY_MS, 1, 0),
    (1, 3 * DAY_MS, 1, 1),
    (1, 3 * DAY_MS, 2, 1),
    (1, 30 * DAY_MS, 2, 2),
]


def facts_of(log, spec, until):
    table = item_facts(Past(log=log, spec=spec, until_ms=until))
    assert table.dtype == np.float32
    return dict(zip(ITEM_FACTS, table.T, strict=True))


def shrunk(totals, numbers, overall):
    return [(t + 20 * overall) / (n + 20) for t, n in zip(totals, numbers, strict=True)]


def test_facts_are_means_drawn_to_the_mean_of_all_items(make_log):
    log, until = make_log(ROWS, 4), 20 * DAY_MS
    found = facts_of(log, Spec(unit="group"), until)
    past = Past(log=log, spec=Spec(), until_ms=until)
    np.testing.assert_allclose(found["item_share"], item_shares(past, Window(days=60)))
    # events before day 20: three of item 0, three of item 1, two of item 2, none of item 3;
    # item 0 was repeated twice, after 4 and 6 days, item 1 once, after 2 days
    np.testing.assert_allclose(
        found["item_repeat_rate"], shrunk([2, 1, 0, 0], [3, 3, 2, 0], 3 / 8), rtol=1e-6
    )
    np.testing.assert_allclose(
        found["item_interval_days"], shrunk([10, 2, 0, 0], [2, 1, 0, 0], 12 / 3), rtol=1e-6
    )
    # in groups of at most two: item 0 twice, item 1 twice, item 2 once
    np.testing.assert_allclose(
        found["item_alone_share"], shrunk([2, 2, 1, 0], [3, 3, 2, 0], 5 / 8), rtol=1e-6
    )
    assert found["item_log_odds"].tolist() == [0, 0, 0, 0]


def test_a_binary_task_adds_the_log_odds_of_a_yes(make_log):
    log = make_log([(0, t, t % 2, None, float(t)) for t in range(8)], 2)
    spec = Spec(task="binary", positive_above=4.0, metric="auc")
    found = facts_of(log, spec, 6)
    past = Past(log=log, spec=spec, until_ms=6)
    np.testing.assert_array_equal(found["item_log_odds"], item_log_odds(past, Window()))
    np.testing.assert_allclose(found["item_alone_share"], [1, 1])  # no groups: all alone
