"""Week by week: what is told of a service, what counts for quality, and what follows."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from scipy import special
from typer.testing import CliRunner

from penchant.cli.monitor import monitor
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.promises.calibrate import Platt
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.requests import Requests
from penchant.platform.store import RunDirectory, write_json
from penchant.platform.timeline import Block
from penchant.serve.answering.card import version_of
from penchant.serve.watch import monitor as monitor_module
from penchant.serve.watch.feedback import FeedbackBook, Outcome
from penchant.serve.watch.findings import findings, worst
from penchant.serve.watch.matured import judge_matured
from penchant.serve.watch.monitor import watch
from penchant.serve.watch.prediction_rows import SCHEMA

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
NOW = MONDAY + timedelta(days=28)


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def row(request_id: str, week: int, **given: Any) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "role": "primary",
        "ensemble": "greedy",
        "version": "v1",
        "path": "/v1/score",
        "binary": True,
        "time_ms": 0,
        "answered_ms": ms(MONDAY + timedelta(weeks=week, hours=1)),
        "item": "a",
        "rank": 1,
        "whole": False,
        "score": 0.0,
        "probability": 0.5,
        "members": [],
        "disagreement": 0.1,
        "degraded": False,
        "left_out": [],
        "latency_ms": 10.0,
        "caller": None,
        "user_hash": request_id,
        **given,
    }


def write(service: Path, rows: list[dict[str, Any]], name: str = "1") -> None:
    (service / "predictions").mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, service / "predictions" / f"{name}.parquet")


def week_of(week: int, scores: np.ndarray, **given: Any) -> list[dict[str, Any]]:
    chances = special.expit(scores)
    pairs = enumerate(zip(scores.tolist(), chances.tolist(), strict=True))
    version = given.get("version", "v1")
    return [
        row(f"{version}-w{week}-{n}", week, score=score, probability=chance, **given)
        for n, (score, chance) in pairs
    ]


def tell(service: Path, outcomes: list[tuple[str, str, Any]]) -> None:
    book = FeedbackBook(service, "front", now_ms=lambda: ms(NOW))
    book.add([Outcome(request_id=r, item=i, label=label, time=1) for r, i, label in outcomes])


def normal(shift: float = 0.0, size: int = 400) -> np.ndarray:
    return np.random.default_rng(7).normal(loc=shift, size=size)


def test_a_window_is_a_week_of_a_version_in_a_role(tmp_path: Path) -> None:
    late = {"latency_ms": 30.0, "degraded": True}
    rows = [row("a", 0), row("b", 0), row("c", 0, **late), row("d", 0, role="shadow", **late)]
    write(tmp_path, [*rows, row("e", 0, rank=2, item="b", **late)])
    write(tmp_path, [row("f", 1, version="v2", disagreement=None)], "2")
    first, shadow, second = watch(tmp_path, now_ms=ms(NOW)).windows
    assert (first.week, first.version, first.role) == (date(2026, 3, 2), "v1", "primary")
    assert (first.answers, first.p50_ms, first.disagreement) == (3, 10.0, pytest.approx(0.1))
    assert first.degraded == pytest.approx(1 / 3)
    assert first.p99_ms == pytest.approx(29.6)  # linear between 10 and 30, at 1.98 of 2
    assert (shadow.role, shadow.answers, shadow.degraded) == ("shadow", 1, 1.0)
    assert (second.week, second.version, second.disagreement) == (date(2026, 3, 9), "v2", None)
    assert second.to_json()["quality"] == {}


def test_what_was_answered_before_a_date_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, [row("a", 0), row("b", 1)])
    (only,) = watch(tmp_path, since_ms=ms(MONDAY + timedelta(days=7)), now_ms=ms(NOW)).windows
    assert only.week == date(2026, 3, 9)


def test_scores_that_stay_are_fine(tmp_path: Path) -> None:
    write(tmp_path, [*week_of(0, normal()), *week_of(1, normal()[::-1])])
    watched = watch(tmp_path, now_ms=ms(NOW))
    first, second = watched.windows
    assert first.psi is None  # it is the reference
    assert second.psi is not None
    assert second.psi.value == pytest.approx(0)
    (found,) = findings(watched)
    assert found.level == "fine"
    assert found.text == "fine: scores and members as before; not known: quality"


def test_scores_that_move_call_for_a_fit_and_the_week_is_named(tmp_path: Path) -> None:
    moved = [row for week in (2, 3) for row in week_of(week, normal(1.0))]
    write(tmp_path, [*week_of(0, normal()), *week_of(1, normal()), *moved])
    found = findings(watch(tmp_path, now_ms=ms(NOW)))
    assert worst(found) == "act"
    assert found[0].text.startswith("refit: scores have moved, PSI ")
    assert "since the week of 2026-03-16" in found[0].text


def test_in_the_week_of_a_deploy_the_version_that_answered_last_is_judged(tmp_path: Path) -> None:
    """The old one had called for the fit that made the new one: whoever fits again at each call,
    would do so every day."""
    fine = [one | {"version": "v2"} for week in (0, 1) for one in week_of(week, normal())]
    rows = [*week_of(0, normal()), *week_of(1, normal(3.0))]
    for one in fine:
        one |= {"request_id": f"new-{one['request_id']}", "answered_ms": one["answered_ms"] + 1}
    write(tmp_path, rows + fine)
    assert worst(findings(watch(tmp_path, now_ms=ms(NOW)))) == "fine"
    for one in rows[400:]:
        one["answered_ms"] += 2
    write(tmp_path, rows + fine)  # now it is the old one, after a rollback
    assert worst(findings(watch(tmp_path, now_ms=ms(NOW)))) == "act"


def ranked(request_id: str, week: int, best: float, **given: Any) -> dict[str, Any]:
    recommended = {"binary": False, "path": "/v1/recommend", "probability": None, "whole": True}
    return row(request_id, week, score=best, **{**recommended, **given})


def test_what_was_chosen_from_a_few_says_nothing_of_the_scores(tmp_path: Path) -> None:
    """A shop that asks for what is in stock has lower best scores, and no other members."""
    few = {"whole": False}
    rows = [ranked(f"a{w}{n}", w, s) for w in (0, 1) for n, s in enumerate(normal())]
    stock = [ranked(f"b{n}", 1, score, **few) for n, score in enumerate(normal(-2.0))]
    write(tmp_path, rows + stock)
    psi = watch(tmp_path, now_ms=ms(NOW)).windows[1].psi
    assert psi is not None
    assert psi.value == pytest.approx(0)
    asked = [one | {"path": "/v1/batch"} for one in rows]  # of which some are recommendations
    write(tmp_path / "batch", asked)
    assert watch(tmp_path / "batch", now_ms=ms(NOW)).windows[1].psi is not None
    write(tmp_path / "few", [one | few for one in rows])
    (found,) = findings(watch(tmp_path / "few", now_ms=ms(NOW)))
    assert found.text == "fine: members as before; not known: scores and quality"


def test_what_was_not_compared_is_not_said_to_be_as_before(tmp_path: Path) -> None:
    """One week with outcomes has none before it, and scores of this week may be of a few items."""
    scores = normal()
    write(tmp_path, week_of(0, scores))
    tell(tmp_path, [(f"v1-w0-{n}", "a", int(score > 0)) for n, score in enumerate(scores)])
    (found,) = findings(watch(tmp_path, now_ms=ms(NOW)))
    assert found.text == "fine: there is nothing to compare with yet"
    rows = [ranked(f"a{w}{n}", w, s) for w in (0, 1, 2) for n, s in enumerate(scores)]
    last = [one | {"whole": False} for one in rows[800:]]
    write(tmp_path / "few", rows[:800] + last)
    (found,) = findings(watch(tmp_path / "few", now_ms=ms(NOW)))
    assert found.text == "fine: members as before; not known: scores and quality"


def test_a_log_that_an_earlier_version_has_begun_is_read(tmp_path: Path) -> None:
    """Moving its files away would keep deletions from them, and drop what came of their answers."""
    write(tmp_path, [row("a", 0), row("b", 0)])
    path = tmp_path / "predictions" / "1.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["whole"]), path)
    assert [one.answers for one in watch(tmp_path, now_ms=ms(NOW)).windows] == [2]
    write(tmp_path, [row("c", 1)], "2")
    assert [one.answers for one in watch(tmp_path, now_ms=ms(NOW)).windows] == [2, 1]


@pytest.mark.parametrize(("known", "users"), [(99, 99), (300, 9)])
def test_a_few_outcomes_decide_nothing(tmp_path: Path, known: int, users: int) -> None:
    """Of one user, or of two requests, the interval may have no width at all."""
    scores = normal(size=300) * 3
    late = week_of(1, scores)
    for n, one in enumerate(late):
        one["user_hash"] = f"user-{n % users}"
    write(tmp_path, [*week_of(0, scores), *late])
    told = [(f"v1-w0-{n}", "a", int(score > 0)) for n, score in enumerate(scores)]
    tell(tmp_path, told + [(f"v1-w1-{n}", "a", int(scores[n] < 0)) for n in range(known)])
    watched = watch(tmp_path, now_ms=ms(NOW))
    judged = watched.windows[1].judged
    assert judged is not None
    assert judged.quality["auc"].mean == 0.0
    assert (judged.requests, judged.users) == (known, users)
    assert worst(findings(watched)) == "fine"


def test_another_version_has_a_first_week_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, [*week_of(0, normal()), *week_of(1, normal(3.0), version="v2")])
    assert worst(findings(watch(tmp_path, now_ms=ms(NOW)))) == "fine"


def test_a_week_of_few_answers_decides_nothing(tmp_path: Path) -> None:
    write(tmp_path, [*week_of(0, normal()), *week_of(1, normal(3.0, size=99))])
    assert worst(findings(watch(tmp_path, now_ms=ms(NOW)))) == "fine"
    write(tmp_path / "few", [row("a", 0)])
    (found,) = findings(watch(tmp_path / "few", now_ms=ms(NOW)))
    assert "no week of version v1 has the 100 answers" in found.text


def test_members_that_part_and_members_that_fail_are_worth_a_look(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    apart = [
        {**one, "disagreement": float(value)}
        for week, low in ((0, 0.1), (1, 0.6))
        for one, value in zip(week_of(week, normal()), low + 0.1 * random.random(400), strict=True)
    ]
    for one in apart[400:440]:
        one["degraded"] = True
    write(tmp_path, apart)
    texts = [one.text for one in findings(watch(tmp_path, now_ms=ms(NOW)))]
    assert texts[0].startswith("look: members agree otherwise than in the first week, since")
    assert "disagreement 0.65, was 0.15" in texts[0]
    assert texts[1] == "look: 10% of the answers of the last week lacked a member"


def test_a_member_that_was_down_is_no_reason_to_fit_again(tmp_path: Path) -> None:
    """Others answered in its stead: their scores, and their quality, are not the ensemble's."""
    rows = [*week_of(0, normal()), *week_of(1, normal())]
    lost = week_of(1, normal(3.0, size=200))
    for one in lost:
        one |= {"request_id": f"lost-{one['request_id']}", "degraded": True, "disagreement": 2.0}
    write(tmp_path, rows + lost)
    tell(tmp_path, [(one["request_id"], "a", int(one["score"] > 0)) for one in rows])
    tell(tmp_path, [(one["request_id"], "a", int(one["score"] < 3)) for one in lost])
    watched = watch(tmp_path, now_ms=ms(NOW))
    psi, quality = watched.windows[1].psi, watched.windows[1].judged
    assert psi is not None
    assert psi.value == pytest.approx(0)
    assert quality is not None
    assert quality.quality["auc"].mean == 1.0
    assert [one.text for one in findings(watched)] == [
        "look: 33% of the answers of the last week lacked a member"
    ]


