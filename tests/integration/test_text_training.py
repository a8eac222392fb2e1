"""Law 3 for language models: workers and ZeRO stages change nothing that is learned."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from penchant.platform.text_recipes import Lora, TextRecipe
from penchant.trainers.fit import load_member

pytestmark = [pytest.mark.slow]

WORKER = Path(__file__).with_name("text_worker.py")
#: Sums in another order: a few float32 units, which Adam's division makes larger.
TOLERANCE = 2e-5


def _finished(command: list[str], environment: dict[str, str]) -> Any:
    return subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


class Trainings:
    """Runs trainings of one world in processes of their own."""

    def __init__(self, root: Path, recipe: TextRecipe, past: Any, select: Any) -> None:
        self.root, self.recipe = root, recipe
        root.mkdir()
        (root / "past.pickle").write_bytes(pickle.dumps((past, select)))

    def run(
        self,
        name: str,
        *,
        workers: int,
        stage: int,
        stop: int | str = 0,
        resume: str | None = None,
        save: bool = False,
        dtype: str = "fp32",
        poison: int | None = None,
        gpu: bool = False,
        offload: bool = False,
        **settings: object,
    ) -> list[dict[str, Any]]:
        """What each worker wrote down."""
        out = self.root / name
        out.mkdir()
        task = {
            "out": str(out),
            "recipe": json.loads(self.recipe.model_copy(update=settings).model_dump_json()),
            "stage": stage,
            "keep": stop,
            "stop": stop,
            "save": save,
            "dtype": dtype,
            "poison": poison,
            "gpu": gpu,
            "offload": offload,
            "resume": None if resume is None else str(self.root / resume / "checkpoint"),
        }
        (out / "task.json").write_text(json.dumps(task))
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        if not gpu:
            environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        commands = [
            [sys.executable, str(WORKER), str(out / "task.json"), str(rank), str(workers)]
            for rank in range(workers)
        ]
        with ThreadPoolExecutor(workers) as pool:
            ended = list(pool.map(lambda command: _finished(command, environment), commands))
        for process in ended:
            assert process.returncode == 0, process.stdout[-3000:]
        return [json.loads((out / f"rank{r}.json").read_text()) for r in range(workers)]


def curve(workers: list[Any]) -> np.ndarray:
    return np.array([[e["train_loss"], e["select_loss"], e["select_metric"]] for e in workers[0]])


@pytest.fixture(scope="module")
def trainings(world, tiny_base, tmp_path_factory):
    """Those of a place, with the curve of one worker; made when first asked for."""
    made: dict[str, Trainings] = {}
    recipe = TextRecipe(
        kind="text",
        base=str(tiny_base),
        epochs=3,
        patience=3,
        fit_requests=120,
        batch_requests=16,
        accumulation=2,
        negatives=8,
        learning_rate=3e-3,
        copy_half_lives_days=(20.0,),
    )

    def named(place: str) -> Trainings:
        if place not in made:
            here = world(place)
            root = tmp_path_factory.mktemp(place) / "trainings"
            made[place] = Trainings(root, recipe, here.past, here.asked())
            made[place].alone = curve(made[place].run("alone", workers=1, stage=0))
        return made[place]

    return named


@pytest.mark.parametrize("place", ["baskets", "binary"])
def test_it_learns(place, trainings):
    losses = trainings(place).alone[:, 0]
    assert losses[-1] < losses[0] - 0.02  # curves that stand still would prove nothing


@pytest.mark.parametrize(
    ("place", "stage"),
    [("baskets", 0), ("baskets", 1), ("baskets", 3), ("binary", 2)],
)
def test_two_workers_at_any_stage_have_the_curve_of_one(place, stage, trainings):
    here = trainings(place)
    two = curve(here.run(f"two-{stage}", workers=2, stage=stage))
    np.testing.assert_allclose(two, here.alone, rtol=TOLERANCE, atol=1e-6)


def test_a_run_that_was_cut_goes_on_with_other_workers_and_another_stage(trainings):
    here = trainings("baskets")
    here.run("cut", workers=2, stage=3, stop=1)
    resumed = curve(here.run("cut-on", workers=1, stage=1, resume="cut"))
    assert len(resumed) == 3
    np.testing.assert_allclose(resumed, here.alone, rtol=TOLERANCE, atol=1e-6)


@pytest.mark.parametrize("place", ["baskets", "binary"])
def test_a_run_that_was_cut_amid_an_epoch_goes_on_from_there(place, trainings):
    """Epochs of a language model take long: most trainings have one or two."""
    here = trainings(place)
    here.run("amid", workers=2, stage=2, stop="step 11")  # of the second epoch, 8 steps each
    resumed = here.run("amid-on", workers=1, stage=0, resume="amid")
    np.testing.assert_allclose(curve(resumed), here.alone, rtol=TOLERANCE, atol=1e-6)
    # 13 of 24 steps were left, of two parts each
    assert (here.root / "amid-on" / "parts0.txt").read_text() == "26"


def test_adapters_learn(trainings):
    found = curve(trainings("binary").run("lora", workers=1, stage=0, lora=Lora(rank=4)))
    assert found[-1, 0] < found[0, 0]


@pytest.mark.parametrize(("place", "stage"), [("baskets", 1), ("baskets", 3), ("binary", 2)])
def test_in_bf16_it_learns_what_it_learns_in_fp32(place, stage, trainings):
    """What GPUs compute in: losses are within a hundredth of each other."""
    here = trainings(place)
    found = curve(here.run(f"bf16-{stage}", workers=2, stage=stage, dtype="bf16"))
    np.testing.assert_allclose(found[:, :2], here.alone[:, :2], rtol=1e-2)
    assert found[-1, 0] < found[0, 0]


def test_workers_stop_together_when_the_loss_of_one_is_no_number(trainings):
    here = trainings("binary")
    here.run("poison", workers=2, stage=1, poison=1)
    told = {(here.root / "poison" / f"error{rank}.txt").read_text() for rank in range(2)}
    assert len(told) == 1
    (message,) = told
    assert "the loss is nan at step 9 (epoch 2)" in message  # 120 requests, 16 a batch
    assert "after epoch 1, is kept" in message


def test_what_each_worker_holds_is_kept_beside_the_estimate(trainings):
    here = trainings("binary")
    for name, workers, stage in (("whole", 1, 0), ("spread", 2, 3)):
        here.run(name, workers=workers, stage=stage, epochs=1, save=True)
    held = {
        name: json.loads((here.root / name / "member" / "member.json").read_text())["state"][
            "facts"
        ]["held"]
        for name in ("whole", "spread")
    }
    assert [len(held[name]) for name in ("whole", "spread")] == [1, 2]
    (alone,) = held["whole"]
    assert alone["optimizer_bytes"] == pytest.approx(2 * alone["weights_bytes"], rel=0.1)
    for worker in held["spread"]:  # of this small model, stage 3 keeps the weights whole
        assert worker["optimizer_bytes"] < 0.6 * alone["optimizer_bytes"]
        assert worker["process_bytes"] > 10_000_000


@pytest.mark.gpu
@pytest.mark.parametrize("place", ["baskets", "binary"])
@pytest.mark.parametrize(("stage", "offload"), [(0, False), (3, True)])
def test_a_gpu_learns_what_cpus_learn_and_scores_alike(place, stage, offload, trainings, world):
    here = trainings(place)
    name = f"gpu-{stage}"
    trained = here.run(
        name, workers=1, stage=stage, offload=offload, dtype="bf16", gpu=True, save=True
    )
    np.testing.assert_allclose(curve(trained)[:, :2], here.alone[:, :2], rtol=1e-2)
    scores = load_file(here.root / name / "scores.safetensors")["scores"]
    member = load_member(here.root / name / "member")  # on the CPU, as an endpoint has it
    again = member.score(world(place).log, world(place).asked())
    np.testing.assert_allclose(again, scores, rtol=1e-3, atol=1e-3)
