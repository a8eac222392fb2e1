"""Column names and types of an event log: the only place where they are spelt."""

from __future__ import annotations

import polars as pl

__all__ = [
    "EVENT_COLUMNS",
    "GROUP",
    "ITEM",
    "LABEL",
    "LABEL_TIME",
    "LOG_SCHEMA",
    "TEXT",
    "TIME",
    "TYPE",
    "USER",
    "VALUE",
]

USER = "user"
ITEM = "item"
TIME = "time"
TYPE = "type"
VALUE = "value"
GROUP = "group"
TEXT = "text"
LABEL = "label"
LABEL_TIME = "label_time"

#: What a source may map to; `user`, `item` and `time` are required.
EVENT_COLUMNS = (USER, ITEM, TIME, TYPE, VALUE, GROUP, LABEL, LABEL_TIME)

#: How an event is kept: 17 bytes, 4 more where events come in groups (baskets, sessions), and 12
#: more where some of them ask for a label.
LOG_SCHEMA = {
    ITEM: pl.Int32(),
    TIME: pl.Int64(),  # milliseconds since 1970-01-01 UTC
    TYPE: pl.Int8(),
    VALUE: pl.Float32(),
    GROUP: pl.Int32(),
    LABEL: pl.Float32(),  # 0 or 1, NaN where nothing is asked
    LABEL_TIME: pl.Int64(),  # when a yes became known
}
