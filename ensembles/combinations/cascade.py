"""`Cascade`: cheap members answer first, expensive ones only where that is not sure enough.

A cascade of stages with early exit (Viola and Jones 2001; for ranking Wang, Lin and Metzler, SIGIR
2011). Each stage mixes the members that were asked so far with weights of its own. Members are
asked when the first stage that needs them begins, so that a request that leaves early never pays
for the others. `merge` gives for a block of scores what serving with early exit gives one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.normalize import Normalization

__all__ = ["Cascade", "Signal", "Stage", "certainty"]

Signal = Literal["margin", "entropy"]
Scores = Mapping[str, NDArray[np.float32]]


class Stage(BaseModel):
    """A mix of members, and how sure it has to be for its answer to stand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: dict[str, float] = Field(min_length=1)  # positive, with a sum of 1
    least_certainty: float | None  # None: the last stage, whose answer always stands
    reached: float = Field(gt=0, le=1)  # share of the requests of `blend` that came so far


class Cascade(BaseModel):
    """Stages, cheapest first, and what their members cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["cascade"] = "cascade"
    normalization: Normalization
    signal: Signal
    k: int = Field(ge=1)  # length of the list whose answer has to be sure
    stages: list[Stage] = Field(min_length=1)
    cost_ms: dict[str, float]  # member -> milliseconds a request

    @model_validator(mode="after")
    def _only_the_last_is_open(self) -> Cascade:
        bounds = [stage.least_certainty for stage in self.stages]
        if bounds[-1] is not None or None in bounds[:-1]:
            raise ValueError("every stage but the last has to have a least certainty")
        if not all(self.asked):
            raise ValueError("every stage has to ask a member that no stage before it asked")
        if set(self.cost_ms) != set(self.shares):
            raise ValueError("cost_ms has to name the members of the stages, and no others")
        return self

    @property
    def shares(self) -> Mapping[str, float]:
        """Weights of each stage, by the share of requests that it answered on `blend`."""
        total: dict[str, float] = {}
        left = [stage.reached for stage in self.stages[1:]]
        for stage, after in zip(self.stages, [*left, 0.0], strict=True):
            for name, weight in stage.weights.items():
                total[name] = total.get(name, 0.0) + (stage.reached - after) * weight
        return total

    @property
    def needs_facts(self) -> bool:
        """Never."""
        return False

    @cached_property
    def asked(self) -> Sequence[Sequence[str]]:
        """Members that each stage asks and no stage before it did."""
        known: set[str] = set()
        found = []
        for stage in self.stages:
            found.append([name for name in stage.weights if name not in known])
            known.update(stage.weights)
        return found

    def expected_cost_ms(self, reached: Sequence[float] | None = None) -> float:
        """Milliseconds of scoring a request on average, one member after the other.

        Args:
            reached: share of requests that come to each stage; by default as on `blend`.
        """
        shares = [stage.reached for stage in self.stages] if reached is None else reached
        return sum(
            share * sum(self.cost_ms[name] for name in names)
            for share, names in zip(shares, self.asked, strict=True)
        )

    def needed(self, parts: Scores) -> NDArray[np.bool_]:
        """Which requests must go on to the next stage, shape (R,).

        A stage none of whose own members answered decides nothing: its requests go on.

        Args:
            parts: normalised scores of the members that answered so far, at least one.
        """
        return self._walk(parts)[1]

    def merge(self, parts: Scores, facts: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Each request's answer of the stage that is sure of it, shape (R, C).

        Where the stages that should decide are missing, the last one that answered stands.

        Args:
            parts: normalised scores, (R, C) each.
            facts: not looked at.
        """
        return self._walk(parts)[0]

    def reached_by(self, parts: Scores) -> list[float]:
        """Share of these requests that come to each stage, for `expected_cost_ms`."""
        found = []
        known: dict[str, NDArray[np.float32]] = {}
        going = 1.0
        for names in self.asked:
            found.append(going)
            known |= {name: parts[name] for name in names if name in parts}
            going = float(self.needed(known).mean()) if known else going
        return found

    def _walk(self, parts: Scores) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Merged scores, and the requests whose answer no stage is sure of."""
        size = len(next(iter(parts.values())))
        open_ = np.arange(size)
        merged: NDArray[np.float32] | None = None
        for stage, own in zip(self.stages, self.asked, strict=True):
            if not any(name in parts for name in own):
                continue
            mix = Linear(normalization=self.normalization, weights=stage.weights)
            answer = mix.merge({n: parts[n][open_] for n in stage.weights if n in parts}, None)
            if merged is None:
                merged = answer
            else:
                merged[open_] = answer
            if stage.least_certainty is None:
                return merged, np.zeros(size, dtype=bool)
            open_ = open_[certainty(answer, self.signal, self.k) < stage.least_certainty]
            if not len(open_):
                break
        if merged is None:
            raise TypeError(
                f"got scores of {sorted(parts)}, expected some of {sorted(self.cost_ms)}"
            )
        needed = np.zeros(size, dtype=bool)
        needed[open_] = True
        return merged, needed


def certainty(scores: NDArray[np.float32], signal: Signal, k: int) -> NDArray[np.float64]:
    """How sure scores of shape (R, C) are of their own answer, shape (R,).

    `margin` is the distance of place k to the next, 0 where nothing else is asked for; `entropy`
    is that of a softmax over the best 2k, with its sign turned. With one candidate both say how
    far its log-odds are from even.
    """
    if scores.shape[1] == 1:
        return np.abs(scores[:, 0].astype(np.float64))
    width = min(2 * k if signal == "entropy" else k + 1, scores.shape[1])
    negated = np.sort(np.partition(-scores, width - 1, axis=1)[:, :width], axis=1)
    best = -negated.astype(np.float64)
    if signal == "margin":
        first, after = best[:, min(k, width) - 1], best[:, -1]
        asked = np.isfinite(first) & np.isfinite(after)
        return np.where(asked, first, 0.0) - np.where(asked, after, 0.0)
    powers = np.exp(best - np.where(np.isfinite(best[:, :1]), best[:, :1], 0.0))
    share = powers / np.maximum(powers.sum(axis=1, keepdims=True), 1e-300)
    entropy: NDArray[np.float64] = -(share * np.log(np.maximum(share, 1e-300))).sum(axis=1)
    return -entropy
