"""Choice of a ZeRO stage from the memory that it takes."""

from __future__ import annotations

from typing import Any

import pytest

from penchant.platform.errors import ConfigError
from penchant.trainers.zero.memory_plan import Estimate, choose_sharding, estimate
from penchant.trainers.zero.stages import Sharding

MILLION = 1_000_000


def choose(dial: Any, memory_bytes: int, **changed: Any) -> Any:
    """For 100 M parameters, all of which learn, and next to no activations."""
    size = {"parameters": 100 * MILLION, "trainable": 100 * MILLION, "workers": 2}
    batch = {"batch_tokens": 1, "hidden": 1, "layers": 1, "gpu": False}
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
    with pytest.raises(ConfigError, match="raise accumulation"):
        choose("auto", 10**9, batch_tokens=100_000, hidden=1000, layers=10)
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


def test_the_description_is_one_line_of_gibibytes() -> None:
    found = Estimate(weights=2**30, gradients=2**29, optimizer=2**31, activations=0)
    assert found.describe() == (
        "3.50 GiB a worker (weights 1.00, gradients 0.50, optimizer 2.00, activations 0.00)"
    )
