"""Which ZeRO stage a language model needs, from what it takes and what a worker has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from penchant.platform.cluster import cpu_budget
from penchant.platform.errors import ConfigError
from penchant.trainers.zero.stages import Sharding

__all__ = [
    "Dial",
    "Estimate",
    "choose_sharding",
    "estimate",
    "hardware_dtype",
    "worker_memory_bytes",
]

Dial = Literal["auto", "zero0", "zero1", "zero2", "zero3", "offload"]

_SHARE = 0.8  # of a worker's memory; the rest is for buffers, the log, and Python itself
_FP32 = 4
_MOMENTS = 2 * _FP32
#: Bytes of activations a token, layer and unit of width, at two bytes a number: Korthikanti et al.
#: 2022, equation 1, without its attention matrix, which PyTorch's fused attention does not keep.
_ACTIVATION_BYTES = 34
_GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Bytes that training takes in one worker: the GPU's with `gpu`, else the host's."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Bytes of all four."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.total / _GIB:.2f} GiB a worker (weights {self.weights / _GIB:.2f}, "
            f"gradients {self.gradients / _GIB:.2f}, optimizer {self.optimizer / _GIB:.2f}, "
            f"activations {self.activations / _GIB:.2f})"
        )


def estimate(
    sharding: Sharding,
    *,
    parameters: int,
    trainable: int,
    workers: int,
    batch_tokens: int,
    hidden: int,
    layers: int,
    gpu: bool,
    checkpointing: bool = False,
) -> Estimate:
    """What a worker takes (Rajbhandari et al. 2020, figure 1; AdamW with fp32 moments).

    Args:
        batch_tokens: tokens that pass through one worker at once: its share of a batch, divided by
            the parts that the batch is accumulated from.
        gpu: whether offloaded state leaves the memory that is counted.
        checkpointing: whether activations are computed again, layer by layer, from the states that
            went into each layer, which are all that is kept (Chen et al. 2016).
    """
    width = 2 if sharding.dtype == "bf16" else _FP32
    stage = max(sharding.stage, int(width == 2))  # bf16 keeps fp32 copies, which begin at stage 1
    # Stages 1 and 2 step on a copy of their slice. Stage 3 steps on the weights, if they are fp32.
    copied = stage in (1, 2) or (stage == 3 and (width == 2 or sharding.offload))
    state = (_MOMENTS + _FP32 * copied) * trainable // (workers if stage else 1)
    gradients = width * trainable // (workers if stage >= 2 else 1)
    away = sharding.offload and gpu
    each_layer = _ACTIVATION_BYTES * width // 2 * batch_tokens * hidden
    states = width * batch_tokens * hidden * layers
    return Estimate(
        weights=width * parameters // (workers if stage == 3 else 1),
        gradients=0 if away and stage >= 2 else gradients,
        optimizer=0 if away else state,
        activations=states + each_layer if checkpointing else each_layer * layers,
    )


def choose_sharding(
    dial: Dial,
    *,
    parameters: int,
    trainable: int,
    workers: int,
    batch_tokens: int,
    hidden: int,
    layers: int,
    memory_bytes: int,
    gpu: bool,
    batch_dials: Sequence[str],
    checkpointing: bool = False,
) -> tuple[Sharding, Estimate]:
    """The sharding that a dial means here, and what it takes.

    `auto` is the lowest stage whose estimate fits 80% of a worker's memory; stages above 0 need
    several workers. Where none fits, a GPU hands the optimizer to the host. `offload` is stage 3
    with several workers, else 2. A stage that is asked for is taken whether it fits or not.

    Args:
        trainable: those of `parameters` that learn.
        batch_tokens: tokens that pass through one worker at once.
        hidden: width of the model's states.
        memory_bytes: memory of one worker, see `worker_memory_bytes`.
        batch_dials: what makes activations smaller, in the words of the settings.
        checkpointing: whether activations are computed twice instead of kept.

    Raises:
        ConfigError: nothing fits (`auto`), or there is no GPU to offload from.
    """
    dtype = hardware_dtype(gpu)

    def sized(stage: int, *, offload: bool = False) -> tuple[Sharding, Estimate]:
        sharding = Sharding(stage=stage, offload=offload, dtype=dtype)
        return sharding, estimate(
            sharding,
            parameters=parameters,
            trainable=trainable,
            workers=workers,
            batch_tokens=batch_tokens,
            hidden=hidden,
            layers=layers,
            gpu=gpu,
            checkpointing=checkpointing,
        )

    offloaded = sized(3 if workers > 1 else 2, offload=True)
    if dial == "offload":
        if not gpu:
            raise ConfigError(
                "sharding `offload` moves the optimizer from a GPU to the host, but the workers "
                "have no GPU. Use `auto`, or `zero3` with more workers."
            )
        return offloaded
    if dial != "auto":
        return sized(int(dial.removeprefix("zero")))
    tried = [sized(stage) for stage in (range(4) if workers > 1 else range(1))]
    for choice in [*tried, offloaded] if gpu else tried:
        if choice[1].total <= _SHARE * memory_bytes:
            return choice
    least = min([tried[-1], offloaded] if gpu else tried, key=lambda choice: choice[1].total)[1]
    raise ConfigError(_too_large(least, parameters, workers, memory_bytes, batch_dials))


def _too_large(
    least: Estimate, parameters: int, workers: int, memory_bytes: int, batch_dials: Sequence[str]
) -> str:
    dial = ", or ".join(batch_dials)
    if least.activations < least.total / 2:
        dial = "add workers, or train adapters (lora) or fewer layers of the base"
    return (
        f"training {parameters / 1e6:.0f} M parameters takes at least {least.describe()} on "
        f"{workers} workers, but 80% of a worker's memory is "
        f"{_SHARE * memory_bytes / _GIB:.2f} GiB. To make it fit, {dial}."
    )


def hardware_dtype(gpu: bool) -> Literal["fp32", "bf16"]:
    """`bf16` on a GPU; CPUs compute in fp32, so that what is learned does not depend on which."""
    return "bf16" if gpu else "fp32"


def worker_memory_bytes(workers: int) -> int:
    """Memory of one worker: its GPU's, or its share of what this process may use of the host."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return cpu_budget().memory_bytes // workers
