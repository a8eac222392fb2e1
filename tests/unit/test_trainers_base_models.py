"""Language models are looked for before anything is fitted, whoever of the members names them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from penchant.platform.errors import ConfigError
from penchant.platform.recipes import Recipe
from penchant.trainers.base_models import find_models, language_models_of

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
