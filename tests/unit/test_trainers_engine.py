"""Learning rates over a run, and what may be asked of ZeRO."""

from __future__ import annotations

import pytest
from torch import nn

from penchant.platform.errors import ConfigError
from penchant.trainers.sequence.engine import share_of_rate
from penchant.trainers.zero.stages import Sharding, start_sharded


def test_the_rate_warms_up_over_a_tenth_and_fades_to_a_twentieth() -> None:
    shares = [share_of_rate(step, 1000) for step in range(1001)]
    assert shares[0] == pytest.approx(0.01, rel=1e-3)  # the first of 100 steps of warm-up
    assert max(shares) == pytest.approx(shares[99], rel=1e-2)
    assert shares[99:] == sorted(shares[99:], reverse=True)
    # half-way the cosine is at the middle of 1 and 0.05
    assert shares[500] == pytest.approx(0.525)
    assert shares[1000] == pytest.approx(0.05)


def test_a_run_of_few_steps_has_a_rate_too() -> None:
    assert share_of_rate(0, 0) > 0
    assert share_of_rate(5, 2) == pytest.approx(0.05)


@pytest.mark.parametrize("stage", [-1, 4])
def test_there_are_four_stages(stage: int) -> None:
    with pytest.raises(ConfigError, match=f"got {stage}"):
        Sharding(stage=stage)


def test_offloading_needs_a_stage() -> None:
    with pytest.raises(ConfigError, match="Raise the stage"):
        Sharding(stage=0, offload=True)
    assert Sharding(stage=1, offload=True).dtype == "fp32"


@pytest.mark.filterwarnings("ignore")  # those of importing DeepSpeed
def test_a_network_that_is_all_frozen_cannot_be_trained() -> None:
    network = nn.Linear(2, 2).requires_grad_(False)
    groups = [{"params": list(network.parameters()), "lr": 1e-3, "weight_decay": 0.0}]
    with pytest.raises(ConfigError, match="nothing to train"):
        start_sharded(network, groups, sharding=Sharding(stage=0), accumulation=1)