def test_a_first_week_of_few_answers_is_nothing_to_compare_with(tmp_path: Path) -> None:
    """A version that came on a Sunday evening: ten answers would hide every later change."""
    few = week_of(0, normal(size=10))
    write(tmp_path, [*few, *week_of(1, normal()), *week_of(2, normal(1.0))])
    watched = watch(tmp_path, now_ms=ms(NOW))
    assert [window.psi is None for window in watched.windows] == [True, True, False]
    assert worst(findings(watched)) == "act"


def test_only_answers_that_are_old_enough_count_for_quality(tmp_path: Path) -> None:
    """Of two weeks of 200 answers the later is too young; half of the first has an outcome."""
    write(tmp_path, [*week_of(0, normal(size=200)), *week_of(1, normal(size=200))])
    tell(tmp_path, [(f"v1-w{w}-{n}", "a", n % 2) for w in (0, 1) for n in range(100)])
    now = MONDAY + timedelta(days=14, hours=2)
    first, second = watch(tmp_path, mature_days=8, now_ms=ms(now)).windows
    assert first.judged is not None
    assert (first.judged.matured, first.judged.known, first.judged.coverage) == (200, 100, 0.5)
    assert set(first.judged.quality) == {"auc", "log_loss", "ece", "calibration_slope"}
    assert second.judged is None
    _, second = watch(tmp_path, mature_days=0, now_ms=ms(now)).windows
    assert second.judged is not None


