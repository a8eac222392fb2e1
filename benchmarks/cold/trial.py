"""Recipes that spread a household's counts over products, each with its best setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from cold.places import CHUNK, Ranks, judge, places
from cold.shop import BLOCKS, Floats, Groups, Shop

from penchant.platform.timeline import Block
from penchant.trainers.fit import load_member

PRIORS = (1.0, 10.0, 100.0)  # events of the household that the population's shares weigh
TENTHS = 10  # in which weights of a mixture are tried
FLOOR = 1e-9  # of a share, before its logarithm
CHOSEN_BY = "recall@50"


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
        ranks = places(scores, asked.request, asked.place, None)
        return float(judge(ranks, ranks, asked)[CHOSEN_BY].mean())

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
