"""DeepSpeed with ZeRO around a language model: weights, gradients and moments spread over workers.

ZeRO (Rajbhandari et al. 2020) cuts up what every worker would hold alike: the optimizer's moments
(stage 1), gradients too (2), weights too (3). DeepSpeed's own checkpoints are pickles tied to a
stage and a number of workers. Ours are whole tensors in safetensors, gathered one by one, so that
any stage and any number of workers can go on from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from penchant.platform.errors import ConfigError, RunError
from penchant.trainers.zero.state import (
    MOMENTS,
    learning,
    link_state,
    make_state,
    put_moment,
    put_weight,
    share_weights,
    steps_taken,
    whole_moment,
    whole_weight,
)

__all__ = [
    "Sharding",
    "full_weights",
    "gathered",
    "load_sharded",
    "save_sharded",
    "start_sharded",
]

#: Stage 3 keeps smaller parameters whole: biases and gains cost more to fetch than to hold.
_KEPT_WHOLE = 10_000
_BUCKET = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """What is spread over the workers.

    Attributes:
        stage: ZeRO stage, 0 to 3.
        offload: keep the optimizer, and its step, in the memory of the host.
        dtype: of weights and activations in the forward pass; the optimizer works in fp32 always.
            In bf16 stage 0 runs as stage 1, where DeepSpeed's fp32 copies begin.

    Raises:
        ConfigError: no such stage, or offloading without one.
    """

    stage: int
    offload: bool = False
    dtype: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        if self.stage not in range(4):
            raise ConfigError(f"the ZeRO stage must be 0, 1, 2 or 3, got {self.stage}.")
        if self.offload and self.stage == 0:
            raise ConfigError("offload needs ZeRO stage 1, 2 or 3, got stage 0. Raise the stage.")

    def describe(self) -> str:
        """A few words for people."""
        return f"ZeRO-{self.stage}{' with offload' if self.offload else ''} in {self.dtype}"


def start_sharded(
    network: nn.Module, groups: list[dict[str, Any]], *, sharding: Sharding, accumulation: int
) -> Any:
    """A DeepSpeed engine; torch.distributed must be up, as it is in every Ray Train worker.

    Args:
        groups: parameter groups of AdamW, each with `params`, `lr` and `weight_decay`; parameters
            that do not require a gradient are left out, and groups without any.
        accumulation: passes of `backward` and `step` that make one update, of their mean gradient.

    Raises:
        ConfigError: no parameter requires a gradient.
    """
    import deepspeed

    # DeepSpeed would compile its shared-memory all-reduce for tensor-parallel inference, half a
    # minute on a fresh machine; gradients go through gloo or NCCL.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    taught = [g | {"params": [p for p in g["params"] if p.requires_grad]} for g in groups]
    taught = [group for group in taught if group["params"]]
    if not taught:
        raise ConfigError(
            "no parameter of the network requires a gradient, so there is nothing to train. "
            "Leave some layers unfrozen, or add adapters."
        )
    # PyTorch's AdamW also steps in host memory, so that nothing has to be compiled for it.
    optimizer = torch.optim.AdamW(taught, betas=(0.9, 0.98), fused=True)
    numbers = sum(p.numel() for group in taught for p in group["params"])
    exact = _exact_weights(taught) if sharding.dtype == "bf16" else {}
    engine, *_ = deepspeed.initialize(
        model=network,
        optimizer=optimizer,
        dist_init_required=False,
        config=_settings(sharding, accumulation, numbers),
    )
    if not sharding.offload:
        share_weights(engine)
    for parameter, weight in exact.items():
        put_weight(engine, parameter, weight)
    return engine


def _exact_weights(groups: list[dict[str, Any]]) -> dict[nn.Parameter, Tensor]:
    """Weights before DeepSpeed casts them: its fp32 copies would begin with the rounded ones.

    They are no copies: a cast gives each parameter another memory and leaves this one.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    return {p: p.detach() for p in parameters if p.dtype == torch.float32}


