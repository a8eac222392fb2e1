"""Texts as lists of token ids, and how alike two items' texts are.

Letters: R lists, T tokens in all, V items, E pairs of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from penchant.platform.requests import ranges

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["SAME_ITEM", "Likeness", "TokenLists", "Tokenize", "token_lists", "tokenizer_pieces"]

#: Likeness of an item to itself, above that of any two items.
SAME_ITEM = 2.0
_TABLE_SIZE = 4  # entries of a table of likeness that take as long as one pair without it
_CHUNK = 10_000  # texts that are tokenised at once: whole texts are held only so long
_MARKS = frozenset(",;.:")  # they stand right after a word


class Tokenize(Protocol):
    """Token ids of each text without special tokens, as it stands after other text."""

    def __call__(self, texts: list[str]) -> list[list[int]]: ...


@dataclass(frozen=True, kw_only=True)
class TokenLists:
    """R lists of token ids, one after the other, T tokens in all."""

    ids: NDArray[np.int32]  # (T,)
    offsets: NDArray[np.int64]  # (R + 1,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each list, shape (R,)."""
        return np.diff(self.offsets)

    def take(self, chosen: NDArray[np.integer[Any]]) -> TokenLists:
        """The lists at these positions, in that order; a list may be taken more than once."""
        counts = self.lengths[chosen]
        return TokenLists(
            ids=self.ids[ranges(self.offsets[:-1][chosen], counts)], offsets=_offsets(counts)
        )

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> TokenLists:
        """Python lists, packed."""
        ids = [token for tokens in lists for token in tokens]
        lengths = np.array([len(tokens) for tokens in lists], dtype=np.int64)
        return cls(ids=np.array(ids, dtype=np.int32), offsets=_offsets(lengths))

    def followed_by(self, others: TokenLists) -> TokenLists:
        """These lists, then the others."""
        return TokenLists(
            ids=np.concatenate([self.ids, others.ids]).astype(np.int32, copy=False),
            offsets=np.concatenate([self.offsets, self.offsets[-1] + others.offsets[1:]]),
        )


def token_lists(
    texts: Sequence[str], tokenize: Tokenize, max_tokens: int | None = None
) -> TokenLists:
    """Token ids of each text, cut to its first `max_tokens`; a blank text has none."""
    packed = [TokenLists.of([])]
    for begin in range(0, len(texts), _CHUNK):
        ids = tokenize(list(texts[begin : begin + _CHUNK]))
        packed.append(TokenLists.of([tokens[:max_tokens] for tokens in ids]))
    return TokenLists(
        ids=np.concatenate([part.ids for part in packed]),
        offsets=_offsets(np.concatenate([part.lengths for part in packed])),
    )


def tokenizer_pieces(tokenizer: PreTrainedTokenizerBase) -> Tokenize:
    """A tokenizer that writes pieces so that, put one after the other, they read as words.

    WordPiece begins a new word by itself; byte-level BPE does so only after a space, which is then
    put before every piece but a lone mark such as a comma. Runs of blanks count as one. The name of
    a special token inside a text is read as plain letters, so that no item's text can end a
    sequence.
    """

    def encode(texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # a long text is no fault: it is cut later
        )["input_ids"]
        return ids

    twice = tokenizer.decode(encode(["a"])[0] * 2, clean_up_tokenization_spaces=False)
    space = "" if str(twice).split() == ["a", "a"] else " "

    def pieces(texts: list[str]) -> list[list[int]]:
        words = [" ".join(text.split()) for text in texts]
        found = encode([word if word in _MARKS else space + word for word in words])
        return [ids if word else [] for ids, word in zip(found, words, strict=True)]

    return pieces


class Likeness:
    """How alike the texts of two items are: the weight of shared tokens over that of all tokens.

    A token weighs log(1 + V / items that have it), so that rare words count for more
    (Spärck Jones 1972); with equal weights this is the index of Jaccard (1901).

    Args:
        items: those of the catalogue, and others after them.
        known: V, how many the catalogue has: only these say what a token weighs. By default all.
    """

    def __init__(self, items: TokenLists, known: int | None = None) -> None:
        known = len(items) if known is None else known
        width = int(items.ids.max(initial=-1)) + 1
        tokens = sparse.csr_array(
            # A copy: what is summed below is summed in place, and these are the caller's.
            (np.ones(len(items.ids)), items.ids.astype(np.int64), items.offsets.copy()),
            shape=(len(items), width),
        )
        tokens.sum_duplicates()
        users = np.bincount(tokens.indices[: tokens.indptr[known]], minlength=width)
        weight = np.log1p(known / np.maximum(users, 1))
        tokens.data = np.sqrt(weight[tokens.indices])  # a product of two gives the weight
        self._tokens = tokens
        self._total = np.asarray(tokens.multiply(tokens).sum(axis=1)).ravel()

    def of(
        self, item: NDArray[np.integer[Any]], other: NDArray[np.integer[Any]]
    ) -> NDArray[np.float64]:
        """Likeness of E pairs of items, in [0, 1]; `SAME_ITEM` for an item and itself. (E,)

        Args:
            other: few different ones, such as the candidates of requests.
        """
        number = len(self._total)
        rows, row = np.unique(other, return_inverse=True)
        if len(rows) * number <= _TABLE_SIZE * len(item):  # cheaper than to look at each pair
            both = (self._tokens[rows] @ self._tokens.T).toarray()
            columns = np.arange(number)
            alike = self._share(both, rows[:, None], columns)
            return np.asarray(alike[row, item], dtype=np.float64)
        pair, place = np.unique(item.astype(np.int64) * number + other, return_inverse=True)
        one, two = np.divmod(pair, number)
        both = np.asarray(self._tokens[one].multiply(self._tokens[two]).sum(axis=1)).ravel()
        return np.asarray(self._share(both, one, two)[place], dtype=np.float64)

    def _share(
        self, both: NDArray[np.float64], one: NDArray[np.integer], two: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Likeness of pairs that share so much."""
        either = self._total[one] + self._total[two] - both
        alike = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
        return np.where(one == two, SAME_ITEM, np.minimum(alike, 1.0))


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
