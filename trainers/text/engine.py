"""What runs the language model of a text member while it is served, and what need not run again.

An engine turns padded token ids into one pooled vector a text. The engine that trains and scores
offline is torch; a replica may take a faster one, if the scores stay what they were. Nothing here
imports torch, so that replicas of other members need not load it.

Letters: P texts of a batch, L the longest of them, H width of the model.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from penchant.platform.errors import RunError
from penchant.trainers.member import Member

__all__ = [
    "Engine",
    "EngineName",
    "HasEngine",
    "Trial",
    "VectorCache",
    "choose",
    "faster",
]

logger = logging.getLogger(__name__)

EngineName = Literal["auto", "torch", "onnx", "onnx-int8"]
#: Token ids and mask of a batch, both of shape (P, L).
Trial = tuple[NDArray[np.int64], NDArray[np.int64]]

#: Law: a served score is the stored one within this.
_LARGEST_DIFFERENCE = 1e-5
_TRIAL_S = 1.0
_ENTRY_BYTES = 250  # what Python keeps around a key and its vector


class Engine(Protocol):
    """Runs a language model."""

    @property
    def name(self) -> str:
        """`torch`, `onnx` or `onnx-int8`."""
        ...

    @property
    def batch_tokens(self) -> int:
        """Tokens that it should get at once, padding included."""
        ...

    def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Pooled vectors (P, H) of texts (P, L); the mask is 1 at real tokens."""
        ...


@runtime_checkable
class HasEngine(Member, Protocol):
    """A member whose scores come from an engine that can be chosen."""

    @property
    def engine_name(self) -> str:
        """Of the engine in use."""
        ...

    @property
    def cache(self) -> VectorCache | None:
        """What was read already; None where nothing is kept."""
        ...

    def on_engine(
        self, name: EngineName, *, threads: int, cache_dir: Path | None = None
    ) -> HasEngine:
        """The same member, ready to be served: on this engine, and with a cache."""
        ...


class VectorCache:
    """What a model said of a text, by the text's token ids: the oldest unused is forgotten first.

    Exact by construction: the key is all that the model reads. Calls may come from any thread.

    Attributes:
        hits, misses: how often a text was there, or was not.
        num_bytes: what keys and vectors take, about.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.hits = self.misses = self.num_bytes = 0
        self._kept: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> NDArray[np.float32] | None:
        """The vector of a text, if it is there."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
                self._kept.move_to_end(key)
            return found

    def put(self, key: bytes, vector: NDArray[np.float32]) -> None:
        """Keep a copy of a vector; others go where the room is needed."""
        with self._lock:
            self._forget(key)
            self._kept[key] = vector.copy()
            self.num_bytes += _size(key, vector)
            while self.num_bytes > self.max_bytes:
                self._forget(next(iter(self._kept)))

    def clear(self) -> None:
        """Forget everything, such as when a user is deleted."""
        with self._lock:
            self._kept.clear()
            self.num_bytes = 0

    def _forget(self, key: bytes) -> None:
        vector = self._kept.pop(key, None)
        if vector is not None:
            self.num_bytes -= _size(key, vector)


def _size(key: bytes, vector: NDArray[np.float32]) -> int:
    return len(key) + vector.nbytes + _ENTRY_BYTES


def choose(
    name: EngineName,
    plain: Engine,
    make: Callable[[], Engine],
    trials: Sequence[Trial],
    answer: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> Engine:
    """The engine of that name; `auto` is the faster of torch and ONNX in fp32, if they agree.

    Args:
        plain: torch, which scored offline.
        make: makes the other one.
        answer: turns pooled vectors into all that must agree.

    Raises:
        RunError: the engine cannot be made, or its answers are not those of torch; `auto` stays
            with torch instead and says so, and `onnx-int8` need only give numbers.
    """
    if name == "torch":
        return plain
    try:
        other = make()
        gap = _difference(plain, other, trials, answer)
    except Exception as error:  # exporters raise whatever they like
        if name != "auto":
            raise RunError(
                f"engine {name} could not be made ({type(error).__name__}: {error}); expected "
                "a model that exports to ONNX. Use the engine `auto` or `torch`."
            ) from error
        logger.warning("engine torch: the export to ONNX failed (%s)", type(error).__name__)
        return plain
    limit = np.finfo(np.float32).max if name == "onnx-int8" else _LARGEST_DIFFERENCE
    if gap > limit:
        if name != "auto":
            raise RunError(
                f"engine {name} answers {gap:.2g} beside torch on trial texts, expected "
                f"{limit:.2g} or less. Use the engine `torch`."
            )
        logger.warning("engine torch: ONNX answers %.2g beside it, too much", gap)
        return plain
    chosen = faster((plain, other), trials, _TRIAL_S) if name == "auto" else other
    logger.info("engine %s: ONNX answers %.2g beside torch on trial texts", chosen.name, gap)
    return chosen


def _difference(
    one: Engine,
    other: Engine,
    trials: Sequence[Trial],
    answer: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> float:
    """The largest difference between two engines' answers; infinite where one is no number."""
    gaps = [np.abs(answer(one(*trial)) - answer(other(*trial))).max() for trial in trials]
    largest = float(np.max(gaps))
    return largest if np.isfinite(largest) else float("inf")


def faster(engines: Sequence[Engine], trials: Sequence[Trial], seconds: float) -> Engine:
    """The engine that takes the least time for the trials, the first of equals.

    Engines take turns, and each trial counts with its fastest run: other work on the machine makes
    runs slower, never faster.

    Args:
        seconds: how long to try; at least three rounds are made.
    """
    took_s = np.full((len(engines), len(trials)), np.inf)
    begun, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - begun < seconds:
        for row, engine in enumerate(engines):
            for column, trial in enumerate(trials):
                started = time.perf_counter()
                engine(*trial)
                spent = time.perf_counter() - started
                took_s[row, column] = min(took_s[row, column], spent)
        rounds += 1
    return engines[int(took_s.sum(axis=1).argmin())]
