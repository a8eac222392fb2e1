"""Products that were never sold before the cut-off: do item texts find what a household buys?

    penchant run examples/products.yaml --out runs/products
    python benchmarks/cold_products.py runs/products           # its `sequence` members
    python benchmarks/cold_products.py runs/products --quick   # 200 requests a block

A cold product has no event before `select` begins, where members stop learning. Asked are the
baskets of a block that hold one. Nobody knows more of a cold product than what its text and its
metadata say, so products that say the same tie: a tie counts by the chance that a random order of
its members gives the target a place in the list (McSherry and Najork 2008). Means are over requests,
intervals by bootstrap over households.

The metadata baseline spreads a household's decayed counts of product types, smoothed with the
population's, evenly over the cold products of each type. `text alike` is the same with a softmax of
the likeness of item texts (MiniLM) in the place of types. Settings are chosen on `select`, weights of
mixtures on `blend`; `test` is read at the end. `new` counts only products that the household has not
had since they came. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from penchant.platform.history import history_of, item_counts
from penchant.platform.intervals import Resampler
from penchant.platform.item_vectors import item_vectors
from penchant.platform.prepared import Prepared, open_prepared
from penchant.platform.raw_source import installed
from penchant.platform.requests import Requests
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import DAY_MS, Block, Window
from penchant.trainers.fit import load_member
from penchant.trainers.member import Member

BLOCKS = (Block.SELECT, Block.BLEND, Block.TEST)
HALF_LIVES_DAYS = (30.0, 60.0, 120.0)
PRIORS = (1.0, 10.0, 100.0)  # events of the household that the population's shares weigh
TEMPERATURES = (0.01, 0.02, 0.04, 0.08)  # of the cosine between texts
STEPS = 10  # a mixture's weights are tenths
LIST, SHORT_LIST = 50, 10
RESAMPLES = 2000
CHUNK = 100  # requests that a member scores at once: 27 MB
TEXT_CHUNK = 1024  # texts that are compared with all others at once
Scores = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Items that say the same: of one type, or of one text. G groups, C cold items."""

    of_item: NDArray[np.int64]  # (V,), in [0, G)
    of_cold: NDArray[np.int64]  # (C,)

    @cached_property
    def size(self) -> NDArray[np.int64]:
        return np.bincount(self.of_item)

    @cached_property
    def cold_size(self) -> NDArray[np.int64]:
        return np.bincount(self.of_cold, minlength=len(self.size))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """R baskets of a block that hold a cold product; P such products in all."""

    requests: Requests
    request: NDArray[np.int64]  # (P,)
    item: NDArray[np.int32]  # (P,)
    place: NDArray[np.int64]  # (P,), among the cold products
    new: NDArray[np.bool_]  # (P,), the household has not had it


class Shop:
    """A run's log, seen from the members' cut-off."""

    def __init__(self, prepared: Prepared, most: int | None) -> None:
        self.log, self.until_ms = prepared.log, prepared.blocks.select_ms
        self.past = self.log.time_ms < self.until_ms
        sold = np.zeros(self.log.num_items, dtype=bool)
        sold[self.log.item[self.past]] = True
        self.cold = np.flatnonzero(~sold)
        place = np.full(self.log.num_items, -1)
        place[self.cold] = np.arange(len(self.cold))
        self.asked = {block: _asked(prepared.requests[block], place, most) for block in BLOCKS}
        catalog = prepared.catalog
        self.types = self._groups(product_types(catalog.item_ids))
        self.texts = self._groups(np.array(catalog.item_texts, dtype=np.str_))
        vectors = item_vectors("minilm", catalog.item_texts, prepared.run.log / "vectors")
        one_each = np.unique(self.texts.of_item, return_index=True)[1]
        self.vectors = vectors[one_each]

    def _groups(self, names: NDArray[np.str_]) -> Groups:
        of_item = np.unique(names, return_inverse=True)[1]
        return Groups(of_item=of_item, of_cold=of_item[self.cold])

    def had(self, block: Block, groups: Groups, half_life: float) -> sparse.csr_matrix:
        """Decayed counts of each household before its request; in the last row, the population's
        shares before the cut-off. Shape (R + 1, G)."""
        requests, log = self.asked[block].requests, self.log
        own = item_counts(log, history_of(log, requests, Window()), [half_life])
        age_days = (self.until_ms - log.time_ms[self.past]) / DAY_MS
        faded = np.exp2(-age_days / half_life)
        item = np.concatenate([own.item, log.item[self.past]])
        row = np.concatenate([own.request, np.full(len(faded), len(requests))])
        count = np.concatenate([own.counts[:, 0], faded / faded.sum()])
        shape = (len(requests) + 1, len(groups.size))
        return sparse.csr_matrix((count, (row, groups.of_item[item])), shape=shape)
