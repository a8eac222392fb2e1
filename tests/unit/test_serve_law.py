"""Law 4, offline is online: the endpoint's score of a stored request is the store's score."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
import torch
from fastapi import FastAPI
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.numpy import save_file as numpy_save

from penchant.ensembles.artefacts.artefact import Ensemble, load_ensemble, save_ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.config import Experiment
from penchant.platform.errors import DataError, RunError
from penchant.platform.prepared import Prepared, prepare
from penchant.platform.recipes import Recipe, SequenceRecipe
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.serve.answering.card import example_question, open_desk, version_of
from penchant.serve.answering.history import Question, trial_question
from penchant.serve.answering.member_deployment import MemberReplica, answer_all
from penchant.serve.answering.readiness import ready_members
from penchant.serve.routes.ingress import make_app
from penchant.serve.routes.stored import StoredRequests
from penchant.serve.versions.traffic import LiveDesks, Split
from penchant.trainers.fit import fit_baseline
from penchant.trainers.member import Member, Past
from penchant.trainers.score import keep_member
from penchant.trainers.sequence.model import SequenceMember
from penchant.trainers.sequence.network import SequenceNetwork
from penchant.trainers.text.engine import EngineName, HasEngine

RANKING: dict[str, dict[str, Any]] = {
    "popular": {"kind": "popularity", "window": {"days": 20}},
    "own": {"kind": "personal", "window": {"half_life_days": 9}, "min_group_items": 2},
    "items": {"kind": "item_item", "regularization": 3.0, "half_life_events": 6},
    "trees": {"kind": "boosted", "fit_requests": 400, "trees": 12, "window": {"days": 40}},
    "sequence": {"kind": "sequence", "size": {"dim": 8, "layers": 1}, "max_tokens": 9},
}
YES_NO = {name: RANKING[name] for name in ("popular", "trees")} | {"own": {"kind": "personal"}}
SETTINGS: dict[str, dict[str, Any]] = {
    "baskets": {"unit": "group", "min_items": 1},
    "new items only": {"unit": "group", "exclude_seen": True},
    "single events": {"unit": "event"},
    "events of sessions": {"unit": "event", "min_items": 1},
    "yes or no": {"task": "binary", "unit": "event", "positive_above": 2.5, "metric": "auc"},
}


def write_events(path: Path, setting: str) -> list[str]:
    """40 users, 30 baskets each, of 1 to 4 of 25 items; returns the columns.

    Baskets may share a moment; the events of a session are an hour apart.
    """
    random = np.random.default_rng(5)
    rows: list[tuple[str, str, int, str, float, str]] = []
    for user in range(40):
        moment, liked = 1_500_000_000, random.choice(25, 8, replace=False)
        for basket in range(30):
            moment += int(random.choice([0, 3_600, 86_400, 172_800]))
            for _ in range(random.integers(1, 5)):
                item = int(random.choice(liked) if random.random() < 0.8 else random.integers(25))
                kind = ("buy", "view")[random.integers(2)]
                value = float(random.integers(1, 6))
                rows.append((f"u{user}", f"i{item}", moment, kind, value, f"b{user}-{basket}"))
                moment += 3_600 if "sessions" in setting else 0
    columns = ["user", "item", "time", "type", "value", "group"]
    frame = pl.DataFrame(rows, columns, orient="row")
    if setting in ("single events", "yes or no"):
        frame = frame.drop("group")
    frame.write_parquet(path)
    return frame.columns


def fitted_run(
    root: Path,
    setting: str,
    recipes: Mapping[str, Any],
    fit_text: Callable[[Recipe, Past], Member] | None = None,
) -> Prepared:
    """A run directory whose members are fitted and scored on every block.

    Args:
        fit_text: makes members of recipes that train by workers of their own.
    """
    path = root / "events.parquet"
    columns = {name: name for name in write_events(path, setting)}
    experiment = Experiment.model_validate(
        {
            "name": "tiny",
            "data": {"events": {"paths": [str(path)], "columns": columns, "time_unit": "s"}},
            "time": {"quantiles": {"select": 0.6, "blend": 0.7, "test": 0.8}},
            "requests": {"per_block": 60, **SETTINGS[setting]},
            "members": [{"kind": "popularity"}],
        }
    )
    prepared = prepare(experiment, RunDirectory(root / "run"))
    spec = experiment.requests
    past = Past(log=prepared.log, spec=spec, until_ms=prepared.blocks.select_ms)
    for name, settings in recipes.items():
        recipe: Recipe = TypeAdapter[Recipe](Recipe).validate_python(settings)
        if recipe.kind == "text" and fit_text is not None:
            member = fit_text(recipe, past)
        else:
            member = untrained(recipe, prepared.log.num_items) or fit_baseline(recipe, past)
        keep_member(
            prepared.run,
            name,
            member,
            prepared.log,
            prepared.requests,
            {},
            exclude_seen=spec.exclude_seen,
        )
    return prepared


def untrained(recipe: Recipe, num_items: int) -> Member | None:
    """A sequence member with random weights; its law is the same as that of a trained one."""
    if not isinstance(recipe, SequenceRecipe):
        return None
    torch.manual_seed(1)
    network = SequenceNetwork(recipe, num_items, None)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return SequenceMember(recipe=recipe, network=network)


def post(app: FastAPI, path: str, body: dict[str, Any]) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(path, json=body)

    return asyncio.run(go())


def in_one_process(ensemble: Ensemble) -> Any:
    async def ask(member_id: str, question: Question) -> NDArray[np.float32] | None:
        return answer_all(ensemble, member_id, [question])[0]

    return ask


@pytest.mark.parametrize("setting", ["baskets", "yes or no"])
@pytest.mark.parametrize("engine", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_so_do_members_with_a_language_model_on_every_engine(
    tmp_path: Path, fit_member: Callable[[Recipe, Past], Member], setting: str, engine: EngineName
) -> None:
    """Asked twice, so that what was read once comes from the cache."""
    recipes = {"text": {"kind": "text", "base": "tiny", "layers": 1, "window": {"events": 9}}}
    prepared = fitted_run(tmp_path, setting, recipes, fit_member)
    spec, asked = prepared.experiment.requests, prepared.requests[Block.TEST]
    alone = Linear(normalization="none", weights={"text": 1.0})
    directory = save_ensemble(prepared.run, "text", alone, spec, {})
    ensemble = ready_members(directory, ["text"], threads=1, engine=engine)
    member = ensemble.members["text"]
    assert isinstance(member, HasEngine)
    assert member.engine_name == engine
    app, stored = served(directory, ensemble), StoredRequests.open(prepared.run.root)
    store = prepared.run.read_predictions(Block.TEST, "text", asked.row)
    items = stored.catalog.item_ids
    for at in [*range(12), *range(12)]:
        candidates = items if asked.candidate is None else [items[asked.candidate[at]]]
        response = post(app, "/v1/score", stored.body(at) | {"candidates": candidates})
        close([result["score"] for result in response.json()["results"]], store[at])
    assert member.cache is not None
    assert member.cache.hits >= 12


def served(directory: Path, ensemble: Ensemble) -> FastAPI:
    desk = open_desk(directory, in_one_process(ensemble))
    desk.panel.rehearse(trial_question(ensemble.requests, 0, has_groups=desk.reader.has_groups))
    return make_app(LiveDesks(Split(primary=desk)))


@pytest.mark.parametrize(
    "setting",
    [
        "baskets",
        "yes or no",
        *(pytest.param(s, marks=pytest.mark.slow) for s in list(SETTINGS)[1:-1]),
    ],
)
def test_the_endpoint_gives_the_scores_of_the_store(tmp_path: Path, setting: str) -> None:
    binary = SETTINGS[setting].get("task") == "binary"
    recipes = YES_NO if binary else RANKING
    prepared = fitted_run(tmp_path, setting, recipes)
    weights = {name: 1 / len(recipes) for name in recipes}
    how: Any = "none" if binary else "zscore"
    spec = prepared.experiment.requests
    directory = save_ensemble(
        prepared.run, "all", Linear(normalization=how, weights=weights), spec, {}
    )
    ensemble = load_ensemble(directory)
    app = served(directory, ensemble)
    stored = StoredRequests.open(prepared.run.root)
    asked = prepared.requests[Block.TEST]
    store = {name: prepared.run.read_predictions(Block.TEST, name, asked.row) for name in recipes}
    together = ensemble.combine(store)
    items = stored.catalog.item_ids

    for at in range(len(asked)):
        candidates = items if asked.candidate is None else [items[asked.candidate[at]]]
        body = stored.body(at) | {"candidates": candidates, "members": True}
        response = post(app, "/v1/score", body)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["left_out"] == []
        close([result["score"] for result in answer["results"]], together[at])
        for name in recipes:
            close([result["members"][name] for result in answer["results"]], store[name][at])
    assert len(asked) >= 20
    path, body = example_question(directory)
    assert post(app, path, body).status_code == 200


@pytest.mark.parametrize("broken", ["nan weights", "changed file", "extra link"])
def test_a_member_that_is_not_sound_or_not_as_saved_takes_no_traffic(
    tmp_path: Path, broken: str
) -> None:
    prepared = fitted_run(tmp_path, "baskets", {"items": RANKING["items"]})
    saved = prepared.run.member("items") / "model.safetensors"
    if broken == "nan weights":
        numpy_save({"weights": np.full((25, 25), np.nan, dtype=np.float32)}, saved)
    spec = prepared.experiment.requests
    directory = save_ensemble(
        prepared.run, "all", Linear(normalization="zscore", weights={"items": 1.0}), spec, {}
    )
    copied = directory / "members" / "items" / "model.safetensors"
    if broken == "changed file":
        copied.write_bytes(copied.read_bytes() + b" ")
    if broken == "extra link":
        copied.unlink()
        copied.symlink_to(saved)
    expected = (RunError, "sound") if broken == "nan weights" else (DataError, "not the file")
    with pytest.raises(expected[0], match=expected[1]):
        MemberReplica(str(directory), version_of(directory), ["items"])


def close(scores: list[float | None], stored: NDArray[np.float32]) -> None:
    """Null over HTTP is -inf in the store: an item that is not asked for."""
    answered = np.array([-np.inf if score is None else score for score in scores])
    np.testing.assert_allclose(answered, stored, rtol=1e-5, atol=1e-5)
