"""Curves of real trainings: one value a step after a cut, the same for any number of workers."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from penchant.platform.recipes import SequenceRecipe, Size
from penchant.platform.text_recipes import TextRecipe
from penchant.platform.tracking import STEPS_FILE, read_steps
from penchant.trainers.member import read_card

pytestmark = [pytest.mark.slow]

WORKER = Path(__file__).with_name("tracked_worker.py")
#: Sums in another order: a few float32 units, which Adam's division makes larger.
TOLERANCE = 2e-5
Train = Callable[..., tuple[list[dict[str, float]], list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def recipe_of(tiny_base: Path) -> Callable[[str], SequenceRecipe | TextRecipe]:
    def recipe(kind: str) -> SequenceRecipe | TextRecipe:
        if kind == "sequence":
            size = Size(dim=16, layers=1, heads=2)
            return SequenceRecipe(kind="sequence", size=size, epochs=3, patience=3, batch_tokens=64)
        return TextRecipe(
            kind="text",
            base=str(tiny_base),
            epochs=3,
            patience=3,
            fit_requests=120,
            batch_requests=16,
            accumulation=2,
            negatives=8,
        )

    return recipe


@pytest.fixture(scope="module")
def train(
    world: Any, recipe_of: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Train:
    """Trains a member, or goes on with it: the lines of its steps file, and its epochs."""
    here = world("baskets")
    root = tmp_path_factory.mktemp("tracked")
    (root / "past.pickle").write_bytes(pickle.dumps((here.past, here.asked())))

    def trained(
        name: str,
        kind: str,
        *,
        workers: int = 1,
        stage: int = 0,
        keep: int = 0,
        stop: int = 0,
        **changes: object,
    ) -> tuple[list[dict[str, float]], list[dict[str, Any]]]:
        out = root / name
        out.mkdir(exist_ok=True)
        recipe = recipe_of(kind).model_dump(mode="json") | changes
        task = {"out": str(out), "recipe": recipe, "stage": stage, "keep": keep, "stop": stop}
        path = out / f"task-{stop}.json"
        path.write_text(json.dumps(task))
        environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}

        def start(rank: int) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, str(WORKER), str(path), str(rank), str(workers)]
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=120, check=False
            )

        with ThreadPoolExecutor(workers) as pool:
            for ended in pool.map(start, range(workers)):
                assert ended.returncode == 0, ended.stderr[-3000:]
        steps = read_steps(out / "members" / "one" / STEPS_FILE)
        return steps, json.loads((out / "history.json").read_text())

    return trained


@pytest.fixture(scope="module")
def alone(train: Train) -> Train:
    """The training of a kind by one worker without a cut; made once."""
    return cache(lambda kind: train(f"{kind}-alone", kind))


@pytest.mark.parametrize("kind", ["sequence", "text"])
def test_a_curve_has_one_value_a_step_also_after_a_cut(
    kind: str, train: Train, alone: Train
) -> None:
    """The checkpoint of the first epoch is kept; the second is trained, told, and lost."""
    whole, history = alone(kind)
    lost, _ = train(f"{kind}-cut", kind, keep=1, stop=2)
    resumed, _ = train(f"{kind}-cut", kind)
    assert {line["epoch"] for line in lost} == {0, 1}
    steps = [line["step"] for line in resumed]
    assert steps == sorted(set(steps))
    assert {line["epoch"] for line in resumed} == {0, 1, 2}
    ends = [line for line in resumed if "select_loss" in line]
    expected = [line for line in whole if "select_loss" in line]
    assert len(ends) == len(history) == 3
    for name in ("step", "train_loss", "select_loss", "select_ndcg@10"):
        values = [[line[name] for line in part] for part in (ends, expected)]
        np.testing.assert_allclose(*values, rtol=TOLERANCE, atol=1e-6)


@pytest.mark.parametrize("kind", ["sequence", "text"])
def test_ending_early_changes_no_learning_rate(kind: str, train: Train, alone: Train) -> None:
    """A refit that ends where the first fit was best has walked the same way up to there."""
    whole, _ = alone(kind)
    short, history = train(f"{kind}-short", kind, kept_epochs=[2])
    assert [epoch["epoch"] for epoch in history] == [0, 1]
    ends = [line for line in short if "select_loss" in line]
    expected = [line for line in whole if "select_loss" in line][:2]
    for name in ("step", "learning_rate", "train_loss", "select_loss"):
        values = [[line[name] for line in part] for part in (ends, expected)]
        np.testing.assert_allclose(*values, rtol=TOLERANCE, atol=1e-6)


def test_a_mean_of_epochs_that_are_told_is_theirs(
    train: Train, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever `select` would say: a refit has learned from it."""
    found = {}
    for kept in ([1], [3], [1, 3]):
        name = f"sequence-kept-{len(kept)}-{kept[0]}"
        train(name, "sequence", kept_epochs=kept, learning_rate=0.1)
        root = next(tmp_path_factory.getbasetemp().glob(f"tracked*/{name}/member"))
        found[len(kept), kept[0]] = load_file(root / "model.safetensors")
    for name, mean in found[2, 1].items():
        expected = (found[1, 1][name] + found[1, 3][name]) / 2
        np.testing.assert_allclose(mean, expected, rtol=TOLERANCE, atol=1e-6)
    assert any(not np.allclose(t, found[1, 3][n], atol=1e-3) for n, t in found[1, 1].items())


