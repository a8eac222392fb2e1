"""A whole experiment without a cluster: origins, what is missing, and what a refit changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from penchant.ensembles import experiment as whole
from penchant.ensembles.artefacts import newest
from penchant.ensembles.artefacts.artefact import load_ensemble
from penchant.ensembles.experiment import compare_again, run_experiment
from penchant.platform.config import Experiment
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.prepared import JUDGED_BLOCKS, Prepared
from penchant.platform.progress import Progress
from penchant.platform.recipes import Recipe, recipe_id
from penchant.platform.timeline import Block
from penchant.trainers.fit import fit_and_keep

CONTRACT = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
)
KINDS = ("popularity", "personal")
QUIET = Progress(quiet=True)


@pytest.fixture(autouse=True, scope="module")
def no_cluster() -> Iterator[None]:
    """Members are fitted one after the other in this process."""

    def fit(
        prepared: Prepared,
        recipes: Sequence[Recipe],
        progress: Progress,
        *,
        until_ms: int,
        suffix: str = "",
        blocks: Sequence[Block] = JUDGED_BLOCKS,
    ) -> None:
        names = [str(block) for block in blocks]
        for recipe in recipes:
            if not prepared.run.has_member(recipe_id(recipe) + suffix):
                told = recipe.model_dump(mode="json")
                fit_and_keep(str(prepared.run.root), told, until_ms, suffix, names, ".")

    with pytest.MonkeyPatch.context() as patch:
        for module in (whole, newest):
            patch.setattr(module, "start_ray", lambda address: nullcontext())
            patch.setattr(module, "fit_members", fit)
        yield


@pytest.fixture(scope="module")
def settings(draw, log_rows, tmp_path_factory) -> Callable[..., Experiment]:
    """An experiment on forty users' baskets."""
    path = tmp_path_factory.mktemp("data") / "events.csv"
    rows = log_rows(draw("baskets", users=40, groups=20, items=15, seed=3))
    lines = [f"u{user},i{item:02},{time},{group}" for user, time, item, group, _ in rows]
    path.write_text("\n".join(["user,item,time,group", *lines]) + "\n")

    def make(**more: Any) -> Experiment:
        names = ("user", "item", "time", "group")
        columns = {name: name for name in names}
        content = {
            "name": "small",
            "data": {"events": {"paths": [str(path)], "columns": columns, "time_unit": "ms"}},
            "time": {"quantiles": {"select": 0.7, "blend": 0.8, "test": 0.9}, "origins": 1},
            "requests": {"unit": "group"},
            "members": [{"kind": kind, "name": kind} for kind in KINDS],
            "ensemble": {"bootstrap": 200, "combiners": ["mean", "greedy"]},
        }
        return Experiment.model_validate(content | more)

    return make


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A run at three origins, and its report."""
    directory = tmp_path_factory.mktemp("run")
    time = {"quantiles": {"select": 0.7, "blend": 0.8, "test": 0.9}, "origins": 3}
    return directory, run_experiment(settings(time=time), directory, QUIET)


@pytest.fixture
def three(run, tmp_path) -> tuple[Path, dict[str, Any]]:
    """The run at three origins, in a copy for one test, and its report."""
    directory, report = run
    return Path(shutil.copytree(directory, tmp_path / "run")), report


def written(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "report" / "report.json").read_text())
    CONTRACT.validate(found)
    return found


def card(directory: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (directory / "ensembles" / name / "ensemble.json").read_text()
    )
    return found


def test_comparing_again_keeps_the_origins_and_what_they_say_together(three) -> None:
    directory, first = three
    assert len(first["origins"]) == 2
    assert first["over_origins"]["gains"]["mean"]["origins"] == 3
    again = compare_again(directory, QUIET)
    for key in ("origins", "over_origins", "verdict", "notes"):
        assert again[key] == first[key] == written(directory)[key]


def test_every_artefact_has_promises_and_those_of_the_shipped_one_are_the_reports(three) -> None:
    directory, report = three
    for name in ("single", "mean", "greedy"):
        made = card(directory, name)
        assert made["calibrator"]["kind"] in ("identity", "temperature")
        assert [one["promised"] for one in made["sets"]] == [0.8, 0.9]
    chosen = report["recommended"]
    shipped = card(directory, "single" if chosen in KINDS else chosen)
    told = report["assurance"]
    assert shipped["calibrator"] == told["calibrator"]
    assert shipped["sets"] == [
        {"size": one["size"], "promised": one["promised"]} for one in told["sets"]
    ]


def test_origins_are_compared_again_with_the_settings_that_are_asked_for(three) -> None:
    directory, first = three
    again = compare_again(directory, QUIET, {"combiners": ("mean",)})
    for origin, before in zip(again["origins"], first["origins"], strict=True):
        assert list(origin["differences"]) == ["mean"]
        assert origin["differences"]["mean"] == before["differences"]["mean"]
    assert list(again["over_origins"]["gains"]) == ["mean"]
    assert [e["name"] for e in written(directory / "origins" / "1")["ensembles"]] == ["mean"]


def test_the_pooled_gain_is_the_mean_of_the_origins_own_reports(three) -> None:
    directory, report = three
    places = (directory, directory / "origins" / "1", directory / "origins" / "2")
    means = [
        ensemble["difference_to_best_single"]["ndcg@10"]["mean"]
        for place in places
        for ensemble in written(place)["ensembles"]
        if ensemble["name"] == "mean"
    ]
    gain = report["over_origins"]["gains"]["mean"]["gain"]
    assert gain["mean"] == pytest.approx(sum(means) / 3)


def test_all_origins_have_a_say_in_what_is_shipped(three) -> None:
    """What earlier origins report of unseen users is pooled with the latest, and told."""
    directory, report = three
    places = (directory, directory / "origins" / "1", directory / "origins" / "2")
    gains = [
        option["gain"]["mean"]
        for place in places
        for option in written(place)["options"]
        if option["name"] == "mean"
    ]
    told = report["over_origins"]["gains"]["mean"]["unseen_users"]
    assert told["mean"] == pytest.approx(sum(gains) / 3)
    assert "3 origins" in report["verdict"]


def test_what_is_unfinished_is_named_in_the_notes_and_left_out(three) -> None:
    directory, _ = three
    (directory / "members" / "personal" / "metrics.json").unlink()
    for kind in KINDS:
        (directory / "origins" / "2" / "members" / kind / "metrics.json").unlink()
    again = compare_again(directory, QUIET)
    assert again["notes"][:2] == [
        "members: 1 of 2 are not finished and left out: personal",
        "origins/2: 2 of 2 are not finished and left out: popularity, personal",
    ]
    assert [member["id"] for member in again["members"]] == ["popularity"]
    assert len(again["origins"]) == 1


def slow_by_itself(directory: Path, score_ms: float) -> None:
    """Every member of a run takes so long, as it was measured there."""
    for path in (directory / "members").glob("*/metrics.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"score_ms": score_ms}))


def torn(origin: Path) -> None:
    path = next((origin / "predictions" / "blend").glob("*.arrow"))
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda origin: slow_by_itself(origin, 900.0), "no member fits 500 ms: the fastest, "),
        (torn, "cannot be read"),
        (lambda origin: (origin / "manifest.json").unlink(), "manifest.json"),
        (shutil.rmtree, "manifest.json"),  # a run that was cut off before it came so far
    ],
)
def test_an_origin_that_cannot_be_compared_is_told_and_the_others_are(three, spoil, told) -> None:
    directory, _ = three
    spoil(directory / "origins" / "1")
    again = compare_again(directory, QUIET, {"max_latency_ms": 500.0})
    [note] = [note for note in again["notes"] if note.startswith("origins/")]
    assert note.startswith("origins/1 is left out: ")
    assert told in note
    assert again["over_origins"]["origins"] == 2
    assert written(directory) == again


def test_where_the_latest_origin_cannot_be_compared_its_report_stays(three) -> None:
    directory, first = three
    slow_by_itself(directory, 900.0)
    with pytest.raises(ConfigError, match="no member fits 500 ms"):
        compare_again(directory, QUIET, {"max_latency_ms": 500.0})
    assert written(directory) == first


def test_a_quiet_run_keeps_what_the_checks_found(settings, tmp_path) -> None:
    run_experiment(settings(), tmp_path, QUIET)
    notes = written(tmp_path)["notes"]
    for block in ("select", "blend", "test"):
        assert [note for note in notes if note.startswith(f"{block}: ") and "fewer than 50" in note]


def test_a_card_tells_what_a_refit_changed_on_test_and_the_newest_one_keeps_both(
    settings, tmp_path
) -> None:
    report = run_experiment(settings(refit=True), tmp_path, QUIET)
    (told,) = [e["refit"] for e in report["ensembles"] if e["name"] == "mean"]
    blocks = report["blocks"]
    made = card(tmp_path, "mean")
    of = f"the same weights over members refitted with data until {blocks['test']}"
    assert made["refit"] == {"of": of, **told}
    assert made["refit"]["change"]["ndcg@10"]["mean"] == pytest.approx(
        told["test"]["ndcg@10"]["mean"] - made["test"]["ndcg@10"]["mean"]
    )
    assert set(card(tmp_path, "single")["refit"]) == {"of", "test", "change"}
    place = newest.refit_ensemble(tmp_path, "mean", QUIET)
    kept = load_ensemble(place).card
    assert kept["refit"] == made["refit"]
    assert kept["test"] == made["test"]
    assert kept["test_of"].endswith(f"members with data until {blocks['select']}")
    assert (kept["data_from"], kept["data_until"]) == (blocks["train"], blocks["end"])


def test_without_a_refit_no_card_speaks_of_one(settings, tmp_path) -> None:
    run_experiment(settings(), tmp_path, QUIET)
    assert "refit" not in card(tmp_path, "mean")
    assert "refit" not in load_ensemble(newest.refit_ensemble(tmp_path, "mean", QUIET)).card


def test_a_member_under_the_id_of_an_older_penchant_is_not_told_as_unfinished(
    settings, tmp_path
) -> None:
    run_experiment(settings(members=[{"kind": "popularity"}]), tmp_path, QUIET)
    (member,) = (tmp_path / "members").iterdir()
    for block in JUDGED_BLOCKS:
        kept = tmp_path / "predictions" / block / f"{member.name}.arrow"
        kept.rename(kept.with_name("popularity-all-000000.arrow"))
    member.rename(member.with_name("popularity-all-000000"))
    notes = compare_again(tmp_path, QUIET)["notes"]
    assert not [note for note in notes if "not finished" in note]


def test_what_the_experiment_no_longer_names_is_left_out_and_told(settings, tmp_path) -> None:
    """A member may have been taken out because it leaks."""
    run_experiment(settings(), tmp_path, QUIET)
    one = settings(members=[{"kind": "popularity", "name": "popularity"}])
    assert [m["id"] for m in run_experiment(one, tmp_path, QUIET)["members"]] == ["popularity"]
    again = compare_again(tmp_path, QUIET)
    assert [member["id"] for member in again["members"]] == ["popularity"]
    told = "members: left out, since experiment.yaml does not name them: personal"
    assert told in again["notes"]


@pytest.mark.parametrize("change", ["one event more", "another item's name"])
def test_other_events_under_members_that_are_there_are_refused_and_nothing_is_touched(
    settings, tmp_path, change: str
) -> None:
    """Scores stand by positions in the log: against another one they would mean anything."""
    events = tmp_path / "events.csv"
    text = Path(settings().data.events.paths[0]).read_text()
    events.write_text(text)
    data = settings().data.model_dump(mode="json", exclude_none=True)
    data["events"]["paths"] = [str(events)]
    run = tmp_path / "run"
    first = run_experiment(settings(data=data), run, QUIET)
    log = {path: path.read_bytes() for path in (run / "log").iterdir()}
    if change == "one event more":
        events.write_text(text + text.splitlines()[-1].replace("u39", "new") + "\n")
    else:
        events.write_text(text.replace("i00", "zz"))
    with pytest.raises(DataError, match="were fitted on other events: .* another --out"):
        run_experiment(settings(data=data), run, QUIET)
    assert {path: path.read_bytes() for path in (run / "log").iterdir()} == log
    assert compare_again(run, QUIET)["verdict"] == first["verdict"]
    events.write_text(text)  # touched, and the same again
    assert run_experiment(settings(data=data), run, QUIET)["verdict"] == first["verdict"]
