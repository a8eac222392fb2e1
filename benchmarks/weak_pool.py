"""What an ensemble of weak recommenders gains: published +8.6% NDCG@10 over the best of them.

    python benchmarks/weak_pool.py          # some minutes
    python benchmarks/weak_pool.py --quick  # one of five folds, one setting of each kind

After Vente, Mehta, Wegmeth and Beel, "Greedy ensemble selection for top-n recommendations" (CEUR
Vol-3924, 2024): simple recommenders, each with the setting that is best on validation, combined by
greedy selection on validation and judged on test. The mean of five data sets was +8.6%; this is
one of them, MovieLens-100K, prepared as in their code: ratings of 3 and more, the five-core, five
random folds of 60% train, 20% validation and 20% test of all ratings, a request a user, items of
train are not asked for. Theirs is another greedy search, over min-max scores of lists, and some of
their kinds come from other libraries; here `compare_scores` reads a Parquet of scores as anyone's.

`by time` asks the same recommenders under blocks of calendar time: two tenths of the time line in
a row are validation and test, at five cut-offs, of users who have rated five movies before; for
each block the recommenders learn from all that was before it. `with ease` adds a recommender that
is strong on this data, which the published pool lacks.

Intervals are by bootstrap over users. A mean over folds or cut-offs has the mean of their edges:
folds share their users, so that it is not taken as narrower. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from shared.facts import facts
from weak.recommenders import KINDS, Matrix

from penchant.ensembles.comparing.foreign import compare_scores, read_scores
from penchant.platform.config import Data
from penchant.platform.schema import ITEM, TIME, USER, VALUE
from penchant.platform.sources import resolve

METRIC, FOLDS, CORE, LEAST_RATING = "ndcg@10", 5, 5, 3
PUBLISHED = 0.086
STRONG = "ease"


@dataclass(frozen=True)
class Ratings:
    """What was liked: dense numbers of users and items, in order of time."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]

    def matrix(self, rows: NDArray[Any]) -> Matrix:
        found = np.zeros((self.user.max() + 1, self.item.max() + 1), dtype=np.float32)
        found[self.user[rows], self.item[rows]] = 1
        return found


@dataclass(frozen=True)
class Asked:
    """One block: what recommenders learn from, what they are to find, and who asks."""

    known: Matrix
    wanted: Matrix
    users: NDArray[np.int64]


def liked() -> Ratings:
    """Ratings of 3 and more; users and items with at least five of them, over and over."""
    frame = pl.concat([file.frame for file in resolve(Data(source="movielens-100k")).events])
    kept = frame.filter(pl.col(VALUE).cast(pl.Float64) >= LEAST_RATING).collect()
    height = 0
    while height != kept.height:
        height = kept.height
        kept = kept.filter(pl.len().over(name) >= CORE for name in (USER, ITEM))
    kept = kept.sort(pl.col(TIME).cast(pl.Int64), maintain_order=True)
    numbers = [kept[name].rank("dense").to_numpy().astype(np.int64) - 1 for name in (USER, ITEM)]
    return Ratings(*numbers)