def test_epochs_as_members_are_what_a_training_that_keeps_them_alone_gives(
    train: Train, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The best of three epochs is the member itself; the other two stand beside it."""
    _, history = train("sequence-epochs", "sequence", epoch_members=3, learning_rate=0.1)
    losses = [epoch["select_loss"] for epoch in history]
    others = sorted({1, 2, 3} - {losses.index(min(losses)) + 1})
    root = next(tmp_path_factory.getbasetemp().glob("tracked*/sequence-epochs"))
    kept = {read_card(place)[0].kept_epochs: place for place in root.glob("*-epoch-*")}
    assert sorted(kept) == [(number,) for number in others]
    train("sequence-only", "sequence", kept_epochs=others[:1], learning_rate=0.1)
    alone = load_file(root.with_name("sequence-only") / "member" / "model.safetensors")
    found = load_file(kept[others[0],] / "model.safetensors")
    for tensor, expected in alone.items():
        np.testing.assert_allclose(found[tensor], expected, rtol=TOLERANCE, atol=1e-6)


@pytest.mark.parametrize("kind", ["sequence", "text"])
def test_the_steps_of_an_epoch_add_up_to_what_its_history_says(kind: str, alone: Train) -> None:
    """A line is the mean over the steps since the one before."""
    lines, history = alone(kind)
    numbers = np.diff([0, *(line["step"] for line in lines)])
    for epoch in history:
        own = [line["epoch"] == epoch["epoch"] for line in lines]
        losses = [line["loss"] for line in lines if line["epoch"] == epoch["epoch"]]
        mean = np.average(losses, weights=numbers[own])
        assert mean == pytest.approx(epoch["train_loss"], rel=1e-5)
    for line in lines:
        assert line["gradient_norm"] > 0
        assert 0 < line["peak_share"] < 1.2
        assert line["tokens_per_s"] > 0
        assert line["memory_mb"] > 50


@pytest.mark.parametrize(("kind", "stage"), [("sequence", 0), ("text", 3)])
def test_two_workers_have_the_curve_of_one(
    kind: str, stage: int, train: Train, alone: Train
) -> None:
    one, _ = alone(kind)
    two, _ = train(f"{kind}-two-{stage}", kind, workers=2, stage=stage)
    curves = [{line["step"]: line for line in lines} for lines in (one, two)]
    both = sorted(curves[0].keys() & curves[1].keys())
    ends = [step for step in both if "select_loss" in curves[0][step]]
    assert len(ends) == 3
    for name, steps in (("train_loss", ends), ("select_loss", ends), ("gradient_norm", both)):
        values = [[curve[step][name] for step in steps] for curve in curves]
        np.testing.assert_allclose(*values, rtol=1e-3 if name == "gradient_norm" else TOLERANCE)
