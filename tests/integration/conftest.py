"""A small log that is the same every time, and the members that a search leaves from it.

A Ray lives for one fixture or one subprocess, never for a whole module: a process holds at most
one connection, and other modules here start Rays of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from penchant.ensembles.artefacts.artefact import save_ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.cluster import start_ray
from penchant.platform.config import load_experiment
from penchant.platform.errors import RunError
from penchant.platform.prepared import Prepared, prepare
from penchant.platform.progress import Progress
from penchant.platform.recipes import ItemItemRecipe, PersonalRecipe, SequenceRecipe
from penchant.platform.store import RunDirectory
from penchant.trainers.fit import fit_baseline
from penchant.trainers.ledger import Ledger
from penchant.trainers.member import Past
from penchant.trainers.score import keep_member
from penchant.trainers.search import experiment_recipes, fit_members

USERS, VISITS, ITEMS = 80, 30, 60
EXPERIMENT = """
name: small
data:
  events:
    paths: ['{folder}/events-*.csv']
    columns: {{user: customer, item: product, time: at, group: visit}}
time:
  dates: {{select: 2024-02-12, blend: 2024-02-19, test: 2024-02-26}}
requests: {{unit: group, per_block: 200}}
refit: true
members:
  - {{kind: popularity, name: popular, window: {{days: 14}}}}
  - {{kind: sequence, name: long, size: {{dim: 32, layers: 1}}, epochs: 40, patience: 40,
     average: 3, learning_rate: 3.0e-4, batch_tokens: 256, max_tokens: 16}}
search:
  windows: [{{days: 21}}, {{}}]
  sizes: [{{dim: 16, layers: 1}}, {{dim: 32, layers: 1}}]
  base: {{kind: sequence, epochs: 2, batch_tokens: 256, max_tokens: 16}}
ensemble: {{bootstrap: 200}}
"""


@pytest.fixture(scope="session")
def experiment_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 users with 30 visits each in 60 days; every user has 8 favourites among 60 products."""
    folder = tmp_path_factory.mktemp("small")
    random = np.random.default_rng(0)
    lines = []
    for user in range(USERS):
        favourites = random.choice(ITEMS, 8, replace=False)
        for visit, day in enumerate(np.sort(random.choice(60, VISITS, replace=False))):
            date = np.datetime64("2024-01-01") + day
            bought = np.unique(np.append(random.choice(favourites, 2), random.integers(ITEMS)))
            lines += [f"c{user},p{item},{date},{user}-{visit}" for item in bought]
    half = len(lines) // 2
    for number, part in enumerate((lines[:half], lines[half:])):
        text = "\n".join(["customer,product,at,visit", *part, ""])
        (folder / f"events-{number}.csv").write_text(text)
    path = folder / "small.yaml"
    path.write_text(EXPERIMENT.format(folder=folder))
    return path


@pytest.fixture(scope="session")
def _search(
    experiment_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Prepared, str]:
    run = RunDirectory(tmp_path_factory.mktemp("searched") / "run")
    prepared = prepare(load_experiment(experiment_file), run)
    (model := tmp_path_factory.mktemp("hollow") / "model").mkdir()
    (model / "config.json").write_text('{"model_type": "bert"}')
    hollow = SequenceRecipe(kind="sequence", name="hollow", text=str(model))
    recipes = [*experiment_recipes(prepared.experiment), hollow]
    with (
        start_ray(num_cpus=2),
        Progress(quiet=True) as progress,
        pytest.raises(RunError) as caught,
    ):
        fit_members(prepared, recipes, progress, until_ms=prepared.blocks.select_ms)
    return prepared, str(caught.value)


@pytest.fixture(scope="session")
def searched(_search: tuple[Prepared, str]) -> Prepared:
    """Two windows x two sizes and two listed members, fitted by one worker each."""
    return _search[0]


@pytest.fixture(scope="session")
def search_error(_search: tuple[Prepared, str]) -> str:
    """What that search said of one more member, `hollow`, whose language model has no weights."""
    return _search[1]


@pytest.fixture(scope="session")
def curve_of() -> Callable[[RunDirectory, str], NDArray[np.float64]]:
    """A member's epoch, loss in training and loss on `select`, shape (epochs, 3)."""

    def curve(run: RunDirectory, member_id: str) -> NDArray[np.float64]:
        facts = json.loads((run.member(member_id) / "metrics.json").read_text())
        names = ("epoch", "train_loss", "select_loss")
        return np.array([[epoch[name] for name in names] for epoch in facts["history"]])

    return curve


@pytest.fixture(scope="session")
def epochs_told() -> Callable[[RunDirectory, str], list[int]]:
    """Epochs of a member that the ledger has seen, in order."""

    def epochs(run: RunDirectory, member_id: str) -> list[int]:
        events = [e for e in Ledger(run.ledger).read() if e["member"] == member_id]
        return [event["epoch"] for event in events if event["state"] == "epoch"]

    return epochs


@pytest.fixture(scope="session")
def artefacts(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three ensembles of the same two members, with other weights."""
    run = RunDirectory(tmp_path_factory.mktemp("saved") / "run")
    prepared = prepare(load_experiment(experiment_file), run)
    spec, log = prepared.experiment.requests, prepared.log
    past = Past(log=log, spec=spec, until_ms=prepared.blocks.select_ms)
    recipes = {"own": PersonalRecipe(kind="personal"), "items": ItemItemRecipe(kind="item_item")}
    for name, recipe in recipes.items():
        member = fit_baseline(recipe, past)
        keep_member(run, name, member, log, prepared.requests, {}, exclude_seen=False)
    return {
        name: save_ensemble(
            run, name, Linear(normalization="zscore", weights={"own": w, "items": 1 - w}), spec, {}
        )
        for name, w in (("old", 0.5), ("new", 0.75), ("other", 0.25))
    }
