"""Calibrators: an ensemble's scores made into probabilities.

`binary`: the chance of a yes. `next_item`: how likely each candidate is the one that is picked;
the candidates of a request sum to 1, and those that are not asked for get 0. For a basket that is
the share of its items, not the chance that the basket holds the candidate.

A calibrator never changes an order; isotonic steps can make equals of neighbours. It is fitted on
`blend`, where the weights were fitted too: few weights leave little to flatter, but scores of
users that did not fit the weights are the better thing to give it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from scipy import optimize, special

from penchant.ensembles.combiners.combiner import refuse_other_blocks
from penchant.ensembles.predictions import Blend, Predictions
from penchant.platform.errors import DataError
from penchant.platform.requests import Requests

__all__ = [
    "KINDS",
    "Calibrator",
    "Identity",
    "Isotonic",
    "Kind",
    "Platt",
    "Temperature",
    "calibration_loss",
    "fit_calibrator",
    "fit_kind",
    "parse_calibrator",
    "task_of",
]

Kind = Literal["identity", "temperature", "platt", "isotonic"]
#: Simplest first: of equals the first is taken. Platt and isotonic know yes and no only.
KINDS: Mapping[str, tuple[Kind, ...]] = {
    "binary": ("identity", "temperature", "platt", "isotonic"),
    "next_item": ("identity", "temperature"),
}
_LOG_TEMPERATURE = 7.0  # temperatures from 1/1100 to 1100
_SMALLEST = 1e-12  # a probability of 0 would make one miss infinite


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Temperature(_Model):
    """One scalar that scores are divided by (Guo et al., ICML 2017)."""

    kind: Literal["temperature"] = "temperature"
    temperature: float = Field(gt=0)

    def probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities, shape (R, C): sigmoid of one candidate, softmax of several."""
        return _probabilities(scores.astype(np.float64) / self.temperature)


class Identity(_Model):
    """Scores taken at their word, as log-odds or logits."""

    kind: Literal["identity"] = "identity"

    def probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities, shape (R, C): sigmoid of one candidate, softmax of several."""
        return _probabilities(scores.astype(np.float64))


class Platt(_Model):
    """A sigmoid of the score (Platt 1999); `binary` only."""

    kind: Literal["platt"] = "platt"
    slope: float = Field(ge=0)
    intercept: float

    def probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Chance of a yes, shape (R, 1)."""
        asked = np.isfinite(scores)
        odds = self.slope * np.where(asked, scores, 0.0).astype(np.float64) + self.intercept
        chance: NDArray[np.float64] = np.where(asked, special.expit(odds), 0.0)
        return chance


class Isotonic(_Model):
    """A rising step-and-ramp function of the score (Zadrozny and Elkan 2002); `binary` only."""

    kind: Literal["isotonic"] = "isotonic"
    x: list[float] = Field(min_length=1)  # scores, rising
    y: list[float] = Field(min_length=1)  # chance of a yes at each

    @model_validator(mode="after")
    def _rises(self) -> Isotonic:
        if (
            len(self.x) != len(self.y)
            or np.any(np.diff(self.x) <= 0)
            or np.any(np.diff(self.y) < 0)
        ):
            raise ValueError("x has to rise, and y of the same length must not fall")
        if self.y[0] < 0 or self.y[-1] > 1:
            raise ValueError("y has to lie in [0, 1]")
        return self

    def probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Chance of a yes, shape (R, 1); scores beyond the ends get the ends' chance."""
        asked = np.isfinite(scores)
        chance = np.interp(np.where(asked, scores, 0.0).astype(np.float64), self.x, self.y)
        found: NDArray[np.float64] = np.where(asked, chance, 0.0)
        return found


Calibrator = Annotated[Identity | Temperature | Platt | Isotonic, Field(discriminator="kind")]
_SAVED: TypeAdapter[Calibrator] = TypeAdapter(Calibrator)


