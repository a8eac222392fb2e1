"""What may be asked and what is answered over HTTP: typed, bounded, nothing unknown accepted.

Every list, text and number has a bound that holds before anything is computed from it. A body that
passes these types may still not fit the ensemble (an unknown candidate, an event in the future):
`history.py` and `desk.py` then raise `RefusedError`, which names the place and never quotes the
user.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from penchant.platform.timeline import as_utc

__all__ = [
    "MAX_CANDIDATES",
    "MAX_EVENTS",
    "MAX_K",
    "Answer",
    "Ask",
    "EnsembleCard",
    "Event",
    "Health",
    "LeftOut",
    "MemberCard",
    "Problem",
    "RecommendBody",
    "RefusedError",
    "Result",
    "ScoreBody",
    "Trouble",
]

MAX_EVENTS = 10_000
MAX_CANDIDATES = 1_000
MAX_K = 100

_FIRST_MS = as_utc(datetime(1900, 1, 1, tzinfo=UTC))
_LAST_MS = as_utc(datetime(2200, 1, 1, tzinfo=UTC))


class RefusedError(Exception):
    """A body that is well formed but cannot be answered: HTTP 422.

    Args:
        place: which field, such as `body.history.3.time`.
        problem: what was expected; never what the user sent.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place, self.problem = place, problem


def _milliseconds(value: object) -> int:
    """ISO 8601 text (UTC where no zone is given) or whole milliseconds since 1970."""
    if isinstance(value, str) and len(value) <= 40:
        try:
            value = as_utc(datetime.fromisoformat(value))
        except (ValueError, OverflowError):
            value = None
    if isinstance(value, bool) or not isinstance(value, int):
        raise PydanticCustomError("moment", "expected ISO 8601 or whole milliseconds since 1970")
    if not _FIRST_MS <= value < _LAST_MS:
        raise PydanticCustomError("moment", "expected a moment between 1900 and 2200")
    return value


Moment = Annotated[
    int,
    BeforeValidator(_milliseconds),
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
ItemId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Event(_Body):
    """Something that the user did."""

    item: ItemId = Field(description="An item's id; unknown ones are ignored and counted.")
    time: Moment
    group: Label | None = Field(
        default=None,
        description="Basket or session. Give it for all events or for none; without it, events of "
        "equal time are a group.",
    )
    type: Label | None = Field(default=None, description="Needed where the data have several.")
    value: float | None = Field(
        default=None, ge=-1e9, le=1e9, allow_inf_nan=False, description="By default 1."
    )


class Ask(_Body):
    """What both questions have in common."""

    time: Moment | None = Field(default=None, description="The moment asked about; now by default.")
    history: Annotated[list[Event], Field(max_length=MAX_EVENTS), FailFast()] = Field(
        description="What the user did before, in any order; equal times keep their order. Empty "
        "for a user of whom nothing is known."
    )
    members: bool = Field(default=False, description="Give every member's own score too.")


class ScoreBody(Ask):
    """How inclined is the user to each of these items?"""

    candidates: Annotated[
        list[ItemId], Field(min_length=1, max_length=MAX_CANDIDATES), FailFast()
    ] = Field(description="Ids of known items; answered in this order.")


class RecommendBody(Ask):
    """To which items is the user most inclined?"""

    k: int = Field(default=10, ge=1, le=MAX_K, description="How many items.")
    exclude_seen: bool | None = Field(
        default=None,
        description="Leave out items of the history; by default as the ensemble was made.",
    )
    exclude: Annotated[list[ItemId], Field(max_length=MAX_CANDIDATES), FailFast()] = Field(
        default=[], description="Further items to leave out; unknown ones are ignored."
    )


class Result(BaseModel):
    """One item's score."""

    item: str
    text: str | None = Field(default=None, description="The item's text, where it has one.")
    score: float | None = Field(
        description="Larger is more inclined. Null where the ensemble never asks for items that "
        "the user has had, and the user has had this one."
    )
    probability: float | None = Field(
        default=None,
        description="Of a yes; for the next item, that it is this one, where the ensemble is "
        "calibrated.",
    )
    members: dict[str, float | None] | None = Field(
        default=None, description="Each member's score before it was made comparable."
    )


class LeftOut(BaseModel):
    """A member without which the answer was made."""

    member: str
    reason: Literal["deadline", "failed", "overloaded"]


class Answer(BaseModel):
    """Scores, and what they were made from."""

    request_id: str
    ensemble: str
    version: str = Field(description="Changes whenever the ensemble does.")
    time_ms: int = Field(description="The moment that was asked about.")
    degraded: bool = Field(description="Members are missing; the others' weights were scaled up.")
    left_out: list[LeftOut]
    used_events: int = Field(description="Zero for a cold start.")
    ignored_events: int = Field(description="Events of items that the ensemble does not know.")
    results: list[Result]


class MemberCard(BaseModel):
    """A member of the ensemble."""

    id: str
    kind: str
    weight: float
    window: dict[str, float | int | None] = Field(description="How much history it sees.")
    size: str | None = None


class EnsembleCard(BaseModel):
    """What is served."""

    name: str
    version: str
    task: Literal["next_item", "binary"]
    unit: Literal["group", "event"] = Field(description="A request for each next group, or event.")
    has_groups: bool = Field(description="Whether events may have a group.")
    types: list[str] = Field(description="Types that events may have.")
    exclude_seen: bool
    normalization: str
    items: int
    metric: str
    data_until: str | None = Field(description="Members learned from events before this moment.")
    test: dict[str, Any] = Field(description="Metrics on the test block, with their intervals.")
    members: list[MemberCard]


class Health(BaseModel):
    """Answers are given."""

    status: Literal["ok"] = "ok"
    ensemble: str
    version: str


class Problem(BaseModel):
    """A field that is not as expected."""

    place: str
    problem: str


class Trouble(BaseModel):
    """Why there is no answer. Nothing of what was sent is repeated."""

    error: str
    problems: list[Problem] = []
    request_id: str
