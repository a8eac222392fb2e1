"""The `ensemble` section of an experiment file."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["COMBINER_NAMES", "SINGLE", "TAKEN_NAMES", "CombinerName", "Ensemble"]

CombinerName = Literal[
    "mean",
    "median",
    "rank_mean",
    "reciprocal_rank",
    "greedy",
    "weights",
    "layers",
    "gate",
    "stack",
    "cascade",
]

COMBINER_NAMES: tuple[CombinerName, ...] = get_args(CombinerName)

#: The artefact of the best member alone is called so, whatever the member is called.
SINGLE = "single"

#: No member may have one of them: reports and artefacts name what is recommended.
TAKEN_NAMES = frozenset({*COMBINER_NAMES, SINGLE})


class Ensemble(BaseModel):
    """How members are combined and compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    combiners: tuple[CombinerName, ...] = Field(
        default=COMBINER_NAMES,
        min_length=1,
        description="Those that are compared. The stack takes longest, about a minute.",
    )
    normalize: Literal["zscore", "softmax", "rank"] = Field(
        default="zscore",
        description="How members' scores are made comparable. The temperature of softmax is fitted "
        "on blend, one for all members.",
    )
    max_rounds: int = Field(
        default=50, ge=1, description="Greedy selection stops after so many additions."
    )
    bags: int = Field(
        default=1,
        ge=1,
        description="Of greedy selection: its mean over so many random halves of the members. 1 is "
        "one selection from all of them.",
    )
    sorted_start: int = Field(
        default=1, ge=1, description="Greedy selection begins with so many best members."
    )
    max_latency_ms: float | None = Field(
        default=None,
        gt=0,
        description="Combine and recommend nothing whose slowest member takes longer.",
    )
    max_members: int | None = Field(
        default=None, ge=1, description="Combine and recommend no more members."
    )
    max_cost_ms: float | None = Field(
        default=None,
        gt=0,
        description="The cost: combine and recommend nothing that takes more milliseconds for a "
        "request, summed over its members; of a cascade, on average.",
    )
    bootstrap: int = Field(
        default=10_000, ge=100, description="Resamples of users behind every interval."
    )
    seed: int = Field(default=0, ge=0)
