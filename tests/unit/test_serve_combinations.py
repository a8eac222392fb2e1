"""Law 4 for every kind of combination: served one by one it gives what it gives on the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import special

from penchant.ensembles.artefacts.artefact import load_ensemble, save_ensemble
from penchant.ensembles.combinations.combination import combine
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.combiners.combiners import make_combiners
from penchant.ensembles.predictions import read_predictions
from penchant.platform.config import Ensemble
from penchant.platform.timeline import Block
from penchant.serve.routes.stored import StoredRequests

from .test_serve_law import RANKING, YES_NO, close, fitted_run, post, served

SHOWN = 4


@pytest.mark.parametrize("setting", ["baskets", "yes or no"])
def test_every_combiner_serves_what_it_says_of_the_store(tmp_path: Path, setting: str) -> None:
    recipes = YES_NO if setting == "yes or no" else RANKING
    prepared = fitted_run(tmp_path, setting, recipes)
    spec, names = prepared.experiment.requests, list(recipes)
    blend = read_predictions(prepared, Block.BLEND, names)
    blend = blend.normalized("none" if spec.task == "binary" else "zscore").shortlist(60)
    test = read_predictions(prepared, Block.TEST, names)
    stored = StoredRequests.open(prepared.run.root)
    cost_ms = {name: float(at + 1) for at, name in enumerate(names)}
    for combiner in make_combiners(Ensemble(), spec.task, cost_ms):
        combination = combiner.fit(blend, spec.metric)
        directory = save_ensemble(prepared.run, combiner.name, combination, spec, {})
        ensemble = load_ensemble(directory)
        app = served(directory, ensemble)
        expected = combine(combination, test.scores, test.facts)
        np.testing.assert_allclose(
            ensemble.score(prepared.log, test.requests), expected, rtol=1e-5, atol=1e-5
        )
        for at in range(SHOWN):
            one = test.requests.candidate
            items = stored.catalog.item_ids
            candidates = items if one is None else [items[one[at]]]
            response = post(app, "/v1/score", stored.body(at) | {"candidates": candidates})
            assert response.status_code == 200, response.text
            close([result["score"] for result in response.json()["results"]], expected[at])


def test_a_calibrated_ensemble_says_how_likely_each_item_is(tmp_path: Path) -> None:
    prepared = fitted_run(tmp_path, "baskets", {"popular": RANKING["popular"]})
    alone = Linear(normalization="none", weights={"popular": 1.0})
    facts = {"calibrator": {"kind": "temperature", "temperature": 2.0}}
    directory = save_ensemble(prepared.run, "one", alone, prepared.experiment.requests, facts)
    stored = StoredRequests.open(prepared.run.root)
    app = served(directory, load_ensemble(directory))
    body = stored.body(0) | {"candidates": stored.catalog.item_ids}
    results = post(app, "/v1/score", body).json()["results"]
    expected = special.softmax([result["score"] / 2.0 for result in results])
    np.testing.assert_allclose([result["probability"] for result in results], expected, rtol=1e-5)
