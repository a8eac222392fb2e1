"""What both peers do with an ensemble: read a body, score all members one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penchant.ensembles.artefacts.artefact import load_ensemble
from penchant.platform.events import Catalog, read_log_card
from penchant.serve.answering.history import Question, Reader, merge
from penchant.serve.wire.schema import ScoreBody

THREADS = 2  # that torch computes on


class Scorer:
    """The whole ensemble in one process: the same weights, the same reading of histories."""

    def __init__(self, directory: Path) -> None:
        torch.set_num_threads(THREADS)
        self.ensemble = load_ensemble(directory)
        self.reader = Reader(
            catalog=Catalog.open(directory),
            types=read_log_card(directory)["types"],
            has_groups=read_log_card(directory)["has_groups"],
            requests=self.ensemble.requests,
        )

    def read(self, body: ScoreBody) -> tuple[Question, list[str]]:
        """The question of a body, and the items that it asks about."""
        items = [item for item in body.candidates if isinstance(item, str)]
        return self.reader.question(body, now_ms=0)[0], items

    def score(self, questions: Sequence[Question]) -> NDArray[np.float32]:
        """Scores of all items, one row a question."""
        return self.ensemble.score(*merge(questions, len(self.ensemble.item_ids)))

    def answer(self, scores: NDArray[np.float32], items: Sequence[str]) -> dict[str, Any]:
        """The body of an answer from one row of scores."""
        chosen = scores[self.reader.candidates(items)].tolist()
        pairs = zip(items, chosen, strict=True)
        return {"results": [{"item": item, "score": score} for item, score in pairs]}
