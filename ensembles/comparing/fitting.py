"""Every combiner that `blend` has enough for, fitted on it, and what `blend` says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.combinations.combination import Combination, combine
from penchant.ensembles.combiners.combiner import Combiner, quality
from penchant.ensembles.combiners.combiners import (
    MIN_POSITIVES,
    can_fit_weights,
    make_combiners,
    only_mean,
)
from penchant.ensembles.combiners.temperature import fit_normalization
from penchant.ensembles.comparing.unseen import UnseenUsers, half_of
from penchant.ensembles.normalize import Normalization
from penchant.ensembles.predictions import Blend, Predictions, shortlist_length
from penchant.platform.config import Ensemble
from penchant.platform.ensemble_settings import COMBINER_NAMES
from penchant.platform.errors import ConfigError
from penchant.platform.intervals import Interval
from penchant.platform.metrics import sign_of

__all__ = ["Fitted", "fit_all", "fittable", "merged"]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A combination, and what `blend` says of it."""

    combiner: Combiner
    combination: Combination
    value: float  # on the requests that it was fitted on
    gain: Interval  # over the best single member, on users that it was not fitted on
    gain_within: Interval  # the same over the best single member within the budget


def fittable(
    blend: Predictions[Blend],
    settings: Ensemble,
    metric: str,
    cost_ms: Mapping[str, float] | None,
    tell: Callable[[str], None],
) -> tuple[Predictions[Blend], list[Combiner]]:
    """Predictions as combiners are fitted on them, and the combiners that they suffice for.

    Args:
        blend: as members gave them.
        settings: which combiners, and how scores are normalised; those of labels are not.
        metric: what they are fitted for.
        cost_ms: what each member takes for a request, where that is known.
        tell: is told what is left out.

    Raises:
        ConfigError: none of the combiners suits the task.
    """
    label = blend.requests.label
    how: Normalization = "none"
    if label is None:
        how = fit_normalization(blend, settings.normalize, tell)
    in_halves = np.argsort(half_of(blend.requests), kind="stable")
    short = blend.take(in_halves).normalized(how).shortlist(shortlist_length(metric))
    combiners = _suitable(settings, "next_item" if label is None else "binary", cost_ms, tell)
    if can_fit_weights(blend):
        return short, combiners
    tell(f"blend: fewer than {MIN_POSITIVES} labels of one kind: no weights are fitted")
    return short, only_mean(combiners)


def _suitable(
    settings: Ensemble,
    task: str,
    cost_ms: Mapping[str, float] | None,
    tell: Callable[[str], None],
) -> list[Combiner]:
    """The combiners that were asked for and suit the task; those that do not are told."""
    made = make_combiners(settings, task, cost_ms)
    suited = {combiner.name for combiner in made}
    odd = ", ".join(name for name in settings.combiners if name not in suited)
    why = "binary requests give candidates no places" if task == "binary" else ""
    if cost_ms is None and "cascade" in settings.combiners:
        why = "; ".join([*([why] if why else []), "a cascade needs the time that each model takes"])
    if not made:
        every = settings.model_copy(update={"combiners": COMBINER_NAMES})
        fit = ", ".join(combiner.name for combiner in make_combiners(every, task, cost_ms))
        raise ConfigError(
            f"combiners: {odd} cannot be used here ({why}), so that none is left to compare. "
            f"Expected at least one of {fit}. Name one of those."
        )
    if odd:
        tell(f"combiners left out: {odd} ({why})")
    return made


def fit_all(
    combiners: Sequence[Combiner], blend: Predictions[Blend], metric: str, unseen: UnseenUsers
) -> Iterator[Fitted]:
    """One after the other, each when it is ready; losses keep their sign."""
    sign = sign_of(metric)
    for combiner in combiners:
        made = combiner.fit(blend, metric)
        value = quality(made.merge(blend.scores, blend.facts), blend.requests, metric)
        gain, within = unseen.gain(combiner)
        yield Fitted(
            combiner=combiner, combination=made, value=sign * value, gain=gain, gain_within=within
        )


def merged(
    combination: Combination, raw: Predictions[Any], normal: Predictions[Any]
) -> NDArray[np.float32]:
    """What `combine` makes of raw scores, shape (R, C), where they were normalised once for all."""
    if len(combination.shares) == 1 or combination.normalization != normal.normalization:
        return combine(combination, raw.scores, raw.facts)
    parts = {name: normal.scores[name] for name in combination.shares}
    return combination.merge(parts, raw.facts)
