"""Products that were never sold before the cut-off: do item texts find what a household buys?

    penchant run examples/products.yaml --out runs/products
    python benchmarks/cold_products.py runs/products           # and its members that read texts
    python benchmarks/cold_products.py runs/products --quick   # 200 baskets a block

A cold product has no event before `select` begins, where members stop learning. Asked are a
block's baskets that hold one: where do its cold products stand among all cold products, and in the
whole catalogue? Products that say the same tie; a tie counts by the chance that it falls into the
list in random order (McSherry and Najork 2008). Means are over baskets, intervals by bootstrap
over households; `new` leaves out products that the household has had since the cut-off, as targets
and from the list.

The baseline spreads a household's decayed counts of product types, smoothed with the population's,
evenly over the cold products of each type. `types: all products` spreads them over the type's known
products, too. `equal texts` does that with whole texts, backed by types: all that metadata say
without a language model. `alike texts` spreads each count over all products by a softmax of the
cosine of their MiniLM vectors. Members are all that read texts: `sequence` and `text`, whose copy
heads find cold products that the household has had already, so that what their reading is worth
`new` alone says, and `personal` with `alike`. Settings are chosen on `select`,
weights of mixtures on `blend`. The last line is one JSON object; `ratio` and `ratio_new` are
recall@50 on `test` over the baseline's, of the text readers that are best on `blend` by each.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from cold.places import judge, judged
from cold.shop import Asked, Shop
from cold.trial import Trial
from shared.facts import facts

from penchant.platform.intervals import Resampler
from penchant.platform.prepared import open_prepared
from penchant.platform.recipes import PersonalRecipe, Recipe, SequenceRecipe, TextRecipe
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.trainers.member import read_card

HALF_LIVES_DAYS = (30.0, 60.0, 120.0)
TYPE_SHARES = (0.01, 0.1, 1.0)  # of a type's count beside that of an equal text
TEMPERATURES = (0.005, 0.01, 0.02, 0.04, 0.08)  # of the cosine
QUICK_BASKETS, RESAMPLES = 200, 2000
POPULAR, BASELINE, ALL_OF_TYPE = (
    "types: no household",
    "types: cold products",
    "types: all products",
)
EQUAL, ALIKE = "equal texts", "alike texts"
COLUMNS = ("recall@50", "new", "ndcg@10", "whole")
CHOSEN_BY = ("recall@50", "new")


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


def reads(recipe: Recipe) -> bool:
    """Whether members of the recipe know more of an item than how often it was chosen."""
    match recipe:
        case SequenceRecipe():
            return recipe.text is not None
        case PersonalRecipe():
            return recipe.alike is not None
    return isinstance(recipe, TextRecipe)


def figures(trial: Trial, block: Block) -> dict[str, dict[str, Any]]:
    """Intervals of each recipe, ratios to the baseline, paired differences."""
    asked, rows = trial.shop.asked[block], dict[str, dict[str, Any]]()
    draws = Resampler(asked.requests.user, RESAMPLES, seed=0)

    others = {other: judged(trial.cold[other][block], asked) for other in (BASELINE, EQUAL)}
    for name in trial.cold:
        found = judged(trial.cold[name][block], asked)
        row: dict[str, Any] = {"setting": trial.settings.get(name)}
        for metric in CHOSEN_BY:
            ratio = np.nanmean(found[metric]) / np.nanmean(others[BASELINE][metric])
            row[f"ratio {metric}"] = round(float(ratio), 3)
            for other, theirs in others.items():
                difference = draws.difference(found[metric], theirs[metric])
                row[f"{metric} - {other}"] = difference.to_json()
        if name in trial.whole:
            ranks = trial.whole[name][block]
            found["whole"] = judge(ranks, ranks, asked)["recall@50"]
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
    readers = [member for member in made if reads(read_card(member)[0])]
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
