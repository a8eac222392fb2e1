"""The corpus of a pretraining: item texts and histories of one span of time, in packed rows.

Several texts share a row and see one another, with the model's own mark after each: RoBERTa's
FULL-SENTENCES (Liu et al. 2019, section 4.2) for encoders, GPT-3's end-of-text tokens (Brown et al.
2020, appendix B) for decoders. No event is cut in half.

Letters: E events, C pieces, V items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from penchant.platform.errors import DataError
from penchant.platform.events import EventLog
from penchant.platform.item_tokens import TokenLists
from penchant.platform.packing import packed_rows
from penchant.platform.requests import Requests
from penchant.platform.text import HistoryWriter
from penchant.platform.text_words import words_of
from penchant.platform.timeline import Window
from penchant.trainers.text.batches import Frame

__all__ = ["Corpus", "Pieces", "history_pieces", "item_pieces", "make_corpus"]

_HELD_OUT_ROWS = 256  # a perplexity of so many rows is known to a few percent


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """C texts that may stand in a row, each the events of one user, in order."""

    texts: TokenLists
    events: int  # written in them
    left_out: int  # events without a text, or longer than a row


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What is learned, and what the model is asked before and after."""

    rows: TokenLists
    held_out: TokenLists
    facts: dict[str, int]

    @property
    def digest(self) -> str:
        """SHA-256 of all rows, so that other data can be told apart."""
        parts = (self.rows.ids, self.rows.offsets, self.held_out.ids, self.held_out.offsets)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

    def save(self, path: Path) -> None:
        """Keep the rows for the workers."""
        tensors: dict[str, NDArray[Any]] = {
            "rows.ids": self.rows.ids,
            "rows.offsets": self.rows.offsets,
            "held_out.ids": self.held_out.ids,
            "held_out.offsets": self.held_out.offsets,
        }
        save_file(tensors, path)

    @classmethod
    def load(cls, path: Path) -> Corpus:
        """Read the rows that `save` kept; the facts stay with whoever made them."""
        found = load_file(path)
        rows, held_out = (
            TokenLists(ids=found[f"{name}.ids"], offsets=found[f"{name}.offsets"])
            for name in ("rows", "held_out")
        )
        return cls(rows=rows, held_out=held_out, facts={})


def make_corpus(
    log: EventLog,
    texts: Sequence[str],
    writer: HistoryWriter,
    frame: Frame,
    *,
    tokens: int,
    until_ms: int,
    held_out_ms: int,
    seed: int,
) -> Corpus:
    """Learn from what was before `until_ms`; ask about histories from then to `held_out_ms`.

    Args:
        texts: of the items, shape (V,).
        writer: how events are written; its budget is what a row has room for.
        tokens: longest row.

    Raises:
        DataError: one of the two spans has nothing to read.
    """
    earliest = np.iinfo(np.int64).min
    items = item_pieces(log, texts, writer, until_ms)
    told = history_pieces(log, writer, earliest, until_ms)
    later = history_pieces(log, writer, until_ms, held_out_ms)
    for pieces, place in ((told, "before `select`"), (later, "in `select`")):
        if not pieces.events:
            raise DataError(
                f"pretrain: no event {place} has a text of at most {writer.settings.max_tokens} "
                "tokens; expected some to read. Give data.items with a `text` column, raise "
                "--tokens, or move the blocks."
            )
    rows = packed_rows(items.followed_by(told.texts), frame.begin, frame.end, tokens, seed)
    asked = packed_rows(later.texts, frame.begin, frame.end, tokens, seed)
    chosen = np.random.default_rng(seed).permutation(len(asked))[:_HELD_OUT_ROWS]
    asked = asked.take(np.sort(chosen))
    facts = {
        "item_texts": len(items),
        "events": told.events,
        "events_left_out": told.left_out,
        "history_pieces": len(told.texts),
        "rows": len(rows),
        "tokens": len(rows.ids),
        "held_out_events": later.events,
        "held_out_rows": len(asked),
        "held_out_tokens": len(asked.ids),
    }
    return Corpus(rows=rows, held_out=asked, facts=facts)


def item_pieces(
    log: EventLog, texts: Sequence[str], writer: HistoryWriter, until_ms: int
) -> TokenLists:
    """Distinct texts of the items that had an event before `until_ms`."""
    known = np.unique(log.item[log.time_ms < until_ms])
    first = {texts[item]: item for item in known[::-1].tolist() if texts[item].strip()}
    chosen = np.array(sorted(first.values()), dtype=np.int64)
    return writer.items.take(chosen[writer.items.lengths[chosen] > 0])


def history_pieces(log: EventLog, writer: HistoryWriter, since_ms: int, until_ms: int) -> Pieces:
    """The events of a span as text: of each user as many in a row as the writer's budget holds.

    A piece is told as of the user's next event in the span, or of its end.
    """
    rows = np.flatnonzero((log.time_ms >= since_ms) & (log.time_ms < until_ms))
    each = np.arange(len(rows) + 1, dtype=np.int64)
    size = _written(log, rows, each, log.time_ms[rows], writer).lengths
    longest = size + _slack(writer)
    fits = (size > 0) & (longest <= writer.settings.max_tokens)
    kept, user = rows[fits], log.user[rows[fits]]
    starts = _cuts(user, longest[fits], writer.settings.max_tokens)
    moment = np.full(len(starts), until_ms, dtype=np.int64)
    goes_on = np.flatnonzero(user[starts[1:]] == user[starts[:-1]])
    moment[goes_on] = log.time_ms[kept[starts[1:]]][goes_on]
    offsets = np.append(starts, len(kept))
    texts = _written(log, kept, offsets, moment, writer)
    return Pieces(texts=texts, events=len(kept), left_out=len(rows) - len(kept))


def _slack(writer: HistoryWriter) -> int:
    """Tokens that an event may take beyond those it takes on its own day: words of its age."""
    _, _, gaps, _ = words_of(writer.settings, writer.types)
    lengths = [len(writer.pieces.get(words, [])) for words in gaps]
    return max(lengths) - lengths[0] if lengths else 0


def _cuts(user: NDArray[np.int32], size: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """Where each piece starts: a new user, or no room for the event."""
    starts, used, before = list[int](), 0, -1
    for at, (who, tokens) in enumerate(zip(user.tolist(), size.tolist(), strict=True)):
        if who != before or used + tokens > capacity:
            starts.append(at)
            used, before = 0, who
        used += tokens
    return np.array(starts, dtype=np.int64)


def _written(
    log: EventLog,
    rows: NDArray[np.int64],
    offsets: NDArray[np.int64],
    moment: NDArray[np.int64],
    writer: HistoryWriter,
) -> TokenLists:
    """Runs of log rows as text, each as if it were all of a user's history. C texts.

    Args:
        rows: shape (E,).
        offsets: where the runs start, and E. Shape (C + 1,).
        moment: as of when each is told, in milliseconds UTC. Shape (C,).
    """
    number = len(offsets) - 1
    runs = EventLog(
        item=log.item[rows],
        time_ms=log.time_ms[rows],
        kind=log.kind[rows],
        value=log.value[rows],
        group=None,
        offsets=offsets,
        num_items=log.num_items,
    )
    asked = Requests(
        row=offsets[:-1],
        user=np.arange(number, dtype=np.int32),
        time_ms=moment,
        end=offsets[1:],
        target_offsets=np.zeros(number + 1, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
    )
    return writer.write(runs, asked, Window())
