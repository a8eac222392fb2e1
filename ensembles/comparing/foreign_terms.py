"""What is said of foreign models beside their scores: costs, cut-offs, limits of a combination."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from pydantic import ValidationError

from penchant.platform import config
from penchant.platform.ensemble_settings import TAKEN_NAMES
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.timeline import as_utc

__all__ = ["Terms", "cutoff_notes", "make_terms"]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How models are combined and compared."""

    settings: config.Ensemble
    cost_ms: Mapping[str, float] | None  # of every model; None: nobody has measured it


def make_terms(
    models: Iterable[str],
    cost_ms: Mapping[str, float] | None,
    settings: Mapping[str, object],
) -> Terms:
    """The terms, checked.

    Args:
        settings: of an experiment's `ensemble`, by the names of the arguments.

    Raises:
        ConfigError: a setting is not one, a model is called as a combination is, or costs are not
            those of all the models.
    """
    names = set(models)
    if taken := sorted(names & TAKEN_NAMES):
        raise ConfigError(
            f"models are called {', '.join(taken)}, as combinations are: expected names that a "
            "report can tell from theirs. Rename the models."
        )
    try:
        made = config.Ensemble.model_validate(settings)
    except ValidationError as error:
        told = "; ".join(f"{f['loc'][0]}: {f['msg']}, got {f['input']!r}" for f in error.errors())
        raise ConfigError(f"compare_scores: {told}. Correct the argument.") from error
    if cost_ms is None:
        if made.max_latency_ms is not None or made.max_cost_ms is not None:
            raise ConfigError(
                "compare_scores: a limit of time needs cost_ms, got none: expected the "
                "milliseconds that each model takes for a request. Give them, or leave it out."
            )
        return Terms(settings=made, cost_ms=None)
    if odd := sorted(names ^ set(cost_ms)):
        raise ConfigError(
            f"cost_ms: got {', '.join(sorted(cost_ms))}, expected one cost for each model and no "
            f"others. Correct those of {', '.join(odd)}."
        )
    wrong = {name: cost for name, cost in cost_ms.items() if not 0 <= cost < math.inf}
    if wrong:
        raise ConfigError(f"cost_ms: got {wrong}, expected milliseconds from zero on.")
    return Terms(settings=made, cost_ms=dict(cost_ms))


def cutoff_notes(
    fitted_until: Mapping[str, date] | None, models: Sequence[str], blend_ms: int
) -> list[str]:
    """Refuse models that have learned from what they are judged on.

    Args:
        fitted_until: the end of what each model has learned from; a naive time is UTC.
        blend_ms: the first request of blend.

    Returns:
        A note on models whose cut-off nobody has told.

    Raises:
        ConfigError: a name is none of the models.
        DataError: a model has learned from requests of blend, or later: a leak.
    """
    told = fitted_until or {}
    if unknown := sorted(set(told) - set(models)):
        raise ConfigError(
            f"fitted_until names {', '.join(unknown)}: expected some of {', '.join(models)}."
        )
    moments = {n: datetime.fromtimestamp(as_utc(t) / 1000, UTC) for n, t in told.items()}
    blend = datetime.fromtimestamp(blend_ms / 1000, UTC)
    late = {name: moment for name, moment in moments.items() if moment > blend}
    if late:
        each = ", ".join(f"{name} until {moment.isoformat()}" for name, moment in late.items())
        raise DataError(
            f"fitted {each}, but blend begins at {blend.isoformat()}: a leak. Expected models that "
            "have learned from nothing later. Fit them again, or begin blend later."
        )
    missing = [name for name in models if name not in told]
    if not missing:
        return []
    return [f"cut-offs unknown, so a leak cannot be ruled out: {', '.join(missing)}"]