def test_quality_that_falls_calls_for_a_fit(tmp_path: Path) -> None:
    """Labels follow the scores in the first week and nothing in the second."""
    scores = normal(size=300) * 3
    write(tmp_path, [*week_of(0, scores), *week_of(1, scores)])
    told = [(f"v1-w0-{n}", "a", int(score > 0)) for n, score in enumerate(scores)]
    tell(tmp_path, told + [(f"v1-w1-{n}", "a", n % 2) for n in range(300)])
    found = findings(watch(tmp_path, now_ms=ms(NOW)))
    assert found[0].level == "act"
    assert found[0].text.startswith("refit: auc 0.")
    assert "1.000 [1.000, 1.000] in the week of 2026-03-02" in found[0].text
    assert any(one.text.startswith("look: probabilities are too sure") for one in found)


def test_of_a_ranking_hits_among_what_was_shown_are_counted(tmp_path: Path) -> None:
    """Three answers of two items: the lower chosen, another item chosen, nothing chosen."""
    ranked = {"binary": False, "path": "/v1/recommend"}
    rows = [
        row(request_id, 0, item=item, rank=rank, score=score, **ranked)
        for request_id in ("r1", "r2", "r3")
        for rank, (item, score) in enumerate((("b", 1.0), ("a", 2.0)), 1)
    ]
    write(tmp_path, rows)
    tell(tmp_path, [("r1", "b", "chosen"), ("r2", "z", 1), ("r3", "a", 0), ("r9", "a", 1)])
    (window,) = watch(tmp_path, now_ms=ms(NOW)).windows
    judged = window.judged
    assert judged is not None
    assert (judged.matured, judged.known) == (3, 3)
    assert judged.quality["hr@10"].mean == pytest.approx(1 / 2)
    assert judged.quality["ndcg@10"].mean == pytest.approx(1 / np.log2(3) / 2)


