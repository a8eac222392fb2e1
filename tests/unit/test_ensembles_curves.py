"""Training curves in the page: those of members that were trained, and nothing for the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penchant.ensembles.page.curve_plots import PALETTE
from penchant.ensembles.page.curves import read_curves, training_curves
from penchant.ensembles.page.report import write_report
from penchant.platform.store import RunDirectory
from penchant.platform.tracking import STEPS_FILE


def report(*members: tuple[str, str]) -> dict[str, Any]:
    score = {"ndcg@10": {"mean": 0.3, "low": 0.2, "high": 0.4}}
    return {
        "schema": 1,
        "name": "small",
        "task": "next_item",
        "metric": "ndcg@10",
        "members": [{"id": name, "kind": k, "window": {}, "test": score} for name, k in members],
        "ensembles": [],
    }


def steps(count: int, epochs: int = 2) -> list[dict[str, float]]:
    """Losses 1, 2, .. `count`; the last step of an epoch has what `select` said."""
    lines: list[dict[str, float]] = []
    for at in range(1, count + 1):
        line = {"step": at, "epoch": (at - 1) * epochs // count, "loss": float(at)}
        line |= {"learning_rate": 1e-3 / at, "tokens_per_s": 1000.0, "peak_share": 0.25}
        if at % (count // epochs) == 0:
            line |= {"select_loss": 2.0, "select_ndcg@10": 0.1 * at}
        lines.append(line)
    return lines


def write(run: RunDirectory, member: str, lines: list[dict[str, float]]) -> None:
    path = run.member(member) / STEPS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def rows(spec: dict[str, Any]) -> list[dict[str, Any]]:
    (found,) = spec["datasets"].values() if "datasets" in spec else [spec["data"]["values"]]
    return list(found)


def test_the_page_has_the_curves_of_trained_members_and_none_of_baselines(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    write(run, "long", steps(8))
    made = report(("long", "sequence"), ("popular", "popularity"))
    page = write_report(made, run.report, read_curves(run, made)).read_text()
    assert "Training curves" in page
    for measure in ("loss", "select_ndcg-10", "learning_rate", "tokens_per_s", "peak_share"):
        assert f'id="chart-steps-{measure}"' in page
    charts = training_curves(read_curves(run, made))
    assert charts is not None
    assert {row["member"] for chart in charts.charts for row in rows(chart.spec)} == {"long"}
    assert json.loads((run.report / "report.json").read_text()) == made


def test_without_steps_the_page_says_nothing_of_them(tmp_path: Path) -> None:
    made = report(("popular", "popularity"))
    run = RunDirectory(tmp_path)
    assert read_curves(run, made) == {}
    with_none = write_report(made, run.report, read_curves(run, made)).read_text()
    assert "Training curves" not in with_none
    assert write_report(made, tmp_path / "other").read_text() == with_none


def test_the_best_twelve_are_drawn_each_in_a_colour_of_its_own(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    names = [f"member-{at:02}" for at in range(15)]
    for name in names:
        write(run, name, steps(4))
    made = report(("popular", "popularity"), *((name, "sequence") for name in names))
    charts = training_curves(read_curves(run, made))
    assert charts is not None
    assert list(charts.colors) == names[:12]
    assert len(set(charts.colors.values())) == 12 == len(set(PALETTE))


@pytest.mark.parametrize(("count", "size"), [(40, 1), (100, 1), (1000, 10)])
def test_a_line_is_the_mean_of_a_hundredth_of_the_steps(count: int, size: int) -> None:
    charts = training_curves({"long": steps(count)})
    assert charts is not None
    points = rows(charts.charts[0].spec)
    assert len(points) == count // size
    assert points[0]["value"] == (1 + size) / 2  # the mean of 1 .. size
    assert [point["step"] for point in points[:2]] == [size, 2 * size]


def test_no_epoch_of_select_is_left_out_or_mixed() -> None:
    charts = training_curves({"long": steps(1000, epochs=200)})
    assert charts is not None
    points = rows(charts.charts[1].spec)
    assert [point["step"] for point in points] == list(range(5, 1001, 5))
    assert points[0]["value"] == pytest.approx(0.5)


def test_every_curve_is_told_in_words() -> None:
    charts = training_curves({"long": steps(8)})
    assert charts is not None
    assert charts.charts[0].label == "Lines of loss on train by step: long from 1 to 8."


def test_a_rate_of_zero_has_no_place_on_a_logarithmic_axis() -> None:
    lines = steps(4)
    lines[0]["learning_rate"] = 0.0
    charts = training_curves({"long": lines})
    assert charts is not None
    (rates,) = (c for c in charts.charts if c.key == "chart-steps-learning_rate")
    assert [row["step"] for row in rows(rates.spec)] == [2, 3, 4]


def test_names_of_members_stay_texts(tmp_path: Path) -> None:
    attack = "</script><img src=x onerror=alert(1)>"
    page = write_report(report(), tmp_path, {attack: steps(4)}).read_text()
    assert attack not in page
    assert "&lt;/script&gt;&lt;img src=x" in page
