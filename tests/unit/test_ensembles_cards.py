"""Cards of members: the recipe in words, quality, weights and costs, and the member's own curve."""

from __future__ import annotations

import doctest
import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from penchant.ensembles.page import cards
from penchant.platform.recipes import Recipe

METRIC = "ndcg@10"


def member(name: str, mean: float, **more: Any) -> dict[str, Any]:
    test = {METRIC: {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}}
    return {"id": name, "kind": "personal", "window": {}, "test": test} | more


def report(**more: Any) -> dict[str, Any]:
    weights = ({"good": 0.75, "weak": 0.25}, {"good": 1.0})
    return {
        "metric": METRIC,
        "best_single": "good",
        "recommended": "greedy",
        "members": [
            member("weak", 0.2, train_s=65, score_ms=0.5, params=1200),
            member("good", 0.3, history=[{"epoch": 1, "select_loss": 2.0}]),
            member("idle", 0.1),
        ],
        "ensembles": [
            {"name": name, "combiner": name, "weights": shares}
            for name, shares in zip(("greedy", "mean"), weights, strict=True)
        ],
    } | more


def facts(card: cards.Card) -> dict[str, str]:
    return {fact.name: fact.value for fact in card.facts}


def test_cards_stand_best_first_with_what_a_member_is_worth_and_costs() -> None:
    good, weak, idle = cards.cards(report())
    assert [card.name for card in (good, weak, idle)] == ["good", "weak", "idle"]
    assert [card.badge for card in (good, weak, idle)] == ["best single", "", ""]
    assert facts(good) == {
        "NDCG@10 on test": "0.3000",
        "Weight in ensembles": "greedy 75.0%, mean 100.0%",
    }
    assert facts(weak) == {
        "NDCG@10 on test": "0.2000",
        "Weight in ensembles": "greedy 25.0%",
        "Training": "1 min 5 s",
        "Scoring a request": "0.5 ms",
        "Parameters": "1,200",
    }
    assert facts(idle)["Weight in ensembles"] == "none"
    assert good.facts[0].note == "0.2900 to 0.3100"


def test_losses_stand_smallest_first() -> None:
    found = report(metric="log_loss")
    for one in found["members"]:
        one["test"] = {"log_loss": one["test"].pop(METRIC)}
    assert [card.name for card in cards.cards(found)] == ["idle", "weak", "good"]


def test_a_member_has_its_own_curve_or_none() -> None:
    good, weak, _ = cards.cards(report())
    assert good.curve is not None
    assert good.curve.label.startswith("Loss by epoch of good:")
    assert weak.curve is None


@pytest.mark.parametrize(
    ("recipe", "size", "said"),
    [
        (
            {"kind": "personal", "window": {"half_life_days": 120}, "min_group_items": 3},
            None,
            "Counts what the user chose before; what all choose breaks ties, on all of the "
            "history, where an event counts half after 120 days. Set: min group items 3.",
        ),
        (
            {
                "kind": "sequence",
                "window": {"days": 30, "events": 1000},
                "size": {"dim": 32, "layers": 1, "heads": 4},
                "copy_half_lives_days": [7, "Infinity"],
                "learning_rate": 0.001,
                "ids": False,
                "text": "minilm",
            },
            "d32x1",
            "A transformer over the history, with a copy head, 32 wide and 1 layer deep, on the "
            "last 30 days, at most 1,000 events. Set: size heads 4, ids off, text minilm, copy "
            "half lives days 7.0 / Infinity, learning rate 0.001.",
        ),
    ],
)
def test_a_recipe_is_told_in_words_with_what_differs_from_the_defaults(recipe, size, said) -> None:
    made = TypeAdapter(Recipe).validate_json(json.dumps(recipe))
    hidden = {"kind", "name", "window"}  # as `build_report` writes it
    settings = json.loads(made.model_dump_json(exclude_defaults=True, exclude=hidden))
    told = {"kind": made.kind, "window": made.window.model_dump(), "size": size}
    assert cards.recipe_words(told | {"recipe": settings}) == said


def test_examples_hold() -> None:
    assert doctest.testmod(cards).failed == 0
