"""What a user who comes back costs an ensemble's members, beside one who is new."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penchant.ensembles.artefacts.artefact import read_ensemble_card
from penchant.serve.answering.card import open_desk
from penchant.serve.answering.history import Question
from penchant.serve.answering.member_deployment import answer_all
from penchant.serve.answering.readiness import ready_members
from penchant.serve.wire.schema import ScoreBody


def repeated_ms(directory: Path, bodies: Sequence[bytes], rounds: int = 20) -> tuple[float, float]:
    """Milliseconds of all members for a question that is new, and for one that came before."""
    names = list(read_ensemble_card(directory)["weights"])
    ensemble = ready_members(directory, names, threads=1, engine="auto")
    desk = open_desk(directory, _nobody)  # only to read bodies
    asked = [desk.read(ScoreBody.model_validate_json(body)).question for body in bodies]

    def each_ms(times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            for question in asked:
                for name in names:
                    answer_all(ensemble, name, [question])
        return 1000 * (time.perf_counter() - began) / (times * len(asked))

    return each_ms(1), each_ms(rounds)


async def _nobody(member_id: str, question: Question) -> NDArray[np.float32] | None:
    raise RuntimeError(f"{member_id} is asked here and not through a desk")