def folds(ratings: Ratings, number: int) -> Iterator[tuple[Asked, Asked]]:
    """Validation and test of random folds; both are asked of what has learned from train."""
    shuffled = np.random.default_rng(42).permutation(len(ratings.user))
    parts = np.array_split(shuffled, FOLDS)
    for at in range(number):
        rest = np.concatenate([part for n, part in enumerate(parts) if n != at])
        validation, train = np.split(rest, [len(rest) // 4])
        known = ratings.matrix(train)
        wanted = [ratings.matrix(part) for part in (validation, parts[at])]
        first, second = (Asked(known, w, np.flatnonzero(w.any(1) & known.any(1))) for w in wanted)
        yield first, second


def by_time(ratings: Ratings, number: int) -> Iterator[tuple[Asked, Asked]]:
    """Tenths of the time line, the last ones: each block after all that was before it."""
    edges = [len(ratings.user) * part // 10 for part in range(11)]
    for first in range(9 - number, 9):
        yield _later(ratings, edges[first : first + 2]), _later(ratings, edges[first + 1 :][:2])


def _later(ratings: Ratings, edges: list[int]) -> Asked:
    known = ratings.matrix(np.arange(edges[0]))
    wanted = ratings.matrix(np.arange(*edges))
    return Asked(known, wanted, np.flatnonzero(wanted.any(1) & (known.sum(1) >= CORE)))


def scored(blocks: tuple[Asked, Asked], quick: bool) -> dict[str, tuple[Matrix, Matrix]]:
    """Scores of each kind on both blocks, with the setting that is best on the first."""
    found = {}
    for name, (fit, settings) in KINDS.items():
        tried = [(fit(blocks[0].known, **s), s) for s in settings[: 1 if quick else None]]
        first, chosen = max(tried, key=lambda pair: ndcg(pair[0], blocks[0]))
        same = blocks[1].known is blocks[0].known
        found[name] = first, first if same else fit(blocks[1].known, **chosen)
    return found


def ndcg(scores: Matrix, asked: Asked) -> float:
    """Mean NDCG@10, to choose a setting by."""
    mine = np.where(asked.known > 0, -np.inf, scores)[asked.users]
    top = np.argsort(-mine, axis=1, kind="stable")[:, :10]
    hit = np.take_along_axis(asked.wanted[asked.users], top, axis=1)
    discount = 1 / np.log2(np.arange(2, 12))
    ideal = np.cumsum(discount)[np.minimum(asked.wanted[asked.users].sum(1), 10).astype(int) - 1]
    return float(((hit * discount).sum(1) / ideal).mean())


def write_table(
    blocks: tuple[Asked, Asked], scores: Mapping[str, tuple[Matrix, Matrix]], path: Path
) -> None:
    """Scores of both blocks as a table of anyone's models."""
    frames = []
    for at, (name, asked) in enumerate(zip(("blend", "test"), blocks, strict=True)):
        row, item = np.nonzero(asked.known[asked.users] == 0)
        user = asked.users[row]
        columns = {
            "request": user + at * len(asked.known),
            "user": user,
            "time": np.full(len(user), at, dtype=np.int64),
            "candidate": item,
            "target": asked.wanted[user, item].astype(np.int8),
            "block": np.full(len(user), name),
        }
        models = {model: parts[at][user, item] for model, parts in scores.items()}
        frames.append(pl.DataFrame(columns | models))
    pl.concat(frames).write_parquet(path)


def compared(path: Path, models: list[str]) -> dict[str, Any]:
    """What greedy selection among these models gains over the best of them."""
    columns = ["request", "user", "time", "candidate", "target", "block", *models]
    scores = read_scores(pl.read_parquet(path, columns=columns))
    found = compare_scores(scores.blend, scores.test, METRIC, combiners=["greedy"])
    [greedy] = found.comparison.candidates
    best = found.comparison.best_single
    base, gain = found.comparison.members[best][METRIC].mean, greedy.difference[METRIC]
    return {
        "users": len(scores.test.requests),
        "best_single": best,
        "best_single_value": base,
        "models": len(greedy.combination.shares),
        "recommended": found.comparison.recommended is not None,
        "gain": gain.to_json(),
        "relative": {e: getattr(gain, e) / base for e in ("mean", "low", "high")},
        "singles": {name: m[METRIC].mean for name, m in found.comparison.members.items()},
    }


def measured(blocks: tuple[Asked, Asked], quick: bool) -> dict[str, dict[str, Any]]:
    """The published pool's comparison, and the one with a strong recommender."""
    scores = scored(blocks, quick)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "scores.parquet"
        write_table(blocks, scores, path)
        weak = [name for name in scores if name != STRONG]
        return {"weak": compared(path, weak), f"with {STRONG}": compared(path, list(scores))}


def mean_gain(found: list[dict[str, Any]]) -> dict[str, float]:
    return {
        edge: float(np.mean([one["relative"][edge] for one in found]))
        for edge in ("mean", "low", "high")
    }


def show(split: str, pool: str, found: list[dict[str, Any]]) -> None:
    for one in found:
        gain = one["relative"]
        print(
            f"{split:<8}{pool:<10}{one['users']:>6} users  {one['best_single']:<12}"
            f"{one['best_single_value']:.4f}  greedy of {one['models']:>2}  "
            f"{gain['mean']:+.1%} [{gain['low']:+.1%}, {gain['high']:+.1%}]"
        )
    mean = mean_gain(found)
    print(f"{split:<8}{pool:<10}mean {mean['mean']:+.1%} [{mean['low']:+.1%}, {mean['high']:+.1%}]")


def main() -> None:
    parser = argparse.ArgumentParser(description="Gain of ensembles of weak recommenders.")
    parser.add_argument("--quick", action="store_true", help="one fold, one setting of each kind")
    quick = parser.parse_args().quick
    began, ratings = time.perf_counter(), liked()
    print(f"{len(ratings.user):,} ratings, {ratings.user.max() + 1} users, "
          f"{ratings.item.max() + 1} movies; published: {PUBLISHED:+.1%}")  # fmt: skip
    random = [measured(blocks, quick) for blocks in folds(ratings, 1 if quick else FOLDS)]
    later = [measured(blocks, quick) for blocks in by_time(ratings, 1 if quick else FOLDS)]
    runs = {"random": random, "by time": later}
    gains: dict[str, dict[str, dict[str, float]]] = {}
    for split, found in runs.items():
        for pool in found[0]:
            each = [one[pool] for one in found]
            show(split, pool, each)
            gains.setdefault(split, {})[pool] = mean_gain(each)
    summary = {
        "benchmark": "weak_pool",
        "relative_gain": gains["random"]["weak"]["mean"],
        "published": PUBLISHED,
        "gains": gains,
        "runs": runs,
        "seconds": round(time.perf_counter() - began, 1),
        **facts("numpy", "polars"),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
