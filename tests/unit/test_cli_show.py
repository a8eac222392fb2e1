"""What a verb prints of a report, and what Ctrl-C prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penchant.cli.main import app
from penchant.cli.show import show_report


def report(**figures: float | None) -> dict[str, Any]:
    metrics = {
        "ndcg@10": {"mean": 0.25, "low": 0.2, "high": 0.3},
        "ndcg@10/repeat": {"mean": figures["repeat"]},
        "ndcg@10/explore": {"mean": None, "low": None, "high": None},
    }
    difference = {"ndcg@10": {"mean": -0.01, "low": -0.02, "high": 0.001, "p": figures["p"]}}
    return {
        "metric": "ndcg@10",
        "task": "next_item",
        "requests": {"test": 7},
        "best_single": "popular",
        "recommended": "popular",
        "verdict": "The best single member is popular.",
        "members": [
            {"id": "popular", "test": metrics, "train_s": 0.1, "params": 1_000, "score_ms": 0.2}
        ],
        "ensembles": [
            {
                "name": "mean",
                "test": metrics,
                "difference_to_best_single": difference,
                "weights": {"popular": 1.0},
            }
        ],
    }


def test_members_and_ensembles_are_shown_with_their_intervals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_report(report(repeat=0.5, p=0.04), Path("runs/x"))
    printed = capsys.readouterr().out
    assert "0.2500 [0.2000, 0.3000]" in printed
    assert "-0.0100 [-0.0200, +0.0010]" in printed
    assert "0.5000" in printed
    assert "0.040" in printed


def test_the_corrected_p_value_stands_beside_that_of_the_permutation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    compared = report(repeat=0.5, p=0.04)
    compared["ensembles"][0] |= {"permutation_p": 0.021, "holm_p": 0.084}
    show_report(compared, Path("runs/x"))
    printed = capsys.readouterr().out
    assert "0.021" in printed
    assert "0.084" in printed
    assert "0.040" not in printed


def test_a_figure_that_does_not_exist_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(report(repeat=None, p=None), Path("runs/x"))
    printed = capsys.readouterr().out
    assert printed.count("–") == 4
    assert "None" not in printed


def test_ctrl_c_says_that_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("penchant.platform.config.load_experiment", interrupted)
    file = tmp_path / "x.yaml"
    file.write_text("name: x")
    with pytest.raises(SystemExit) as caught:
        app(["run", str(file)])
    assert caught.value.code == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "interrupted; what was finished is kept, run again to go on"
