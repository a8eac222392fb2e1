"""An artefact that arrives is let in only if its members score here as they did there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from penchant.ensembles.artefacts import proof
from penchant.ensembles.artefacts.artefact import save_ensemble
from penchant.ensembles.artefacts.pack import pack_ensemble, unpack_ensemble
from penchant.ensembles.artefacts.self_test import SELF_TEST_FILE
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.config import Experiment
from penchant.platform.errors import DataError
from penchant.platform.prepared import prepare
from penchant.platform.store import RunDirectory
from penchant.trainers.fit import fit_and_keep


@pytest.fixture
def ensemble(draw, log_rows, tmp_path) -> Path:
    """A saved mean of two members."""
    rows = log_rows(draw("events", users=20, groups=10, items=8, seed=0))
    lines = [f"u{user},i{item},{time}" for user, time, item, *_ in rows]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,time", *lines]) + "\n")
    columns = {name: name for name in ("user", "item", "time")}
    events = {"paths": [str(tmp_path / "events.csv")], "columns": columns, "time_unit": "ms"}
    kinds = ("popularity", "personal")
    settings = Experiment.model_validate(
        {
            "name": "small",
            "data": {"events": events},
            "time": {"quantiles": {"select": 0.5, "blend": 0.65, "test": 0.8}},
            "members": [{"kind": kind, "name": kind} for kind in kinds],
        }
    )
    prepared = prepare(settings, RunDirectory(tmp_path / "run"))
    until_ms = prepared.blocks.select_ms
    for recipe in settings.members:
        fit_and_keep(
            str(prepared.run.root),
            recipe.model_dump(mode="json"),
            until_ms,
            "",
            ["select", "test"],
            ".",
        )
    mean = Linear(normalization="zscore", weights=dict.fromkeys(kinds, 0.5))
    return save_ensemble(prepared.run, "mean", mean, settings.requests, {})


def with_right_hashes(directory: Path) -> Path:
    """The artefact, its card made to list the files as they are now."""
    path = directory / "ensemble.json"
    card = json.loads(path.read_text())
    kept = [name for name in card["sha256"] if (directory / name).is_file()]
    card["sha256"] = {
        name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in kept
    }
    path.write_text(json.dumps(card))
    return directory


def refused(directory: Path, tmp_path: Path, message: str) -> None:
    archive = pack_ensemble(with_right_hashes(directory), tmp_path / "mean.tar.gz")
    with pytest.raises(DataError, match=message):
        unpack_ensemble(archive, tmp_path / "parent" / "new")
    assert list((tmp_path / "parent").iterdir()) == []


def test_members_that_score_as_they_did_are_let_in(ensemble, tmp_path) -> None:
    archive = pack_ensemble(ensemble, tmp_path / "mean.tar.gz")
    card = unpack_ensemble(archive, tmp_path / "new")
    assert (tmp_path / "new" / "members" / "personal").is_dir()
    assert set(card["weights"]) == {"popularity", "personal"}


def test_a_member_that_scores_otherwise_is_refused_though_all_hashes_are_right(
    ensemble, tmp_path
) -> None:
    test = load_file(ensemble / SELF_TEST_FILE)
    finite = np.isfinite(test["scores.personal"])
    test["scores.personal"] = np.where(finite, test["scores.personal"] + 0.01, -np.inf)
    save_file({k: np.ascontiguousarray(v) for k, v in test.items()}, ensemble / SELF_TEST_FILE)
    refused(ensemble, tmp_path, "member personal of mean fails its self-test: its scores differ")


def test_an_artefact_without_a_self_test_is_refused(ensemble, tmp_path) -> None:
    (ensemble / SELF_TEST_FILE).unlink()
    refused(ensemble, tmp_path, f"mean cannot be tested: .*Expected {SELF_TEST_FILE}")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("offsets", np.zeros((2, 2), dtype=np.int64)),
        ("offsets", np.array(7, dtype=np.int64)),
        ("item", np.zeros(1, dtype=np.int32)),
        ("asked_ms", np.zeros(1, dtype=np.int64)),
    ],
)
def test_a_self_test_of_other_shapes_is_refused(ensemble, tmp_path, name, wrong) -> None:
    test = load_file(ensemble / SELF_TEST_FILE) | {name: wrong}
    save_file({k: np.ascontiguousarray(v) for k, v in test.items()}, ensemble / SELF_TEST_FILE)
    refused(ensemble, tmp_path, "mean cannot be tested|cannot be asked|differ from")


def test_a_self_test_that_leaves_a_member_out_is_refused(ensemble, tmp_path) -> None:
    test = load_file(ensemble / SELF_TEST_FILE)
    del test["scores.personal"]
    save_file({k: np.ascontiguousarray(v) for k, v in test.items()}, ensemble / SELF_TEST_FILE)
    refused(ensemble, tmp_path, "has no scores of personal")


def test_a_member_that_breaks_is_refused_whatever_it_breaks_with(
    ensemble, tmp_path, monkeypatch
) -> None:
    def broken(directory: Path) -> None:
        raise KeyError("weights")

    monkeypatch.setattr(proof, "load_member", broken)
    refused(ensemble, tmp_path, r"member popularity cannot be asked: KeyError\('weights'\)")
