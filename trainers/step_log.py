"""What a training tells its trackers: by step loss, rates and memory, by epoch also `select`.

Every worker has a `StepLog` and calls it alike, since losses and counts are summed over workers;
the first one alone tells.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psutil
import torch

from penchant.platform.tracking import Trackers
from penchant.trainers.course import Epoch, Group
from penchant.trainers.throughput import measured_peak

__all__ = ["StepLog"]

#: A line is the mean of several steps where there are more than so many in all, or where they are
#: so short that a line each, which takes 0.1 to 0.2 ms, would be felt.
_LINES = 2000
_LINE_S = 0.025
_MB = 2**20


@dataclass
class _Window:
    """Sums over the steps that make one line; tokens, events and loss are this worker's part."""

    began: float
    steps: int = 0
    requests: int = 0
    tokens: int = 0
    events: int = 0
    loss: float = 0.0


class StepLog:
    """Follows one training. A context manager, that closes what was begun.

    Args:
        start: begins to track from a step on; called by the first worker alone.
    """

    def __init__(self, group: Group, start: Callable[[int], Trackers]) -> None:
        self._group, self._start = group, start
        self._trackers: Trackers | None = None
        self._process = psutil.Process()

    def __enter__(self) -> StepLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._trackers is not None:
            self._trackers.close()

    @property
    def lost(self) -> dict[str, str]:
        """Trackers that failed, by name, and why."""
        return {} if self._trackers is None else self._trackers.lost

    def begin(self, engine: Any, step: int, *, token_flops: float, request_flops: float) -> None:
        """Training starts, or goes on after `step` updates. Collective.

        Args:
            engine: DeepSpeed's, with its checkpoint loaded.
            token_flops: operations that a token takes, `flops_per_token` before ZeRO spreads the
                weights.
            request_flops: operations that a request takes beside its tokens.
        """
        _keep_norm(engine)
        self._engine, self._done = engine, step
        self._token_flops, self._request_flops = token_flops, request_flops
        device = engine.device.type
        peak = measured_peak(device, next(engine.module.parameters()).dtype)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._peak = float(self._group.total(torch.tensor([peak], dtype=torch.float64)))
        if self._group.rank == 0:
            self._trackers = self._start(step)

    def begin_epoch(self, epoch: int, steps: int, total_steps: int) -> None:
        """An epoch of `steps` updates starts, of `total_steps` in all epochs."""
        self._epoch, self._left = epoch, steps
        self._least = self._every = math.ceil(total_steps / _LINES)
        self._last: dict[str, float] = {}
        self._window = _Window(time.perf_counter())

    def step(
        self, *, loss: float, learning_rate: float, tokens: int, requests: int, events: int = 0
    ) -> None:
        """An update was made. Collective, once in a window of steps.

        Args:
            loss: this worker's part of the global batch's loss, as its `tokens` and `events`.
            requests: of the global batch.
            events: 0 where they are not counted.
        """
        self._done += 1
        self._left -= 1
        window = self._window
        window.steps += 1
        window.requests += requests
        window.tokens += tokens
        window.events += events
        window.loss += loss
        if window.steps >= self._every or not self._left:
            self._close(window, learning_rate)
            self._window = _Window(time.perf_counter())

    def end_epoch(self, epoch: Epoch) -> None:
        """An epoch was judged; what was told so far is safe afterwards."""
        if self._trackers is None:
            return
        judged = {
            "train_loss": epoch.train_loss,
            "select_loss": epoch.select_loss,
            f"select_{epoch.metric}": epoch.select_metric,
        }
        self._trackers.log(self._done, {**self._last, **judged})
        self._trackers.flush()

    def _close(self, window: _Window, learning_rate: float) -> None:
        # the first worker's: all must agree on how long the next window is
        took = time.perf_counter() - window.began if self._group.rank == 0 else 0.0
        mine = torch.tensor([window.loss, window.tokens, window.events, took], dtype=torch.float64)
        loss, tokens, events, seconds = self._group.total(mine).tolist()
        self._every = max(self._least, math.ceil(_LINE_S * window.steps / seconds))
        if self._trackers is None:
            return
        work = tokens * self._token_flops + window.requests * self._request_flops
        values = {
            "epoch": self._epoch,
            "loss": loss / window.steps,
            "learning_rate": learning_rate,
            **self._norm(),
            "tokens_per_s": tokens / seconds,
            "requests_per_s": window.requests / seconds,
            **({"events_per_s": events / seconds} if events else {}),
            "peak_share": work / seconds / self._peak,
            **self._memory(),
        }
        if self._left:
            self._trackers.log(self._done, values)
        else:  # the epoch's end waits for what `select` says, so that a step has one line
            self._last = values

    def _norm(self) -> dict[str, float]:
        """Length of the last gradient before it was clipped, where DeepSpeed knows it."""
        norm = self._engine.get_global_grad_norm()
        return {} if norm is None else {"gradient_norm": float(norm)}

    def _memory(self) -> dict[str, float]:
        """Of this worker: what its process holds, and the most that its GPU did."""
        held = {"memory_mb": self._process.memory_info().rss / _MB}
        if self._engine.device.type == "cuda":
            held["gpu_memory_mb"] = torch.cuda.max_memory_allocated() / _MB
        return held


def _keep_norm(engine: Any) -> None:
    """Without ZeRO DeepSpeed clips gradients by a norm that it then forgets: keep it."""
    from deepspeed.runtime.utils import clip_grad_norm_

    def clip() -> None:
        engine._global_grad_norm = clip_grad_norm_(
            parameters=engine.module.parameters(),
            max_norm=engine.gradient_clipping(),
            mpu=engine.mpu,
        )

    engine.clip_fp32_gradients = clip
