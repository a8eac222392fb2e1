"""What may be asked and what is answered over HTTP: typed, bounded, nothing unknown accepted.

Every list, text and number has a bound that holds before anything is computed from it. A body that
passes these types may still not fit the ensemble (an unknown candidate, an event in the future):
`history.py` and `desk.py` then raise `RefusedError`, which names the place and never quotes the
user.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, with_config
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from penchant.serve.wire.fields import STRICT, Bounded, Event, ItemId, Moment, OneProblem, UserId

__all__ = [
    "MAX_CANDIDATES",
    "MAX_EVENTS",
    "MAX_K",
    "MAX_UNKNOWN",
    "Answer",
    "Ask",
    "AskedCandidate",
    "Candidate",
    "EnsembleCard",
    "Health",
    "LeftOut",
    "MemberCard",
    "Problem",
    "Ready",
    "RecommendBody",
    "RefusedError",
    "Result",
    "ScoreBody",
    "Trouble",
]

MAX_EVENTS = 10_000
MAX_CANDIDATES = 1_000
MAX_K = 100
#: Candidates that the catalogue does not have: each is read by a language model.
MAX_UNKNOWN = 100


class RefusedError(Exception):
    """A body that is well formed but cannot be answered: HTTP 422.

    Args:
        place: which field, such as `body.history.3.time`.
        problem: what was expected; never what the user sent.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place, self.problem = place, problem


@with_config(STRICT)
class Candidate(TypedDict):
    """An item with its text, for ensembles that may not know it yet."""

    id: ItemId
    text: Annotated[str, StringConstraints(min_length=1, max_length=2_000)]


class Ask(BaseModel):
    """What both questions have in common."""

    model_config = STRICT

    user: UserId | None = Field(
        default=None,
        description="Who is asked about: whose stored events are the history where none is given, "
        "and who stays with one version while several are live.",
    )
    time: Moment | None = Field(default=None, description="The moment asked about; now by default.")
    history: Annotated[list[Event], Bounded(MAX_EVENTS)] | None = Field(
        default=None,
        description="What the user did before, in any order; equal times keep their order, and "
        "equal events count as often as they are given. Empty for a user of whom nothing is known. "
        "Without it, the events that were sent to /v1/events for this user.",
    )
    members: bool = Field(default=False, description="Give every member's own score too.")


AskedCandidate = Annotated[
    ItemId | Candidate,
    Field(union_mode="left_to_right"),
    OneProblem(
        "candidate",
        "expected an item's id of 1 to 256 characters, or an object of its id and its text of 1 to "
        "2000 characters",
    ),
]


class ScoreBody(Ask):
    """How inclined is the user to each of these items?"""

    candidates: Annotated[list[AskedCandidate], Bounded(MAX_CANDIDATES, least=1)] = Field(
        description="Items; answered in this order. One that the catalogue does not have needs its "
        f"text, and an ensemble with members that read; at most {MAX_UNKNOWN} of them."
    )


class RecommendBody(Ask):
    """To which items is the user most inclined?"""

    k: int = Field(default=10, ge=1, le=MAX_K, description="How many items.")
    exclude_seen: bool | None = Field(
        default=None,
        description="Leave out items of the history; by default as the ensemble was made.",
    )
    exclude: Annotated[list[ItemId], Bounded(MAX_CANDIDATES)] = Field(
        default=[], description="Further items to leave out; unknown ones are ignored."
    )
    only: Annotated[list[ItemId], Bounded(MAX_CANDIDATES, least=1)] | None = Field(
        default=None,
        description="The items to choose from, each of them known; by default the whole catalogue. "
        "What is left out otherwise stays left out.",
    )


class Result(BaseModel):
    """One item's score."""

    item: str
    text: str | None = Field(default=None, description="The item's text, where it has one.")
    score: float | None = Field(
        description="Larger is more inclined. Null where the ensemble never asks for items that "
        "the user has had, and the user has had this one, or where an unknown item was read by no "
        "member in time."
    )
    probability: float | None = Field(
        default=None,
        description="Of a yes; for the next item, that it is this one, where the ensemble is "
        "calibrated. Null for an unknown item, unless it is that of a yes and all members read.",
    )
    unknown: bool = Field(
        default=False,
        description="The catalogue does not have the item: it was scored by its text alone.",
    )
    members: dict[str, float | None] | None = Field(
        default=None,
        description="Each member's score before it was made comparable. Those of an unknown item "
        "come along unasked, and are of the members that read it.",
    )


class LeftOut(BaseModel):
    """A member without which the answer was made."""

    member: str
    reason: Literal["deadline", "failed", "overloaded", "down"]


class Answer(BaseModel):
    """Scores, and what they were made from."""

    request_id: str
    ensemble: str
    version: str = Field(description="Changes whenever the ensemble does.")
    time_ms: int = Field(description="The moment that was asked about.")
    degraded: bool = Field(description="Members are missing; the others' weights were scaled up.")
    left_out: list[LeftOut]
    cold_start: bool = Field(
        default=False, description="Nothing was known of the user: the answer is that of anybody."
    )
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
    reads_texts: bool = Field(
        default=False, description="Whether unknown items are scored by their texts."
    )
    data_until: str | None = Field(description="Members learned from events before this moment.")
    test: dict[str, Any] = Field(description="Metrics on the test block, with their intervals.")
    members: list[MemberCard]


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Questions are answered."""

    status: Literal["ready"] = "ready"
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
