"""Choice of a ZeRO stage from the memory that it takes."""

from __future__ import annotations

from typing import Any

import pytest

from penchant.platform.cluster import Budget
from penchant.platform.errors import ConfigError
from penchant.platform.text_recipes import TextRecipe
from penchant.trainers.memory_trouble import smaller_batch
from penchant.trainers.worker import _dials
from penchant.trainers.zero import memory_plan
from penchant.trainers.zero.memory_plan import Estimate, choose_sharding, estimate
from penchant.trainers.zero.stages import Sharding

MILLION = 1_000_000


def choose(dial: Any, memory_bytes: int, **changed: Any) -> Any:
    """For 100 M parameters, all of which learn, and next to no activations."""
    size = {"parameters": 100 * MILLION, "trainable": 100 * MILLION, "workers": 2}
    batch = {"batch_tokens": 1, "hidden": 1, "layers": 1, "gpu": False, "batch_dials": ["less"]}
    return choose_sharding(dial, memory_bytes=memory_bytes, **(size | batch | changed))


# fp32, 2 workers, bytes a parameter: weights + gradients + moments + copy of the slice
# stage 0: 4 + 4 + 8; stage 1: 4 + 4 + 4 + 2; stage 2: 4 + 2 + 4 + 2; stage 3: 2 + 2 + 4
@pytest.mark.parametrize(("stage", "each"), [(0, 16), (1, 14), (2, 12), (3, 8)])
def test_auto_takes_the_lowest_stage_that_fits(stage: int, each: int) -> None:
    just = int(each * 100 * MILLION / 0.8) + 1000
    sharding, found = choose("auto", just)
    assert sharding == Sharding(stage=stage)
    assert found.total == pytest.approx(each * 100 * MILLION, abs=1000)


def test_one_worker_is_never_sharded() -> None:
    assert choose("auto", 10**12, workers=1)[0].stage == 0
    with pytest.raises(ConfigError, match="add workers"):
        choose("auto", 10**9, workers=1)


def test_a_gpu_hands_the_optimizer_to_the_host_at_last() -> None:
    # bf16: 2 of weights; gradients and optimizer are away
    sharding, found = choose("auto", 300 * MILLION, gpu=True, workers=1)
    assert sharding == Sharding(stage=2, offload=True, dtype="bf16")
    assert found.total == pytest.approx(200 * MILLION, abs=1000)


def test_what_fits_nowhere_is_refused_with_the_dial_to_turn() -> None:
    with pytest.raises(ConfigError, match=r"100 M parameters .* 0\.\d\d GiB a worker.*lora"):
        choose("auto", 100 * MILLION)
    large = {"batch_tokens": 100_000, "hidden": 1000, "layers": 10}
    with pytest.raises(ConfigError, match="To make it fit, read less, or more often"):
        choose("auto", 10**9, batch_dials=["read less", "more often"], **large)
    with pytest.raises(ConfigError, match="no GPU"):
        choose("offload", 10**12)


@pytest.mark.parametrize("stage", range(4))
def test_a_stage_that_is_asked_for_is_taken(stage: int) -> None:
    assert choose(f"zero{stage}", 1)[0].stage == stage


@pytest.mark.parametrize(("gpu", "dtype"), [(False, "fp32"), (True, "bf16")])
def test_cpus_compute_in_fp32_and_gpus_in_bf16(gpu: bool, dtype: str) -> None:
    assert choose("zero0", 1, gpu=gpu)[0].dtype == dtype


def test_frozen_weights_have_neither_gradients_nor_moments() -> None:
    size = {"workers": 1, "batch_tokens": 10, "hidden": 8, "layers": 3, "gpu": False}
    found = estimate(Sharding(stage=0), parameters=1000, trainable=10, **size)
    assert (found.weights, found.gradients, found.optimizer) == (4000, 40, 80)
    assert found.activations == 34 * 2 * 10 * 8 * 3  # 34 bytes at two bytes a number


def test_checkpointing_keeps_a_state_of_each_layer_and_computes_one_layer_at_a_time() -> None:
    size = {"parameters": 10, "trainable": 10, "workers": 1, "gpu": False, "checkpointing": True}
    batch = {"batch_tokens": 10, "hidden": 8, "layers": 3}
    for dtype, width in (("fp32", 4), ("bf16", 2)):
        found = estimate(Sharding(stage=1, dtype=dtype), **size, **batch)
        states, one_layer = width * 10 * 8 * 3, 17 * width * 10 * 8
        assert found.activations == states + one_layer


def test_checkpointing_fits_where_keeping_activations_does_not() -> None:
    # 12 layers: 12 * 68 bytes a token and unit of width, or 68 + 12 * 4
    size = {"parameters": 1, "trainable": 1, "workers": 1, "batch_tokens": 10**6, "hidden": 10}
    memory_bytes = int(12 * 68 * 10**7 / 0.8) - 1
    with pytest.raises(ConfigError, match="To make it fit, less"):
        choose("auto", memory_bytes, layers=12, **size)
    _, found = choose("auto", memory_bytes, layers=12, checkpointing=True, **size)
    assert found.activations == (68 + 12 * 4) * 10**7


def test_workers_share_what_the_process_may_use_not_what_the_machine_has(monkeypatch) -> None:
    monkeypatch.setattr(memory_plan.torch.cuda, "is_available", lambda: False)
    budget = Budget(cpus=8, memory_bytes=12_000)
    monkeypatch.setattr(memory_plan, "cpu_budget", lambda: budget)
    assert memory_plan.worker_memory_bytes(3) == 4_000


@pytest.mark.parametrize(
    ("task", "settings", "expected"),
    [
        ("next_item", {}, "batch_requests, history.max_tokens or negatives"),
        ("next_item", {"negatives": 0}, "batch_requests or history.max_tokens"),
        ("binary", {}, "batch_requests or history.max_tokens"),
    ],
)
def test_negatives_are_a_dial_where_they_are_drawn(task: Any, settings: Any, expected: str) -> None:
    wanted = ["raise accumulation", f"lower {expected}"]
    recipe = TextRecipe(kind="text", gradient_checkpointing=True, **settings)
    assert smaller_batch(recipe, task) == wanted
    keeping = TextRecipe(kind="text", **settings)
    assert smaller_batch(keeping, task) == [*wanted, "set gradient_checkpointing"]
    assert f"{', '.join(wanted)}, take fewer layers" in _dials(recipe, task)


def test_the_description_is_one_line_of_gibibytes() -> None:
    found = Estimate(weights=2**30, gradients=2**29, optimizer=2**31, activations=0)
    assert found.describe() == (
        "3.50 GiB a worker (weights 1.00, gradients 0.50, optimizer 2.00, activations 0.00)"
    )
