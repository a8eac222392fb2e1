"""A version stays what it was, whatever becomes of the directory that was deployed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from penchant.ensembles.artefacts.artefact import save_ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.errors import DataError
from penchant.platform.prepared import Prepared
from penchant.serve.answering.card import version_of
from penchant.serve.answering.member_deployment import MemberReplica
from penchant.serve.answering.places import Layout
from penchant.serve.versions.choice import artefact_to_start, source_of
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


def test_what_is_copied_over_the_deployed_directory_is_another_version(
    prepared: Prepared, tmp_path: Path
) -> None:
    """`cp -r` writes into the files that are there."""
    service, first, second = Service(tmp_path), save(prepared, 0.5, "1"), save(prepared, 0.75, "2")
    deployed = tmp_path / "current"
    shutil.copytree(first, deployed)
    kept = keep(service, deployed)
    for source in (path for path in second.rglob("*") if path.is_file()):
        (deployed / source.relative_to(second)).write_bytes(source.read_bytes())
    assert version_of(deployed) != kept.name
    MemberReplica(str(kept), kept.name, ["popular", "own"])


@pytest.mark.parametrize("how", ["a file", "another version"])
def test_what_was_kept_and_spoiled_is_made_whole_by_deploying_again(
    prepared: Prepared, tmp_path: Path, how: str
) -> None:
    service, deployed, other = Service(tmp_path), save(prepared, 0.5), save(prepared, 0.75, "2")
    kept = keep(service, deployed)
    if how == "a file":
        next((kept / "members" / "popular").glob("*.safetensors")).write_bytes(b"spoiled")
    else:
        shutil.rmtree(kept)
        shutil.copytree(other, kept)
    assert keep(service, deployed) == kept
    MemberReplica(str(kept), kept.name, ["popular"])
    made = kept.stat().st_ino
    assert keep(service, deployed).stat().st_ino == made  # what is whole is not copied twice


def test_a_service_may_lie_in_the_directory_that_it_serves(
    prepared: Prepared, tmp_path: Path
) -> None:
    deployed = tmp_path / "ensemble"
    shutil.copytree(save(prepared, 0.5), deployed)
    kept = keep(Service(deployed / "service"), deployed)
    assert not (kept / "service").exists()
    MemberReplica(str(kept), kept.name, ["popular"])


def test_a_service_that_was_moved_goes_on(prepared: Prepared, tmp_path: Path) -> None:
    service, deployed = Service(tmp_path / "old"), save(prepared, 0.5)
    last = Traffic(primary=live(keep(service, deployed), deployed))
    service.directory.rename(tmp_path / "new")
    moved = Service(tmp_path / "new")
    chosen = artefact_to_start(moved, last, None)
    assert chosen == moved.versions / version_of(deployed)
    assert source_of(moved, last, chosen) == str(deployed)


def test_what_ran_before_versions_were_kept_is_kept_at_the_next_start(
    prepared: Prepared, tmp_path: Path
) -> None:
    service, deployed = Service(tmp_path), save(prepared, 0.5)
    told = live(deployed, deployed).model_dump(mode="json") | {"version": version_of(deployed)}
    del told["source"]
    last = Traffic.model_validate({"primary": told})
    chosen = artefact_to_start(service, last, None)
    assert chosen == deployed
    assert source_of(service, last, chosen) == str(deployed)
    assert keep(service, chosen).parent == service.versions


def test_only_what_runs_is_kept(prepared: Prepared, tmp_path: Path) -> None:
    service = Service(tmp_path)
    deployed = [save(prepared, weight, f"at {weight}") for weight in (0.25, 0.5, 0.75)]
    first, second, third = (keep(service, directory) for directory in deployed)
    (service.versions / ".0123456789ab-building-x" / "new").mkdir(parents=True)  # of a kill
    traffic = Traffic(primary=live(third, deployed[2]), previous=live(first, deployed[0]))
    forget_others(service, traffic)
    assert sorted(service.versions.iterdir()) == sorted([first, third])  # and nothing half made
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
