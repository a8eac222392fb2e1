"""Which requests the text member learns from at which step: a function of (seed, epoch, step).

Nothing here knows how many workers there are: every worker computes the same global batch and takes
its share, so that a run can be cut, resumed and resized.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from penchant.platform.errors import DataError
from penchant.platform.history import history_of, item_counts
from penchant.platform.recipes import TextRecipe
from penchant.platform.requests import Requests, latest_requests, ranges
from penchant.platform.text import HistoryWriter, TokenLists
from penchant.platform.timeline import Window
from penchant.trainers.member import Past
from penchant.trainers.text.batches import Frame, Padded, in_groups, padded
from penchant.trainers.text.left_out import words_of_left_out
from penchant.trainers.text.network import Pool
from penchant.trainers.text.own import own_items, places

__all__ = ["TextPlan", "TextStep"]

_POOL_BATCHES = 16  # batches among which requests of like length are brought together
_POOL_GROUPS = 3  # of like length, that pass one by one: more would save little padding
_TARGETS = 4  # of a basket, drawn anew in each epoch: an even sample has the same mean


@dataclass(frozen=True, kw_only=True)
class TextStep:
    """A worker's share of one part of a batch. P requests, Q items of the pool."""

    text: Padded  # P histories, or histories with candidates
    pool: Pool | None  # `next_item`
    items: int  # Q, over all workers
    log_q: torch.Tensor | None  # (Q,), how likely each item was to be in the pool
    hidden: torch.Tensor | None  # (P, Q) bool, items that are not asked for
    wanted: torch.Tensor  # (P, Q) shares of the targets, or (P,) labels
    weight: torch.Tensor  # (P,), what each request counts; zero where a worker only takes part
    tokens: int