def parse_calibrator(content: Mapping[str, Any]) -> Calibrator:
    """A calibrator from an artefact's JSON.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return _SAVED.validate_python(content)


def fit_calibrator(
    scores: NDArray[np.float32], blend: Predictions[Blend], kind: Kind
) -> Calibrator:
    """Fit a calibrator of this kind.

    Args:
        scores: the ensemble's merged scores, shape (R, C); of all candidates, not a shortlist.
        blend: which requests were asked, and that they are those of `blend`.

    Raises:
        TypeError: the predictions are of another block.
        DataError: the kind does not fit the task, or there is nothing to learn from.
    """
    refuse_other_blocks(blend)
    return fit_kind(scores, blend.requests, kind)


def calibration_loss(
    calibrator: Calibrator, scores: NDArray[np.float32], requests: Requests
) -> float:
    """Mean log loss; of a basket, the mean over its targets.

    Targets that were not asked for have no probability to judge and are left out.

    Args:
        scores: shape (R, C).
    """
    chance = calibrator.probabilities(scores)
    if requests.label is not None:
        right = np.where(requests.label > 0.5, chance[:, 0], 1 - chance[:, 0])
        return float(-np.log(np.maximum(right, _SMALLEST)).mean())
    request, target, weight = _asked_targets(scores, requests)
    return float(-weight @ np.log(np.maximum(chance[request, target], _SMALLEST)))


def task_of(requests: Requests) -> str:
    """`next_item` or `binary`."""
    return "next_item" if requests.label is None else "binary"


def fit_kind(scores: NDArray[np.float32], requests: Requests, kind: Kind) -> Calibrator:
    """A calibrator of this kind, whatever the requests are of; see `fit_calibrator`."""
    known = KINDS[task_of(requests)]
    if kind not in known:
        raise DataError(
            f"a `{kind}` calibrator knows yes and no only, got {task_of(requests)} requests: "
            f"expected one of {', '.join(known)}."
        )
    if kind == "identity":
        return Identity()
    if requests.label is None:
        return _temperature(_share_loss(scores, requests))
    return _fit_binary(scores[:, 0].astype(np.float64), requests.label, kind)


def _fit_binary(score: NDArray[np.float64], label: NDArray[np.float32], kind: Kind) -> Calibrator:
    asked = np.isfinite(score)
    score, yes = score[asked], label[asked].astype(np.float64)
    if not 0 < yes.sum() < len(yes):
        raise DataError(
            f"a calibrator needs both answers, got {int(yes.sum())} yes among {len(yes)} labels. "
            "Let `blend` span more time."
        )
    if kind == "temperature":
        return _temperature(lambda t: float(np.mean(np.logaddexp(0, score / t) - yes * score / t)))
    if kind == "platt":
        from sklearn.linear_model import LogisticRegression  # here, since no replica needs it

        line = LogisticRegression().fit(score[:, None], yes)
        if line.coef_[0, 0] > 0:
            return Platt(slope=float(line.coef_[0, 0]), intercept=float(line.intercept_[0]))
        # scores that order the wrong way say nothing: an order is never turned round
        return Platt(slope=0.0, intercept=float(special.logit(yes.mean())))
    from sklearn.isotonic import IsotonicRegression

    # a chance is never 0 or 1, however sure so few labels look (Laplace's rule)
    least = 1 / (len(yes) + 2)
    steps = IsotonicRegression(y_min=least, y_max=1 - least).fit(score, yes)
    return Isotonic(x=steps.X_thresholds_.tolist(), y=steps.y_thresholds_.tolist())


def _temperature(loss: Callable[[float], float]) -> Temperature:
    """The loss is convex in 1 / temperature, so that there is one best place."""
    found = optimize.minimize_scalar(
        lambda log_t: loss(float(np.exp(log_t))),
        bounds=(-_LOG_TEMPERATURE, _LOG_TEMPERATURE),
        method="bounded",
    )
    return Temperature(temperature=float(np.exp(found.x)))


def _share_loss(scores: NDArray[np.float32], requests: Requests) -> Callable[[float], float]:
    request, target, weight = _asked_targets(scores, requests)
    rows, place = np.unique(request, return_inverse=True)
    logits = scores[rows]
    logits = logits - logits.max(axis=1, keepdims=True)  # powers of at most 1
    mean_target = float(weight @ logits[place, target].astype(np.float64))
    share = np.bincount(place, weights=weight)

    def loss(temperature: float) -> float:
        powers = np.exp(logits / np.float32(temperature)).sum(axis=1, dtype=np.float64)
        return float(share @ np.log(powers)) - mean_target / temperature

    return loss


def _asked_targets(
    scores: NDArray[np.float32], requests: Requests
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Request, column and weight of the targets that have a score; the weights sum to 1."""
    request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    asked = np.isfinite(scores[request, requests.target])
    request, target = request[asked], requests.target[asked]
    if not len(request):
        raise DataError(
            "a calibrator needs targets that have a score, got none: expected requests of `blend` "
            "whose answer is among their candidates."
        )
    number = np.bincount(request, minlength=len(requests))
    weight = 1 / (number[request] * np.count_nonzero(number))
    return request, target, weight


def _probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    if logits.shape[1] == 1:
        chance: NDArray[np.float64] = special.expit(logits)
        return chance
    highest = logits.max(axis=1, keepdims=True)
    powers = np.exp(logits - np.where(np.isfinite(highest), highest, 0.0))
    shares: NDArray[np.float64] = powers / np.maximum(powers.sum(axis=1, keepdims=True), 1e-300)
    return shares
