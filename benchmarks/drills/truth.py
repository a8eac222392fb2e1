"""What is served is what stands in the prediction store (law 4), however often it is asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from drills.load import PATH
from drills.row import Row
from drills.served import Served

from penchant.ensembles.artefacts.artefact import load_ensemble
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.serve.routes.stored import StoredRequests
from penchant.serve.wire.schema import MAX_CANDIDATES, MAX_EVENTS

__all__ = ["offline_is_online", "same_user_at_once"]


def offline_is_online(service: Served, run: Path, number: int) -> Row:
    """Scores of stored test requests, served and stored.

    Of a ranking, the candidates are a part of the catalogue where that is larger than a request may
    ask for. Members that were refitted for serving have no scores in the store: the run's own
    artefacts are served here.
    """
    stored, ensemble = StoredRequests.open(run), load_ensemble(service.directory, only=[])
    asked = stored.requests
    events = asked.end - asked.first(stored.log)
    fits = np.flatnonzero(events <= MAX_EVENTS)[:number]
    store = {
        name: RunDirectory(run).read_predictions(Block.TEST, name, asked.row)[fits]
        for name in ensemble.weights
    }
    facts = ensemble.facts(stored.log, asked.take(fits))
    together = ensemble.combine(store, facts)
    ids = stored.catalog.item_ids
    columns = np.linspace(0, len(ids) - 1, min(len(ids), MAX_CANDIDATES)).astype(int)
    largest, failures = 0.0, 0
    for row, at in enumerate(fits):
        if asked.candidate is None:
            candidates, expected = [ids[c] for c in columns], together[row, columns]
        else:
            candidates, expected = [ids[asked.candidate[at]]], together[row]
        body = stored.body(int(at)) | {"candidates": candidates}
        answer = service.client.post("/v1/score", json=body, headers={"x-deadline-ms": "10000"})
        if answer.status_code != 200 or answer.json()["degraded"]:
            failures += 1
            continue
        scores = [result["score"] for result in answer.json()["results"]]
        served = np.array([-np.inf if score is None else score for score in scores])
        if not np.array_equal(np.isfinite(served), np.isfinite(expected)):
            largest = float("inf")
            continue
        known = np.isfinite(served)
        largest = max(largest, float(np.abs(served[known] - expected[known]).max(initial=0.0)))
    return Row(
        drill="offline is online, over HTTP",
        requests=len(fits),
        failed=failures,
        degraded=0,
        result=f"largest difference to the prediction store {largest:.1e}",
        promise="0 failed, at most 1e-05",
        met=failures == 0 and largest <= 1e-5,
        figures={"largest_difference": largest},
    )


def same_user_at_once(service: Served, body: bytes) -> Row:
    """One user's question ten times at once."""

    async def go() -> list[Any]:
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            headers = {"content-type": "application/json"}
            asked = (client.post(PATH, content=body, headers=headers) for _ in range(10))
            return [answer.json()["results"] for answer in await asyncio.gather(*asked)]

    answers = asyncio.run(go())
    others = sum(answer != answers[0] for answer in answers)
    return Row(
        drill="one user ten times at once",
        requests=10,
        failed=others,
        degraded=0,
        result="answers differ" if others else "the same answer ten times",
        promise="the same answer",
        met=others == 0,
    )
