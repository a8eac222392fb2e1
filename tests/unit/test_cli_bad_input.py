"""Bad input ends in a clear message and the right exit code, or in a defined result."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from penchant.cli.main import main

Command = Callable[..., tuple[int, str, str]]

EXPERIMENT = """
name: small
data:
  events:
    paths: [{events}]
    columns: {{user: who, item: what, time: when}}
time:
  quantiles: {{select: 0.4, blend: 0.6, test: 0.8}}
requests: {{per_block: 20}}
members:
  - {{kind: popularity}}
"""


@pytest.fixture
def penchant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Runs a command line; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["penchant", *words])
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
        else:
            code = 0
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(code or 0), out, err

    return run


def _events(path: Path, rows: int = 60, items: int = 5, users: int = 6) -> Path:
    lines = ["who,what,when"]
    lines += [
        f"u{at % users},i{at * 7 % items},2024-01-{1 + at // 3:02d}T10:{at % 60:02d}:00"
        for at in range(rows)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def _experiment(place: Path, text: str = EXPERIMENT) -> str:
    path = place / "small.yaml"
    path.write_text(text.format(events=_events(place / "events.csv")))
    return str(path)


def test_good_input_is_prepared_and_every_row_accounted_for(
    penchant: Command, tmp_path: Path
) -> None:
    code, out, _ = penchant("data", "prepare", _experiment(tmp_path), "--out", "run", "--json")
    card = json.loads(out)["log"]
    assert code == 0
    assert card["rows_read"] == 60 == card["events"] + card["merged"] + card["quarantined"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("kind: popularity", "kind: popularty"), ["members.0", "popularity"]),
        (("per_block: 20", "per_blok: 20"), ["requests.per_blok", "unknown key"]),
        (("name: small", "name: small\nname: other"), ["duplicate key", "name"]),
        (("kind: popularity}}", "kind: popularity, window: {{days: 0}}}}"), ["days", "greater"]),
        (("per_block: 20", "per_block: 20, metric: ndgc@10"), ["metric", "ndcg@k", "ndgc@10"]),
        (("per_block: 20", "per_block: 20, unit: group"), ["group", "data.events.columns"]),
        (("what, time", "wat, time"), ["wat", "who", "what", "when"]),
        (("select: 0.4", "select: 0.9"), ["train < select < blend < test < end"]),
        (
            ("kind: popularity}}", "kind: boosted, window: {{half_life_days: 9}}}}"),
            ["half_life_days", "does nothing"],
        ),
    ],
)
def test_a_mistake_in_the_experiment_is_named_with_its_place(
    penchant: Command, tmp_path: Path, change: tuple[str, str], words: list[str]
) -> None:
    text = EXPERIMENT.replace(*change)
    assert text != EXPERIMENT
    code, _, err = penchant("data", "prepare", _experiment(tmp_path, text), "--out", "run")
    assert code in (2, 3), err
    assert all(word in err for word in words), err


def test_a_missing_experiment_is_a_usage_error(penchant: Command) -> None:
    code, _, err = penchant("run", "nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml" in err
    assert "examples/" in err


def test_an_empty_file_and_a_directory_without_events_are_refused(
    penchant: Command, tmp_path: Path
) -> None:
    experiment = _experiment(tmp_path)
    (tmp_path / "events.csv").write_text("")
    assert penchant("data", "prepare", experiment, "--out", "run")[0] == 3
    (tmp_path / "empty").mkdir()
    changed = ("--set", f"data.events.paths=[{tmp_path / 'empty'}]")
    code, _, err = penchant("data", "prepare", experiment, "--out", "run", *changed)
    assert code == 3
    assert "parquet" in err.lower()


def test_rows_that_cannot_be_used_are_kept_with_their_reason(
    penchant: Command, tmp_path: Path
) -> None:
    experiment = _experiment(tmp_path)
    with (tmp_path / "events.csv").open("a") as file:
        file.write("u1,i1,yesterday\n,i1,2024-01-02\nu1,i1,9999-01-01\n")
    code, out, _ = penchant("data", "prepare", experiment, "--out", "run", "--json")
    card = json.loads(out)["log"]
    assert code == 0
    assert card["rows_read"] == 63
    assert card["quarantined"] == 3 == sum(card["reasons"].values())
    assert len(pl.read_parquet(tmp_path / "run" / "quarantine.parquet")) == 3


def test_one_item_and_one_event_a_user_have_defined_results(
    penchant: Command, tmp_path: Path
) -> None:
    experiment = _experiment(tmp_path)
    _events(tmp_path / "events.csv", items=1, users=60)
    code, out, _ = penchant("data", "prepare", experiment, "--out", "run", "--json")
    assert code == 0
    assert json.loads(out)["log"]["items"] == 1
    assert json.loads(out)["log"]["users"] == 60
    code, out, _ = penchant("data", "describe", "run", "--json")
    assert code == 0
    assert json.loads(out)["repeat_share"] == 0.0


def test_a_run_directory_of_another_version_or_experiment_is_refused(
    penchant: Command, tmp_path: Path
) -> None:
    experiment = _experiment(tmp_path)
    assert penchant("data", "prepare", experiment, "--out", "run")[0] == 0
    (tmp_path / "run" / "members").mkdir()
    code, _, err = penchant(
        "data", "prepare", experiment, "--out", "run", "--set", "requests.per_block=5"
    )
    assert code == 2
    assert "another experiment" in err
    manifest = tmp_path / "run" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": 99}))
    code, _, err = penchant("data", "prepare", experiment, "--out", "run")
    assert code == 2
    assert "version 99" in err


def test_a_foreign_directory_is_never_written_into(penchant: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    code, _, err = penchant("data", "prepare", _experiment(tmp_path), "--out", "mine")
    assert code == 2
    assert "no run directory" in err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_a_full_disk_is_told_and_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    experiment = _experiment(tmp_path)
    _events(tmp_path / "events.csv", rows=90, items=7)

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    done = subprocess.run(
        [sys.executable, "-m", "penchant.cli.main", "data", "prepare", experiment, "--out", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=small_files,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (3, 4), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "log" / "log.json").exists()
