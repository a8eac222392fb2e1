"""What was read is told in words: its span, what was refused, and texts that fit nothing."""

from __future__ import annotations

from typing import Any

from penchant.platform.log_words import log_words

DAY_MS = 86_400_000
CARD: dict[str, Any] = {
    "events": 3928,
    "users": 400,
    "items": 200,
    "rows_read": 7857,
    "quarantined": 0,
    "reasons": {},
    "items_without_text": 0,
    "items_never_chosen": 0,
    "first_ms": 19_723 * DAY_MS,  # 2024
    "last_ms": 19_753 * DAY_MS,
}


def test_a_clean_log_is_one_line() -> None:
    assert log_words(CARD, texts=True) == [
        "log: 3,928 events of 400 users and 200 items, 2024-01-01 00:00 to 2024-01-31 00:00"
    ]


def test_refused_rows_are_told_with_their_reasons() -> None:
    card = CARD | {"quarantined": 3929, "reasons": {"time cannot be read": 3929}}
    assert log_words(card, texts=False)[1:] == [
        "3,929 of 7,857 rows (50.0%) cannot be used, and are kept in quarantine.parquet: "
        "time cannot be read: 3,929"
    ]


def test_a_catalogue_that_fits_nothing_is_asked_about() -> None:
    card = CARD | {"items_without_text": 199, "items_never_chosen": 199}
    (told,) = log_words(card, texts=True)[1:]
    assert told.startswith("199 of 200 items have no text, and 199 texts belong to no item")
    assert told.endswith("are ids written alike in events and items?")
    assert len(log_words(card, texts=False)) == 1  # nobody has promised texts
    some = CARD | {"items_without_text": 9, "items_never_chosen": 30}
    assert not log_words(some, texts=True)[1].endswith("?")


def test_seconds_that_were_taken_for_milliseconds_are_asked_about() -> None:
    card = CARD | {"first_ms": 1_719_820_800, "last_ms": 1_719_920_800}
    assert "1970-01-20" in log_words(card, texts=False)[0]
    assert log_words(card, texts=False)[0].endswith("is data.events.time_unit right?")
