"""The artefact: complete, checked by hash and version, and scoring as the store did."""

from __future__ import annotations

import json

import numpy as np
import pytest

from penchant.ensembles.artefacts.artefact import (
    ENSEMBLE_VERSION,
    load_ensemble,
    read_ensemble_card,
    save_ensemble,
)
from penchant.ensembles.artefacts.self_test import SelfTest
from penchant.ensembles.combinations.combination import combine
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.normalize import normalize
from penchant.platform.errors import DataError
from penchant.platform.schema import ITEM, TEXT
from penchant.platform.shards import write_arrow
from penchant.platform.store import RunDirectory, write_json
from penchant.platform.timeline import Block
from penchant.trainers.score import keep_member

WEIGHTS = {"popularity": 0.2, "boosted": 0.5, "sequence-text": 0.3}


def linear(weights, how="zscore"):
    return Linear(normalization=how, weights=weights)


@pytest.fixture
def kept(world, recipes, fit_member, tmp_path):
    """Three members in the store of a run, and the artefact of their combination."""
    import polars as pl

    here, run = world("baskets"), RunDirectory(tmp_path / "run")
    run.log.mkdir(parents=True)
    items = pl.DataFrame({ITEM: [f"i{n}" for n in range(30)], TEXT: [""] * 30})
    write_arrow(items, run.log / "items.arrow")
    write_json(run.log / "log.json", {"version": 1})
    for name in WEIGHTS:
        member, asked = fit_member(recipes[name], here.past), {Block.SELECT: here.asked()}
        keep_member(run, name, member, here.log, asked, {}, exclude_seen=False)
    facts, test = {"metric": "ndcg@10"}, SelfTest.draw(here.log, here.asked())
    directory = save_ensemble(run, "greedy", linear(WEIGHTS), here.spec, facts, test=test)
    return here, run, directory


def stored(here, run) -> dict[str, np.ndarray]:
    return {m: run.read_predictions(Block.SELECT, m, here.asked().row) for m in WEIGHTS}


def test_a_loaded_ensemble_scores_what_the_combined_store_says(kept):
    here, run, directory = kept
    ensemble = load_ensemble(directory)
    expected = sum(
        weight * normalize(stored(here, run)[name], "zscore") for name, weight in WEIGHTS.items()
    )
    np.testing.assert_allclose(ensemble.score(here.log, here.asked()), expected, atol=1e-5)
    assert ensemble.item_ids == [f"i{n}" for n in range(30)]
    assert ensemble.weights == WEIGHTS
    assert ensemble.requests == here.spec
    assert ensemble.card["metric"] == "ndcg@10"


def test_an_artefact_stands_alone(kept, tmp_path):
    here, _, directory = kept
    moved = directory.rename(tmp_path / "elsewhere")
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            path.unlink()
    assert load_ensemble(moved).score(here.log, here.asked()).shape == (len(here.asked()), 30)


def test_only_the_named_members_are_loaded(kept):
    ensemble = load_ensemble(kept[2], only=["boosted"])
    assert list(ensemble.members) == ["boosted"]
    assert ensemble.weights == WEIGHTS
    assert load_ensemble(kept[2], only=[]).members == {}
    with pytest.raises(DataError, match="holds no member"):
        load_ensemble(kept[2], only=["nobody"])


def test_any_changed_or_missing_file_is_refused_before_anything_is_loaded(kept):
    directory = kept[2]
    listed = json.loads((directory / "ensemble.json").read_text())["sha256"]
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert set(listed) == {str(p.relative_to(directory)) for p in files} - {"ensemble.json"}
    for name in listed:
        path = directory / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DataError, match=f"{path.name} is missing or is not the file that was"):
            load_ensemble(directory)
        path.unlink()
        with pytest.raises(DataError, match=f"{path.name} is missing or is not the file that was"):
            load_ensemble(directory)
        path.write_bytes(content)
    load_ensemble(directory)


@pytest.mark.parametrize(
    "name", ["/tmp/x", "../..", "..", ".", "", "a/../../b", "a\0", "file://a", "..\\a"]
)
def test_a_member_s_name_leads_nowhere_else(kept, monkeypatch, name):
    """Its hashes would be looked up inside, and its files read outside."""
    path = kept[2] / "ensemble.json"
    card = json.loads(path.read_text())
    card["weights"] = {name: 1.0}
    card["sha256"][f"members/{name}/member.json"] = "0"
    path.write_text(json.dumps(card))
    loaded = []
    monkeypatch.setattr("penchant.ensembles.artefacts.artefact.load_member", loaded.append)
    with pytest.raises(DataError, match="expected the name of a directory in members/"):
        load_ensemble(kept[2])
    assert loaded == []


