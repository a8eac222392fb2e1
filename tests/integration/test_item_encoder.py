"""Item vectors that are trained, and training that begins with another log's member.

On logs where language matters: each item's text has one word that users follow, among others that
say nothing; half of the items come up only after the cut-off.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penchant.platform import config
from penchant.platform.events import EventLog
from penchant.platform.item_vectors import item_vectors
from penchant.platform.language_models import load_model, load_tokenizer
from penchant.platform.requests import Requests, all_requests
from penchant.trainers.fit import load_member
from penchant.trainers.member import Past

pytestmark = [pytest.mark.slow]

WORKER = Path(__file__).with_name("item_worker.py")
#: Sums in another order: a few float32 units, which Adam's division makes larger.
TOLERANCE = 2e-5
HOUR_MS = 3_600_000
FOLLOWED = ("red", "wine", "milk", "brown", "white", "bread")
SAYS_NOTHING = 40  # words that any item may have
ITEMS, EVENTS, LATE = 400, 20, 4

SEQUENCE = {
    "kind": "sequence",
    "size": {"dim": 16, "layers": 1, "heads": 2},
    "ids": False,
    "copy_half_lives_days": [],
    "patience": 99,
    "batch_tokens": 64,
    "learning_rate": 1e-2,
    "dropout": 0.0,
}
TEXT = {
    "kind": "text",
    "copy_half_lives_days": [],
    "patience": 99,
    "batch_requests": 32,
    "negatives": 16,
    "learning_rate": 3e-3,
}
JOINT = {"learning_rate": 2e-3}
REFRESHED = {"vectors": "refreshed", "learning_rate": 2e-3, "batch_items": 32}


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A log of users who follow a word; late requests by whether their item was there before."""

    past: Past
    warm: Requests
    cold: Requests
    cold_items: np.ndarray

    def cold_ndcg(self, member: Path) -> float:
        """Mean NDCG of the cold requests, ranked among the cold items."""
        scores = load_member(member).score(self.past.log, self.cold)
        target = scores[np.arange(len(scores)), self.cold.target]
        above = (scores[:, self.cold_items] > target[:, None]).sum(axis=1)
        return float((1 / np.log2(above + 2)).mean())


