"""The report page: complete, self-contained, safe with untrusted texts, true to its contract.

The figures are those of a study on 2,469 households' groceries of 2017.
"""

from __future__ import annotations

import json
import math
import re
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from penchant.ensembles.page.report import write_report

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
CONTRACT = jsonschema.Draft202012Validator(SCHEMA)
ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"

SINGLES = (  # id, window, (NDCG, repeat, explore), seconds, parameters
    ("boosted-all-3f9c1a", {}, (0.3217, 0.4012, 0.0482), 42, 25_200),
    ("personal-all-h120-81be07", {"half_life_days": 120.0}, (0.3048, 0.3895, 0.0478), 0.2, 0),
    ("item_item-all-5d2e90", {}, (0.2326, 0.2711, 0.0552), 3.1, 5_026_564),
    ("popularity-30d-0c77aa", {"days": 30.0}, (0.1864, 0.2077, 0.0501), 0.1, 2_242),
)
GRID = {  # NDCG by window in days (None: all) and size
    (14.0, "d32x1"): 0.2518, (14.0, "d64x2"): 0.2529, (14.0, "d128x2"): 0.2531,
    (60.0, "d32x1"): 0.2958, (60.0, "d64x2"): 0.2965, (60.0, "d128x2"): 0.2961,
    (None, "d32x1"): 0.3070, (None, "d64x2"): 0.3075, (None, "d128x2"): 0.3065,
}  # fmt: skip
ENSEMBLES = (  # combiner, on blend, on test, difference with low, high and p, weights
    ("greedy", 0.3262, 0.3248, (0.0031, 0.0016, 0.0047, 0.001), (0.62, 0.14, 0, 0, 0.24)),
    ("mean", 0.3081, 0.3044, (-0.0173, -0.0201, -0.0145, 0.0004), (0.2, 0.2, 0.2, 0.2, 0.2)),
)


