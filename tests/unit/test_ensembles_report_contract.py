"""The contract of report.json: what it takes, what it refuses, what stands for no figure."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from penchant.ensembles.page.report import write_report
from penchant.platform.describe import describe
from penchant.platform.events import Catalog, EventLog

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
CONTRACT = jsonschema.Draft202012Validator(SCHEMA)


def smallest_report(metric: str = "ndcg@10") -> dict[str, Any]:
    """One member, one ensemble, nothing that may be absent."""
    score = {metric: {"mean": 0.3, "low": 0.2, "high": 0.4}}
    return {
        "schema": 1,
        "name": "small",
        "task": "binary" if metric == "log_loss" else "next_item",
        "metric": metric,
        "members": [{"id": "one", "kind": "personal", "window": {}, "test": score}],
        "ensembles": [{"name": "mean", "combiner": "mean", "test": score}],
    }


def test_the_contract_is_a_schema_of_draft_2020_12() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    CONTRACT.check_schema(SCHEMA)


@pytest.mark.parametrize("metric", ["ndcg@10", "log_loss"])
def test_the_contract_takes_reports_without_what_may_be_absent(metric: str) -> None:
    CONTRACT.validate(smallest_report(metric))


@pytest.mark.parametrize("key", ["schema", "name", "task", "metric", "members", "ensembles"])
def test_the_contract_needs(key: str) -> None:
    report = smallest_report()
    del report[key]
    assert not CONTRACT.is_valid(report)


@pytest.mark.parametrize("part", ["members", "ensembles"])
def test_the_contract_refuses_a_misspelt_key(part: str) -> None:
    report = smallest_report()
    report[part][0]["wieghts"] = {}
    assert not CONTRACT.is_valid(report)
    assert not CONTRACT.is_valid(smallest_report() | {"verdikt": "good"})


def test_a_described_log_keeps_the_contract() -> None:
    """Users 0 and 1 on 2, 3 and 4 January 2017, the first of them a Monday."""
    log = EventLog(
        item=np.array([0, 0, 1], np.int32),
        time_ms=np.array([1_483_315_200_000, 1_483_401_600_000, 1_483_488_000_000]),
        kind=np.zeros(3, np.int8),
        value=np.ones(3, np.float32),
        group=None,
        offsets=np.array([0, 2, 3]),
        num_items=2,
    )
    card = {"types": ["event"], "items_without_text": 0, "items_never_chosen": 0, "reasons": {}}
    card |= {"rows_read": 3, "quarantined": 0, "merged": 0, "fingerprint": "sha256:0"}
    found = describe(log, Catalog(item_ids=["a", "b"], item_texts=["A", ""]), card)
    CONTRACT.validate(smallest_report() | {"data": found})
    assert found["per_week"] == [{"start": "2017-01-02", "events": 3}]


def test_figures_that_do_not_exist_are_null(tmp_path: Path) -> None:
    report = smallest_report()
    undefined = {"mean": math.nan, "low": -math.inf, "high": math.inf}
    report["members"][0]["test"]["ndcg@10/explore"] = undefined
    page = write_report(report, tmp_path).read_text()
    written = json.loads((tmp_path / "report.json").read_text())
    nulls = {"mean": None, "low": None, "high": None}
    assert written["members"][0]["test"]["ndcg@10/explore"] == nulls
    CONTRACT.validate(written)
    assert not re.search(r">\s*[+−]?(nan|inf)\b", page)
