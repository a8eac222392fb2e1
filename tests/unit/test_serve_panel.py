"""Members are asked at once; whoever fails, or is late, is left out and the others carry on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from penchant.ensembles.artefacts.artefact import Ensemble
from penchant.ensembles.combinations.cascade import Cascade, Stage
from penchant.ensembles.combinations.linear import Linear
from penchant.ensembles.normalize import Normalization
from penchant.ensembles.promises.calibrate import Temperature
from penchant.platform.config import Requests
from penchant.serve.answering.history import Question, trial_question
from penchant.serve.answering.panel import OverloadedError, Panel, Verdict

SPEC = Requests()
NOBODY = trial_question(SPEC, 0, has_groups=False)
SCORES = {"one": [[0.0, 2.0]], "two": [[3.0, 1.0]]}  # z-scores: (-1, 1) and (1, -1)


def ensemble(how: Normalization = "zscore", **weights: float) -> Ensemble:
    return Ensemble(
        name="test",
        members={},
        combination=Linear(normalization=how, weights=weights),
        requests=SPEC,
        item_ids=["a", "b"],
        card={},
    )


async def ask(member_id: str, question: Question) -> NDArray[np.float32] | None:
    """Members are named by what they do."""
    match member_id:
        case "late":
            await asyncio.sleep(30)
        case "raises":
            raise ValueError("what a user wrote")
        case "full":
            raise OverloadedError
        case "unsound":
            return None
        case "misshapen":
            return np.zeros((1, 3), dtype=np.float32)
    return np.array(SCORES[member_id], dtype=np.float32)


def judge(made: Ensemble, timeout_s: float = 0.5) -> Verdict:
    return asyncio.run(Panel(made, ask).judge(NOBODY, timeout_s))


def reasons(verdict: Verdict) -> dict[str, str]:
    return {left.member: left.reason for left in verdict.left_out}


def test_scores_are_the_weighted_sum_of_z_scores() -> None:
    verdict = judge(ensemble(one=0.75, two=0.25))
    np.testing.assert_allclose(verdict.scores, [[-0.5, 0.5]])
    assert verdict.left_out == []
    np.testing.assert_array_equal(verdict.members["two"], SCORES["two"])


#: In a process of its own: in this one, others have imported it already.
REHEARSED = """
import sys
from penchant.serve.answering.panel import Panel
from tests.unit.test_serve_panel import NOBODY, ask, ensemble