def test_a_missing_or_other_version_is_refused(kept, tmp_path):
    with pytest.raises(DataError, match="holds no ensemble: expected an ensemble.json"):
        read_ensemble_card(tmp_path)
    path = kept[2] / "ensemble.json"
    path.write_text(path.read_text().replace(f'"version": {ENSEMBLE_VERSION}', '"version": 7'))
    with pytest.raises(DataError, match=f"has version 7, expected {ENSEMBLE_VERSION}"):
        load_ensemble(kept[2])


def test_an_ensemble_that_is_half_saved_leaves_the_one_before(kept, monkeypatch):
    """A service may be started from it at any time."""
    here, run, directory = kept

    def die(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("penchant.ensembles.artefacts.artefact.write_json", die)
    test = SelfTest.draw(here.log, here.asked())
    with pytest.raises(KeyboardInterrupt):
        save_ensemble(run, "greedy", linear({"boosted": 1.0}), here.spec, {}, test=test)
    assert load_ensemble(directory).weights == WEIGHTS
    assert [path.name for path in directory.parent.iterdir()] == ["greedy"]


def test_saving_again_leaves_nothing_of_the_earlier_members(kept):
    here, run, directory = kept
    test = SelfTest.draw(here.log, here.asked())
    save_ensemble(run, "greedy", linear({"boosted": 1.0}), here.spec, {}, test=test)
    assert [path.name for path in (directory / "members").iterdir()] == ["boosted"]


@pytest.mark.parametrize("how", ["zscore", "softmax", "rank", "none"])
def test_a_combination_is_the_weighted_sum_of_normalised_scores(how):
    parts = np.random.default_rng(0).normal(size=(3, 6, 5)).astype(np.float32)
    scores = dict(zip("abc", parts, strict=True))
    expected = 0.6 * normalize(parts[0], how) + 0.4 * normalize(parts[2], how)
    found = combine(linear({"a": 0.6, "c": 0.4}, how), scores)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("alone", ["a", "b", "c"])
def test_an_ensemble_of_one_passes_its_own_members_scores_unchanged(alone):
    """Also where the scores of others lie beside them."""
    parts = np.random.default_rng(0).normal(size=(3, 6, 5)).astype(np.float32)
    scores = dict(zip("abc", parts, strict=True))
    assert combine(linear({alone: 1.0}), scores) is scores[alone]


@pytest.mark.parametrize("how", ["zscore", "none"])
def test_the_weights_of_missing_members_go_to_the_others(how):
    parts = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)
    scores = {"a": parts[0], "b": parts[1]}
    found = combine(linear({"a": 0.2, "gone": 0.6, "b": 0.2}, how), scores)
    np.testing.assert_allclose(found, combine(linear({"a": 0.5, "b": 0.5}, how), scores), atol=1e-6)
    alone = combine(linear({"a": 0.2, "gone": 0.8}, how), {"a": parts[0]})
    np.testing.assert_allclose(alone, normalize(parts[0], how), atol=1e-6)


def test_what_one_member_hides_is_hidden():
    scores = {"a": np.array([[1, -np.inf, 2]]), "b": np.array([[3, 9, -np.inf]])}
    halves = linear({"a": 0.5, "b": 0.5}, "rank")
    found = combine(halves, {m: s.astype(np.float32) for m, s in scores.items()})
    assert np.isneginf(found).tolist() == [[False, True, True]]


def test_the_self_test_knows_the_members_again(kept):
    """Histories are cut to their newest events, and scores are those of the cut ones."""
    here, _, directory = kept
    ensemble, test = load_ensemble(directory), SelfTest.read(directory, 30)
    assert len(test.requests) == 8
    for name in WEIGHTS:
        again = ensemble.member_scores(name, test.log, test.requests)
        assert test.difference(name, again) <= 1
        assert test.difference(name, again + np.float32(1e-3)) > 1
        assert test.difference(name, again * np.float32("nan")) == np.inf
        assert test.difference(name, again[:, :5]) == np.inf
