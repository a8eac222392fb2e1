"""Why a member is in or out is said from the report's own figures, in the metric's direction."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from penchant.ensembles.page.combiner_words import EVEN, HOW, LEFT_OUT, OFFERED, WITHIN
from penchant.ensembles.page.explain import NEAR_DUPLICATE, explain
from penchant.platform.ensemble_settings import COMBINER_NAMES

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())


def point(value: float) -> dict:
    return {"mean": value, "low": value - 0.01, "high": value + 0.01}


def member(name: str, select: float, test: float, metric: str = "ndcg@10") -> dict:
    return {
        "id": name,
        "kind": "popularity",
        "window": {},
        "select": {metric: {"mean": select}},
        "test": {metric: point(test)},
    }


def report(metric: str = "ndcg@10", **more) -> dict:
    """`good` and `odd` are in; `twin` nearly repeats `good`, `poor` is far behind."""
    values = {"good": 0.4, "odd": 0.2, "twin": 0.36, "poor": 0.1}
    made = {
        "schema": 1,
        "name": "small",
        "task": "next_item",
        "metric": metric,
        "best_single": "good",
        "members": [member(name, value, value + 0.01, metric) for name, value in values.items()],
        "ensembles": [
            {
                "name": "greedy",
                "combiner": "greedy",
                "weights": {"odd": 0.25, "good": 0.75},
                "test": {metric: point(0.43)},
                "difference_to_best_single": {metric: {"mean": 0.02, "low": 0.01, "high": 0.03}},
            }
        ],
        "recommended": "greedy",
        "verdict": "Ship the ensemble greedy of 2 members.",
    }
    return made | more


def line(text: str, name: str) -> str:
    (found,) = [row for row in text.splitlines() if re.match(rf"  (in  |out ) {name}:", row)]
    return found


def test_every_member_of_every_ensemble_has_its_line_heaviest_first():
    rows = [row[2:].split(":")[0] for row in explain(report()).splitlines() if row[:2] == "  "]
    assert rows == ["in   good", "in   odd", "out  twin", "out  poor"]


def test_a_member_that_is_in_has_its_weight_and_what_it_is_worth_alone():
    text = line(explain(report()), "good")
    assert "counts for 75.0%" in text
    assert "number 1 of 4 on select (0.4000), 0.4100 on test" in text
    made = report()
    made["members"][0]["blend"] = {"ndcg@10": {"mean": 0.44}}
    assert "on select (0.4000), 0.4400 on blend, 0.4100 on test" in line(explain(made), "good")


def test_a_member_that_is_out_has_its_distance_to_the_best_single():
    """0.1 is 75% less than 0.4."""
    assert "On select it is 75.0% behind the best single member" in line(explain(report()), "poor")


@pytest.mark.parametrize(
    ("low", "high", "metric", "said"),
    [
        (0.01, 0.03, "ndcg@10", "a proven gain"),
        (-0.03, -0.01, "ndcg@10", "a proven loss"),
        (-0.01, 0.03, "ndcg@10", "which proves no difference"),
        (0.01, 0.03, "log_loss", "a proven loss"),
    ],
)
def test_the_difference_is_judged_by_its_interval_in_the_metrics_direction(low, high, metric, said):
    made = report(metric)
    difference = {metric: {"mean": (low + high) / 2, "low": low, "high": high}}
    made["ensembles"][0]["difference_to_best_single"] = difference
    assert said in explain(made)


def test_losses_rank_the_smallest_first():
    text = explain(report("log_loss", best_single="poor"))
    assert "number 1 of 4" in line(text, "poor")
    assert "by log loss (lower is better)" in text


def test_the_parts_that_are_used_are_those_of_the_contract():
    made = report(ablation=ablation(-0.03, -0.01), diversity=diversity(0.95, ranking=True))
    jsonschema.Draft202012Validator(SCHEMA).validate(made)


def ablation(low: float, high: float) -> list[dict]:
    change = {"mean": (low + high) / 2, "low": low, "high": high}
    dropped = {"id": "odd", "weight": 0.25, "change": change}
    return [{"ensemble": "greedy", "how": "refit", "members": [dropped]}]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.03, -0.01, "it is needed"),
        (-0.01, 0.03, "which proves no use of it"),
        (0.01, 0.03, "the ensemble is better without it"),
    ],
)
def test_what_is_lost_without_a_member_is_told_where_it_is_known(low, high, said):
    text = explain(report(ablation=ablation(low, high)))
    assert said in line(text, "odd")
    assert "Without it" not in line(text, "good")


def diversity(overlap: float, *, ranking: bool) -> dict:
    names = ["good", "odd", "twin", "poor"]
    table = [[1.0 if a == b else 0.1 for b in names] for a in names]
    table[0][2] = table[2][0] = overlap
    none = [[None] * 4] * 4
    if ranking:
        return {"members": names, "correlation": none, "overlap": table, "k": 10}
    return {"members": names, "correlation": table}


def test_a_near_duplicate_is_named():
    text = explain(report(diversity=diversity(0.95, ranking=True)))
    assert "Its top 10 is nearly that of good (95.0% in common), which is in." in line(text, "twin")
    text = explain(report("auc", diversity=diversity(0.95, ranking=False)))
    assert "It ranks nearly as good does (correlation 0.95), which is in." in line(text, "twin")


def test_members_that_differ_enough_are_no_duplicates():
    text = explain(report(diversity=diversity(NEAR_DUPLICATE - 0.01, ranking=True)))
    assert "is nearly that" not in text


def test_two_members_that_are_in_and_alike_share_one_place():
    made = report(diversity=diversity(0.95, ranking=True))
    made["ensembles"][0]["weights"] = {"good": 0.5, "twin": 0.5}
    text = explain(made)
    assert "(95.0% in common), which is in too: they share one place." in line(text, "twin")
    assert "which is in too" in line(text, "good")


def told(combiner: str, **more) -> str:
    made = report(**more)
    made["ensembles"][0] |= {"name": combiner, "combiner": combiner}
    values = {"good": 0.4, "odd": 0.3, "twin": 0.2, "poor": 0.1}
    for one in made["members"]:
        one |= {"blend": {"ndcg@10": {"mean": values[one["id"]]}}, "score_ms": 1.0}
    return explain(made)


@pytest.mark.parametrize("combiner", COMBINER_NAMES)
def test_every_combiner_says_how_it_finds_members_and_why_one_is_out(combiner):
    assert combiner in HOW
    assert (combiner in EVEN) != (combiner in LEFT_OUT)
    assert "it got no weight" not in told(combiner)
    assert combiner in EVEN | OFFERED | set(WITHIN)


@pytest.mark.parametrize("combiner", sorted(EVEN))
def test_the_best_few_leave_out_by_place_on_blend_and_not_by_weight(combiner):
    """Its likeness to a member that is in is no reason here."""
    text = told(combiner, diversity=diversity(0.95, ranking=True))
    assert line(text, "twin").endswith("It is number 3 on blend, where the best 2 are taken.")
    assert line(text, "poor").endswith("It is number 4 on blend, where the best 2 are taken.")


def even(values: tuple[float, ...], inside: tuple[str, ...], **more) -> str:
    """What is told of the plain mean of some; values are those on blend, costs 8, 4, 2, 1 ms."""
    made = report(**more)
    weights = {name: 1 / len(inside) for name in inside}
    made["ensembles"][0] |= {"combiner": "mean", "weights": weights}
    for one, value, cost in zip(made["members"], values, (8.0, 4.0, 2.0, 1.0), strict=True):
        one |= {"blend": {"ndcg@10": {"mean": value}}, "score_ms": cost}
    jsonschema.Draft202012Validator(SCHEMA).validate(made)
    return explain(made)


def test_of_equals_that_are_out_the_name_is_the_reason_and_no_budget():
    """`odd`, `poor` and `twin` tie; the mean of two takes `good` and the first by name."""
    text = even((0.4, 0.2, 0.2, 0.2), ("good", "odd"))
    said = "number 4 on blend, where the best 2 are taken; of equals the first by name."
    assert line(text, "twin").endswith(said)
    assert "number 3 on blend" in line(text, "poor")
    assert "budget" not in text


def test_within_a_budget_places_are_among_those_that_fit_it():
    """`good` is too slow alone; of the others two are taken, and the third is number 3 of 3."""
    budget = {"max_latency_ms": 5.0}
    text = even((0.4, 0.3, 0.2, 0.1), ("odd", "twin"), budget=budget)
    assert "Everything was fitted within 5 ms." in text
    said = "By itself it takes 8 ms, more than the budget (5 ms)."
    assert line(text, "good").endswith(said)
    said = "number 3 on blend of the 3 that fit the budget alone, where the best 2 that fit it"
    assert said in line(text, "poor")


def test_what_fits_alone_may_not_fit_beside_the_better_ones():
    """8 ms and 4 ms are more than 9.5; then 1 ms fits beside 8."""
    budget = {"max_cost_ms": 9.5}
    text = even((0.4, 0.3, 0.2, 0.1), ("good", "poor"), budget=budget)
    assert "number 2 on blend of the 4" in line(text, "odd")
    assert line(text, "odd").endswith("but does not fit beside the better ones.")


@pytest.mark.parametrize("combiner", sorted(OFFERED))
def test_within_a_budget_it_is_not_said_that_what_was_never_offered_was_tried(combiner):
    assert "has not offered it" not in line(told(combiner), "poor")
    text = told(combiner, budget={"max_members": 2})
    assert "greedy selection within the budget has not offered it, or " in line(text, "poor")


def test_a_dear_member_may_be_in_a_cascade_whose_cost_is_limited_on_average():
    text = told("cascade", budget={"max_cost_ms": 0.5})
    assert "By itself" not in line(text, "poor")
    assert "the best cascade that fits" in line(text, "poor")


def test_losses_count_places_on_blend_from_the_smallest():
    made = report("log_loss")
    made["ensembles"][0] |= {"combiner": "mean", "weights": {"twin": 0.5, "poor": 0.5}}
    for one, value in zip(made["members"], (0.4, 0.3, 0.2, 0.1), strict=True):
        one["blend"] = {"log_loss": {"mean": value}}
    assert line(explain(made), "odd").endswith("number 3 on blend, where the best 2 are taken.")


def test_refits_take_no_part_and_are_told():
    made = report()
    made["members"].append({**member("good@refit", 0.4, 0.5), "select": None})
    text = explain(made)
    assert "2 of 4 members" in text
    assert "1 refitted member(s) (@refit) are for serving" in text


def test_without_ensembles_it_says_so():
    assert "No ensemble was compared" in explain(report(ensembles=[]))


def test_figures_that_do_not_exist_are_left_out():
    """A report may hold null, and a member without `select`."""
    made = report()
    made["members"][0]["select"] = {"ndcg@10": {"mean": None}}
    del made["members"][3]["select"]
    made["ensembles"][0]["difference_to_best_single"] = {}
    text = explain(made)
    assert "good: counts for 75.0%. Alone it is 0.4100 on test." in line(text, "good")
    said = "poor: Alone it is 0.1100 on test. The best average met on blend is without it."
    assert said in line(text, "poor")
    assert "None" not in text
