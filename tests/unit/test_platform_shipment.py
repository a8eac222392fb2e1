"""What a cluster gets of a run, and what is refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from penchant.platform.config import load_experiment
from penchant.platform.errors import ConfigError
from penchant.platform.shipment import Shipment, pack, prepare

EXPERIMENT = """
name: tiny
data:
  events: {paths: [/mnt/events.csv], columns: {user: user, item: item, time: time}}
time: {dates: {select: 2024-01-02, blend: 2024-01-03, test: 2024-01-04}}
members: [{kind: popularity}, {kind: sequence, copy_half_lives_days: [7, .inf]}]
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture
def tiny(experiment: Path) -> Shipment:
    return prepare(experiment)


def test_the_same_experiment_is_the_same_run_and_a_setting_makes_another(experiment: Path) -> None:
    first, again = prepare(experiment), prepare(experiment)
    changed = prepare(experiment, ("requests.per_block=7",))
    assert first == again
    assert first.run_id.startswith("tiny-")
    assert changed.run_id != first.run_id
    assert changed.fingerprint != first.fingerprint


def test_the_shipped_experiment_is_the_checked_one(experiment: Path, tmp_path: Path) -> None:
    settings = ("requests.per_block=7", "data.merge=true")
    (tmp_path / "packed").mkdir()
    packed = pack(prepare(experiment, settings), tmp_path / "packed")
    assert [path.name for path in packed.working_dir.iterdir()] == ["experiment.yaml"]
    shipped = load_experiment(packed.working_dir / "experiment.yaml")
    assert shipped == load_experiment(experiment, settings)
    assert shipped.requests.per_block == 7


def test_what_runs_is_penchant_run_into_the_users_directory(experiment: Path) -> None:
    start = "python -m penchant.cli.main run experiment.yaml --out "
    assert prepare(experiment, run_id="a").entrypoint == start + "~/penchant-runs/a"
    spaced = prepare(experiment, run_id="a", out="~/my runs/a; b").entrypoint
    assert spaced == start + "~/'my runs/a; b'"
    assert prepare(experiment, out="/mnt/a b").entrypoint == start + "'/mnt/a b'"


def test_the_jobs_list_learns_no_user_and_no_host(tiny: Shipment) -> None:
    assert set(tiny.metadata) == {
        "project",
        "version",
        "run",
        "experiment",
        "fingerprint",
        "out",
    }
    assert (tiny.metadata["project"], tiny.metadata["experiment"]) == ("penchant", "tiny")


@pytest.mark.parametrize("path", ["events.csv", "./events.csv", "s3://bucket/events.csv"])
def test_data_that_the_cluster_would_not_find_is_refused(experiment: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.events\.paths: .* is relative"):
        prepare(experiment, (f"data.events.paths=[{path}]",))


def test_item_texts_are_held_to_the_same(experiment: Path) -> None:
    items = "data.items={paths: [items.csv], columns: {item: item, text: title}}"
    with pytest.raises(ConfigError, match=r"data\.items\.paths"):
        prepare(experiment, (items,))


@pytest.mark.parametrize(
    ("member", "key"),
    [
        ("{kind: text, base: models/mine}", "base"),
        ("{kind: sequence, text: models/mine}", "text"),
        ("{kind: personal, alike: {text: models/mine}}", "alike.text"),
        ("{kind: text, base: minilm, init_from: runs/a/members/b}", "init_from"),
    ],
)
def test_models_that_the_cluster_would_not_find_are_refused(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str, key: str
) -> None:
    """It would ask the hub for that name, and might find another one's model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    with pytest.raises(ConfigError, match=rf"member, {key}: .* is relative"):
        prepare(experiment, (f"members=[{member}]",))
    at_home = member.replace("models/mine", "minilm").replace("runs/a", "/mnt/runs/a")
    prepare(experiment, (f"members=[{at_home}]",))


@pytest.mark.parametrize("run_id", ["A", "a.2", "-a", "a b", "a/b", "a" * 81])
def test_a_run_id_that_could_be_misread_is_refused(experiment: Path, run_id: str) -> None:
    with pytest.raises(ConfigError, match="--run-id"):
        prepare(experiment, run_id=run_id)


def test_a_wrong_experiment_is_refused_before_anything_is_sent(experiment: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        prepare(experiment, ("requests.pre_block=7",))
