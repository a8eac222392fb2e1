"""`penchant run` from the outside: cut off by Ctrl-C, run again with more workers, to the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from penchant.ensembles.artefacts.artefact import load_ensemble, save_ensemble
from penchant.ensembles.artefacts.newest import refit_ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.ensemble_settings import COMBINER_NAMES
from penchant.platform.prepared import Prepared, open_prepared
from penchant.platform.progress import Progress
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.trainers.fit import fit_baseline
from penchant.trainers.member import Past, read_card
from penchant.trainers.refit import REFIT

pytestmark = [pytest.mark.slow, pytest.mark.integration]

TOLERANCE = 1e-5  # relative, between world sizes: see test_training.py
CUT_AFTER = 5  # epochs
GONE_WITHIN_S = 15.0


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class TwoRuns:
    """A run that was interrupted, and the same command again with two workers instead of one."""

    directory: RunDirectory
    interrupted: Ended
    left_over: list[psutil.Process]  # of the first, a while after its end
    epochs_at_cut: list[int]
    finished: Ended

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.finished.stdout)
        return report


@pytest.fixture(scope="module")
def two_runs(
    experiment_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
    epochs_told: Callable[[RunDirectory, str], list[int]],
) -> TwoRuns:
    run = RunDirectory(tmp_path_factory.mktemp("cli") / "run")
    with _start(experiment_file, run, workers=1) as first:
        while len(epochs_told(run, "long")) < CUT_AFTER:
            assert first.poll() is None, first.communicate()
            time.sleep(0.05)
        family = psutil.Process(first.pid).children(recursive=True)
        os.killpg(first.pid, signal.SIGINT)  # as a terminal does: the whole foreground group
        interrupted = _end(first)
    _, left_over = psutil.wait_procs(family, timeout=GONE_WITHIN_S)
    at_cut = epochs_told(run, "long")
    with _start(experiment_file, run, workers=2) as second:
        finished = _end(second)
    return TwoRuns(run, interrupted, left_over, at_cut, finished)


def _start(experiment: Path, run: RunDirectory, *, workers: int) -> subprocess.Popen[str]:
    words = ["run", str(experiment), "--out", str(run.root), "--json", "--set", "search=null"]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "penchant.cli.main", *words),
            *("--set", f"resources.workers={workers}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[str]) -> Ended:
    stdout, stderr = process.communicate(timeout=240)
    return Ended(process.returncode, stdout, stderr)


def test_ctrl_c_ends_a_run_in_order(two_runs: TwoRuns) -> None:
    assert two_runs.interrupted.code == 130
    assert two_runs.interrupted.stdout == ""
    assert "Traceback" not in two_runs.interrupted.stderr
    last = two_runs.interrupted.stderr.splitlines()[-1]
    assert last == "interrupted; what was finished is kept, run again to go on"
    assert two_runs.left_over == []


def test_the_second_run_goes_on_where_the_first_was_cut_off(
    two_runs: TwoRuns, epochs_told: Callable[[RunDirectory, str], list[int]]
) -> None:
    told = epochs_told(two_runs.directory, "long")
    cut = len(two_runs.epochs_at_cut)
    assert CUT_AFTER <= cut < 40
    assert told == sorted(set(told))  # no epoch that was checkpointed is done again
    assert told[-1] == 39


def test_a_run_cut_off_with_one_worker_and_resumed_with_two_has_the_curve_of_an_uncut_one(
    two_runs: TwoRuns,
    searched: Prepared,
    curve_of: Callable[[RunDirectory, str], NDArray[np.float64]],
) -> None:
    uncut, resumed = curve_of(searched.run, "long"), curve_of(two_runs.directory, "long")
    np.testing.assert_allclose(resumed, uncut, rtol=TOLERANCE, atol=0)


def test_the_finished_run_says_all_of_it_as_json_and_leaves_the_page(two_runs: TwoRuns) -> None:
    assert two_runs.finished.code == 0, two_runs.finished.stderr
    assert "Traceback" not in two_runs.finished.stderr
    members = {member["id"]: member for member in two_runs.report["members"]}
    assert set(members) == {"popular", "long", "popular@refit", "long@refit"}
    assert two_runs.report["recommended"] in members
    kept = json.loads((two_runs.directory.report / "report.json").read_text())
    assert kept == two_runs.report
    assert [ensemble["name"] for ensemble in kept["ensembles"]] == list(COMBINER_NAMES)
    for ensemble in kept["ensembles"]:
        refit, first = ensemble["refit"], ensemble["test"]["ndcg@10"]["mean"]
        change = refit["test"]["ndcg@10"]["mean"] - first
        assert refit["change"]["ndcg@10"]["mean"] == pytest.approx(change)
    page = (two_runs.directory.report / "report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")


def test_members_are_refitted_up_to_a_later_cut_off_and_score_otherwise(two_runs: TwoRuns) -> None:
    prepared = open_prepared(two_runs.directory)
    asked = prepared.requests[Block.TEST]
    for member in ("popular", "long"):
        first, again = (
            prepared.run.read_predictions(Block.TEST, name, asked.row)
            for name in (member, member + REFIT)
        )
        assert first.shape == again.shape
        assert not np.allclose(first, again)


def test_an_ensemble_is_refitted_up_to_the_newest_event_for_serving(two_runs: TwoRuns) -> None:
    run, prepared = two_runs.directory, open_prepared(two_runs.directory)
    facts = {"metric": "ndcg@10", "types": [], "test": {}, "data_until": "2024-02-12"}
    alone = Linear(normalization="none", weights={"popular": 1.0})
    save_ensemble(run, "pop", alone, prepared.experiment.requests, facts)
    with Progress(quiet=True) as progress:
        made = refit_ensemble(run.root, "pop", progress)
    newest = load_ensemble(made)
    assert made.name == "pop-newest"
    assert newest.card["data_until"] == prepared.blocks.to_json()["end"]
    past = Past(
        log=prepared.log, spec=prepared.experiment.requests, until_ms=prepared.blocks.end_ms
    )
    expected = fit_baseline(read_card(run.member("popular"))[0], past)
    asked = prepared.requests[Block.TEST]
    np.testing.assert_array_equal(
        newest.score(prepared.log, asked), expected.score(prepared.log, asked)
    )
