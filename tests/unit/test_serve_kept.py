"""A version stays what it was, whatever becomes of the directory that was deployed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from penchant.ensembles.artefacts.artefact import save_ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.errors import DataError
from penchant.platform.prepared import Prepared
from penchant.serve.answering.card import version_of
from penchant.serve.answering.member_deployment import MemberReplica
from penchant.serve.answering.places import Layout
from penchant.serve.versions.kept import forget_others, keep
from penchant.serve.versions.service import Live, Service, Traffic

from .test_serve_law import RANKING, fitted_run


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    recipes = {name: RANKING[name] for name in ("popular", "own")}
    return fitted_run(tmp_path_factory.mktemp("kept"), "baskets", recipes)


def save(prepared: Prepared, weight: float, name: str = "two") -> Path:
    made = Linear(normalization="zscore", weights={"popular": weight, "own": 1 - weight})
    return save_ensemble(prepared.run, name, made, prepared.experiment.requests, {})


def live(kept: Path, source: Path) -> Live:
    return Live(
        version=kept.name, directory=str(kept), source=str(source), layout=Layout(), places=[]
    )


def test_a_replica_that_starts_late_finds_what_was_deployed(
    prepared: Prepared, tmp_path: Path
) -> None:
    """`penchant ensemble compare` makes a run's ensembles anew under the same names."""
    service, deployed = Service(tmp_path), save(prepared, 0.5)
    version = version_of(deployed)
    kept = keep(service, deployed)
    save(prepared, 0.75)
    assert version_of(deployed) != version
    assert kept.name == version_of(kept) == version
    MemberReplica(str(kept), version, ["popular"])
    with pytest.raises(DataError, match=f"by now, expected {version}"):
        MemberReplica(str(deployed), version, ["popular"])


def test_what_was_deployed_may_be_removed(prepared: Prepared, tmp_path: Path) -> None:
    service, deployed = Service(tmp_path), save(prepared, 0.5, "gone")
    copied = tmp_path / "elsewhere"
    shutil.copytree(deployed, copied)
    kept = keep(service, copied)
    assert keep(service, deployed) == kept  # the same version, wherever it lies
    shutil.rmtree(copied)
    MemberReplica(str(kept), kept.name, ["popular", "own"])
    assert keep(service, kept) == kept


def test_a_kept_file_that_was_spoiled_is_made_whole_by_deploying_again(
    prepared: Prepared, tmp_path: Path
) -> None:
    service, deployed = Service(tmp_path), save(prepared, 0.5)
    kept = keep(service, deployed)
    spoiled = next((kept / "members" / "popular").glob("*.safetensors"))
    spoiled.unlink()
    spoiled.write_bytes(b"spoiled")
    assert keep(service, deployed) == kept
    MemberReplica(str(kept), kept.name, ["popular"])


def test_where_no_links_can_be_made_files_are_copied(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError("another disk")

    monkeypatch.setattr(os, "link", refuse)
    deployed = save(prepared, 0.5)
    kept = keep(Service(tmp_path), deployed)
    assert np.array_equal(*((d / "items.arrow").read_bytes() for d in (kept, deployed)))
    assert not (kept / "items.arrow").samefile(deployed / "items.arrow")
    made = kept.stat().st_ino
    assert keep(Service(tmp_path), deployed).stat().st_ino == made  # not copied twice


def test_only_what_runs_is_kept(prepared: Prepared, tmp_path: Path) -> None:
    service = Service(tmp_path)
    deployed = [save(prepared, weight, f"at {weight}") for weight in (0.25, 0.5, 0.75)]
    first, second, third = (keep(service, directory) for directory in deployed)
    traffic = Traffic(primary=live(third, deployed[2]), previous=live(first, deployed[0]))
    forget_others(service, traffic)
    assert sorted(service.versions.iterdir()) == sorted([first, third])
    assert not second.exists()
    assert all((directory / "ensemble.json").is_file() for directory in deployed)


def test_what_is_no_whole_ensemble_is_not_kept(prepared: Prepared, tmp_path: Path) -> None:
    service, deployed = Service(tmp_path / "service"), save(prepared, 0.5)
    with pytest.raises(DataError, match="holds no ensemble"):
        keep(service, tmp_path / "nothing")
    kept, spoiled = keep(service, deployed), tmp_path / "spoiled"
    shutil.copytree(deployed, spoiled)
    with (spoiled / "items.arrow").open("ab") as file:
        file.write(b" ")
    with pytest.raises(DataError, match="is not the file that was saved"):
        keep(service, spoiled)
    MemberReplica(str(kept), kept.name, ["popular"])
