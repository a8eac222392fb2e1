"""Texts packed into rows of a fixed length, none cut and none lost.

Best fit, the longest first (Ding et al. 2024, "Fewer Truncations Improve Language Modeling"): each
text goes into the fullest row that still has room for it.

Letters: R texts, K rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.platform.item_tokens import TokenLists

__all__ = ["pack", "packed_rows"]


def pack(lengths: NDArray[np.int64], capacity: int, seed: int) -> list[list[int]]:
    """Which texts stand in which row, in the order in which they stand there; K rows.

    Args:
        lengths: tokens of each text, shape (R,), none above the capacity.
        seed: which of two texts of equal length comes first.

    Raises:
        ValueError: a text is longer than a row.
    """
    if len(lengths) and lengths.max() > capacity:
        raise ValueError(f"lengths must be {capacity} or less, got {lengths.max()}; cut the texts")
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(lengths))
    order = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = defaultdict(list)  # free tokens -> rows
    sizes = 0  # a bit for each number of free tokens that some row has
    for text, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        fitting = sizes >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = with_room[room].pop()
            if not with_room[room]:
                sizes ^= 1 << room
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(text)
        with_room[room - length].append(row)
        sizes |= 1 << (room - length)
    return rows


def packed_rows(
    texts: TokenLists, begin: Sequence[int], end: Sequence[int], tokens: int, seed: int
) -> TokenLists:
    """Rows of at most `tokens`: `begin` once, then whole texts, each followed by `end`."""
    lengths = texts.lengths + len(end)
    placed = pack(lengths, tokens - len(begin), seed)
    table = TokenLists.of([begin, end]).followed_by(texts)
    order = [at for row in placed for at in (0, *(x for text in row for x in (text + 2, 1)))]
    written = table.take(np.array(order, dtype=np.int64))
    lists = np.array([1 + 2 * len(row) for row in placed], dtype=np.int64)
    after = np.concatenate([[0], np.cumsum(lists)]).astype(np.int64)
    return TokenLists(ids=written.ids, offsets=written.offsets[after])
