"""How fast a training is: the work of a token, and the rate at which this worker could do it.

Utilisation as PaLM counts it (Chowdhery et al. 2022, appendix B), without the attention matrix,
which adds little at our lengths: what the model needs, not what an implementation spends, over what
a plain matrix product reaches on the same worker.
"""

from __future__ import annotations

import time
from functools import cache

import torch
from torch import nn

__all__ = ["flops_per_token", "measured_peak"]

_PEAK_S = 0.2
_SIDES = {"cpu": 1024, "cuda": 8192}


def flops_per_token(network: nn.Module) -> int:
    """Floating point operations to learn from one token.

    A weight of a matrix is multiplied and added once forward and twice backward, once where it does
    not learn. Embeddings are looked up, not multiplied; vectors do not count; a pooler, which
    encoders bring along, reads nothing here.
    """
    looked_up = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
    }
    return sum(
        parameter.numel() * (6 if parameter.requires_grad else 4)
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and id(parameter) not in looked_up and ".pooler." not in name
    )


@cache
def measured_peak(device: str, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product in this process, the best in 0.2 s.

    Args:
        device: `cpu` or `cuda`.
    """
    side = _SIDES[device]
    random = torch.Generator(device).manual_seed(0)  # its own: training draws from the global one
    one = torch.rand(side, side, generator=random, device=device).to(dtype)
    product = torch.mm(one, one)  # the first call loads the kernels
    began, best = time.perf_counter(), float("inf")
    while time.perf_counter() - began < _PEAK_S:
        before = time.perf_counter()
        torch.mm(one, one, out=product)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - before)
    return 2 * side**3 / best
