"""The recall ceiling: what candidates and members' lists hold, block by block, and its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from penchant.ensembles.comparing.ceiling import recall_ceiling
from penchant.ensembles.page.ceiling_table import ceilings
from penchant.ensembles.page.markdown import markdown
from penchant.ensembles.page.report import write_report
from penchant.ensembles.predictions import Predictions
from penchant.platform.requests import Requests
from penchant.platform.timeline import Block

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())


def asking(baskets: list[list[int]], label: np.ndarray | None = None) -> Requests:
    size, target = len(baskets), [item for basket in baskets for item in basket]
    return Requests(
        row=np.arange(size),
        user=np.arange(size).astype(np.int32),
        time_ms=np.zeros(size, dtype=np.int64),
        end=np.zeros(size, dtype=np.int64),
        target_offsets=np.concatenate([[0], np.cumsum([len(b) for b in baskets])]).astype(np.int64),
        target=np.array(target, dtype=np.int32),
        target_seen=np.zeros(len(target), dtype=np.bool_),
        label=label,
        candidate=None if label is None else np.zeros(size, dtype=np.int32),
    )


def test_lists_hold_what_some_member_has_among_its_first() -> None:
    """Two members with opposite orders: of the targets 0, 1, 5, 3 their first two hold 0, 1, 5."""
    rising = np.tile(np.arange(6, dtype=np.float32), (2, 1))
    predictions = Predictions(
        block=Block.TEST,
        requests=asking([[0, 1], [5, 3]]),
        scores={"rising": rising, "falling": -rising},
    )
    [found] = recall_ceiling(predictions, "ndcg@2", asked=4)
    assert found.to_json() == {
        "block": "test",
        "requests": 4,
        "answerable": 0.5,
        "targets": 4,
        "scored": 1.0,
        "k": 2,
        "listed": 0.75,
    }


def test_what_is_not_asked_for_is_neither_scored_nor_listed() -> None:
    scores = np.array([[3, -np.inf, 1]], dtype=np.float32)
    predictions = Predictions(block=Block.BLEND, requests=asking([[0, 1]]), scores={"a": scores})
    [found] = recall_ceiling(predictions, "recall@10", asked=1)
    assert (found.scored, found.listed) == (0.5, 0.5)


def test_answers_have_no_ceiling() -> None:
    requests = asking([[], []], label=np.array([0, 1], dtype=np.float32))
    scores = np.zeros((2, 1), dtype=np.float32)
    predictions = Predictions(block=Block.TEST, requests=requests, scores={"a": scores})
    assert recall_ceiling(predictions, "auc", asked=2) == []


@pytest.fixture
def report() -> dict[str, Any]:
    test = {"ndcg@10": {"mean": 0.3}}
    one = {"requests": 100, "answerable": 1.0, "targets": 700, "scored": 1.0, "k": 10}
    return {
        "schema": 1,
        "name": "small",
        "task": "next_item",
        "metric": "ndcg@10",
        "members": [{"id": "one", "kind": "personal", "window": {}, "test": test}],
        "ensembles": [{"name": "mean", "combiner": "mean", "test": test}],
        "ceilings": [
            {"block": "select", "listed": 0.4} | one,
            {"block": "test", "listed": 0.425} | one,
        ],
    }


def test_the_table_has_a_row_a_block(report) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    table = ceilings(report)
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["select", "100", "100.0%", "700", "100.0%", "40.0%"],
        ["test", "100", "100.0%", "700", "100.0%", "42.5%"],
    ]


def test_page_and_twin_show_it_and_nothing_where_there_is_none(report, tmp_path) -> None:
    assert 'id="caption-ceilings"' in write_report(report, tmp_path / "with").read_text()
    assert "## Recall ceiling" in markdown(report)
    del report["ceilings"]
    assert "ceilings" not in write_report(report, tmp_path / "without").read_text()
