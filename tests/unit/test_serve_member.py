"""A replica scores what has gathered at once, and one bad question spoils no other."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from penchant.ensembles.artefacts.artefact import Ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.config import Requests
from penchant.platform.errors import RunError
from penchant.platform.events import EventLog
from penchant.platform.recipes import PersonalRecipe
from penchant.platform.requests import Requests as Asked
from penchant.serve.answering import member_deployment
from penchant.serve.answering.batcher import Batcher
from penchant.serve.answering.carrier import Asked as Call
from penchant.serve.answering.history import Question
from penchant.serve.answering.member_deployment import MAX_BATCH, MemberReplica, answer_all
from penchant.serve.answering.priority import behind_the_proxy

ITEMS = ["a", "b", "poison", "bomb"]


def asked_about(*items: str, copies: int = 1) -> Question:
    events = [ITEMS.index(item) for item in items] * copies
    return Question(
        item=np.array(events, dtype=np.int32),
        time_ms=np.arange(len(events), dtype=np.int64),
        kind=np.zeros(len(events), dtype=np.int8),
        value=np.ones(len(events), dtype=np.float32),
        group=None,
        asked_ms=1_000_000,
    )


@dataclass(frozen=True)
class Counts:
    """Counts of the history; NaN after a `poison` in it, an error after a `bomb` in any."""

    recipe: PersonalRecipe = PersonalRecipe(kind="personal")
    num_parameters: int = 0

    def score(self, log: EventLog, requests: Asked) -> NDArray[np.float32]:
        if ITEMS.index("bomb") in log.item:
            raise ArithmeticError
        rows = [log.item[log.offsets[u] : log.offsets[u + 1]] for u in requests.user]
        table = np.array([np.bincount(row, minlength=4) for row in rows], dtype=np.float32)
        table[table[:, ITEMS.index("poison")] > 0] = np.nan
        return table

    def save(self, directory: object) -> None: ...


ENSEMBLE = Ensemble(
    name="test",
    members={"counts": Counts()},
    combination=Linear(normalization="zscore", weights={"counts": 1.0}),
    requests=Requests(),
    item_ids=ITEMS,
    card={},
)


def test_a_question_that_breaks_the_member_spoils_no_other() -> None:
    good, other = asked_about("a", "a", "b"), asked_about("b")
    answers = answer_all(
        ENSEMBLE, "counts", [good, asked_about("poison"), asked_about("bomb"), other]
    )
    assert answers[1] is None
    assert answers[2] is None
    np.testing.assert_array_equal(answers[0], [[2, 1, 0, 0]])
    np.testing.assert_array_equal(answers[3], [[0, 1, 0, 0]])


class Counting:
    """A score function that notes its batches and can be held up."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()

    def __call__(self, questions: Sequence[Question]) -> list[NDArray[np.float32] | None]:
        self.batches.append(len(questions))
        self.go.wait(5)
        return [np.full((1, 1), len(q.item), dtype=np.float32) for q in questions]


def batched(score: Counting) -> Batcher[Question, NDArray[np.float32] | None]:
    return Batcher(
        score, lambda asked: asked.cost, max_batch=MAX_BATCH, max_cost=1_000_000, target_s=99
    )


def test_what_gathers_while_a_batch_is_scored_is_the_next_batch() -> None:
    score = Counting()

    async def ask() -> list[float]:
        batcher = batched(score)
        first = asyncio.create_task(batcher.ask(asked_about()))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(batcher.ask(asked_about("a", copies=n))) for n in range(20)]
        await asyncio.sleep(0.01)
        score.go.set()
        answers = await asyncio.gather(first, *rest)
        return [float(answer[0, 0]) for answer in answers if answer is not None]

    assert asyncio.run(ask()) == [0.0, *range(20)]
    assert score.batches == [1, MAX_BATCH, 4]


def test_a_question_whose_caller_has_left_is_not_scored() -> None:
    score = Counting()

    async def ask() -> None:
        batcher = batched(score)
        first = asyncio.create_task(batcher.ask(asked_about()))
        await asyncio.sleep(0.05)
        second, third = (asyncio.create_task(batcher.ask(asked_about())) for _ in range(2))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0.01)
        score.go.set()
        await asyncio.gather(first, third)

    asyncio.run(ask())
    assert score.batches == [1, 1]


