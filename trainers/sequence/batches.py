"""Batches of histories for the sequence model: packed tokens, and the moments that are asked about.

Letters: N log rows, T tokens of a batch (packed, no padding), S sequences, L the longest of them,
E events inside the tokens, P requests (read-outs), K (request, item) pairs of the copy head.

Every sequence begins with a start token, so that a user without history can be asked about too. A
token carries the time at which the next question comes: that of the next token, or the request's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penchant.platform.events import EventLog
from penchant.platform.history import history_of, item_counts
from penchant.platform.recipes import SequenceRecipe
from penchant.platform.requests import Requests, ranges
from penchant.platform.timeline import DAY_MS, Window

__all__ = ["Batch", "Sequences", "build_batch", "request_sequences", "token_starts"]

_HOUR_MS = 3_600_000.0
TIME_FEATURES = 7


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """S pieces of histories: tokens `first_token` to `last_token` (exclusive) of the log."""

    first_token: NDArray[np.int64]  # (S,)
    last_token: NDArray[np.int64]  # (S,)
    end: NDArray[np.int64]  # (S,), log row after the last event, which may cut the last token short
    #: time of the question behind the last token, shape (S,)
    asked_ms: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Tensors of one step."""

    item: Tensor  # (E,) int64, items of the tokens one after the other
    bag: Tensor  # (T + 1,) int64, where each token's items start
    time_features: Tensor  # (T, 7)
    gap_hours: Tensor  # (S, L, L), from token j to the question behind token i
    visible: Tensor  # (S, L, L) bool, whether i may attend to j
    packed: Tensor  # (T,) int64, place of each token in the flattened (S, L) layout
    readout: Tensor  # (P,) int64, token whose state answers each request
    pair_request: Tensor  # (K,) int64
    pair_item: Tensor  # (K,) int64
    pair_features: Tensor  # (K, H), log(1 + decayed count)
    seen_request: Tensor  # pairs that are not asked for; empty unless seen items are excluded
    seen_item: Tensor
    kept: Tensor | None = None  # (T, D) in {0, 1 / (1 - dropout)}; None when not training


def token_starts(log: EventLog, recipe: SequenceRecipe) -> NDArray[np.int64]:
    """First log row of every token, and N at the end."""
    if recipe.tokens == "group":
        return log.group_starts
    return np.arange(log.num_events + 1, dtype=np.int64)


def request_sequences(
    log: EventLog, requests: Requests, recipe: SequenceRecipe, starts: NDArray[np.int64]
) -> Sequences:
    """One sequence a request: its last `max_tokens` tokens that begin in the window.

    A group that goes on after the request ends where the request's history ends.
    """
    first = recipe.window.starts(log.time_ms, requests.first(log), requests.end, requests.time_ms)
    first_token = np.searchsorted(starts, first, side="left")
    last_token = np.searchsorted(starts, requests.end, side="left")
    first_token = np.minimum(np.maximum(first_token, last_token - recipe.max_tokens), last_token)
    return Sequences(
        first_token=first_token,
        last_token=last_token,
        end=requests.end,
        asked_ms=requests.time_ms,
    )


def build_batch(
    log: EventLog,
    recipe: SequenceRecipe,
    starts: NDArray[np.int64],
    sequences: Sequences,
    requests: Requests,
    readout: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    exclude_seen: bool,
) -> Batch:
    """Lay out sequences and the requests that are read from them.

    Args:
        readout: sequence of each request, and how many of its tokens lie before the request; both
            of shape (P,).
    """
    lengths = sequences.last_token - sequences.first_token + 1  # with the start token
    begin = np.cumsum(lengths) - lengths
    total, longest = int(lengths.sum()), int(lengths.max())
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(total) - begin[sequence]
    token = sequences.first_token[sequence] + position - 1
    is_start = position == 0
    low = starts[np.maximum(token, 0)]
    high = starts[np.minimum(np.maximum(token, 0) + 1, len(starts) - 1)]  # a log may be empty
    high = np.minimum(high, sequences.end[sequence])
    counts = np.where(is_start, 0, high - low)
    time_ms, asked_ms = _times(log, starts, sequences, token, is_start, begin + lengths - 1)
    packed = sequence * longest + position
    gap_hours, visible = _attention(
        recipe,
        (len(lengths), longest),
        packed,
        time_ms,
        asked_ms,
        np.where(is_start, -1, low),
        high,
    )
    pair_request, pair_item, pair_features = _pairs(log, recipe, requests)
    seen_request = seen_item = np.zeros(0, dtype=np.int64)
    if exclude_seen:
        seen = item_counts(log, history_of(log, requests, Window()), [])
        seen_request, seen_item = seen.request, seen.item.astype(np.int64)
    return Batch(
        item=torch.from_numpy(log.item[ranges(low, counts)].astype(np.int64)),
        bag=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
        time_features=torch.from_numpy(_time_features(time_ms, asked_ms, is_start, counts)),
        gap_hours=torch.from_numpy(gap_hours),
        visible=torch.from_numpy(visible),
        packed=torch.from_numpy(packed),
        readout=torch.from_numpy(begin[readout[0]] + readout[1]),
        pair_request=torch.from_numpy(pair_request),
        pair_item=torch.from_numpy(pair_item),
        pair_features=torch.from_numpy(pair_features),
        seen_request=torch.from_numpy(seen_request),
        seen_item=torch.from_numpy(seen_item),
    )


