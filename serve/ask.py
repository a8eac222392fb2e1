"""Asks a running endpoint one stored test request, and says whether it was right."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import httpx

from penchant.platform.errors import RunError, UnreachableError
from penchant.serve.load.key import api_key
from penchant.serve.routes.stored import StoredRequests

__all__ = ["Asked", "ask_stored"]

_TIMEOUT_S = 15.0
# The longest there is: a busy machine shall not degrade what is shown.
_DEADLINE = {"X-Deadline-Ms": "10000"}
_K = 10


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question, its answer and what really happened."""

    body: dict[str, Any]
    answer: dict[str, Any]
    card: dict[str, Any]
    chosen: set[str]  # ids of the items that were chosen next; `next_item`
    label: float | None  # whether it was a yes; `binary`
    latency_ms: float


def ask_stored(url: str, stored: StoredRequests) -> Asked:
    """Ask about the earliest test request with a history, with the key in PENCHANT_API_KEY.

    Args:
        url: the endpoint, such as http://127.0.0.1:8000.
        stored: test requests of the run that is served.

    Raises:
        UnreachableError: nothing answers there.
        RunError: what answers there is no endpoint of ours, or refuses the question.
    """
    at = stored.earliest()
    asked = stored.requests
    key = api_key(None)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, timeout=_TIMEOUT_S, headers=headers) as client:
        card = _json(client, "GET", "/v1/ensemble", None)
        body = stored.body(at)
        if asked.candidate is None:
            path, body = "/v1/recommend", body | {"k": _K}
        else:
            candidate = stored.catalog.item_ids[asked.candidate[at]]
            path, body = "/v1/score", body | {"candidates": [candidate]}
        began = time.perf_counter()
        answer = _json(client, "POST", path, body)
        latency_ms = (time.perf_counter() - began) * 1000
    return Asked(
        body=body,
        answer=answer,
        card=card,
        chosen=stored.targets(at),
        label=None if asked.label is None else float(asked.label[at]),
        latency_ms=latency_ms,
    )


def _json(client: httpx.Client, method: str, path: str, body: Any) -> dict[str, Any]:
    try:
        response = client.request(method, path, json=body, headers=_DEADLINE)
    except httpx.HTTPError as error:
        raise UnreachableError(
            f"no endpoint answers at {client.base_url} ({type(error).__name__}): expected one that "
            "`penchant serve run` has started. Check the address, or leave --url out."
        ) from error
    kind = response.headers.get("content-type", "")
    if response.status_code != 200 or not kind.startswith("application/json"):
        raise RunError(
            f"{client.base_url} answered {method} {path} with {response.status_code}: expected an "
            f"answer of `penchant serve run` for the same run. It said: {response.text[:300]}"
        )
    answer: dict[str, Any] = response.json()
    return answer
