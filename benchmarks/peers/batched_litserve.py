"""The ensemble behind LitServe, with its batching.

    pip install -c constraints.txt litserve
    python benchmarks/peers/batched_litserve.py ARTEFACT PORT

One worker that scores up to 16 questions at once, torch on two threads.
"""

# No `from __future__ import annotations`: LitServe reads the type of decode_request's argument.

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import litserve
import numpy as np
from numpy.typing import NDArray
from scoring import Scorer

from penchant.serve.answering.history import Question
from penchant.serve.wire.schema import ScoreBody

Asked = tuple[Question, list[str]]
Scored = tuple[NDArray[np.float32], list[str]]


class Api(litserve.LitAPI):
    """LitServe calls these one after the other in the worker."""

    def __init__(self, directory: Path) -> None:
        super().__init__(max_batch_size=16, batch_timeout=0.005, api_path="/v1/score")
        self.directory = directory

    def setup(self, device: str) -> None:
        self.scorer = Scorer(self.directory)

    def decode_request(self, request: ScoreBody) -> Asked:
        return self.scorer.read(request)

    def batch(self, inputs: Sequence[Asked]) -> Sequence[Asked]:
        return inputs

    def predict(self, x: Sequence[Asked]) -> list[Scored]:
        scores = self.scorer.score([question for question, _ in x])
        return [(row, items) for row, (_, items) in zip(scores, x, strict=True)]

    def unbatch(self, output: list[Scored]) -> list[Scored]:
        return output

    def encode_response(self, output: Scored) -> dict[str, Any]:
        return self.scorer.answer(*output)


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(Path(sys.argv[1])), accelerator="cpu", healthcheck_path="/healthz"
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
