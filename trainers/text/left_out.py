"""Events that a language model is not told: counted before anything is learned or asked."""

from __future__ import annotations

from penchant.platform.errors import DataError
from penchant.platform.events import EventLog
from penchant.platform.requests import Requests
from penchant.platform.text import HistoryWriter
from penchant.platform.timeline import Window

__all__ = ["words_of_left_out"]


def words_of_left_out(
    kind: str, writer: HistoryWriter, log: EventLog, requests: Requests, window: Window
) -> str:
    """What share of the events in the histories of requests cannot be written; "" where all can.

    Args:
        kind: of the member, for the error.

    Raises:
        DataError: there are events, and none of them can be written.
    """
    events, written = writer.count_written(log, requests, window)
    settings = writer.settings
    if events and not written:
        raise DataError(
            f"{kind}: none of the {events:,} events in the histories of {len(requests):,} requests "
            f"has a text of at most {settings.max_tokens} tokens, words around it included; "
            "expected some to read. Give data.items with a `text` column for the items of the "
            f"events, raise history.max_tokens ({settings.max_tokens}), or lower "
            f"history.item_tokens ({settings.item_tokens})."
        )
    if written == events:
        return ""
    return (
        f"{events - written:,} of {events:,} events in histories ({1 - written / events:.1%}) have "
        f"no text or are longer than {settings.max_tokens} tokens and are not told"
    )
