"""What a field of a body may hold. Every text, list and number has its bound.

Bodies may hold ten thousand events, so they are checked without calls into Python wherever it goes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, LiteralString, NotRequired, cast

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    with_config,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from penchant.platform.timeline import as_utc

__all__ = ["STRICT", "Bounded", "Event", "ItemId", "Label", "Moment", "OneProblem", "UserId"]

_FIRST_MS = as_utc(datetime(1900, 1, 1, tzinfo=UTC))
_LAST_MS = as_utc(datetime(2200, 1, 1, tzinfo=UTC))


class Bounded:
    """A list of bounded length, of whose problems only the first is told."""

    def __init__(self, most: int, least: int = 0) -> None:
        self._most, self._least = most, least

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        bounds = {"min_length": self._least, "max_length": self._most, "fail_fast": True}
        return cast(CoreSchema, {**handler(source), **bounds})


class OneProblem:
    """Says what was expected once, where pydantic would say it of every form that was allowed."""

    def __init__(self, kind: LiteralString, expected: LiteralString) -> None:
        self._kind, self._expected = kind, expected

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source), custom_error_type=self._kind, custom_error_message=self._expected
        )


def _iso(value: object) -> int:
    """Milliseconds since 1970 of ISO 8601 text, UTC where no zone is given."""
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError
    try:
        moment_ms = as_utc(datetime.fromisoformat(value))
    except OverflowError:
        raise ValueError from None
    if not _FIRST_MS <= moment_ms < _LAST_MS:
        raise ValueError
    return moment_ms


# Numbers are checked without a call into Python: a body may hold ten thousand moments.
Moment = Annotated[
    Annotated[int, Field(strict=True, ge=_FIRST_MS, lt=_LAST_MS)]
    | Annotated[int, PlainValidator(_iso)],
    Field(union_mode="left_to_right"),
    OneProblem(
        "moment",
        "expected ISO 8601 or whole milliseconds since 1970, a moment between 1900 and 2200",
    ),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time", "maxLength": 40},
                {"type": "integer", "minimum": _FIRST_MS, "exclusiveMaximum": _LAST_MS},
            ],
            "description": "ISO 8601 (UTC where no zone is given) or milliseconds since 1970.",
        }
    ),
]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("printable", "expected printable text")
    return text


ItemId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=128)]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(_printable)]
STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


# A dictionary: ten thousand are read in half of the time that as many models take.
@with_config(STRICT)
class Event(TypedDict):
    """Something that the user did."""

    item: Annotated[
        ItemId, Field(description="An item's id; unknown ones are ignored and counted.")
    ]
    time: Moment
    group: NotRequired[
        Annotated[
            Label | None,
            Field(
                description="Basket or session. Give it for all events or for none; without it, "
                "events of equal time are a group."
            ),
        ]
    ]
    type: NotRequired[
        Annotated[Label | None, Field(description="Needed where the data have several.")]
    ]
    value: NotRequired[
        Annotated[
            Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)] | None,
            Field(description="By default 1."),
        ]
    ]
