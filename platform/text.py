"""Histories as token ids for a language model.

An event reads `whole milk 3 d ago,` (see `text_words`). All its pieces come from finite sets, so
each is tokenised once, and histories are put together from token ids without a tokenizer.

Letters: R requests, E events in their histories, C events that are written, V items, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.history import History, history_of
from penchant.platform.item_tokens import (
    Likeness,
    Tokenize,
    TokenLists,
    token_lists,
    tokenizer_pieces,
)
from penchant.platform.requests import Requests
from penchant.platform.text_recipes import HistoryText
from penchant.platform.text_words import gap_place, value_place, words_of
from penchant.platform.timeline import Window

__all__ = ["HistoryWriter", "TokenLists", "Tokenize", "token_lists", "tokenizer_pieces"]

#: Likeness is told apart in steps of a millionth, and is below 4.
_LIKENESS_STEPS = np.int64(4 << 20)


@dataclass(frozen=True, kw_only=True)
class HistoryWriter:
    """Writes histories as token ids.

    An event whose item has no text is left out, and so is one that alone is over the budget. A
    value that is not finite is not told.
    """

    settings: HistoryText
    items: TokenLists  # (V), cut to `item_tokens`
    pieces: Mapping[str, list[int]]  # words of types, values, gaps, separator -> token ids
    types: tuple[str, ...]
    num_new: int = 0  # of the items, the last ones: those that the catalogue does not have

    def followed_by(self, new: TokenLists) -> HistoryWriter:
        """The same writer for candidates that are not in the catalogue: they are V, V + 1, ..."""
        items = self.items.followed_by(new)
        return replace(self, items=items, num_new=self.num_new + len(new))

    @classmethod
    def make(
        cls,
        settings: HistoryText,
        item_texts: Sequence[str],
        types: Sequence[str],
        tokenize: Tokenize,
    ) -> HistoryWriter:
        """Tokenise every item text and every fixed piece, once.

        Args:
            item_texts: one an item, "" where there is none. Shape (V,).
            types: names of the event types, in the order of `EventLog.kind`.
        """
        words = [word for column in words_of(settings, types) for word in column if word]
        words = list(dict.fromkeys(words))
        return cls(
            settings=settings,
            items=token_lists(item_texts, tokenize, settings.item_tokens),
            pieces=dict(zip(words, tokenize(words), strict=True)),
            types=tuple(types),
        )

    def write(
        self,
        log: EventLog,
        requests: Requests,
        window: Window,
        kept: NDArray[np.bool_] | None = None,
    ) -> TokenLists:
        """Token ids of each request's visible history, R lists of `max_tokens` or fewer.

        Only whole events are written: the latest ones that fit, or with `relevant_share`, and
        requests that have a candidate, first those most like it within that share of the budget.

        Args:
            kept: marks the events of `history_of(log, requests, window)` that stay; the others are
                taken as if they had never been. Shape (E,).
        """
        return self.write_counted(log, requests, window, kept)[0]

    def write_counted(
        self,
        log: EventLog,
        requests: Requests,
        window: Window,
        kept: NDArray[np.bool_] | None = None,
    ) -> tuple[TokenLists, NDArray[np.int64]]:
        """What `write` returns, and how many events each of the lists tells. Shape (R,)."""
        liked = requests.candidate is not None and self.settings.relevant_share > 0
        if kept is None and not liked:
            window = self._enough(window)
        history = history_of(log, requests, window)
        columns = self._columns(log, history)
        size = self._sizes(columns)
        if kept is not None:
            size[~kept] = 0
        chosen = self._choose(history, columns[0], size, requests)
        events = np.bincount(history.request[chosen], minlength=len(requests))
        return self._put_together(columns, chosen, events), events

    def count_written(self, log: EventLog, requests: Requests, window: Window) -> tuple[int, int]:
        """Events of the requests' histories, and how many of them can be written at all.

        The others have no text, or are over the budget alone. Where every event of the catalogue
        can be written none is looked at, and there are as many as are written: 0 and 0.
        """
        if self._fits_always():
            return 0, 0
        history = history_of(log, requests, window)
        size = self._sizes(self._columns(log, history))
        return len(size), int((size > 0).sum())

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What `from_state` needs: a part for JSON, and arrays."""
        card = {
            "settings": self.settings.model_dump(mode="json"),
            "pieces": {word: list(ids) for word, ids in self.pieces.items()},
            "types": list(self.types),
        }
        return card, {"item_ids": self.items.ids, "item_offsets": self.items.offsets}

    @classmethod
    def from_state(
        cls, card: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> HistoryWriter:
        """The writer that `state` described; no tokenizer is needed."""
        return cls(
            settings=HistoryText.model_validate(card["settings"]),
            items=TokenLists(ids=arrays["item_ids"], offsets=arrays["item_offsets"]),
            pieces={word: list(ids) for word, ids in card["pieces"].items()},
            types=tuple(card["types"]),
        )

    @cached_property
    def _table(self) -> TokenLists:
        """Token ids of the items, then of the words in the order of `words_of`."""
        words = [word for column in words_of(self.settings, self.types) for word in column]
        return self.items.followed_by(TokenLists.of([self.pieces.get(w, []) for w in words]))

    @cached_property
    def _likeness(self) -> Likeness:
        return Likeness(self.items, len(self.items) - self.num_new)

    def _enough(self, window: Window) -> Window:
        """A window without events that cannot fit; only where every event can be written."""
        if not self._fits_always():
            return window
        most = self.settings.max_tokens // self._extreme_sizes[0]
        events = most if window.events is None else min(most, window.events)
        return window.model_copy(update={"events": events})

    def _fits_always(self) -> bool:
        """Whether any event that there could be can be written."""
        if not len(self.items) or self.items.lengths.min() == 0:
            return False
        return self._extreme_sizes[1] <= self.settings.max_tokens

    @cached_property
    def _extreme_sizes(self) -> tuple[int, int]:
        """Tokens of the shortest event that there could be, and of the longest."""
        sizes = [len(self.items), *(len(c) for c in words_of(self.settings, self.types) if c)]
        parts = np.split(self._table.lengths, np.cumsum(sizes)[:-1])
        return int(sum(np.min(part) for part in parts)), int(sum(np.max(part) for part in parts))

    def _columns(self, log: EventLog, history: History) -> list[NDArray[np.int64]]:
        """Which list of the table each part of an event is; a column (E,) for each part."""
        types, values, gaps, separator = words_of(self.settings, self.types)
        row, at = history.row, len(self.items)
        columns = [log.item[row].astype(np.int64)]
        if types:
            columns.append(log.kind[row] + np.int64(at))
        at += len(types)
        if values:
            columns.append(value_place(log.value[row]) + at)
        at += len(values)
        if gaps:
            columns.append(gap_place(history.age_days) + at)
        at += len(gaps)
        columns.append(np.full(len(row), at, dtype=np.int64))
        return columns

    def _sizes(self, columns: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Tokens of each event, none where it cannot be written. (E,)"""
        lengths = sum(self._table.lengths[column] for column in columns)
        size = np.where(self.items.lengths[columns[0]] > 0, lengths, 0)
        size[size > self.settings.max_tokens] = 0
        return size

    def _choose(
        self,
        history: History,
        item: NDArray[np.int64],
        size: NDArray[np.int64],
        requests: Requests,
    ) -> NDArray[np.int64]:
        """Events to write, a request after the other, in the order of the settings. (C,)"""
        budget = np.full(len(requests), self.settings.max_tokens, dtype=np.int64)
        chosen = np.zeros(len(size), dtype=np.bool_)
        if requests.candidate is not None and self.settings.relevant_share > 0:
            share = int(self.settings.relevant_share * self.settings.max_tokens)
            able = np.flatnonzero((size > 0) & (size <= share))
            alike = self._likeness.of(item[able], requests.candidate[history.request[able]])
            able, alike = able[alike > 0], alike[alike > 0]
            # the last of a request is the most like, of equals the latest
            key = history.request[able] * _LIKENESS_STEPS + np.rint(alike * (_LIKENESS_STEPS // 4))
            able = able[np.argsort(key.astype(np.int64), kind="stable")]
            owner = history.request[able]
            chosen[able[_tail(owner, size[able], np.full_like(budget, share))]] = True
            used = np.bincount(history.request[chosen], size[chosen], minlength=len(requests))
            budget -= used.astype(np.int64)
        rest = np.flatnonzero((size > 0) & ~chosen)
        chosen[rest[_tail(history.request[rest], size[rest], budget)]] = True
        events = np.flatnonzero(chosen)
        if self.settings.order == "newest_last":
            return events
        counts = np.bincount(history.request[events], minlength=len(requests))
        ends = np.cumsum(counts)
        mirror = np.repeat(2 * ends - counts - 1, counts) - np.arange(len(events))
        return np.asarray(events[mirror], dtype=np.int64)

    def _put_together(
        self,
        columns: list[NDArray[np.int64]],
        chosen: NDArray[np.int64],
        events: NDArray[np.int64],
    ) -> TokenLists:
        parts = np.stack([column[chosen] for column in columns], axis=1)  # (C, parts)
        written = self._table.take(parts.ravel())
        after = np.concatenate([[0], np.cumsum(events)]) * len(columns)
        return TokenLists(ids=written.ids, offsets=written.offsets[after])


def _tail(
    owner: NDArray[np.int64], size: NDArray[np.int64], budget: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Marks the longest tail of each owner's run whose sizes sum to its budget or less."""
    total = np.concatenate([[0], np.cumsum(size)])
    ends = np.searchsorted(owner, np.arange(len(budget)), side="right")
    return np.asarray(total[ends][owner] - total[:-1] <= budget[owner])
