"""Counts shared out to items with like texts: what users had says something of what is new.

A count goes to the items of its nearest texts by a softmax of the cosine of their vectors. A
language model makes the vectors when a member is fitted; nothing of it is needed to score.

Letters: R rows of counts, V items, T different texts, N nearest texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from penchant.platform.errors import DataError
from penchant.platform.item_vectors import item_vectors
from penchant.platform.recipes import Alike
from penchant.trainers.member import Arrays, Past

__all__ = ["AlikeTexts"]

_CHUNK = 256  # texts that are compared with all others at once


@dataclass(frozen=True, kw_only=True)
class AlikeTexts:
    """For each text, what an item of each like text gets of a count; the items' shares sum to 1.

    A text whose item has none shares nothing out and gets nothing.
    """

    of_item: NDArray[np.int64]  # (V,), number of its text
    shares: sparse.csr_array  # (T, T), from the text that was counted to that of the item

    @classmethod
    def find(cls, settings: Alike, past: Past) -> Self:
        """Compare all texts with one another: time grows with the square of their number.

        Raises:
            ConfigError: the language model cannot be found or used.
            DataError: no item has a text.
        """
        if not any(past.texts):
            raise DataError(
                "personal.alike: no item has a text, expected some to compare. Give data.items "
                "with a `text` column, or remove `alike`."
            )
        texts, of_item, size = np.unique(
            np.array(past.texts, dtype=np.str_), return_inverse=True, return_counts=True
        )
        vectors = item_vectors(settings.text, list(past.texts), past.vectors)
        one_each = np.unique(of_item, return_index=True)[1]
        size[texts == ""] = 0
        shares = _shares(vectors[one_each], size.astype(np.float32), settings)
        return cls(of_item=of_item.astype(np.int64), shares=shares)

    @classmethod
    def from_tensors(cls, tensors: Arrays) -> Self:
        """What `tensors` gave."""
        parts = (tensors[f"alike.{name}"] for name in ("data", "indices", "indptr"))
        size = len(tensors["alike.indptr"]) - 1
        shares = sparse.csr_array(tuple(parts), shape=(size, size))
        return cls(of_item=tensors["alike.of_item"], shares=shares)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All of it, to be saved."""
        return {
            "alike.of_item": self.of_item,
            "alike.data": self.shares.data,
            "alike.indices": self.shares.indices,
            "alike.indptr": self.shares.indptr,
        }

    def spread(
        self,
        row: NDArray[np.integer[Any]],
        item: NDArray[np.integer[Any]],
        count: NDArray[np.float32],
        rows: int,
    ) -> NDArray[np.float32]:
        """What each item gets of counts of single items, shape (rows, V)."""
        shape = (rows, self.shares.shape[0])
        counts = sparse.csr_array((count, (row, self.of_item[item])), shape=shape)
        return np.asarray((counts @ self.shares).toarray()[:, self.of_item], dtype=np.float32)


def _shares(
    vectors: NDArray[np.float32], size: NDArray[np.float32], settings: Alike
) -> sparse.csr_array:
    """Shape (T, T).

    Args:
        vectors: of length one, shape (T, width).
        size: items that have the text, zero for no text. Shape (T,).
    """
    number = len(vectors)
    nearest = min(settings.neighbors, number)
    places, shares = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    for begin in range(0, number, _CHUNK):
        cosine = vectors[begin : begin + _CHUNK] @ vectors.T
        kept = np.sort(np.argpartition(-cosine, nearest - 1, axis=1)[:, :nearest], axis=1)
        below = np.take_along_axis(cosine, kept, axis=1) - 1
        near = np.exp(below / np.float32(settings.temperature)) * (size[kept] > 0)
        near *= size[begin : begin + _CHUNK, None] > 0
        total = (near * size[kept]).sum(axis=1, keepdims=True)
        places.append(kept.ravel())
        shares.append((near / np.maximum(total, np.finfo(np.float32).tiny)).ravel())
    offsets = np.arange(number + 1, dtype=np.int64) * nearest
    return sparse.csr_array(
        (np.concatenate(shares), np.concatenate(places), offsets), shape=(number, number)
    )
