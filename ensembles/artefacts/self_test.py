"""A few stored requests and the scores they got when the artefact was saved.

A replica asks itself these before it takes traffic: a member that computes something else on the
machine where it is served, from other libraries, another processor or a faster engine, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from penchant.platform.events import EventLog
from penchant.platform.requests import Requests

__all__ = ["SELF_TEST_FILE", "SelfTest"]

SELF_TEST_FILE = "self_test.safetensors"

_REQUESTS = 8
_MAX_EVENTS = 200  # the newest ones of each user: an artefact is no copy of the log
_TOLERANCE = 1e-5  # relative and absolute


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """R requests on a log of their own, a user each, and what the members said."""

    log: EventLog
    requests: Requests
    scores: Mapping[str, NDArray[np.float32]]  # by member, each (R, C)

    @classmethod
    def draw(cls, log: EventLog, requests: Requests) -> SelfTest:
        """Requests spread over a block; without scores."""
        at = np.linspace(0, len(requests) - 1, min(_REQUESTS, len(requests))).astype(np.int64)
        asked = requests.take(np.unique(at))
        begin = np.maximum(asked.first(log), asked.end - _MAX_EVENTS)
        rows = np.concatenate(
            [np.arange(b, e) for b, e in zip(begin, asked.end, strict=True)] or [np.arange(0)]
        ).astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(asked.end - begin)]).astype(np.int64)
        arrays: dict[str, NDArray[np.generic]] = {
            "item": log.item[rows],
            "time_ms": log.time_ms[rows],
            "kind": log.kind[rows],
            "value": log.value[rows],
            "offsets": offsets,
            "asked_ms": asked.time_ms,
        }
        if log.group is not None:
            arrays["group"] = log.group[rows]
        if asked.candidate is not None:
            arrays["candidate"] = asked.candidate
        return cls._from_arrays(arrays, log.num_items, {})

    @classmethod
    def read(cls, directory: Path, num_items: int) -> SelfTest:
        """The one of an artefact."""
        arrays = load_file(directory / SELF_TEST_FILE)
        scores = {
            name.removeprefix("scores."): part
            for name, part in arrays.items()
            if name.startswith("scores.")
        }
        return cls._from_arrays(arrays, num_items, scores)

    @classmethod
    def _from_arrays(
        cls,
        arrays: Mapping[str, NDArray[np.generic]],
        num_items: int,
        scores: Mapping[str, NDArray[np.float32]],
    ) -> SelfTest:
        offsets = arrays["offsets"].astype(np.int64)
        number = len(offsets) - 1
        log = EventLog(
            item=arrays["item"].astype(np.int32),
            time_ms=arrays["time_ms"].astype(np.int64),
            kind=arrays["kind"].astype(np.int8),
            value=arrays["value"].astype(np.float32),
            group=arrays["group"].astype(np.int32) if "group" in arrays else None,
            offsets=offsets,
            num_items=num_items,
        )
        candidate = arrays.get("candidate")
        requests = Requests(
            row=offsets[1:],
            user=np.arange(number, dtype=np.int32),
            time_ms=arrays["asked_ms"].astype(np.int64),
            end=offsets[1:],
            target_offsets=np.zeros(number + 1, dtype=np.int64),
            target=np.zeros(0, dtype=np.int32),
            target_seen=np.zeros(0, dtype=np.bool_),
            candidate=None if candidate is None else candidate.astype(np.int32),
        )
        return cls(log=log, requests=requests, scores=scores)

    def write(self, directory: Path, scores: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep the requests with the members' scores of them."""
        arrays: dict[str, NDArray[np.generic]] = {
            "item": self.log.item,
            "time_ms": self.log.time_ms,
            "kind": self.log.kind,
            "value": self.log.value,
            "offsets": self.log.offsets,
            "asked_ms": self.requests.time_ms,
        }
        if self.log.group is not None:
            arrays["group"] = self.log.group
        if self.requests.candidate is not None:
            arrays["candidate"] = self.requests.candidate
        arrays |= {f"scores.{name}": part for name, part in scores.items()}
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(whole, directory / SELF_TEST_FILE)

    def difference(self, member_id: str, scores: NDArray[np.float32]) -> float:
        """Largest difference to what the member said then, in tolerances: up to 1 is the same.

        Infinite where one of the two is no number and the other is.
        """
        then = self.scores[member_id]
        if scores.shape != then.shape:
            return float("inf")
        same = (scores == then) | (np.isnan(scores) & np.isnan(then))
        with np.errstate(invalid="ignore"):
            gap = np.abs(scores - then) / (_TOLERANCE * (1 + np.abs(then)))
        return float(np.max(np.where(same, 0.0, np.where(np.isnan(gap), np.inf, gap)), initial=0.0))