def followed(make_log: Callable[..., EventLog], seed: int, users: int) -> Followed:
    random = np.random.default_rng(seed)
    topic = random.permutation(np.arange(ITEMS) % len(FOLLOWED))
    cold = np.isin(np.arange(ITEMS), random.permutation(ITEMS)[: ITEMS // 2])
    texts = []
    for item in range(ITEMS):
        words = [str(word) for word in random.integers(0, SAYS_NOTHING, 4)]
        words.insert(int(random.integers(0, 5)), FOLLOWED[topic[item]])
        texts.append(" ".join(words))
    rows = []
    for user in range(users):
        own = random.integers(len(FOLLOWED))
        for event in range(EVENTS):
            late = event >= EVENTS - LATE
            there = cold if late and random.random() < 0.7 else ~cold
            liked = there & (topic == own) if random.random() < 0.95 else there
            hour = int(random.integers(1001, 2000) if late else random.integers(0, 1000))
            rows.append((user, hour * HOUR_MS, int(random.choice(np.flatnonzero(liked)))))
    log, spec, until_ms = make_log(rows, ITEMS), config.Requests(unit="event"), 1000 * HOUR_MS + 1
    asked = all_requests(log, spec, until_ms, np.iinfo(np.int64).max)
    return Followed(
        past=Past(log=log, spec=spec, until_ms=until_ms, texts=tuple(texts), types=("buy",)),
        warm=asked.take(np.flatnonzero(~cold[asked.target])),
        cold=asked.take(np.flatnonzero(cold[asked.target])),
        cold_items=np.flatnonzero(cold),
    )


def _finished(command: list[str]) -> Any:
    return subprocess.run(
        command,
        env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )


class Trainings:
    """Trains members in processes of their own, and keeps them under their names."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def know(self, name: str, past: Past, select: Requests) -> None:
        (self.root / f"{name}.pickle").write_bytes(pickle.dumps((past, select)))

    def task(
        self, name: str, log: str, recipe: dict[str, Any], *, stop: int = 0, resume: str = ""
    ) -> dict[str, Any]:
        (self.root / name).mkdir()
        return {
            "out": str(self.root / name),
            "past": str(self.root / f"{log}.pickle"),
            "recipe": recipe,
            "stop": stop,
            "resume": str(self.root / resume / "checkpoint") if resume else None,
        }

    def run(self, tasks: list[dict[str, Any]], *, workers: int) -> None:
        place = self.root / f"tasks-{workers}.json"
        place.write_text(json.dumps(tasks))
        commands = [
            [sys.executable, str(WORKER), str(place), str(rank), str(workers)]
            for rank in range(workers)
        ]
        with ThreadPoolExecutor(workers) as pool:
            ended = list(pool.map(_finished, commands))
        for process in ended:
            assert process.returncode == 0, process.stdout[-3000:]

    def curve(self, name: str, rank: int = 0) -> np.ndarray:
        """Losses in training and on `select`, shape (epochs, 2)."""
        epochs = json.loads((self.root / name / f"rank{rank}.json").read_text())
        return np.array([[epoch["train_loss"], epoch["select_loss"]] for epoch in epochs])

    def member(self, name: str) -> Path:
        return self.root / name / "member"


@pytest.fixture(scope="module")
def logs(make_log) -> dict[str, Followed]:
    """Two logs with other users and other items, of which every user follows one of six words."""
    return {"a": followed(make_log, 0, 150), "b": followed(make_log, 5, 60)}


@pytest.fixture(scope="module")
def one_layer(tiny_base, tmp_path_factory) -> str:
    """The lowest layer of the tiny encoder: a word's part of a mean is easier to find in it."""
    place = tmp_path_factory.mktemp("model") / "bert"
    load_model(str(tiny_base), layers=1).save_pretrained(place)
    load_tokenizer(str(tiny_base)).save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def trained(logs, one_layer, tmp_path_factory) -> Trainings:
    """All trainings of this module: first those of two workers, then those of one."""
    here = Trainings(tmp_path_factory.mktemp("trainings"))
    for name, log in logs.items():
        here.know(name, log.past, log.warm)
    alike = SEQUENCE | {"text": one_layer, "epochs": 3}
    modes = {"joint": JOINT | {"drawn_items": 50, "batch_items": 24}, "refreshed": REFRESHED}
    recipes = {name: alike | {"text_training": training} for name, training in modes.items()}
    here.run(
        [here.task(f"{name}-two", "b", recipe) for name, recipe in recipes.items()]
        + [here.task(f"{name}-cut", "b", r, stop=1) for name, r in recipes.items()],
        workers=2,
    )
    long = SEQUENCE | {"text": one_layer, "epochs": 7}
    short = long | {"epochs": 1}
    text = TEXT | {"base": one_layer, "epochs": 3, "fit_requests": 1500}
    few = text | {"epochs": 1, "fit_requests": 300}
    begun = {
        name: {"init_from": str(here.member(name))} for name in ("frozen", "joint", "text", "heir")
    }
    here.run(
        [
            *(here.task(f"{name}-one", "b", recipe) for name, recipe in recipes.items()),
            *(
                here.task(f"{name}-on", "b", recipe, resume=f"{name}-cut")
                for name, recipe in recipes.items()
            ),
            here.task("frozen", "a", long),
            here.task("joint", "a", long | {"text_training": JOINT}),
            here.task("text", "a", text),
            here.task("short", "b", short),
            here.task("short-frozen", "b", short | begun["frozen"]),
            here.task("heir", "b", short | begun["joint"]),
            here.task("heir-of-heir", "b", short | begun["heir"]),
            here.task("few", "b", few),
            here.task("few-text", "b", few | begun["text"]),
        ],
        workers=1,
    )
    return here


@pytest.mark.parametrize("mode", ["joint", "refreshed"])
def test_two_workers_have_the_curve_of_one(mode, trained):
    alone = trained.curve(f"{mode}-one")
    assert alone[-1, 0] < alone[0, 0] - 0.1  # curves that stand still would prove nothing
    for rank in (0, 1):
        two = trained.curve(f"{mode}-two", rank)
        np.testing.assert_allclose(two, alone, rtol=TOLERANCE, atol=0)


@pytest.mark.parametrize("mode", ["joint", "refreshed"])
def test_a_training_that_was_cut_goes_on_with_other_workers(mode, trained):
    assert len(trained.curve(f"{mode}-cut")) == 1
    resumed = trained.curve(f"{mode}-on")
    np.testing.assert_allclose(resumed, trained.curve(f"{mode}-one"), rtol=TOLERANCE, atol=0)


def test_both_ways_of_training_change_the_curve_of_frozen_vectors(trained):
    joint, refreshed = (trained.curve(f"{mode}-one") for mode in ("joint", "refreshed"))
    assert np.abs(joint - refreshed).max() > 1e-3


def test_a_language_model_that_learns_along_knows_items_that_nobody_chose_before(trained, logs):
    frozen, joint = (logs["a"].cold_ndcg(trained.member(name)) for name in ("frozen", "joint"))
    assert joint > 1.08 * frozen
    assert trained.curve("joint")[-1, 1] < trained.curve("frozen")[-1, 1] - 0.2


def test_the_vectors_of_a_member_are_those_of_the_model_beside_it(trained, logs, tmp_path):
    kept = load_member(trained.member("joint")).network.text.numpy()
    elsewhere = item_vectors(str(trained.member("joint") / "text"), logs["a"].past.texts, tmp_path)
    np.testing.assert_allclose(kept, elsewhere, atol=1e-5)


@pytest.mark.parametrize(
    ("begun", "fresh"), [("short-frozen", "short"), ("heir", "short"), ("few-text", "few")]
)
def test_a_member_of_another_log_is_a_better_beginning_than_none(begun, fresh, trained, logs):
    """The same few steps on a log of other items and other users, with the same words."""
    one, other = trained.curve(begun), trained.curve(fresh)
    assert len(one) == len(other) == 1
    assert one[0, 1] < other[0, 1] - 0.04
    ndcg = [logs["b"].cold_ndcg(trained.member(name)) for name in (begun, fresh)]
    assert ndcg[0] > 1.05 * ndcg[1]


def test_a_language_model_that_learned_is_handed_on(trained, logs, tmp_path):
    texts = logs["b"].past.texts
    learned = item_vectors(str(trained.member("joint") / "text"), texts, tmp_path)
    for name in ("heir", "heir-of-heir"):
        kept = load_member(trained.member(name)).network.text.numpy()
        np.testing.assert_allclose(kept, learned, atol=1e-6)


def test_members_say_what_their_training_began_with(trained):
    def said(name: str) -> Any:
        state = json.loads((trained.member(name) / "member.json").read_text())["state"]
        return state.get("facts", state).get("init_from")

    assert said("frozen") is None
    assert said("heir")["directory"] == str(trained.member("joint"))
    assert said("few-text")["directory"] == str(trained.member("text"))
    digests = {said(name)["sha256"] for name in ("short-frozen", "heir", "few-text")}
    assert len(digests) == 3
