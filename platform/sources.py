"""Where events come from: named sources, or files of one's own, as lazy frames of raw columns."""

from __future__ import annotations

import polars as pl

from penchant.platform import retail
from penchant.platform.config import Data
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.own_files import joined_text, own_events, own_items
from penchant.platform.raw_source import Source, installed
from penchant.platform.schema import ITEM, TEXT, TIME, USER, VALUE
from penchant.platform.table_files import TableFile, read_batches, scan_file

__all__ = ["read_items", "resolve"]


def resolve(data: Data) -> Source:
    """Find the files of a source and check their columns, without reading rows.

    Raises:
        ConfigError: the configuration does not fit the files' types.
        DataError: a package, a file or a column is missing.
    """
    match data.source:
        case "groceries":
            return retail.groceries()
        case "products":
            return retail.products()
        case "coupons":
            return retail.coupons()
        case "movielens-100k":
            return _movielens(data.merge)
    if data.events is None:  # Data refuses this
        raise ConfigError("`data` names neither a source nor events. Give one of them.")
    events = own_events(data.events)
    items = [] if data.items is None else own_items(data.items)
    return Source(
        events=tuple(events),
        items=tuple(items),
        inputs=tuple(file.path for file in (*events, *items)),
        time_unit=data.events.time_unit,
        merge=data.merge,
    )


def read_items(source: Source) -> pl.DataFrame:
    """The item table: `item` and `text` ("" where there is none), sorted by item, no id twice.

    Raises:
        DataError: an id is missing or comes twice.
    """
    empty = pl.DataFrame(schema={ITEM: pl.String, TEXT: pl.String})
    batches = [batch for file in source.items for batch in read_batches(file)]
    items = pl.concat([empty, *batches]).sort(ITEM)
    missing = items.filter(pl.col(ITEM).fill_null("") == "").height
    if missing:
        raise DataError(
            f"The item table has {missing} row(s) without an item id, expected one in each. "
            "Fill them in or remove the rows."
        )
    twice = items.filter(pl.col(ITEM).is_duplicated())[ITEM].unique(maintain_order=True)
    if len(twice):
        raise DataError(
            f"The item table has {len(twice)} id(s) on more than one row, such as "
            f"{', '.join(twice.head(5))}; expected one row an item. Remove the surplus rows."
        )
    return items


def _movielens(merge: bool) -> Source:
    """MovieLens-100K; rows of one second stay in the order of the file."""
    ratings, movies = installed(
        "recbole",
        "recbole/dataset_example/ml-100k/ml-100k.inter",
        "recbole/dataset_example/ml-100k/ml-100k.item",
    )
    frame = scan_file(ratings, "\t", None).select(
        pl.col("user_id:token").alias(USER),
        pl.col("item_id:token").alias(ITEM),
        pl.col("timestamp:float").alias(TIME),
        pl.col("rating:float").alias(VALUE),
    )
    year = pl.format(" ({})", "release_year:token")
    texts = (
        scan_file(movies, "\t", None)
        .with_columns(
            title=pl.concat_str("movie_title:token_seq", year, ignore_nulls=True),
            genres=pl.col("class:token_seq").str.replace_all(" ", ", "),
        )
        .select(pl.col("item_id:token").alias(ITEM), joined_text(("title", "genres")))
    )
    return Source(
        events=(TableFile(path=ratings, frame=frame, separator="\t"),),
        items=(TableFile(path=movies, frame=texts, separator="\t"),),
        inputs=(ratings, movies),
        time_unit="s",
        merge=merge,
    )