def test_a_request_that_was_tried_again_counts_once(tmp_path: Path) -> None:
    write(tmp_path, [row("r1", 0), row("r1", 0, score=1.0)])
    (window,) = watch(tmp_path, now_ms=ms(NOW)).windows
    assert window.judged is not None
    assert window.judged.matured == 1


def make_run(root: Path, scores: np.ndarray) -> str:
    """A run with an ensemble of one member that gave these scores on test; its version."""
    run, size = RunDirectory(root), len(scores)
    write_json(root / "manifest.json", {"version": 1, "experiment": "x"})
    requests = Requests(
        row=np.arange(size),
        user=np.zeros(size, dtype=np.int32),
        time_ms=np.arange(size),
        end=np.arange(size),
        target_offsets=np.zeros(size + 1, dtype=np.int64),
        target=np.zeros(0, dtype=np.int32),
        target_seen=np.zeros(0, dtype=np.bool_),
        candidate=np.zeros(size, dtype=np.int32),
        label=np.zeros(size, dtype=np.float32),
    )
    (root / "requests").mkdir()
    requests.write(run.requests(Block.TEST))
    run.write_predictions(Block.TEST, "one", requests.row, scores[:, None].astype(np.float32))
    combination = Linear(normalization="none", weights={"one": 1.0})
    card = {
        "weights": {"one": 1.0},
        "combination": combination.model_dump(mode="json"),
        "calibrator": Platt(slope=1.0, intercept=0.0).model_dump(),
        "test": {"auc": {"mean": 0.9, "low": 0.88, "high": 0.92}},
    }
    write_json(run.ensemble("greedy") / "ensemble.json", card)
    return version_of(run.ensemble("greedy"))


