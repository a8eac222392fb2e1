"""What a comparison found: members, combinations, and what is known of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.combiners.cascade_fit import CascadePoint
from penchant.ensembles.comparing.ablation import Ablation
from penchant.ensembles.comparing.ceiling import Ceiling
from penchant.ensembles.comparing.choice import Option, choose
from penchant.ensembles.comparing.cold_start import ColdStart
from penchant.ensembles.comparing.diversity import Diversity
from penchant.ensembles.comparing.segments import SegmentResult
from penchant.platform.intervals import Interval
from penchant.platform.metrics import LOWER_IS_BETTER, sign_of

__all__ = ["Candidate", "Comparison"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A combination of members, and what is known of it."""

    combiner: str
    combination: Combination
    blend: float  # target metric where the weights were fitted: flattering, shown for the gap
    blend_gain: Interval  # over the best single, on users of `blend` that did not fit the weights
    test: Mapping[str, Interval]
    difference: Mapping[str, Interval]  # to the best single, on `test`
    permutation_p: float | None = None  # of the target metric's difference
    holm_p: float | None = None  # the same, corrected for all combinations that were compared


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that the comparison found."""

    metric: str
    best_single: str
    select: Mapping[str, float]  # member -> target metric on `select`
    members: Mapping[str, Mapping[str, Interval]]  # member -> metrics on `test`
    candidates: list[Candidate] = field(default_factory=list)
    blend: Mapping[str, float] = field(default_factory=dict)  # member -> target metric on `blend`
    options: list[Option] = field(default_factory=list)  # members and combinations with costs
    segments: list[SegmentResult] = field(default_factory=list)
    ceilings: list[Ceiling] = field(default_factory=list)  # of each block that was read
    cold_start: list[ColdStart] = field(default_factory=list)
    ablation: list[Ablation] = field(default_factory=list)
    diversity: Diversity | None = None
    cascade: list[CascadePoint] = field(default_factory=list)  # empty: none was compared
    notes: list[str] = field(default_factory=list)  # what was left out or is odd, with its count

    budget: Budget = Budget()  # what combinations and the choice keep to

    @property
    def choice(self) -> str:
        """Name of the combination or id of the member to ship.

        Within a budget it is what `choose` finds there; without one, what is `recommended`, or
        else the best single member.

        Raises:
            ConfigError: nothing fits the budget.
        """
        if not self.budget.limited:
            return self.best_single if self.recommended is None else self.recommended.combiner
        low_is_good = self.metric in LOWER_IS_BETTER
        return choose(self.options, low_is_good=low_is_good, budget=self.budget).name

    @property
    def shipped(self) -> Combination:
        """The choice as a combination; a member is a combination of one."""
        made = {candidate.combiner: candidate.combination for candidate in self.candidates}
        if self.choice in made:
            return made[self.choice]
        return Linear(normalization="none", weights={self.choice: 1.0})

    @property
    def recommended(self) -> Candidate | None:
        """The combination to ship, or None for the best single member.

        Decided on `blend` alone: the gain's interval must lie on the good side of zero.
        """
        sign = sign_of(self.metric)
        sure = [
            candidate
            for candidate in self.candidates
            if min(sign * candidate.blend_gain.low, sign * candidate.blend_gain.high) > 0
        ]
        return max(sure, key=lambda c: sign * c.blend_gain.mean, default=None)