def _times(
    log: EventLog,
    starts: NDArray[np.int64],
    sequences: Sequences,
    token: NDArray[np.int64],
    is_start: NDArray[np.bool_],
    final: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Time of each token, and of the question behind it. Both (T,)."""
    row = np.minimum(starts[np.maximum(token, 0)], max(log.num_events - 1, 0))
    time_ms = log.time_ms[row] if log.num_events else np.zeros(len(token), dtype=np.int64)
    asked_ms = np.empty_like(time_ms)
    asked_ms[:-1] = time_ms[1:]
    asked_ms[final] = sequences.asked_ms
    time_ms = np.where(is_start, asked_ms, time_ms)
    return time_ms, asked_ms


def _attention(
    recipe: SequenceRecipe,
    shape: tuple[int, int],
    packed: NDArray[np.int64],
    time_ms: NDArray[np.int64],
    asked_ms: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Gaps in hours and what is visible, both (S, L, L); `low` is -1 at start tokens."""

    def padded(values: NDArray[np.int64], fill: int) -> NDArray[np.int64]:
        grid = np.full(shape[0] * shape[1], fill, dtype=np.int64)
        grid[packed] = values
        return grid.reshape(shape)

    asked, when = padded(asked_ms, 0), padded(time_ms, 0)
    gap_ms = asked[:, :, None] - when[:, None, :]
    place = np.arange(shape[1])
    distance = place[:, None] - place[None, :]
    visible = np.broadcast_to((distance >= 0) & (distance < recipe.max_tokens), gap_ms.shape).copy()
    if recipe.window.days is not None:
        visible &= gap_ms <= recipe.window.days * DAY_MS
    if recipe.window.events is not None:
        visible &= padded(high, 0)[:, :, None] - padded(low, 0)[:, None, :] <= recipe.window.events
    visible[:, :, 0] = True  # the start token is no event
    visible &= distance >= 0
    gap_hours = np.maximum(gap_ms, 0).astype(np.float32) / np.float32(_HOUR_MS)
    gap_hours[:, :, 0] = 0.0
    return gap_hours, visible


def _time_features(
    time_ms: NDArray[np.int64],
    asked_ms: NDArray[np.int64],
    is_start: NDArray[np.bool_],
    counts: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Gap to the question, its hour and weekday as angles, size of the token. Shape (T, 7)."""
    hour = asked_ms % DAY_MS / DAY_MS * 2 * np.pi
    weekday = asked_ms % (7 * DAY_MS) / (7 * DAY_MS) * 2 * np.pi
    columns = [
        np.log1p(np.maximum(asked_ms - time_ms, 0) / _HOUR_MS) / 4,
        np.sin(hour),
        np.cos(hour),
        np.sin(weekday),
        np.cos(weekday),
        np.log1p(counts) / 3,
        is_start,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _pairs(
    log: EventLog, recipe: SequenceRecipe, requests: Requests
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The user's own items behind each request, for the copy head."""
    half_lives = recipe.copy_half_lives_days
    if not half_lives:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros((0, 0), dtype=np.float32)
    counts = item_counts(log, history_of(log, requests, recipe.window), half_lives)
    return counts.request, counts.item.astype(np.int64), np.log1p(counts.counts)