def around(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": round(mean - 0.0095, 4), "high": round(mean + 0.0095, 4)}


def member(name: str, values: tuple[float, ...], **more: Any) -> dict[str, Any]:
    metrics = ("ndcg@10", "ndcg@10/repeat", "ndcg@10/explore", "recall@10", "hr@10", "mrr@10")
    every = (*values, 0.226, 0.808, 0.507)
    test = {metric: around(value) for metric, value in zip(metrics, every, strict=True)}
    kind, select = name.split("-")[0], {"ndcg@10": {"mean": round(values[0] + 0.0077, 4)}}
    return {"id": name, "kind": kind, "size": None, "select": select, "test": test} | more


def members() -> list[dict[str, Any]]:
    nothing = {"days": None, "events": None, "half_life_days": None}
    found = [
        member(name, values, window=nothing | window, train_s=s, params=n, score_ms=0.8)
        for name, window, values, s, n in SINGLES
    ]
    for (days, size), value in GRID.items():
        name = f"sequence-{'all' if days is None else f'{days:g}d'}-{size}-{len(found):06x}"
        history = [
            {
                "epoch": at,
                "train_loss": 6.1 - value + 2**-at,
                "select_loss": 6.1 + 0.01 * (at - 4) ** 2,
            }
            for at in range(1, 7)
        ]
        costs = {"train_s": 65.3, "params": 236_900, "score_ms": 1.3, "history": history}
        sized = {"window": nothing | {"days": days}, "size": size}
        found.append(member(name, (value, value + 0.082, 0.053)) | sized | costs)
    return found


def data() -> dict[str, Any]:
    """Weeks run from Monday 26 December 2016; the first and the last hold few days."""
    mondays = [(date(2016, 12, 26) + timedelta(weeks=week)).isoformat() for week in range(54)]
    counts = [3_200, *(round(23_600 + 1_700 * math.sin(1.9 * at)) for at in range(52)), 3_200]
    items = ("Bananas", "Gasoline", "Soft drinks", "Fluid milk white only", "White bread")
    return {
        "users": 2469,
        "items": 2242,
        "events": 1_240_369,
        "groups": 155_663,
        "has_groups": True,
        "first": "2017-01-01T11:53:26+00:00",
        "last": "2018-01-01T04:01:20+00:00",
        "repeat_share": 0.752,
        "history_events": {"p05": 48, "p50": 372, "p95": 1384, "mean": 502.4},
        "gap_days": {"p05": 0.2, "p50": 3.1, "p95": 18.9, "mean": 5.6},
        "per_week": [{"start": m, "events": n} for m, n in zip(mondays, counts, strict=True)],
        "top_items": [{"item": f"type {t}", "text": t, "share": 0.02} for t in items],
        "quarantine": {
            "rows_read": 1_469_307,
            "quarantined": 938,
            "merged": 228_000,
            "reasons": {"item missing": 930, "time missing": 8},
        },
        "fingerprint": "sha256:5f0c5e7b9a3c41d2",
    }


def grocery_report() -> dict[str, Any]:
    found = members()
    used = [found[at]["id"] for at in (0, 1, 2, 3, 11)]
    starts = ("2017-01-01", "2017-10-01", "2017-11-01", "2017-12-01", "2018-01-01")
    blocks = ("train", "select", "blend", "test", "end")
    return {
        "schema": 1,
        "name": "groceries",
        "created": "2026-06-30T14:05:11+00:00",
        "task": "next_item",
        "metric": "ndcg@10",
        "data": data(),
        "blocks": {b: f"{at}T00:00:00+00:00" for b, at in zip(blocks, starts, strict=True)},
        "requests": {"select": 4000, "blend": 4000, "test": 4000, "users": {"test": 1691}},
        "members": found,
        "best_single": found[0]["id"],
        "ensembles": [
            {
                "name": combiner,
                "combiner": combiner,
                "weights": dict(zip(used, weights, strict=True)),
                "blend": {"ndcg@10": around(blend)},
                "test": {"ndcg@10": around(test), "recall@10": around(test - 0.09)},
                "difference_to_best_single": {
                    "ndcg@10": dict(zip(("mean", "low", "high", "p"), difference, strict=True))
                },
            }
            for combiner, blend, test, difference, weights in ENSEMBLES
        ],
        "recommended": "greedy",
        "verdict": "Serve the greedy ensemble: its lists hold 1.0% more of what people buy next "
        "than those of the best single model, and the gain is larger than chance.",
        "machine": {"cpus": 2, "memory_gb": 15.6, "system": "Linux x86_64"},
        "versions": {"penchant": "0.1.0", "ray": "2.60.0", "torch": "2.13.0"},
        "seconds": {"prepare": 9.4, "fit": 58.2, "search": 812.5, "ensemble": 14.1},
        "peak_memory_mb": 2143.7,
    }


def smallest_report() -> dict[str, Any]:
    """One member, one ensemble, no search, nothing that may be absent."""
    full = grocery_report()
    one = {name: full["members"][1][name] for name in ("id", "kind", "window", "test")}
    kept = ("schema", "name", "task", "metric")
    parts = {"members": [one], "ensembles": full["ensembles"][:1], "best_single": one["id"]}
    return {name: full[name] for name in kept} | parts


def binary_report() -> dict[str, Any]:
    report = smallest_report() | {"task": "binary", "metric": "log_loss"}
    scores = {"log_loss": around(0.2947), "auc": around(0.827), "accuracy": {"mean": 0.8858}}
    gain = {"log_loss": {"mean": -0.004, "low": -0.006, "high": -0.001, "p": 0.004}}
    report["members"][0] |= {"test": scores}
    report["ensembles"][0] |= {"test": scores, "blend": {}, "difference_to_best_single": gain}
    return report


class Page(HTMLParser):
    """What a browser would see: elements with attributes, scripts, styles, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.content = {"script": "", "style": "", "": ""}
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.content[self._inside] += data if self._inside else f" {' '.join(data.split())} "

    @property
    def text(self) -> str:
        return " ".join(self.content[""].split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def plots(self) -> dict[str, Any]:
        found, _ = json.JSONDecoder().raw_decode(self.content["script"])
        return dict(found["specs"])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(grocery_report(), tmp_path_factory.mktemp("run") / "report")


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return Page(path)


def test_the_page_names_every_member_and_every_ensemble(page: Page) -> None:
    report = grocery_report()
    for name in [m["id"] for m in report["members"]] + [e["name"] for e in report["ensembles"]]:
        assert name in page.text
    assert report["verdict"] in page.text


def test_refits_are_no_further_members(page: Page, tmp_path: Path) -> None:
    report = grocery_report()
    number = f"Members {len(report['members'])} best single"
    report["members"].append(report["members"][0] | {"id": "boosted-all-3f9c1a@refit"})
    assert number in page.text
    assert number in Page(write_report(report, tmp_path)).text


def test_the_page_shows_differences_with_intervals_and_what_became_of_rows(page: Page) -> None:
    assert "0.3248 0.3153 to 0.3343 +0.0031 +0.0016 to +0.0047 0.001" in page.text
    assert "Rows read 1,469,307 Events kept 1,240,369 Merged" in page.text
    assert "sha256:5f0c5e7b9a3c41d2" in page.text


def test_the_page_loads_nothing_and_is_small(page: Page, path: Path) -> None:
    loading = {"src", "href", "srcset", "data", "poster"}
    assert not [element for element in page.elements if loading & set(element[1])]
    assert not re.search(r"url\(|@import", page.content["style"])
    policy = next(m for m in page.all("meta") if "http-equiv" in m)["content"]
    assert policy.startswith("default-src 'none'; script-src 'nonce-")
    assert path.stat().st_size < 3_000_000


def test_cards_beyond_the_first_are_folded_away(page: Page, tmp_path: Path) -> None:
    """Thirteen members: six stand open, and one member alone leaves nothing to fold."""
    assert len(page.all("article")) == 13
    assert "Losses are by epoch" in page.text
    assert "7 more" in page.text
    tags = [tag for tag, _ in page.elements]
    assert tags[: tags.index("details")].count("article") == 6
    assert "details" not in dict(Page(write_report(smallest_report(), tmp_path)).elements)


def test_untrusted_texts_stay_texts(tmp_path: Path) -> None:
    report = smallest_report() | {"name": ATTACK, "verdict": ATTACK, "data": data()}
    report["members"][0]["id"] = report["best_single"] = ATTACK
    report["ensembles"][0] |= {"name": ATTACK, "combiner": ATTACK, "weights": {ATTACK: 1.0}}
    report["data"]["top_items"][2]["text"] = ATTACK
    report["data"]["quarantine"]["reasons"] = {ATTACK: 938}
    attacked = Page(write_report(report, tmp_path))
    assert len(attacked.all("script")) == 4  # specifications, Vega, drawing, sorting
    assert len({script["nonce"] for script in attacked.all("script")}) == 1
    assert not attacked.all("img")
    assert attacked.text.count(ATTACK) >= 8
    assert {ATTACK} <= {row["name"] for row in _rows(attacked.plots()["chart-members"])}


def test_every_chart_has_words_and_every_table_a_caption(page: Page) -> None:
    charts = [div for div in page.all("div") if div.get("class") == "chart"]
    assert {chart["id"] for chart in charts} == set(page.plots())
    assert len(charts) == 5 + 9  # and a learning curve for each of nine sequence members
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert len(page.all("table")) == len(page.all("caption")) == 8
    assert len(page.all("h1")) == 1


def test_report_json_keeps_its_contract(path: Path) -> None:
    written = json.loads(path.with_name("report.json").read_text())
    CONTRACT.check_schema(SCHEMA)
    CONTRACT.validate(written)
    assert written == grocery_report()


def test_the_smallest_report_leaves_out_what_it_does_not_have(tmp_path: Path) -> None:
    page = Page(write_report(smallest_report(), tmp_path))
    assert set(page.plots()) == {"chart-differences", "chart-members"}
    assert "Loss by epoch" not in page.text
    assert "Losses are by epoch" not in page.text
    assert "How much history" not in page.text
    assert "personal-all-h120-81be07" in page.text


def test_a_single_member_may_be_recommended(tmp_path: Path) -> None:
    report = smallest_report() | {"ensembles": [], "recommended": "personal-all-h120-81be07"}
    page = Page(write_report(report, tmp_path))
    assert "Does combining help?" not in page.text
    assert "NDCG@10 of personal-all-h120-81be07 0.3048" in page.text


def test_a_binary_report_says_that_lower_is_better(tmp_path: Path) -> None:
    page = Page(write_report(binary_report(), tmp_path))
    assert "Log loss (lower is better)" in page.text
    assert "AUC" in page.text
    assert [row["tone"] for row in _rows(page.plots()["chart-differences"])] == ["gain"]


def test_equal_reports_give_equal_pages(tmp_path: Path) -> None:
    one, other = (write_report(smallest_report(), tmp_path / at) for at in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_a_failed_write_leaves_the_last_report_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write_report(smallest_report(), tmp_path).read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(binary_report(), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert {found.name for found in tmp_path.iterdir()} == {
        "report.html",
        "report.json",
        "report.md",
    }


def _rows(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return next(rows for rows in spec["datasets"].values() if "tone" in rows[0])
