"""What people should know of an event log before they trust what was learned from it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["log_words"]

#: Times before this were most likely read in a wrong unit: seconds taken for milliseconds lie in
#: January 1970.
_EARLY_MS = datetime(1980, 1, 1, tzinfo=UTC).timestamp() * 1000


def log_words(card: Mapping[str, Any], *, texts: bool) -> list[str]:
    """Lines on the log's size and span, refused rows, and texts that belong to nothing.

    Args:
        card: from its log.json.
        texts: whether items have a catalogue of their own.
    """
    first, last = (_day(card[name]) for name in ("first_ms", "last_ms"))
    doubt = ": is data.events.time_unit right?" if card["last_ms"] < _EARLY_MS else ""
    lines = [
        f"log: {card['events']:,} events of {card['users']:,} users and {card['items']:,} items, "
        f"{first} to {last}{doubt}"
    ]
    if refused := card["quarantined"]:
        reasons = "; ".join(f"{reason}: {count:,}" for reason, count in card["reasons"].items())
        share = refused / card["rows_read"]
        lines.append(
            f"{refused:,} of {card['rows_read']:,} rows ({share:.1%}) cannot be used, and are kept "
            f"in quarantine.parquet: {reasons}"
        )
    if texts and (missing := card["items_without_text"]):
        alone = card["items_never_chosen"]
        odd = alone and 2 * missing > card["items"]
        lines.append(
            f"{missing:,} of {card['items']:,} items have no text, and {alone:,} texts belong to "
            "no item that has events"
            + (": are ids written alike in events and items?" if odd else "")
        )
    return lines


def _day(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M}"
