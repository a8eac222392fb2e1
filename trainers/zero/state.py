"""Whole weights and moments, out of a DeepSpeed engine of any ZeRO stage and back into it.

Where they are: stage 0 leaves AdamW's state at the parameters. Stages 1 and 2 flatten each group
and give every worker one slice of it. Stage 3 gives every worker a slice of each parameter, the
last one padded. Moments exist from the first update on.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "MOMENTS",
    "held_bytes",
    "is_finite",
    "learning",
    "link_state",
    "make_state",
    "put_moment",
    "put_weight",
    "share_weights",
    "steps_taken",
    "whole_moment",
    "whole_weight",
]

MOMENTS = ("exp_avg", "exp_avg_sq")


def learning(engine: Any) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient, by name."""
    named = engine.module.named_parameters()
    return {name: parameter for name, parameter in named if parameter.requires_grad}


def steps_taken(engine: Any) -> int:
    """Updates that the optimizer has made."""
    return max((int(state.get("step", 0)) for state in _adam(engine).state.values()), default=0)


def whole_weight(engine: Any, parameter: nn.Parameter) -> Tensor:
    """A weight in fp32, whole. Collective above stage 0."""
    from deepspeed.utils import safe_get_full_fp32_param

    if engine.zero_optimization_stage() == 0:
        return parameter
    weight: Tensor = safe_get_full_fp32_param(parameter)
    return weight


def whole_moment(engine: Any, parameter: nn.Parameter, moment: str) -> Tensor:
    """A moment, whole; zeros where the parameter never had a gradient. Collective above stage 0."""
    from deepspeed.utils import safe_get_full_optimizer_state

    if engine.zero_optimization_stage() == 0:
        kept: Tensor = _adam(engine).state[parameter].get(moment, torch.zeros_like(parameter))
        return kept
    value: Tensor = safe_get_full_optimizer_state(parameter, moment)
    return value


def make_state(engine: Any, steps: int) -> None:
    """Give AdamW the state that it would have after so many updates, moments still zero."""
    for holder in _holders(engine):
        _adam(engine).state[holder] = {
            "step": torch.tensor(float(steps), device=holder.device),
            **{moment: torch.zeros_like(holder) for moment in MOMENTS},
        }
    link_state(engine)


def share_weights(engine: Any) -> None:
    """Stage 3 in fp32: step on the weights themselves, not on a copy of them.

    DeepSpeed means to do so, but compares a device with a string and so makes the copy.
    """
    if engine.zero_optimization_stage() < 3:
        return
    optimizer = engine.optimizer
    weights = optimizer.fp16_partitioned_groups_flat  # fp16 in name only
    for holder, weight in zip(optimizer.fp32_partitioned_groups_flat, weights, strict=True):
        if (holder.dtype, holder.device) == (weight.dtype, weight.device):
            holder.data = weight.data


def link_state(engine: Any) -> None:
    """Let each parameter know its part of the optimizer's flat state, in stages 1 and 2.

    DeepSpeed does so once, after its first step of the first group, when the state of later groups
    does not exist yet.
    """
    if engine.zero_optimization_stage() in (1, 2):
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def put_weight(engine: Any, parameter: nn.Parameter, value: Tensor) -> None:
    """Set this worker's part of a weight: what the forward pass reads and the optimizer's copy."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

    stage = engine.zero_optimization_stage()
    if stage == 3:
        part = _part(engine, parameter, value)
        safe_set_local_fp32_param(parameter, part)
        _slice(parameter).copy_(part)
    elif stage:
        safe_set_full_fp32_param(parameter, value)
    if parameter.shape == value.shape:  # stage 3 keeps small parameters whole beside their parts
        parameter.data.copy_(value)


def put_moment(engine: Any, parameter: nn.Parameter, moment: str, value: Tensor) -> None:
    """Set this worker's part of a moment; `make_state` must have made its place."""
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    stage = engine.zero_optimization_stage()
    if stage == 0:
        _adam(engine).state[parameter][moment].copy_(value)
    elif stage == 3:
        safe_set_local_optimizer_state(parameter, _part(engine, parameter, value), moment)
    else:
        safe_set_full_optimizer_state(parameter, value, moment)


def held_bytes(engine: Any) -> dict[str, int]:
    """Bytes that this worker holds between steps, gradients apart: `weights` and `optimizer`.

    Memory that two tensors share counts once: in fp32 stage 3 steps on the weights themselves,
    stages 1 and 2 on a copy of their slice, which counts as the optimizer's.
    """
    weights = _Storage()
    for parameter in engine.module.parameters():
        weights.add(parameter.data)
        if hasattr(parameter, "ds_tensor"):
            weights.add(_slice(parameter))
    optimizer = _Storage(weights.seen)
    for holder in _holders(engine):
        optimizer.add(holder.data)
        for value in _adam(engine).state[holder].values():
            optimizer.add(value)
    return {"weights": weights.num_bytes, "optimizer": optimizer.num_bytes}


def is_finite(engine: Any) -> bool:
    """Whether this worker's part of the learning weights and of their moments is all numbers."""
    adam = _adam(engine)
    held = list[Tensor]()
    for holder in _holders(engine):
        held += [holder.data, *adam.state.get(holder, {}).values()]
    # extremes are no numbers where anything is not; `isfinite` would need as much memory again
    extremes = [value for t in held if t.numel() for value in torch.aminmax(t)]
    return all(math.isfinite(value) for value in extremes)


class _Storage:
    """Sums the bytes of tensors, each piece of memory once."""

    def __init__(self, seen: set[int] | None = None) -> None:
        self.seen, self.num_bytes = set(seen or ()), 0

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if tensor.numel() and storage.data_ptr() not in self.seen:
            self.seen.add(storage.data_ptr())
            self.num_bytes += storage.nbytes()


def _adam(engine: Any) -> Any:
    """PyTorch's AdamW: the engine's optimizer itself, or inside DeepSpeed's."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)


def _holders(engine: Any) -> list[Tensor]:
    """The tensors that AdamW steps on in this worker."""
    stage, optimizer = engine.zero_optimization_stage(), engine.optimizer
    if stage == 0:
        return list(learning(engine).values())
    flat: list[Tensor] = (
        optimizer.fp32_partitioned_groups_flat
        if stage == 3
        else optimizer.single_partition_of_fp32_groups
    )
    return flat


def _slice(parameter: Any) -> Tensor:
    """What this worker holds of a parameter under stage 3."""
    held: Tensor = parameter.ds_tensor.data
    return held


def _part(engine: Any, parameter: nn.Parameter, value: Tensor) -> Tensor:
    """This worker's slice of a whole tensor under stage 3.

    DeepSpeed's own setter cuts past the end where the number of workers does not divide it.
    """
    rank = engine.optimizer._get_param_partition_rank(parameter)
    length = _slice(parameter).numel()
    part = value.flatten()[rank * length : (rank + 1) * length]
    return functional.pad(part, (0, length - part.numel()))
