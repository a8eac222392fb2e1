"""Language models are looked for before anything is fitted, whoever of the members names them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import TypeAdapter

from penchant.platform.errors import ConfigError
from penchant.platform.recipes import Recipe
from penchant.trainers.base_models import find_models, language_models_of, refuse_future

ANY = TypeAdapter[Recipe](Recipe)
NAMING = [
    {"kind": "text", "base": "nosuch"},
    {"kind": "zero_shot", "base": "nosuch"},
    {"kind": "sequence", "text": "nosuch"},
    {"kind": "personal", "alike": {"text": "nosuch"}},
]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("content", NAMING)
def test_a_model_that_is_nowhere_is_told_at_once(content: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'nosuch' was found neither"):
        find_models([ANY.validate_python({"kind": "popularity"}), ANY.validate_python(content)])


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "popularity"},
        {"kind": "sequence"},
        {"kind": "personal"},
        {"kind": "sequence", "ids": False, "text": "minilm", "init_from": "runs/other/members/a"},
    ],
)
def test_nothing_is_looked_for_where_nothing_is_read_or_the_source_brings_it(
    content: dict[str, Any],
) -> None:
    assert language_models_of(ANY.validate_python(content)) == []


CUT_MS = 1_700_000_000_000


def written(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    """A run of the events that are called `ours`."""
    written(tmp_path / "log" / "log.json", {"fingerprint": "ours"})
    return SimpleNamespace(run=SimpleNamespace(log=tmp_path / "log"))


@pytest.mark.parametrize(("later_s", "events"), [(1, "ours"), (0, "ours"), (1, "theirs")])
def test_a_base_that_has_read_what_is_asked_about_is_refused(
    prepared: Any, tmp_path: Path, later_s: int, events: str
) -> None:
    """At an earlier origin, the base of the latest one has. Earlier versions kept no more of it."""
    base = tmp_path / "base"
    until = f"2023-11-14T22:13:{20 + later_s}+00:00"  # CUT_MS, and later
    written(base / "pretrain.json", {"data": {"fingerprint": events, "until": until}})
    asked = [ANY.validate_python({"kind": "text", "base": str(base)})]
    if later_s and events == "ours":
        with pytest.raises(ConfigError, match="has learned from these very events until 2023-11"):
            refuse_future(prepared, asked, CUT_MS)
    else:
        refuse_future(prepared, asked, CUT_MS)


@pytest.mark.parametrize("where", ["init_from", "text"])
@pytest.mark.parametrize("later_ms", [0, 1])
def test_a_member_that_has_learned_from_what_is_asked_about_is_no_beginning(
    prepared: Any, tmp_path: Path, later_ms: int, where: str
) -> None:
    """Such as a refit of the same run."""
    member = tmp_path / "run" / "members" / "a@refit"
    written(member / "metrics.json", {"until_ms": CUT_MS + later_ms})
    written(tmp_path / "run" / "log" / "log.json", {"fingerprint": "ours"})
    content = {"kind": "sequence", "ids": False, "text": "minilm"}
    named = str(member) if where == "init_from" else str(member / "text")
    asked = [ANY.validate_python(content | {where: named})]
    if later_ms:
        with pytest.raises(ConfigError, match="leave time.origins at 1"):
            refuse_future(prepared, asked, CUT_MS)
    else:
        refuse_future(prepared, asked, CUT_MS)
