"""Which histories are trained on at which step: a pure function of (seed, epoch, step).

Nothing here knows how many workers there are. Every worker computes the same global batch and takes
its share of it, so that a run can be cut, resumed and resized.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from penchant.platform.errors import DataError
from penchant.platform.recipes import SequenceRecipe
from penchant.platform.requests import all_requests, ranges
from penchant.trainers.member import Past
from penchant.trainers.sequence.batches import Batch, Sequences, build_batch, token_starts

__all__ = ["Step", "TrainingPlan"]

_POOL_BATCHES = 16  # batches among which pieces of like length are brought together


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one worker does in one step. P requests, Q targets."""

    batch: Batch
    target: torch.Tensor  # (Q,)
    target_request: torch.Tensor  # (Q,), position in the batch
    global_requests: int  # requests of the whole batch, over all workers
    events: int  # events of this worker's share


class TrainingPlan:
    """The training requests before a cut-off, laid out along whole histories.

    A history longer than twice `max_tokens` is cut into pieces, at places that change with the
    epoch; each piece is read once, and all its requests are learned from in parallel.

    Raises:
        DataError: there are no requests to learn from.
    """

    def __init__(self, recipe: SequenceRecipe, past: Past) -> None:
        self.recipe, self.past = recipe, past
        self.starts = token_starts(past.log, recipe)
        everything = np.iinfo(np.int64).min
        self.requests = all_requests(past.log, past.spec, everything, past.until_ms)
        if not len(self.requests):
            raise DataError(
                "sequence: no request lies before the cut-off; expected some to learn from. "
                "Move the blocks later, or lower requests.min_items."
            )
        #: whole tokens before each request, counted from the log's first
        self._token = np.searchsorted(self.starts[1:], self.requests.end, side="right")

    @cached_property
    def _user_tokens(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First token of each user, and the one after the last before the cut-off. Both (U,)."""
        log = self.past.log
        first = np.searchsorted(self.starts, log.offsets[:-1], side="left")
        known = log.time_ms[self.starts[:-1]] < self.past.until_ms
        before = np.concatenate([[0], np.cumsum(known)])
        end = np.searchsorted(self.starts, log.offsets[1:], side="left")
        return first, first + before[end] - before[first]

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Pieces of each batch of an epoch, as positions in `pieces(epoch)`."""
        pieces = self.pieces(epoch)
        lengths = pieces.last_token - pieces.first_token + 1
        random = np.random.default_rng([self.recipe.seed, epoch, 1])
        order = random.permutation(len(lengths))
        pool = np.cumsum(lengths[order]) // (_POOL_BATCHES * self.recipe.batch_tokens)
        order = order[np.lexsort((lengths[order], pool))]
        number = (np.cumsum(lengths[order]) - 1) // self.recipe.batch_tokens
        batches = np.split(order, np.flatnonzero(np.diff(number)) + 1)
        return [batches[at] for at in random.permutation(len(batches))]

    def pieces(self, epoch: int) -> Sequences:
        """All pieces of an epoch that hold at least one request."""
        first, last = self._user_tokens
        size = 2 * self.recipe.max_tokens
        random = np.random.default_rng([self.recipe.seed, epoch, 0])
        shift = np.where(last - first > size, random.integers(0, size, len(first)), 0)
        number = -(-(last - first + shift) // size)
        user = np.repeat(np.arange(len(first)), number)
        begin = first[user] - shift[user] + size * ranges(np.zeros(len(first), np.int64), number)
        end = np.minimum(begin + size, last[user])
        begin = np.maximum(begin, first[user])
        asked_row = np.minimum(self.starts[end], self.past.log.num_events - 1)
        pieces = Sequences(
            first_token=begin,
            last_token=end,
            end=self.starts[end],
            asked_ms=self.past.log.time_ms[asked_row],
        )
        low, high = self._requests_of(pieces)
        return _pick(pieces, np.flatnonzero(high > low))

    def _requests_of(self, pieces: Sequences) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Range of the requests that are read from each piece.

        A request that falls on a cut belongs to the piece before it, which has seen more; only a
        user's first piece answers from its start token.
        """
        first, _ = self._user_tokens
        is_first = np.isin(pieces.first_token, first)
        low = np.searchsorted(self._token, pieces.first_token, side="left")
        after_cut = np.searchsorted(self._token, pieces.first_token, side="right")
        # requests are in the log's order: those of the previous user may end at the same token
        owner = self.past.log.user[
            np.minimum(self.starts[pieces.first_token], self.past.log.num_events - 1)
        ]
        own_first = np.searchsorted(self.requests.user, owner, side="left")
        low = np.where(is_first, np.maximum(low, own_first), after_cut)
        high = np.searchsorted(self._token, pieces.last_token, side="right")
        own_last = np.searchsorted(self.requests.user, owner, side="right")
        return low, np.maximum(np.minimum(high, own_last), low)

    def step(
        self, pieces: Sequences, chosen: NDArray[np.int64], epoch: int, rank: int, workers: int
    ) -> Step:
        """A worker's share of a global batch."""
        low, high = self._requests_of(_pick(pieces, chosen))
        total = int((high - low).sum())
        mine = chosen[rank::workers]
        weightless = not len(mine)  # more workers than pieces: take part, but add nothing
        own = _pick(pieces, chosen[:1] if weightless else mine)
        low, high = self._requests_of(own)
        if weightless:
            high = low
        at = ranges(low, high - low)
        requests = self.requests.take(at)
        sequence = np.repeat(np.arange(len(low)), high - low)
        behind = self._token[at] - own.first_token[sequence]
        batch = build_batch(
            self.past.log,
            self.recipe,
            self.starts,
            own,
            requests,
            (sequence, behind),
            exclude_seen=self.past.spec.exclude_seen,
        )
        counts = np.diff(requests.target_offsets)
        return Step(
            batch=replace(batch, kept=self._kept(own, epoch)),
            target=torch.from_numpy(requests.target.astype(np.int64)),
            target_request=torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
            global_requests=total,
            events=len(batch.item),
        )

    def _kept(self, pieces: Sequences, epoch: int) -> torch.Tensor | None:
        """Dropout of each piece from its own random stream, so that it follows the piece."""
        rate, dim = self.recipe.dropout, self.recipe.size.dim
        if not rate:
            return None
        lengths = pieces.last_token - pieces.first_token + 1
        drawn = [
            np.random.Generator(
                np.random.Philox(key=[self.recipe.seed, first * 1000 + epoch])
            ).random((length, dim), dtype=np.float32)
            for first, length in zip(pieces.first_token.tolist(), lengths.tolist(), strict=True)
        ]
        return torch.from_numpy(np.concatenate(drawn) >= rate) / (1 - rate)


def _pick(pieces: Sequences, chosen: NDArray[np.int64]) -> Sequences:
    return Sequences(
        first_token=pieces.first_token[chosen],
        last_token=pieces.last_token[chosen],
        end=pieces.end[chosen],
        asked_ms=pieces.asked_ms[chosen],
    )