print("scipy.stats" in sys.modules)
Panel(ensemble("rank", one=0.5, two=0.5), ask).rehearse(NOBODY)
print("scipy.stats" in sys.modules)
"""


def test_what_combining_imports_is_there_after_a_rehearsal() -> None:
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", REHEARSED], cwd=root, check=True, capture_output=True, text=True
    )
    assert ran.stdout.split() == ["False", "True"]


def test_a_single_member_passes_unchanged() -> None:
    np.testing.assert_array_equal(judge(ensemble(two=1.0)).scores, SCORES["two"])


@pytest.mark.parametrize(
    ("member", "reason"),
    [("raises", "failed"), ("unsound", "failed"), ("misshapen", "failed"), ("full", "overloaded")],
)
def test_a_member_that_fails_is_left_out_and_the_other_weights_grow(
    member: str, reason: str
) -> None:
    verdict = judge(ensemble(**{"one": 0.6, "two": 0.2, member: 0.2}))
    np.testing.assert_allclose(verdict.scores, [[-0.5, 0.5]], rtol=1e-6)
    assert reasons(verdict) == {member: reason}


def test_a_late_member_is_left_out_at_the_deadline() -> None:
    began = time.monotonic()
    verdict = judge(ensemble(one=0.5, late=0.5), timeout_s=0.1)
    assert 0.1 <= time.monotonic() - began < 1.0
    np.testing.assert_allclose(verdict.scores, [[-1.0, 1.0]])
    assert reasons(verdict) == {"late": "deadline"}


def test_a_lone_survivor_is_still_made_comparable() -> None:
    np.testing.assert_allclose(judge(ensemble(two=0.5, raises=0.5)).scores, [[1.0, -1.0]])


def test_without_any_member_there_are_no_scores() -> None:
    verdict = judge(ensemble(raises=0.5, late=0.5), timeout_s=0.0)
    assert verdict.scores is None
    assert reasons(verdict) == {"raises": "failed", "late": "deadline"}


def of_two_stages(cheap: list[str], least: float) -> Cascade:
    first = {name: 1 / len(cheap) for name in cheap}
    return Cascade(
        normalization="zscore",
        signal="margin",
        k=1,
        stages=[
            Stage(weights=first, least_certainty=least, reached=1.0),
            Stage(
                weights={name: share / 4 for name, share in first.items()} | {"two": 0.75},
                least_certainty=None,
                reached=0.5,
            ),
        ],
        cost_ms=dict.fromkeys(cheap, 1.0) | {"two": 5.0},
    )


@pytest.mark.parametrize(("least", "asked"), [(1.5, ["one"]), (2.5, ["one", "two"])])
def test_a_cascade_asks_on_only_where_it_is_not_sure(least: float, asked: list[str]) -> None:
    """z-scores of -1 and 1: a margin of 2."""
    cascade = of_two_stages(["one"], least)
    verdict = judge(replace(ensemble(one=1.0), combination=cascade))
    expected = [[-1.0, 1.0]] if asked == ["one"] else [[0.5, -0.5]]
    np.testing.assert_allclose(verdict.scores, expected)
    assert list(verdict.members) == asked
    assert verdict.left_out == []


@pytest.mark.parametrize("cheap", [["late"], ["one", "late"], ["raises"]])
def test_a_cheap_member_that_is_late_does_not_keep_the_others_from_being_asked(
    cheap: list[str],
) -> None:
    made = replace(ensemble(one=1.0), combination=of_two_stages(cheap, 2.5))
    began = time.monotonic()
    verdict = judge(made, timeout_s=0.3)
    assert time.monotonic() - began < 0.4
    np.testing.assert_array_equal(verdict.members["two"], SCORES["two"])
    assert verdict.scores is not None
    assert reasons(verdict) == {cheap[-1]: "failed" if cheap == ["raises"] else "deadline"}


def test_a_late_stage_that_answers_after_all_counts() -> None:
    made = replace(ensemble(one=1.0), combination=of_two_stages(["one"], 2.5))

    async def slowly(member_id: str, question: Question) -> NDArray[np.float32] | None:
        await asyncio.sleep(0.3 if member_id == "one" else 0.0)
        return np.array(SCORES[member_id], dtype=np.float32)

    verdict = asyncio.run(Panel(made, slowly).judge(NOBODY, 0.5))
    assert verdict.left_out == []
    np.testing.assert_allclose(verdict.scores, [[0.5, -0.5]])


@pytest.mark.parametrize("cheap", [["one"], ["one", "late one"]])
def test_a_late_stage_that_is_sure_answers_alone(cheap: list[str]) -> None:
    """Whom nobody needs is neither waited for nor missed."""
    made = replace(ensemble(one=1.0), combination=of_two_stages(cheap, 1.5))

    async def slowly(member_id: str, question: Question) -> NDArray[np.float32] | None:
        await asyncio.sleep({"one": 0.3, "late one": 0.35}.get(member_id, 9.0))
        return np.array(SCORES["one"], dtype=np.float32)

    began = time.monotonic()
    verdict = asyncio.run(Panel(made, slowly).judge(NOBODY, 0.5))
    assert time.monotonic() - began < 0.45
    assert verdict.left_out == []
    assert list(verdict.members) == cheap
    np.testing.assert_allclose(verdict.scores, [[-1.0, 1.0]])


def test_chances_are_told_only_where_all_answered_whom_they_were_fitted_on() -> None:
    calibrated = Temperature(temperature=0.5)
    whole = replace(ensemble(one=0.75, two=0.25), calibrator=calibrated)
    broken = replace(ensemble(one=0.75, raises=0.25), calibrator=calibrated)
    chances = judge(whole).probabilities
    assert chances is not None
    np.testing.assert_allclose(chances.sum(), 1.0)
    assert judge(broken).scores is not None
    assert judge(broken).probabilities is None


def test_a_failure_is_logged_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    judge(ensemble(one=0.5, raises=0.5))
    assert "ValueError" in caplog.text
    assert "what a user wrote" not in caplog.text


def test_when_the_client_leaves_members_are_no_longer_waited_for() -> None:
    ended: list[str] = []

    async def slow(member_id: str, question: Question) -> NDArray[np.float32] | None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(member_id)
        return None

    async def leave() -> None:
        judging = asyncio.create_task(Panel(ensemble(one=0.5, two=0.5), slow).judge(NOBODY, 30))
        await asyncio.sleep(0.01)
        judging.cancel()
        await asyncio.gather(judging, return_exceptions=True)
        await asyncio.sleep(0.01)

    asyncio.run(leave())
    assert sorted(ended) == ["one", "two"]