def test_a_run_s_test_block_is_the_reference_of_its_own_version_alone(tmp_path: Path) -> None:
    version = make_run(tmp_path / "run", normal())
    service = tmp_path / "service"
    write(service, [*week_of(0, normal(1.0), version=version), *week_of(0, normal(1.0))])
    tell(service, [(f"{version}-w0-{n}", "a", n % 2) for n in range(400)])
    watched = watch(service, run_dir=tmp_path / "run", now_ms=ms(NOW))
    psis = {window.version: window.psi for window in watched.windows}
    assert psis["v1"] is None
    moved = psis[version]
    assert moved is not None
    assert moved.level == "act"
    own = [window for window in watched.windows if window.version == version]
    texts = [
        one.text for one in findings(type(watched)(windows=own, references=watched.references))
    ]
    assert texts[0].startswith("refit: scores have moved")
    assert texts[1].startswith("refit: auc 0.")
    assert texts[1].endswith("0.900 [0.880, 0.920] on test")


@pytest.mark.parametrize("goes", [1, 9])
def test_files_that_go_while_they_are_read_are_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes: int
) -> None:
    """A service that runs merges small files; one that always does is told of, in words."""
    kept = judge_matured
    write(tmp_path, [row("a", 0)])
    left = goes

    def judge(*asked: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            for path in (tmp_path / "predictions").glob("*.parquet"):
                path.rename(path.with_stem(f"again-{left}"))
        return kept(*asked)

    monkeypatch.setattr(monitor_module, "judge_matured", judge)
    if goes == 1:
        assert watch(tmp_path, now_ms=ms(NOW)).windows[0].answers == 1
    else:
        with pytest.raises(DataError, match="went while they were read, 3 times"):
            watch(tmp_path, now_ms=ms(NOW))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no predictions"):
        watch(tmp_path)
    (tmp_path / "predictions").mkdir()
    bad = tmp_path / "predictions" / "bad.parquet"
    bad.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"bad\.parquet cannot be read"):
        watch(tmp_path)
    pq.write_table(pa.table({"item": ["a"]}), bad)
    with pytest.raises(DataError, match=r"bad\.parquet lacks request_id"):
        watch(tmp_path)
    write(tmp_path, [row("a", 0)])
    bad.unlink()
    with pytest.raises(ConfigError, match="no run directory"):
        watch(tmp_path, run_dir=tmp_path)


def run_cli(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(monitor)
    return CliRunner().invoke(app, list(arguments))


def test_the_verb_prints_a_table_or_json_and_fails_on_demand(tmp_path: Path) -> None:
    write(tmp_path, [*week_of(0, normal()), *week_of(1, normal(1.0))])
    service = str(tmp_path)
    told = run_cli(service)
    assert told.exit_code == 0
    assert "2026-03-09" in told.stdout
    assert told.stdout.splitlines()[-1].startswith("refit: scores have moved")
    found = json.loads(run_cli(service, "--json").stdout)
    assert found["level"] == "act"
    assert [window["week"] for window in found["windows"]] == ["2026-03-02", "2026-03-09"]
    assert run_cli(service, "--fail-on", "act").exit_code == 4
    assert run_cli(service, "--fail-on", "look").exit_code == 4
    assert run_cli(service, "--since", "2026-03-09", "--fail-on", "act").exit_code == 0
    wrong = run_cli(service, "--since", "yesterday")
    assert isinstance(wrong.exception, ConfigError)
