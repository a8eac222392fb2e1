"""The ensemble behind plain FastAPI: the app that one writes first.

    python benchmarks/peers/plain_fastapi.py ARTEFACT PORT

One request at a time, all members one after the other, torch on two threads. The route is `async`:
as a plain `def` it runs in a pool of threads, whose torch calls then fight for the same CPUs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from scoring import Scorer

from penchant.serve.wire.schema import ScoreBody


def make_app(directory: Path) -> FastAPI:
    scorer = Scorer(directory)
    app = FastAPI()

    @app.post("/v1/score")
    async def score(body: ScoreBody) -> dict[str, Any]:
        question, items = scorer.read(body)
        return scorer.answer(scorer.score([question])[0], items)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    application = make_app(Path(sys.argv[1]))
    uvicorn.run(application, port=int(sys.argv[2]), log_level="warning", access_log=False)
