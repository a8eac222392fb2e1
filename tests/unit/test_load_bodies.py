"""What a load asks: recorded histories, and the verb that sends them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from aiohttp import web
from typer.testing import CliRunner

from penchant.cli.bench import bench
from penchant.platform.config import Data, Experiment, Requests, Time
from penchant.platform.errors import ConfigError, DataError, UnreachableError
from penchant.platform.events import Catalog, EventLog
from penchant.platform.prepared import prepare
from penchant.platform.recipes import PersonalRecipe
from penchant.platform.requests import Requests as Asked
from penchant.platform.store import RunDirectory
from penchant.serve.load.bodies import recorded_bodies
from penchant.serve.load.key import api_key
from penchant.serve.routes.stored import StoredRequests
from penchant.serve.wire.schema import RecommendBody, ScoreBody

from .test_load_run import served

ITEMS = ["a", "b", "c", "d", "e"]


def stored(*, binary: bool = False, users: int = 3) -> StoredRequests:
    """Each user has had item u and then item u + 1, and is asked about at time 10."""
    item = [at for user in range(users) for at in (user, user + 1)]
    log = EventLog(
        item=np.array(item, dtype=np.int32),
        time_ms=np.tile(np.array([5, 10], dtype=np.int64), users),
        kind=np.zeros(2 * users, dtype=np.int8),
        value=np.ones(2 * users, dtype=np.float32),
        group=None,
        offsets=np.arange(0, 2 * users + 1, 2, dtype=np.int64),
        num_items=5,
    )
    each = np.arange(users)
    asked = Asked(
        row=1 + 2 * each,
        user=each.astype(np.int32),
        time_ms=np.full(users, 10, dtype=np.int64),
        end=1 + 2 * each,
        target_offsets=np.zeros(users + 1, dtype=np.int64) if binary else np.arange(users + 1),
        target=np.zeros(0, dtype=np.int32) if binary else (each + 1).astype(np.int32),
        target_seen=np.zeros(0 if binary else users, dtype=np.bool_),
        candidate=(each + 1).astype(np.int32) if binary else None,
        label=np.ones(users, dtype=np.float32) if binary else None,
    )
    catalog = Catalog(item_ids=ITEMS, item_texts=[""] * 5)
    return StoredRequests(log=log, catalog=catalog, types=["buy"], requests=asked)


@pytest.mark.parametrize("binary", [False, True])
def test_score_bodies_ask_about_what_was_chosen_and_about_others(binary: bool) -> None:
    bodies = recorded_bodies(stored(binary=binary), "/v1/score", candidates=3)
    for body in bodies:
        ScoreBody.model_validate_json(body)
    asked = [json.loads(body) for body in bodies]
    assert sorted(body["history"][0]["item"] for body in asked) == ["a", "b", "c"]
    for body in asked:
        # The item after the last of the history was chosen, or asked about.
        assert body["candidates"][0] == ITEMS[ITEMS.index(body["history"][-1]["item"]) + 1]
        assert len(set(body["candidates"])) == 3


def test_recommend_bodies_are_histories_alone() -> None:
    (body,) = recorded_bodies(stored(users=1), "/v1/recommend", candidates=99)
    RecommendBody.model_validate_json(body)
    asked = json.loads(body)
    assert (asked["time"], asked["k"], asked["history"][0]["time"]) == (10, 10, 5)


def test_the_order_is_random_and_the_same_each_time() -> None:
    one = recorded_bodies(stored(), "/v1/score", candidates=3, seed=1)
    assert one == recorded_bodies(stored(), "/v1/score", candidates=3, seed=1)
    others = [recorded_bodies(stored(), "/v1/score", candidates=3, seed=n) for n in range(2, 9)]
    assert any(other != one for other in others)
    assert len(recorded_bodies(stored(), "/v1/score", candidates=3, limit=2)) == 2


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ConfigError, match="--path score"):
        recorded_bodies(stored(binary=True), "/v1/recommend")
    with pytest.raises(ConfigError, match="candidates is 6, expected 1 to 5"):
        recorded_bodies(stored(), "/v1/score", candidates=6)
    with pytest.raises(DataError, match="nothing to send"):
        recorded_bodies(stored(users=0), "/v1/score", candidates=1)


def test_a_key_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PENCHANT_API_KEY", raising=False)
    assert api_key(None) is None
    monkeypatch.setenv("PENCHANT_API_KEY", "pk_env")
    assert api_key(None) == "pk_env"
    (tmp_path / "key").write_text("pk_file\n")
    assert api_key(tmp_path / "key") == "pk_file"
    (tmp_path / "key").write_text("two\nlines")
    with pytest.raises(ConfigError, match="holds no API key"):
        api_key(tmp_path / "key")
    with pytest.raises(ConfigError, match="cannot be read"):
        api_key(tmp_path / "nothing")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of eight users who buy one of four items a day, without members."""
    root = tmp_path_factory.mktemp("run")
    rows = [
        f"u{u},{'abcd'[(u + day) % 4]},2024-01-{day:02d}" for u in range(8) for day in range(1, 21)
    ]
    (root / "events.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    experiment = Experiment(
        name="load",
        data=Data.model_validate(
            {
                "events": {
                    "paths": [str(root / "events.csv")],
                    "columns": {"user": "user", "item": "item", "time": "time"},
                }
            }
        ),
        time=Time(quantiles={"select": 0.5, "blend": 0.7, "test": 0.9}),
        requests=Requests(unit="event"),
        members=(PersonalRecipe(kind="personal"),),
    )
    prepare(experiment, RunDirectory(root / "run"))
    return root / "run"


@pytest.fixture
def url() -> Iterator[str]:
    """A server that answers every well-formed recommend body."""

    async def answer(request: web.Request) -> web.Response:
        RecommendBody.model_validate_json(await request.read())
        return web.Response(text='{"degraded":false}')

    with served(answer, "/v1/recommend") as address:
        yield address


def invoke(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(bench)
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_verb_prints_what_was_found(run: Path, url: str) -> None:
    short = ("--run", str(run), "--duration-s", "0.5", "--warmup-s", "0.1")
    found = json.loads(invoke(url, *short, "--rate", "40", "--deadline-ms", "500", "--json"))
    assert (found["mode"], found["offered"], found["errors"]) == ("open", 40.0, {})
    assert found["answered"] == found["sent"] > 0
    assert found["latency_ms"]["p50"] > 0
    told = invoke(url, *short)
    assert "closed load of 8 callers for 0.5 s" in told
    assert "errors      none" in told


def test_the_verb_does_not_load_what_does_not_answer(run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(UnreachableError, match="no endpoint answers"):
        invoke(nobody, "--run", str(run))
