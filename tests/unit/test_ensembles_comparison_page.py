"""What a page and its Markdown twin show of costs, segments, ablation, likeness and origins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from penchant.ensembles.page import comparison_charts, comparison_tables, figures, tables
from penchant.ensembles.page.markdown import markdown
from penchant.ensembles.page.report import write_report

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())


def around(mean: float, half: float = 0.01) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def option(name: str, quality: float, work_ms: float, pareto: bool, **more: Any) -> dict[str, Any]:
    costs = {"latency_ms": work_ms, "work_ms": work_ms, "params": 10, "members": 1}
    return {"name": name, "quality": quality, "pareto": pareto} | costs | more


def segment(by: str, name: str, gain: float, users: int = 80) -> dict[str, Any]:
    return {
        "by": by,
        "name": name,
        "users": users,
        "requests": 100,
        "few_users": users < 50,
        "best_single": around(0.3),
        "ensembles": {"mean": around(0.3 + gain), "greedy": around(0.3 + gain / 2)},
        "differences": {"mean": around(gain), "greedy": around(gain / 2)},
    }


@pytest.fixture
def report() -> dict[str, Any]:
    """Two members and two ensembles; `greedy` is recommended."""
    members = [
        {"id": name, "kind": "personal", "window": {}, "test": {"ndcg@10": around(mean)}}
        | {"blend": {"ndcg@10": {"mean": mean - 0.01}}}
        for name, mean in (("one-all", 0.3), ("two_all", 0.25))
    ]
    ensembles = [
        {
            "name": name,
            "combiner": name,
            "weights": {"one-all": 0.5, "two_all": 0.5},
            "blend": {"ndcg@10": {"mean": 0.31}},
            "test": {"ndcg@10": around(0.32)},
            "difference_to_best_single": {"ndcg@10": around(0.02) | {"p": 0.002}},
            "permutation_p": 0.01,
            "holm_p": 0.02,
            "gap_blend_to_test": 0.01,
        }
        for name in ("mean", "greedy")
    ]
    return {
        "schema": 1,
        "name": "small",
        "task": "next_item",
        "metric": "ndcg@10",
        "members": members,
        "best_single": "one-all",
        "ensembles": ensembles,
        "recommended": "greedy",
        "verdict": "Ship greedy.",
        "options": [
            option("one-all", 0.29, 8.0, False),
            option("two_all", 0.24, 0.1, True),
            option("greedy", 0.31, 8.0, True, members=2, gain=around(0.02)),
            option("mean", 0.29, 9.0, False, members=2, gain=around(0.0)),
        ],
        "segments": [
            segment("users", "cold", 0.01, users=5),
            segment("recency", "up to 2 days", 0.01),
            segment("week", "2017-12-04", 0.02),
            segment("week", "2017-12-11", -0.01),
        ],
        "ablation": [
            {
                "ensemble": "greedy",
                "how": "left out",
                "members": [{"id": "one-all", "weight": 0.5, "change": around(-0.05)}],
            }
        ],
        "diversity": {
            "members": ["one-all", "two_all"],
            "k": 10,
            "overlap": [[1.0, 0.4], [0.4, 1.0]],
            "correlation": [[1.0, None], [None, None]],
        },
        "origins": [
            {
                "test_from": "2017-11-01T00:00:00+00:00",
                "test_until": "2017-12-01T00:00:00+00:00",
                "best_single": "two_all",
                "recommended": "two_all",
                "test": around(0.28),
                "differences": {"greedy": around(-0.001)},
            }
        ],
    }


def test_the_report_keeps_its_contract(report: dict[str, Any], tmp_path: Path) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    page = write_report(report, tmp_path).read_text()
    for key in ("chart-prices", "chart-likeness", "chart-test-weeks"):
        assert f'id="{key}"' in page
    for key in ("segments", "ablation", "origins", "prices"):
        assert f'id="caption-{key}"' in page


def test_numbers_go_by_price_to_what_is_worth_choosing_and_to_every_ensemble(report) -> None:
    assert figures.numbered_options(report) == {"two_all": 1, "one-all": 2, "greedy": 3, "mean": 4}
    table = comparison_tables.prices(report)
    assert table is not None
    names = ["1. two_all", "2. one-all", "3. greedy", "4. mean"]
    assert [row[0].text for row in table.rows] == names
    notes = ["", "beaten at its price", "", "beaten at its price"]
    assert [row[0].note for row in table.rows] == notes
    assert table.rows[2][2].text == "+0.0200"
    assert "single member there" in table.caption
    limited = comparison_tables.prices(report | {"budget": {"max_members": 2}})
    assert limited is not None
    assert "single member that fits the budget there" in limited.caption


def test_segments_show_the_recommended_ensemble_and_mark_few_users(report) -> None:
    table = comparison_tables.segments(report)
    assert table is not None
    assert [column.title for column in table.columns][-2:] == ["greedy", "Difference"]
    assert [row[0].text for row in table.rows] == [
        "Users new since the members were fitted",
        "Last event: up to 2 days ago",
        "Week of 4 Dec 2017",
        "Week of 11 Dec 2017",
    ]
    assert [row[0].note for row in table.rows] == ["few users", "", "", ""]
    assert table.rows[2][5].text == "+0.0100"


def test_weeks_are_lines_of_every_ensemble(report) -> None:
    chart = comparison_charts.weeks(report)
    assert chart is not None
    assert chart.label == "Line of weekly differences of greedy: +0.0100; −0.0050."
    rows = [row for rows in chart.spec["datasets"].values() for row in rows if "week" in row]
    assert {row["name"] for row in rows} == {"mean", "greedy"}
    assert comparison_charts.weeks(report | {"segments": report["segments"][:3]}) is None


def test_the_ablation_says_how_it_was_made(report) -> None:
    table = comparison_tables.ablation(report)
    assert table is not None
    assert "greedy, with the member's weight given to the others" in table.caption
    assert [cell.text for cell in table.rows[0]] == ["one-all", "0.500", "−0.0500"]


def test_members_that_are_alike_are_named(report) -> None:
    chart = comparison_charts.likeness(report)
    assert chart is not None
    assert "least alike one-all and two_all (0.40)" in chart.label
    unknown = {"members": ["a", "b"], "correlation": [[None, None], [None, None]]}
    assert comparison_charts.likeness(report | {"diversity": unknown}) is None


def test_the_ensemble_table_has_corrected_p_values_and_the_gap(report) -> None:
    table = tables.ensembles(report)
    assert table is not None
    heads = [column.title for column in table.columns]
    assert heads[3:7] == ["p", "Holm p", "NDCG@10 on blend", "Blend to test"]
    assert [cell.text for cell in table.rows[1][3:7]] == ["0.010", "0.020", "0.3100", "+0.0100"]
    assert table.rows[0][6].text == "+0.0100"  # of the best single member: .30 after .29
    assert "corrected for 2 comparisons (p\xa0= 0.020)" in figures.evidence(report)


def test_the_markdown_twin_has_the_verdict_and_both_tables(report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    text = (tmp_path / "report.md").read_text()
    lines = text.splitlines()
    assert lines[0] == "# small"
    assert lines[2] == "Ship greedy."
    assert any(line.startswith("| **one-all** best single | 0.3000") for line in lines)
    assert any(line.startswith("| **greedy** recommended | 0.3200") for line in lines)


def test_the_markdown_twin_has_the_tables_of_the_comparison(report) -> None:
    report["notes"] = ["blend: 3 requests without a target"]
    text = markdown(report)
    heads = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert heads == [
        *("Members", "Ensembles", "Quality and cost", "Segments", "Without each member"),
        *("Earlier origins", "Left out, or odd"),
    ]
    lines = text.splitlines()
    assert "| one-all | 0.500 | −0.0500 (−0.0600 to −0.0400) |" in lines
    assert any(line.startswith("| Week of 4 Dec 2017 | 80 | 100 | 0.3000") for line in lines)
    assert "- blend: 3 requests without a target" in lines


def test_what_all_origins_say_together_stands_below_them(report) -> None:
    gain = {"origins": 2, "better": 1, "gain": around(0.012)}
    report["over_origins"] = {"origins": 2, "method": "By hand.", "gains": {"greedy": gain}}
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    table = comparison_tables.origins(report)
    assert table is not None
    assert [cell.text for cell in table.rows[-1]] == [
        *("All 2 together, with this one", figures.MISSING, figures.MISSING, "+0.0120")
    ]
    assert table.rows[-1][3].note == "+0.0020 to +0.0220; better in 1 of 2"
    assert table.caption.endswith(" By hand.")


def test_notes_stand_in_the_page(report, tmp_path: Path) -> None:
    report["notes"] = ["blend: <3> requests without a target"]
    page = write_report(report, tmp_path).read_text()
    assert "<li>blend: &lt;3&gt; requests without a target</li>" in page


def test_texts_stay_texts_in_markdown(report) -> None:
    report["verdict"] = "<img src=x> [a](b) | `c`\n# head"
    assert r"\<img src=x\> \[a\](b) \| \`c\` \# head" in markdown(report)


def test_a_report_without_the_parts_has_no_tables_of_them(report) -> None:
    for part in ("options", "segments", "ablation", "origins"):
        del report[part]
    assert "## Segments" not in markdown(report)
    for table in ("prices", "segments", "ablation", "origins"):
        assert getattr(comparison_tables, table)(report) is None
    assert comparison_charts.prices(report) is None
