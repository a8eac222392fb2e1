"""The comparison end to end, on a prepared run whose predictions are made up or real."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from penchant.ensembles.artefacts.artefact import load_ensemble
from penchant.ensembles.combiners.combiners import make_combiners
from penchant.ensembles.comparing.compare import compare, judge_block
from penchant.ensembles.comparing.without import members_named, some_named, what_they_bring
from penchant.ensembles.summary import build_report, save_artefacts
from penchant.platform.config import Ensemble, Experiment
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.prepared import JUDGED_BLOCKS, Prepared, prepare
from penchant.platform.recipes import recipe_id
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.trainers.fit import fit_and_keep

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
KINDS = ("popularity", "personal", "item_item")


def experiment(csv: Path, members: list[dict], **requests) -> Experiment:
    names = ("user", "item", "time", "value", *(["group"] if requests.get("unit") else []))
    columns = {name: name for name in names}
    return Experiment.model_validate(
        {
            "name": "small",
            "data": {"events": {"paths": [str(csv)], "columns": columns, "time_unit": "ms"}},
            "time": {"quantiles": {"select": 0.5, "blend": 0.65, "test": 0.8}},
            "requests": requests,
            "members": members,
            "ensemble": {"bootstrap": 200, "combiners": ["mean", "greedy"]},
        }
    )


def write_csv(path: Path, log, log_rows) -> Path:
    lines = [
        f"u{u},i{item:02},{time},{value},{group}" for u, time, item, group, value in log_rows(log)
    ]
    path.write_text("\n".join(["user,item,time,value,group", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def baskets(draw, log_rows, tmp_path_factory) -> Path:
    log = draw("baskets", users=40, groups=20, items=15, seed=3)
    return write_csv(tmp_path_factory.mktemp("data") / "events.csv", log, log_rows)


def run_of(directory: Path, settings: Experiment) -> tuple[Prepared, list[str]]:
    """A run with its members fitted and kept, as search does it without a cluster."""
    prepared = prepare(settings, RunDirectory(directory))
    for recipe in settings.members:
        fit_and_keep(
            str(directory),
            recipe.model_dump(mode="json"),
            prepared.blocks.select_ms,
            "",
            [str(block) for block in JUDGED_BLOCKS],
            ".",
        )
    return prepared, [recipe_id(recipe) for recipe in settings.members]


@pytest.fixture
def run(baskets, tmp_path) -> tuple[Prepared, list[str]]:
    members = [{"kind": kind, "name": kind} for kind in KINDS]
    return run_of(tmp_path / "run", experiment(baskets, members, unit="group"))


def made_up(prepared: Prepared, strengths: dict[str, dict[Block, float]], *, alike: bool = False):
    """Other predictions: noise (the same for all members when `alike`), with raised targets."""
    for number, (name, strength) in enumerate(strengths.items()):
        for block in JUDGED_BLOCKS:
            requests = prepared.requests[block]
            seed = [list(Block).index(block), 0 if alike else number]
            scores = np.random.default_rng(seed).normal(size=(len(requests), 15))
            request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
            scores[request, requests.target] += strength[block]
            prepared.run.write_predictions(block, name, requests.row, scores.astype(np.float32))


def strong(select: float, blend: float, test: float) -> dict[Block, float]:
    return dict(zip(JUDGED_BLOCKS, (select, blend, test), strict=True))


def test_select_alone_names_the_best_single(run):
    prepared, members = run
    made_up(
        prepared,
        {
            "popularity": strong(0.2, 3.0, 3.0),
            "personal": strong(1.5, 0.5, 0.5),
            "item_item": strong(0.6, 1.0, 1.0),
        },
    )
    found = compare(prepared, members, lambda _: None)
    assert found.best_single == "personal"
    assert found.select["personal"] > found.select["item_item"] > found.select["popularity"]
    test = {name: table["ndcg@10"].mean for name, table in found.members.items()}
    assert test["popularity"] > test["item_item"] > test["personal"]


def test_independent_members_of_equal_strength_are_better_together(run):
    prepared, members = run
    made_up(prepared, {name: strong(1.0, 1.0, 1.0) for name in KINDS})
    found = compare(prepared, members, lambda _: None)
    assert {candidate.combiner for candidate in found.candidates} == {"mean", "greedy"}
    for candidate in found.candidates:
        assert candidate.blend_gain.low > 0
        assert candidate.difference["ndcg@10"].low > 0
        assert sum(candidate.combination.shares.values()) == pytest.approx(1)
        gain = candidate.test["ndcg@10"].mean - found.members[found.best_single]["ndcg@10"].mean
        assert candidate.difference["ndcg@10"].mean == pytest.approx(gain)
        assert candidate.permutation_p <= candidate.holm_p < 0.05
    gains = [candidate.blend_gain.mean for candidate in found.candidates]
    assert found.recommended is found.candidates[int(np.argmax(gains))]
    assert found.choice == found.recommended.combiner
    assert all(candidate.gain_p <= 0.05 for candidate in found.candidates)


def test_without_a_gain_the_best_single_is_recommended(run):
    """Copies of one member: an average of them is the same ranking."""
    prepared, members = run
    made_up(prepared, {name: strong(1.0, 1.0, 1.0) for name in KINDS}, alike=True)
    found = compare(prepared, members, lambda _: None)
    assert found.recommended is None
    assert found.choice == found.best_single
    for candidate in found.candidates:
        assert candidate.blend_gain.mean == pytest.approx(0, abs=1e-6)
        assert candidate.difference["ndcg@10"].mean == pytest.approx(0, abs=1e-6)
    report = build_report(prepared, found, {}, {}, 0)
    assert report["recommended"] == report["best_single"] == found.best_single
    assert report["verdict"].startswith(f"Ship {found.best_single} alone")


def test_a_gain_on_test_alone_recommends_nothing(run):
    """Whether an ensemble is shipped is decided on blend; test is only reported."""
    prepared, members = run
    useless = {name: strong(0.0, 0.0, 1.0) for name in ("popularity", "item_item")}
    made_up(prepared, {"personal": strong(4.0, 4.0, 1.0), **useless})
    found = compare(prepared, members, lambda _: None)
    assert found.candidates[0].difference["ndcg@10"].low > 0
    assert found.recommended is None


@pytest.mark.parametrize("chosen", KINDS)
def test_a_combination_of_one_member_is_that_member(run, chosen):
    """Greedy selection that picks one member ships its scores, not those of its neighbour."""
    prepared, members = run
    made_up(prepared, {name: strong(0.0, 6.0 * (name == chosen), 1.0) for name in KINDS})
    greedy = compare(prepared, members, lambda _: None).candidates[1]
    assert greedy.combination.shares == {chosen: 1.0}
    alone = judge_block(prepared, Block.TEST, [chosen])[chosen]
    assert {n: i.mean for n, i in greedy.test.items()} == pytest.approx(
        {n: i.mean for n, i in alone.items()}, nan_ok=True
    )


def test_the_report_keeps_its_contract_and_the_artefacts_score_as_the_store(run):
    prepared, members = run
    found = compare(prepared, members, lambda _: None)
    save_artefacts(prepared, found)
    refitted = judge_block(prepared, Block.TEST, members[:1])
    refits = {f"{name}@refit": table for name, table in refitted.items()}
    for name in refits:  # as a refit leaves it
        prepared.run.member(members[0]).rename(prepared.run.member(name))
        prepared.run.member(members[0]).symlink_to(prepared.run.member(name))
    report = build_report(prepared, found, refits, {"compare": 1.234}, 5 << 20)
    jsonschema.Draft202012Validator(SCHEMA).validate(
        json.loads(json.dumps(report, allow_nan=False))
    )
    assert [m["id"] for m in report["members"]][-1] == f"{members[0]}@refit"
    assert {"options", "segments", "cold_start", "ceilings", "diversity"} <= set(report)
    assert [one["block"] for one in report["ceilings"]] == ["select", "blend", "test"]
    assert set(report["cold_start"][0]["members"]) == set(members)
    assert report["notes"] == found.notes
    for ensemble in report["ensembles"]:
        gap = ensemble["test"]["ndcg@10"]["mean"] - ensemble["blend"]["ndcg@10"]["mean"]
        assert ensemble["gap_blend_to_test"] == pytest.approx(gap)
    ranked = [m["select"]["ndcg@10"]["mean"] for m in report["members"][:-1]]
    assert ranked == sorted(ranked, reverse=True)
    assert report["peak_memory_mb"] == 5
    requests = prepared.requests[Block.TEST]
    for name in ("single", "mean", "greedy"):
        ensemble = load_ensemble(prepared.run.ensemble(name))
        stored = {
            m: prepared.run.read_predictions(Block.TEST, m, requests.row) for m in ensemble.weights
        }
        np.testing.assert_allclose(
            ensemble.score(prepared.log, requests), ensemble.combine(stored), atol=1e-5
        )
        json.loads((prepared.run.ensemble(name) / "ensemble.json").read_text(), parse_constant=fail)


def fail(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def test_a_figure_that_does_not_exist_is_null_in_an_artefact(run):
    """Without new items among the targets there is no figure for them."""
    prepared, members = run
    for block in JUDGED_BLOCKS:
        requests = prepared.requests[block]
        requests.target_seen[:] = True
    found = compare(prepared, members, lambda _: None)
    save_artefacts(prepared, found)
    text = (prepared.run.ensemble("single") / "ensemble.json").read_text()
    card = json.loads(text, parse_constant=fail)
    assert card["test"]["ndcg@10/explore"] == {"mean": None, "low": None, "high": None}


def test_torn_predictions_of_any_member_on_any_block_end_the_comparison(run):
    prepared, members = run
    for block in JUDGED_BLOCKS:
        path = prepared.run.predictions(block, members[1])
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(
            DataError, match=f"predictions of {members[1]} on {block} cannot be read"
        ):
            compare(prepared, members, lambda _: None)
        path.write_bytes(content)


def torn_at_the_targets(prepared: Prepared, name: str, block: Block) -> None:
    """NaN where the answers are: an AUC or a rank would take it for the best of all."""
    requests = prepared.requests[block]
    scores = prepared.run.read_predictions(block, name, requests.row).copy()
    request = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    scores[request, requests.target] = np.nan
    prepared.run.write_predictions(block, name, requests.row, scores)


@pytest.mark.parametrize("block", JUDGED_BLOCKS)
def test_scores_that_are_no_numbers_are_refused_on_every_block(run, block):
    prepared, members = run
    torn_at_the_targets(prepared, "personal", block)
    with pytest.raises(DataError, match=f"{block}: personal has .* NaN or infinite"):
        compare(prepared, members, lambda _: None)


def fitted_until(prepared: Prepared, name: str, until_ms: int) -> None:
    path = prepared.run.member(name) / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"until_ms": until_ms}))


def test_a_member_that_has_learned_from_select_names_no_best_single(run):
    """Up to the start of select is what every member is; a moment later is a leak."""
    prepared, members = run
    fitted_until(prepared, "personal", prepared.blocks.select_ms)
    compare(prepared, members, lambda _: None)
    fitted_until(prepared, "personal", prepared.blocks.select_ms + 1)
    with pytest.raises(DataError, match=r"personal was fitted .* after select begins .* a leak"):
        compare(prepared, members, lambda _: None)


def test_what_members_bring_is_asked_of_sound_scores_and_members_alone(run):
    prepared, members = run
    told: list[str] = []
    what_they_bring(prepared, members, ["popularity"], told.append)
    assert [line[:5] for line in told if "fewer than 50" in line] == ["blend", "test:"]
    fitted_until(prepared, "personal", prepared.blocks.blend_ms + 1)
    with pytest.raises(DataError, match="personal was fitted .* after blend begins"):
        what_they_bring(prepared, members, ["popularity"], told.append)
    fitted_until(prepared, "personal", prepared.blocks.select_ms)
    torn_at_the_targets(prepared, "personal", Block.TEST)
    with pytest.raises(DataError, match="test: personal has .* NaN or infinite"):
        what_they_bring(prepared, members, ["popularity"], told.append)


def test_what_is_told_names_the_members_and_combiners(run):
    told: list[str] = []
    found = compare(*run, told.append)
    notes = [line for line in told if line.startswith(("select: ", "blend: ", "test: "))]
    assert len(notes) == 3
    assert found.notes == notes
    assert all("users, fewer than 50: take the intervals as rough" in note for note in notes)
    told = [line for line in told if line not in notes]
    assert told[0] == f"best single member on select: {found.best_single}"
    assert [line.partition(":")[0] for line in told[1:3]] == ["mean", "greedy"]
    assert told[3] == "judging 3 members and 2 combinations on test"


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> Path:
    """Users say yes with a rate of their own; items differ a little."""
    random = np.random.default_rng(0)
    lines = ["user,item,time,value"]
    for user in range(60):
        rate = random.random()
        for t in range(60):
            value = int(random.random() < rate)
            lines.append(f"u{user},i{random.integers(6)},{t * 3_600_000 + user},{value}")
    path = tmp_path_factory.mktemp("data") / "answers.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("metric", ["log_loss", "auc"])
def test_a_binary_task_is_compared_by_its_own_metric_in_its_own_direction(
    answers, tmp_path, metric
):
    members = [{"kind": kind, "name": kind} for kind in ("popularity", "personal")]
    settings = experiment(answers, members, task="binary", positive_above=0.5, metric=metric)
    prepared, names = run_of(tmp_path / "run", settings)
    found = compare(prepared, names, lambda _: None)
    assert found.candidates[0].combination.normalization == "none"
    assert found.best_single == "personal"
    assert (found.select["personal"] < found.select["popularity"]) == (metric == "log_loss")
    assert found.recommended is None  # popularity adds nothing to whose habit it is
    report = build_report(prepared, found, {}, {}, 0)
    assert [member["id"] for member in report["members"]] == ["personal", "popularity"]
    save_artefacts(prepared, found)
    ensemble = load_ensemble(prepared.run.ensemble("mean"))
    requests = prepared.requests[Block.TEST]
    scores = [prepared.run.read_predictions(Block.TEST, m, requests.row) for m in names]
    np.testing.assert_allclose(
        ensemble.score(prepared.log, requests), np.mean(scores, axis=0), atol=1e-5
    )


def test_combiners_that_do_not_suit_a_binary_task_are_refused(answers, tmp_path):
    members = [{"kind": kind, "name": kind} for kind in ("popularity", "personal")]
    settings = experiment(answers, members, task="binary", positive_above=0.5, metric="auc")
    only = settings.ensemble.model_copy(update={"combiners": ("rank_mean",)})
    prepared, names = run_of(tmp_path / "run", settings.model_copy(update={"ensemble": only}))
    with pytest.raises(ConfigError, match="rank_mean cannot be used here"):
        compare(prepared, names, lambda _: None)


def test_weights_are_not_fitted_on_a_handful_of_yes(answers, tmp_path, monkeypatch):
    members = [{"kind": kind, "name": kind} for kind in ("popularity", "personal")]
    requests = {"task": "binary", "positive_above": 0.5, "metric": "auc", "per_block": 100}
    prepared, names = run_of(tmp_path / "run", experiment(answers, members, **requests))
    told: list[str] = []
    found = compare(prepared, names, told.append)
    assert [candidate.combiner for candidate in found.candidates] == ["mean"]
    assert any("fewer than 200 labels of one kind: no weights are fitted" in line for line in told)


def test_combiners_are_made_in_the_order_and_with_the_rounds_of_the_experiment():
    greedy, mean = make_combiners(
        Ensemble(combiners=("greedy", "mean"), max_rounds=7), "next_item", None
    )
    assert (greedy.name, mean.name, greedy.max_rounds) == ("greedy", "mean", 7)


def test_what_members_bring_is_the_difference_of_two_comparisons(run):
    prepared, members = run
    made_up(prepared, {name: strong(1.0, 1.0, 1.0) for name in KINDS})
    some = members_named(["popularity"], members)
    found = what_they_bring(prepared, members, some, lambda _: None)
    whole = compare(prepared, members, lambda _: None)
    rest = compare(prepared, [name for name in members if name not in some], lambda _: None)
    assert [one.combiner for one in found] == ["mean", "greedy"]
    for one, with_them, without in zip(found, whole.candidates, rest.candidates, strict=True):
        gained = with_them.test["ndcg@10"].mean - without.test["ndcg@10"].mean
        assert one.difference["ndcg@10"].mean == pytest.approx(gained) != 0
        assert one.without["ndcg@10"].mean == pytest.approx(without.test["ndcg@10"].mean)
        assert one.share == pytest.approx(with_them.combination.shares["popularity"])
        by_name = {(part.by, part.name): part for part in one.segments}
        assert by_name["users", "warm"].differences[one.combiner].mean == pytest.approx(gained)


def test_members_that_nothing_uses_bring_nothing(run):
    prepared, members = run
    weak, good = strong(-9.0, -9.0, -9.0), strong(9.0, 9.0, 9.0)
    made_up(prepared, {"popularity": weak, "personal": good, "item_item": good})
    greedy = next(
        one
        for one in what_they_bring(prepared, members, ["popularity"], lambda _: None)
        if one.combiner == "greedy"
    )
    assert greedy.share == 0.0
    assert {value.mean for value in greedy.difference.values()} == {0.0}


def test_members_are_named_by_kind_id_or_pattern():
    made = ["personal-a", "sequence-a-text-x", "sequence-b", "text-x"]
    assert members_named(["text"], made) == ["text-x"]
    assert members_named(["*-text-*", "text-x"], made) == ["sequence-a-text-x", "text-x"]
    assert members_named(["sequence", "personal-a"], made) == made[:3]
    with pytest.raises(ConfigError, match="boosted is none of the run's members"):
        members_named(["text", "boosted"], made)
    with pytest.raises(ConfigError, match="are all members"):
        some_named(["*"], made)


def test_within_a_budget_combiners_are_fitted_within_it_and_the_verdict_says_over_whom(run):
    """All three members help; of two, greedy selection finds the best pair instead of a single."""
    prepared, members = run
    made_up(prepared, {name: strong(1.0, 1.0, 1.0) for name in KINDS})
    limited = prepared.experiment.ensemble.model_copy(update={"max_members": 2})
    experiment = prepared.experiment.model_copy(update={"ensemble": limited})
    found = compare(replace(prepared, experiment=experiment), members, lambda _: None)
    assert all(len(one.combination.shares) == 2 for one in found.candidates)
    assert found.choice in {"mean", "greedy"}
    report = build_report(prepared, found, {}, {}, 0)
    assert report["budget"] == {"max_members": 2}
    verdict = report["verdict"]
    assert verdict.startswith(f"Within 2 member(s), ship the ensemble {found.choice} of 2 members")
    assert verdict.endswith(f"over {found.best_single}, the best single member within it.")


def test_the_options_hold_the_way_of_greedy_selection(run):
    prepared, members = run
    made_up(prepared, {name: strong(1.0, 1.0, 1.0) for name in KINDS})
    found = compare(prepared, members, lambda _: None)
    options = {option.name: option for option in found.options}
    assert len(found.candidates[1].combination.shares) == 3
    assert options["greedy of 2"].members == 2
    assert options[found.best_single].quality < options["greedy of 2"].quality
    assert found.choice != "greedy of 2"


def test_the_report_has_the_curve_of_the_cascade_and_what_each_recipe_sets(run):
    prepared, members = run
    settings = prepared.experiment.ensemble.model_copy(update={"combiners": ("greedy", "cascade")})
    asked = prepared.experiment.model_copy(update={"ensemble": settings})
    prepared = replace(prepared, experiment=asked)
    found = compare(prepared, members, lambda _: None)
    report = build_report(prepared, found, {}, {}, 0)
    costs = {name: prepared.run.member_facts(name)["score_ms"] for name in members}
    (greedy,) = [one for one in report["ensembles"] if one["name"] == "greedy"]
    curve = report["cascade"]
    assert curve["base_ms"] == pytest.approx(sum(costs[name] for name in greedy["weights"]))
    assert len(curve["points"]) == len(found.cascade.tried) > 0
    assert [one["recipe"] for one in report["members"]] == [{}, {}, {}]
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(report)))