class TextPlan:
    """The latest requests before the cut-off, written down as text.

    Raises:
        DataError: there is nothing to learn from, nothing to read, or one class only.
    """

    def __init__(
        self,
        recipe: TextRecipe,
        past: Past,
        writer: HistoryWriter,
        frame: Frame,
        log_share: NDArray[np.float32],
    ) -> None:
        self.recipe, self.past, self.writer, self.frame = recipe, past, writer, frame
        self.log_share = log_share
        self.requests = latest_requests(
            past.log, past.spec, past.until_ms, recipe.fit_requests, recipe.seed
        )
        if not len(self.requests):
            raise DataError(
                "text: no request lies before the cut-off; expected some to learn from. "
                "Move the blocks later, or lower requests.min_items."
            )
        label = self.requests.label
        if label is not None and not 0 < label.sum() < len(label):
            raise DataError(
                f"text: all {len(label)} requests before the cut-off have the label {label[0]:g}; "
                "expected yes and no. Move the blocks later, or check the labels."
            )
        #: in words, what the histories do not tell; "" where they tell all
        self.left_out = words_of_left_out("text", writer, past.log, self.requests, recipe.window)
        draw = np.exp(0.5 * log_share.astype(np.float64))
        self._draw = draw / draw.sum()
        self._share = np.exp(log_share.astype(np.float64))
        #: in the history of each request, as the last epoch that was asked for writes it
        self.events = np.zeros(len(self.requests), dtype=np.int64)

    def epoch(self, epoch: int) -> tuple[TokenLists, list[NDArray[np.int64]]]:
        """Histories of all requests, some events left out, and the requests of each batch."""
        random = np.random.default_rng([self.recipe.seed, epoch, 0])
        kept = None
        if self.recipe.history_dropout:
            events = len(history_of(self.past.log, self.requests, self.recipe.window).row)
            kept = random.random(events) >= self.recipe.history_dropout
        lists, self.events = self.writer.write_counted(
            self.past.log, self.requests, self.recipe.window, kept
        )
        order = random.permutation(len(self.requests))
        size = self.recipe.batch_requests
        pool = np.arange(len(order)) // (size * _POOL_BATCHES)
        lengths = lists.lengths
        if self.requests.candidate is not None:
            lengths = lengths + self.writer.items.lengths[self.requests.candidate]
        order = order[np.lexsort((lengths[order], pool))]
        batches = np.split(order, range(size, len(order), size))
        return lists, [batches[at] for at in random.permutation(len(batches))]

    def parts(self, chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """A batch cut into the parts that pass through the model one by one."""
        return [part for part in np.array_split(chosen, self.recipe.accumulation) if len(part)]

    def most_tokens(self, workers: int) -> int:
        """Tokens that pass through one worker at once, filled up: those of a part of a batch.

        At most, but for negatives: those that are drawn twice pass once, as often as in the mean.
        """
        asked = self.recipe.batch_requests // self.recipe.accumulation
        around = len(self.frame.begin) + len(self.frame.end)
        history = self.recipe.history.max_tokens + around
        item = int(self.writer.items.lengths.max())
        own = math.ceil(asked / workers)
        if self.requests.candidate is not None:
            return own * (history + item + len(self.frame.middle))
        targets = min(int(np.diff(self.requests.target_offsets).max()), _TARGETS)
        negatives: int = math.ceil((1 - (1 - self._draw) ** self.recipe.negatives).sum())
        pool = min(asked * targets + negatives, len(self.writer.items))
        return own * history + math.ceil(pool / workers) * (item + around)

    def step(
        self,
        lists: TokenLists,
        chosen: NDArray[np.int64],
        key: tuple[int, int],
        rank: int,
        workers: int,
    ) -> TextStep:
        """A worker's share of a part; `key` is its epoch and place, for what is drawn."""
        mine = np.arange(len(chosen))[rank::workers]
        weight = torch.ones(max(len(mine), 1))
        if not len(mine):  # more workers than requests: take part, but count nothing
            mine, weight = np.zeros(1, dtype=np.int64), torch.zeros(1)
        at = chosen[mine]
        requests, texts = self.requests.take(at), lists.take(at)
        if requests.candidate is not None and requests.label is not None:
            text = padded(texts, self.frame, self.writer.items.take(requests.candidate))
            label = torch.from_numpy(requests.label)
            weight = weight * torch.where(label > 0.5, self.recipe.positive_weight, 1.0)
            return TextStep(
                text=text,
                pool=None,
                items=0,
                log_q=None,
                hidden=None,
                wanted=label,
                weight=weight,
                tokens=int(text.mask.sum()),
            )
        return self._ranking(texts, chosen, mine, weight, key, rank, workers)

    def _ranking(
        self,
        texts: TokenLists,
        chosen: NDArray[np.int64],
        mine: NDArray[np.int64],
        weight: torch.Tensor,
        key: tuple[int, int],
        rank: int,
        workers: int,
    ) -> TextStep:
        random = np.random.default_rng([self.recipe.seed, *key, 1])
        whole = self.requests.take(chosen)
        row, target = _drawn_targets(whole, random)
        sampled = random.choice(len(self._draw), self.recipe.negatives, p=self._draw)
        items = np.unique(np.concatenate([target, sampled]))
        q = np.minimum(len(target) * self._share + self.recipe.negatives * self._draw, 1.0)[items]
        requests = whole.take(mine)
        own = np.isin(row, mine)
        wanted = torch.zeros(len(mine), len(items))
        wanted[np.searchsorted(mine, row[own]), np.searchsorted(items, target[own])] = 1.0
        wanted = wanted / wanted.sum(1, keepdim=True).clamp(min=1)
        hidden = torch.from_numpy(self._not_wrong(requests, items)) & (wanted == 0)
        part = items[rank::workers] if rank < len(items) else items[:1]
        text = padded(texts, self.frame)
        # as many groups on every worker: under ZeRO 3 all go through the model together
        groups = min(_POOL_GROUPS, max(len(items) // workers, 1))
        framed, place = in_groups(self.writer.items.take(part), self.frame, groups)
        return TextStep(
            text=text,
            pool=Pool(
                text=framed,
                row=torch.from_numpy(place),
                log_share=torch.from_numpy(self.log_share[items]),
                own=own_items(self.past.log, requests, self.recipe, items),
            ),
            items=len(items),
            log_q=torch.from_numpy(np.log(q).astype(np.float32)),
            hidden=hidden,
            wanted=wanted,
            weight=weight,
            tokens=sum(int(some.mask.sum()) for some in (text, *framed)),
        )

    def _not_wrong(self, requests: Requests, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Items that are no wrong answers, shape (P, Q): all targets, and what is not asked for."""
        hidden = np.zeros((len(requests), len(items)), dtype=bool)
        owner = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
        found, place = places(requests.target, items)
        hidden[owner[found], place] = True
        if self.past.spec.exclude_seen:
            log = self.past.log
            seen = item_counts(log, history_of(log, requests, Window()), [])
            found, place = places(seen.item, items)
            hidden[seen.request[found], place] = True
        return hidden


def _drawn_targets(
    requests: Requests, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At most `_TARGETS` targets of each request: their requests' places, and the items."""
    counts = np.diff(requests.target_offsets)
    row = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((random.random(len(row)), row))
    place = ranges(np.zeros(len(counts), dtype=np.int64), counts)
    kept = order[place < _TARGETS]
    return row[kept], requests.target[kept].astype(np.int64)
