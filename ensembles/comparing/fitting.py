"""Every combiner fitted on `blend`, and what `blend` says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from penchant.ensembles.combinations.combination import Combination
from penchant.ensembles.combiners.combiner import Combiner, quality
from penchant.ensembles.comparing.unseen import UnseenUsers
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.intervals import Interval
from penchant.platform.metrics import sign_of

__all__ = ["Fitted", "fit_all"]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A combination, and what `blend` says of it."""

    combiner: Combiner
    combination: Combination
    value: float  # on the requests that it was fitted on
    gain: Interval  # over the best single member, on users that it was not fitted on


def fit_all(
    combiners: Sequence[Combiner], blend: Predictions[Blend], metric: str, unseen: UnseenUsers
) -> Iterator[Fitted]:
    """One after the other, each when it is ready; losses keep their sign."""
    sign = sign_of(metric)
    for combiner in combiners:
        made = combiner.fit(blend, metric)
        value = quality(made.merge(blend.scores, blend.facts), blend.requests, metric)
        gain = unseen.gain(combiner)
        yield Fitted(combiner=combiner, combination=made, value=sign * value, gain=gain)
