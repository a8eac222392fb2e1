"""What a yes-or-no request is judged by: features of its user and its one candidate.

Where the answer is an event's value, users' taste; where it is a label that becomes known later,
what users did by type and how often others said yes. What is known of items is learned from events
before a cut-off. To learn how to weigh it, each training request reads what was known before its
own slice of time: an item's record that holds the request's own answer would look like proof.

Letters: R requests, V items, W words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.platform.events import EventLog
from penchant.platform.item_tokens import Likeness, TokenLists
from penchant.platform.requests import Requests
from penchant.platform.timeline import Window
from penchant.trainers.boosted.answer_odds import answer_odds, kinds_of
from penchant.trainers.boosted.features import PAIR_FEATURES, pair_features
from penchant.trainers.boosted.taste import Taste, learn_taste
from penchant.trainers.boosted.taste_features import taste_features
from penchant.trainers.boosted.type_features import type_features
from penchant.trainers.member import Past

__all__ = ["AnswerLens", "answer_lens", "training_features"]

_SLICES = 8
_CHUNK = 500  # requests whose features are held at once
#: Of a pair; not the moment: all requests of a campaign share it, and it would stand for them.
_KEPT = [at for at, name in enumerate(PAIR_FEATURES) if name not in ("hour", "weekday")]
_WORD = re.compile(r"\w+")
_NONE_POPULAR = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, kw_only=True)
class AnswerLens:
    """Turns requests into features, with what was known of items up to a moment."""

    window: Window
    words: TokenLists  # (V), of the items' texts
    taste: Taste | None = None  # where the answer is an event's value
    odds: NDArray[np.float32] | None = None  # (V, 2), where it is a label
    types: int = 0  # of events

    @cached_property
    def likeness(self) -> Likeness:
        """How alike two items' texts are."""
        return Likeness(self.words)

    @property
    def num_parameters(self) -> int:
        """Numbers that were learned of items."""
        taste = 0 if self.taste is None else self.taste.bias.size + self.taste.factors.size
        return taste + (0 if self.odds is None else self.odds.size)

    def rows(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        """Features of each request's candidate, shape (R, F)."""
        parts = [
            self._chunk(log, requests.take(np.arange(at, min(at + _CHUNK, len(requests)))))
            for at in range(0, len(requests), _CHUNK)
        ]
        return np.concatenate(parts) if parts else self._chunk(log, requests)

    def _chunk(self, log: EventLog, requests: Requests) -> NDArray[np.float32]:
        pairs, features = pair_features(log, requests, self.window, _NONE_POPULAR)
        columns = [features[:, _KEPT]]
        if self.taste is not None:
            columns.append(taste_features(log, requests, self.window, self.taste, self.likeness))
        if self.odds is not None:
            columns.append(self.odds[pairs.item])
            columns.append(type_features(log, requests, self.window, self.types))
        return np.concatenate(columns, axis=1)

    def state(self) -> dict[str, Any]:
        """What a member's card keeps."""
        return {"types": self.types, "positive_above": self.taste and self.taste.above}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What a member's file of numbers keeps."""
        found: dict[str, NDArray[Any]] = {
            "word_ids": self.words.ids,
            "word_offsets": self.words.offsets,
        }
        if self.odds is not None:
            found["odds"] = self.odds
        if self.taste is not None:
            arrays = (f.name for f in fields(self.taste) if f.name != "above")
            found |= {f"taste_{name}": getattr(self.taste, name) for name in arrays}
        return found

    @classmethod
    def read(
        cls, window: Window, state: dict[str, Any], tensors: dict[str, NDArray[Any]]
    ) -> AnswerLens:
        """What `state` and `tensors` kept."""
        above, taste = state["positive_above"], None
        if above is not None:
            start = "taste_"
            arrays = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            taste = Taste(above=above, **arrays)
        return cls(
            window=window,
            words=TokenLists(ids=tensors["word_ids"], offsets=tensors["word_offsets"]),
            taste=taste,
            odds=tensors.get("odds"),
            types=state["types"],
        )


def answer_lens(window: Window, past: Past, words: TokenLists | None = None) -> AnswerLens:
    """Learn what is known of items before the cut-off.

    Args:
        words: of the items' texts, where they have been read before.
    """
    words = _words_of(past.texts, past.log.num_items) if words is None else words
    above = past.spec.positive_above
    if above is not None:
        taste = learn_taste(past.log, past.rows(), above)
        return AnswerLens(window=window, words=words, taste=taste)
    odds = answer_odds(past, kinds_of(past.texts, past.log.num_items))
    return AnswerLens(window=window, words=words, odds=odds, types=len(past.types))


def training_features(lens: AnswerLens, past: Past, requests: Requests) -> NDArray[np.float32]:
    """Features of requests before the cut-off, each by what was known before its slice of time."""
    shares = np.arange(1, _SLICES) / _SLICES
    edges = np.unique(np.quantile(requests.time_ms, shares, method="nearest"))
    slice_of = np.searchsorted(edges, requests.time_ms, side="right")
    found: NDArray[np.float32] | None = None
    for number in np.unique(slice_of):
        inside = np.flatnonzero(slice_of == number)
        until_ms = edges[number - 1] if number else requests.time_ms[inside].min()
        then = answer_lens(lens.window, replace(past, until_ms=int(until_ms)), lens.words)
        rows = then.rows(past.log, requests.take(inside))
        if found is None:
            found = np.empty((len(requests), rows.shape[1]), dtype=np.float32)
        found[inside] = rows
    return np.zeros((0, 0), np.float32) if found is None else found


def _words_of(texts: Sequence[str], num_items: int) -> TokenLists:
    """The distinct words of each text as numbers; an item without a text is like none."""
    number: dict[str, int] = {}
    lists = [
        [
            number.setdefault(word, len(number))
            for word in dict.fromkeys(_WORD.findall(text.lower()))
        ]
        for text in texts or [""] * num_items
    ]
    return TokenLists.of(lists)