def _settings(sharding: Sharding, accumulation: int, numbers: int) -> dict[str, Any]:
    half = sharding.dtype == "bf16"
    zero: dict[str, Any] = {
        "stage": max(sharding.stage, int(half)),
        "stage3_param_persistence_threshold": _KEPT_WHOLE,
        # A buffer of so many numbers; the default is two gigabytes, however small the model.
        "reduce_bucket_size": min(numbers, _BUCKET),
        # Release weights after use: DeepSpeed would keep a billion of them until the step's end.
        "stage3_max_reuse_distance": 0,
    }
    if sharding.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": 1,  # our batches are counted in requests
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": half},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000_000,
    }


@contextmanager
def gathered(engine: Any) -> Iterator[None]:
    """Inside, every worker holds all weights of `engine.module` and may call it on its own.

    Entering and leaving are collective. Weights that are changed inside are not kept.
    """
    import deepspeed

    if engine.zero_optimization_stage() < 3:
        yield
        return
    # DeepSpeed's hooks fetch weights together and would wait for workers with fewer batches; this
    # takes them off, gathers, and puts them on again.
    with deepspeed.zero.unwrap_model_for_generation(engine):
        yield


def full_weights(engine: Any) -> dict[str, Tensor]:
    """Copies of all weights of `engine.module` on the CPU, on every worker. Collective.

    Of those that learn what the optimizer steps on, in fp32: updates smaller than a step of bf16
    would be lost in what the forward pass reads. The others as they are.
    """
    import deepspeed

    weights = dict[str, Tensor]()
    taught = {id(parameter) for parameter in learning(engine).values()}
    for name, tensor in engine.module.state_dict(keep_vars=True).items():
        if id(tensor) in taught:
            weights[name] = whole_weight(engine, tensor).detach().to("cpu", copy=True)
            continue
        with deepspeed.zero.GatheredParameters([tensor], enabled=hasattr(tensor, "ds_id")):
            weights[name] = tensor.detach().to("cpu", copy=True)
    return weights


def save_sharded(engine: Any, progress: dict[str, Any], directory: Path, rank: int) -> None:
    """Write weights that learn, their moments, and where the run stands. Every worker calls it.

    Rank 0 writes `state.safetensors` (fp32, whole tensors) and `progress.json`; the others only
    take part. Between updates only: gradients that wait for more passes are not kept.
    """
    steps = steps_taken(engine)
    if steps:
        link_state(engine)
    tensors = {"step": torch.tensor(steps)}
    for name, parameter in learning(engine).items():
        found = {f"model.{name}": whole_weight(engine, parameter)}
        for moment in MOMENTS if steps else ():
            found[f"{moment}.{name}"] = whole_moment(engine, parameter, moment)
        if rank == 0:
            tensors |= {key: t.detach().cpu().contiguous() for key, t in found.items()}
    if rank == 0:
        directory.mkdir(parents=True, exist_ok=True)
        save_file(tensors, directory / "state.safetensors")
        (directory / "progress.json").write_text(json.dumps(progress))
    torch.distributed.barrier()


def load_sharded(engine: Any, directory: Path) -> dict[str, Any]:
    """Put an engine of any stage, on any number of workers, back where `save_sharded` left one.

    Every worker must be able to read `directory`. Returns the progress.

    Raises:
        RunError: the checkpoint is of another network.
    """
    tensors = load_file(directory / "state.safetensors")
    parameters = learning(engine)
    saved = {key.removeprefix("model.") for key in tensors if key.startswith("model.")}
    if saved != parameters.keys():
        odd = ", ".join(sorted(saved ^ parameters.keys())[:3])
        raise RunError(
            f"checkpoint {directory} holds {len(saved)} weights, the network trains "
            f"{len(parameters)}; only one of them has {odd}. Resume with the recipe that the run "
            "began with, or start a new run."
        )
    steps = int(tensors["step"])
    if steps:
        make_state(engine, steps)
    for name, parameter in parameters.items():
        put_weight(engine, parameter, tensors[f"model.{name}"])
        for moment in MOMENTS if steps else ():
            put_moment(engine, parameter, moment, tensors[f"{moment}.{name}"])
    progress: dict[str, Any] = json.loads((directory / "progress.json").read_text())
    return progress
