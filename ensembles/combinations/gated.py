"""`Gated`: weights of members that depend on what is known of the request.

A mixture of experts with a fixed gate (Jacobs, Jordan, Nowlan and Hinton, "Adaptive mixtures of
local experts", 1991): requests fall into segments, and each segment has weights of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.facts import FACTS
from penchant.ensembles.normalize import Normalization

__all__ = ["Gated", "Split", "segment_of"]


class Split(BaseModel):
    """A fact and the values that part it: E edges make E + 1 ranges."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fact: Literal["history_events", "days_since_last", "repeat_share", "hour", "weekday"]
    edges: list[float]  # rising; a value at an edge lies above it, one that does not exist highest


class Gated(BaseModel):
    """Segments of requests, and weights for each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["gated"] = "gated"
    normalization: Normalization
    splits: list[Split]
    weights: list[dict[str, float]] = Field(min_length=1)  # of each segment, in their order
    sizes: list[float] = Field(min_length=1)  # share of requests in each segment where it was fit

    @model_validator(mode="after")
    def _fits_together(self) -> Gated:
        segments = int(np.prod([len(split.edges) + 1 for split in self.splits], dtype=int))
        if not segments == len(self.weights) == len(self.sizes):
            raise ValueError(f"expected weights and sizes of {segments} segments")
        return self

    @property
    def shares(self) -> Mapping[str, float]:
        """Mean weights over the requests that they were fitted on."""
        names = dict.fromkeys(name for weights in self.weights for name in weights)
        total = {
            name: sum(
                size * weights.get(name, 0.0)
                for size, weights in zip(self.sizes, self.weights, strict=True)
            )
            for name in names
        }
        whole = sum(total.values())
        return {name: value / whole for name, value in total.items()}

    @property
    def needs_facts(self) -> bool:
        """Whether there is more than one segment."""
        return len(self.weights) > 1

    def merge(
        self, parts: Mapping[str, NDArray[np.float32]], facts: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Weighted mean by the weights of each request's segment, shape (R, C).

        Weights of missing members go to the others of the segment in proportion; a segment none
        of whose members answered takes the plain mean of those that did.

        Args:
            parts: normalised scores, (R, C) each.
            facts: shape (R, 5), columns are `FACTS`.

        Raises:
            TypeError: there are segments and no facts.
        """
        size = len(next(iter(parts.values())))
        segment = np.zeros(size, dtype=np.int64)
        if self.needs_facts:
            if facts is None:
                raise TypeError("the gate reads facts of each request, got none")
            segment = segment_of(self.splits, facts)
        merged = np.empty_like(next(iter(parts.values())))
        for at in np.unique(segment):
            inside = np.flatnonzero(segment == at)
            present = {name: w for name, w in self.weights[at].items() if name in parts}
            linear = Linear(
                normalization=self.normalization, weights=present or dict.fromkeys(parts, 1.0)
            )
            some = {name: parts[name][inside] for name in linear.weights}
            merged[inside] = linear.merge(some, None)
        return merged


def segment_of(splits: list[Split], facts: NDArray[np.float32]) -> NDArray[np.int64]:
    """Segment of each request, shape (R,): the first split is the slowest to change."""
    segment = np.zeros(len(facts), dtype=np.int64)
    for split in splits:
        edges = np.array(split.edges, dtype=np.float32)
        value = facts[:, FACTS.index(split.fact)]
        segment = segment * (len(edges) + 1) + np.searchsorted(edges, value, side="right")
    return segment