def test_a_batch_is_bounded_by_the_events_that_it_reads() -> None:
    score = Counting()
    large = asked_about("a", copies=400_000)

    async def ask() -> None:
        batcher = batched(score)
        first = asyncio.create_task(batcher.ask(asked_about()))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(batcher.ask(large)) for _ in range(5)]
        await asyncio.sleep(0.01)
        score.go.set()
        await asyncio.gather(first, *rest)

    asyncio.run(ask())
    assert score.batches == [1, 2, 2, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_no_answer(bad: float) -> None:
    class Broken(Counts):
        def score(self, log: EventLog, requests: Asked) -> NDArray[np.float32]:
            return np.full((1, 4), bad, dtype=np.float32)

    broken = Ensemble(
        name="test",
        members={"broken": Broken()},
        combination=Linear(normalization="zscore", weights={"broken": 1.0}),
        requests=Requests(),
        item_ids=ITEMS,
        card={},
    )
    assert answer_all(broken, "broken", [asked_about("a")]) == [None]


def test_a_replica_gives_a_sign_of_life_while_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()

    class Slow(Counts):
        def score(self, log: EventLog, requests: Asked) -> NDArray[np.float32]:
            begun.set()
            go.wait(5)
            return super().score(log, requests)

    served = replace(ENSEMBLE, members={"counts": Slow()})
    monkeypatch.setattr(member_deployment, "ready_members", lambda *_, **__: served)
    monkeypatch.setattr(member_deployment, "version_of", lambda _: "v1")

    async def ask() -> None:
        replica = MemberReplica("somewhere", "v1", ["counts"])
        call = Call(members=["counts"], question=asked_about("a"))
        answers = asyncio.create_task(replica.score([call]))
        await asyncio.to_thread(begun.wait, 5)
        await replica.alive()
        assert not answers.done()
        go.set()
        np.testing.assert_array_equal((await answers)[0]["counts"], [[1, 0, 0, 0]])

    asyncio.run(ask())


def test_a_replica_starts_where_the_interpreter_has_a_space_in_its_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", "/usr/bin/{}".format)
    monkeypatch.setattr(sys, "executable", "/home/my shop/bin/python")
    words = shlex.split(behind_the_proxy()["py_executable"])  # Ray gives it to a shell
    assert words == ["/usr/bin/nice", "-n", "5", "/home/my shop/bin/python"]


def test_the_garbage_collector_rests_only_while_members_are_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collecting: list[bool] = []

    def load(*_: object, **__: object) -> Ensemble:
        collecting.append(gc.isenabled())
        if len(collecting) > 1:
            raise RunError("it is ruined")
        return ENSEMBLE

    monkeypatch.setattr(member_deployment, "ready_members", load)
    monkeypatch.setattr(member_deployment, "version_of", lambda _: "v1")
    MemberReplica("somewhere", "v1", ["counts"])
    with pytest.raises(RunError, match="ruined"):
        MemberReplica("somewhere", "v1", ["counts"])
    assert collecting == [False, False]
    assert gc.isenabled()


def test_what_nobody_awaits_is_computed_behind_all_others_unless_it_came_with_what_is() -> None:
    niceness: list[int] = []

    def score(questions: Sequence[bool]) -> list[None]:
        niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return [None] * len(questions)

    async def ask() -> None:
        batcher: Batcher[bool, None] = Batcher(
            score, lambda _: 1, awaited=lambda one: one, max_batch=8, max_cost=8, target_s=99
        )
        for together in ([False], [True], [False, True]):
            await asyncio.gather(*(batcher.ask(awaited) for awaited in together))

    asyncio.run(ask())
    own = os.getpriority(os.PRIO_PROCESS, 0)
    behind = max(own, 15) if sys.platform == "linux" else own  # elsewhere threads have none
    assert niceness == [behind, own, own]


def test_a_batch_that_fails_fails_its_own_questions_alone() -> None:
    """Whatever it was, such as a metric that cannot be told: the next ones are answered."""
    broken = [True, False, False]

    def score(questions: Sequence[int]) -> list[int]:
        if broken.pop(0):
            raise MemoryError
        return [2 * question for question in questions]

    async def ask() -> None:
        batcher: Batcher[int, int] = Batcher(
            score, lambda _: 1, max_batch=2, max_cost=9, target_s=99
        )
        first = [asyncio.create_task(batcher.ask(at)) for at in range(4)]
        found = await asyncio.gather(*first, return_exceptions=True)
        assert [type(one) for one in found[:2]] == [MemoryError, MemoryError]
        assert found[2:] == [4, 6]
        assert batcher.busy_s == 0
        assert await batcher.ask(5) == 10

    asyncio.run(ask())


def test_a_batch_holds_no_more_than_can_be_answered_in_time() -> None:
    """Questions take 10 ms each; in 35 ms three of them are answered."""
    batches: list[int] = []

    def score(questions: Sequence[Question]) -> list[None]:
        batches.append(len(questions))
        time.sleep(0.01 * len(questions))
        return [None] * len(questions)

    async def ask() -> None:
        batcher: Batcher[Question, None] = Batcher(
            score, lambda asked: 1, max_batch=16, max_cost=100, target_s=0.035
        )
        await asyncio.gather(batcher.ask(asked_about()), batcher.ask(asked_about()))
        await asyncio.gather(*(batcher.ask(asked_about()) for _ in range(12)))

    asyncio.run(ask())
    assert batches[0] == 1 or batches[0] == 2  # nothing is known of the first
    assert max(batches[1:]) <= 3
    assert sum(batches) == 14
