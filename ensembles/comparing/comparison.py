"""What a comparison found: members, combinations, and what is known of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.budget import Budget
from penchant.ensembles.comparing.ablation import Ablation
from penchant.ensembles.comparing.ceiling import Ceiling
from penchant.ensembles.comparing.choice import Option
from penchant.ensembles.comparing.cold_start import ColdStart
from penchant.ensembles.comparing.diversity import Diversity
from penchant.ensembles.comparing.over_origins import pooled
from penchant.ensembles.comparing.savings import Savings
from penchant.ensembles.comparing.segments import SegmentResult
from penchant.platform.intervals import Interval
from penchant.platform.metrics import sign_of

__all__ = ["Candidate", "Comparison"]

_LEVEL = 0.05  # chance of recommending some combination where none gains anything


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A combination of members, and what is known of it."""

    combiner: str
    combination: Combination
    blend: float  # target metric where the weights were fitted: flattering, shown for the gap
    blend_gain: Interval  # over the best single, on users of `blend` that did not fit the weights
    gain_within: Interval  # the same over the best single member within the budget
    gain_p: float  # of `gain_within`, corrected for all combinations that were compared
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
    cascade: Savings | None = None  # None: none was compared
    notes: list[str] = field(default_factory=list)  # what was left out or is odd, with its count
    budget: Budget = Budget()  # what combinations and the choice keep to
    rival: str | None = None  # best single member within it; None: `best_single`
    #: `gain_within` of each combination at each earlier origin, where it was compared there.
    earlier: Sequence[Mapping[str, Interval]] = ()

    @property
    def alone(self) -> str:
        """The member to ship where no combination is surely better: the best that fits."""
        return self.rival or self.best_single

    @property
    def choice(self) -> str:
        """Name of the combination or id of the member to ship."""
        return self.alone if self.recommended is None else self.recommended.combiner

    @property
    def shipped(self) -> Combination:
        """The choice as a combination; a member is a combination of one."""
        if self.recommended is not None:
            return self.recommended.combination
        return Linear(normalization="none", weights={self.alone: 1.0})

    @property
    def recommended(self) -> Candidate | None:
        """The combination to ship, or None for a single member: of those that are sure, the best.

        Decided on `blend` alone. A gain has to be sure at the latest origin, and at all origins
        together where there are several.
        """
        sign = sign_of(self.metric)
        sure = [one for one in self.candidates if self.sure(one) and self.sure_over_origins(one)]
        return max(sure, key=lambda one: sign * one.gain_within.mean, default=None)

    def sure(self, candidate: Candidate) -> bool:
        """Whether the latest origin proves a gain, given how many combinations were compared."""
        return candidate.gain_p <= _LEVEL and self._is_gain(candidate.gain_within)

    def over_origins(self, candidate: Candidate) -> Interval:
        """The gain at all origins together; with one alone, at that."""
        before = [one[candidate.combiner] for one in self.earlier if candidate.combiner in one]
        return pooled([candidate.gain_within, *before])

    def sure_over_origins(self, candidate: Candidate) -> bool:
        """Whether all origins together prove a gain; none is against it where there is one."""
        return not self.earlier or self._is_gain(self.over_origins(candidate))

    def _is_gain(self, gain: Interval) -> bool:
        sign = sign_of(self.metric)
        return min(sign * gain.low, sign * gain.high) > 0
