"""`penchant ensemble compare`: what its options become, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penchant.cli.main import app
from penchant.ensembles import experiment
from penchant.platform.progress import Progress


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings that comparisons were asked for; nothing is compared."""
    found: list[dict[str, Any]] = []

    def compare_again(place: Path, progress: Progress, settings: dict[str, Any]) -> dict[str, Any]:
        found.append(settings)
        return {}

    monkeypatch.setattr(experiment, "compare_again", compare_again)
    return found


def compare(*options: str) -> int:
    result = CliRunner().invoke(app, ["ensemble", "compare", "runs/x", "--json", *options])
    return result.exit_code


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ([], {}),
        (["--max-cost-ms", "8"], {"max_cost_ms": 8.0}),
        (["--max-latency-ms", "0.5", "--max-members", "3"],
         {"max_latency_ms": 0.5, "max_members": 3}),
        (["--bags", "20", "--sorted-start", "5"], {"bags": 20, "sorted_start": 5}),
        (["--combiner", "greedy", "--combiner", "mean"], {"combiners": ("greedy", "mean")}),
    ],
)  # fmt: skip
def test_every_option_becomes_the_setting_of_its_name(asked, options, settings) -> None:
    assert compare(*options) == 0
    assert asked == [settings]


@pytest.mark.parametrize(
    "option", ["--max-latency-ms", "--max-cost-ms", "--max-members", "--bags", "--sorted-start"]
)
def test_a_limit_of_nothing_is_refused(asked, option) -> None:
    assert compare(option, "0") == 2
    assert asked == []
