"""Bodies to load an endpoint with: the recorded histories of a run's test requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.platform.errors import ConfigError, DataError
from penchant.serve.routes.stored import StoredRequests
from penchant.serve.wire.schema import MAX_CANDIDATES, MAX_EVENTS

__all__ = ["recorded_bodies"]

_K = 10


def recorded_bodies(
    stored: StoredRequests,
    path: str,
    *,
    candidates: int = 16,
    limit: int = 2000,
    seed: int = 0,
) -> list[bytes]:
    """JSON bodies of test requests in random order, so that neighbours are of different users.

    Args:
        path: /v1/score or /v1/recommend.
        candidates: items of a score body: those that were asked about or chosen in reality, and
            random others.
        limit: bodies at most.
        seed: of the order and the random items.

    Raises:
        ConfigError: the catalogue has fewer items, or yes-or-no requests shall be recommended.
        DataError: no request has a history that fits into a body.
    """
    _check(stored, path, candidates)
    random = np.random.default_rng(seed)
    events = stored.requests.end - stored.requests.first(stored.log)
    fits = np.flatnonzero((events > 0) & (events <= MAX_EVENTS))
    if not len(fits):
        raise DataError(
            f"no test request has a history of 1 to {MAX_EVENTS} events: there is nothing to send. "
            "Use a run whose users have a past."
        )
    chosen = random.permutation(fits)[:limit]
    return [json.dumps(body).encode() for body in _bodies(stored, path, candidates, chosen, random)]


def _bodies(
    stored: StoredRequests,
    path: str,
    candidates: int,
    chosen: NDArray[np.int64],
    random: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    items = stored.catalog.item_ids
    for at in chosen.tolist():
        body = stored.body(at)
        if path == "/v1/recommend":
            yield body | {"k": _K}
            continue
        asked = stored.requests.candidate
        real = sorted(stored.targets(at)) if asked is None else [items[asked[at]]]
        others = [items[item] for item in random.choice(len(items), candidates, replace=False)]
        yield body | {"candidates": list(dict.fromkeys(real + others))[:candidates]}


def _check(stored: StoredRequests, path: str, candidates: int) -> None:
    if path == "/v1/recommend" and stored.requests.candidate is not None:
        raise ConfigError(
            "the run's requests are `binary` and /v1/recommend ranks a catalogue: load /v1/score, "
            "as `--path score` does."
        )
    if path == "/v1/recommend":
        return
    most = min(MAX_CANDIDATES, len(stored.catalog.item_ids))
    if not 1 <= candidates <= most:
        raise ConfigError(
            f"candidates is {candidates}, expected 1 to {most}: a body may hold {MAX_CANDIDATES}, "
            f"and the catalogue has {len(stored.catalog.item_ids)}."
        )
