"""The temperature of softmax, fitted by likelihood."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penchant.ensembles.combiners import temperature
from penchant.ensembles.combiners.temperature import fit_normalization
from penchant.ensembles.comparing.fitting import fittable
from penchant.ensembles.predictions import Predictions
from penchant.platform.config import Ensemble
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

SIZE, ITEMS = 4000, 10


def chosen_at(temperature: float, scale: float = 1.0) -> Predictions:
    """One member; choices are drawn from softmax(score / temperature)."""
    random = np.random.default_rng(0)
    scores = random.normal(scale=3.0, size=(SIZE, ITEMS)) * scale
    drawn = scores / temperature + random.gumbel(size=scores.shape)
    requests = Requests(
        row=np.arange(SIZE),
        user=np.arange(SIZE, dtype=np.int32),
        time_ms=np.zeros(SIZE, dtype=np.int64),
        end=np.zeros(SIZE, dtype=np.int64),
        target_offsets=np.arange(SIZE + 1),
        target=drawn.argmax(axis=1).astype(np.int32),
        target_seen=np.zeros(SIZE, dtype=np.bool_),
    )
    parts = {"m": scores.astype(np.float32)}
    return Predictions(block=Block.BLEND, requests=requests, scores=parts)


def fitted(predictions: Predictions) -> float:
    kind, _, temperature = fit_normalization(predictions, "softmax", print).partition("@")
    assert kind == "softmax"
    return float(temperature)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 40.0])
def test_the_temperature_that_choices_were_drawn_at_is_found(temperature):
    assert fitted(chosen_at(temperature)) == pytest.approx(temperature, rel=0.1)


def test_the_scale_of_scores_goes_into_the_temperature():
    assert fitted(chosen_at(30.0, scale=10.0)) == pytest.approx(
        fitted(chosen_at(3.0)) * 10, rel=0.1
    )


@pytest.mark.parametrize("how", ["zscore", "rank", "none"])
def test_nothing_else_has_a_temperature(how):
    assert fit_normalization(chosen_at(1.0), how, print) == how


def test_it_is_fitted_on_blend_alone():
    with pytest.raises(TypeError, match="fitted on predictions of `blend`"):
        fit_normalization(replace(chosen_at(1.0), block=Block.TEST), "softmax", print)


def test_combinations_are_fitted_at_the_temperature_and_remember_it():
    predictions = chosen_at(4.0)
    other = np.random.default_rng(1).normal(size=(SIZE, ITEMS)).astype(np.float32)
    predictions = replace(predictions, scores={**predictions.scores, "noise": other})
    settings = Ensemble(normalize="softmax", combiners=("greedy",))
    short, [greedy] = fittable(predictions, settings, "ndcg@5", None, print)
    assert short.normalization == fit_normalization(predictions, "softmax", print) != "softmax@1"
    assert greedy.fit(short, "ndcg@5").normalization == short.normalization


def test_of_many_scores_some_are_looked_at_and_it_is_told(monkeypatch):
    """At least so many requests, however wide they are."""
    monkeypatch.setattr(temperature, "_CELLS", 1)
    told: list[str] = []
    whole = fitted(chosen_at(4.0))
    monkeypatch.setattr(temperature, "_FEWEST", 1500)
    kind = fit_normalization(chosen_at(4.0), "softmax", told.append)
    assert told == [f"blend: the temperature of softmax is fitted on 1500 of {SIZE} requests"]
    assert float(kind.partition("@")[2]) == pytest.approx(whole, rel=0.2)
