"""Is what is served still as it was? Week by week: load, latency, drift, and quality once known."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from penchant.platform.errors import DataError
from penchant.serve.watch.drift import Psi, psi
from penchant.serve.watch.feedback import read_feedback
from penchant.serve.watch.logged import WINDOW, read_predictions
from penchant.serve.watch.matured import Judged, judge_matured
from penchant.serve.watch.reference import Reference, test_references

__all__ = ["ENOUGH", "Watched", "Window", "watch"]

#: Answers that a week needs before anything follows from it, or from a difference to it.
ENOUGH = 100

_DAY_MS = 86_400_000
_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Window:
    """Answers of one version in one role within one week."""

    week: date  # its Monday
    version: str
    role: str
    answers: int
    last_ms: int  # when the last of them was given, in Unix milliseconds
    degraded: float  # share of the answers
    p50_ms: float
    p99_ms: float
    disagreement: float | None  # mean over answers that lacked no member, of two or more
    psi: Psi | None  # of scores; None in the week that is the reference, and before it
    disagreement_psi: Psi | None
    judged: Judged | None  # None where no answer is old enough

    def to_json(self) -> dict[str, Any]:
        """The window as a JSON object; null stands for what does not exist."""
        judged = self.judged
        return {
            "week": self.week.isoformat(),
            "version": self.version,
            "role": self.role,
            "answers": self.answers,
            "degraded": self.degraded,
            "latency_ms": {"p50": self.p50_ms, "p99": self.p99_ms},
            "disagreement": self.disagreement,
            "psi": _psi_json(self.psi),
            "disagreement_psi": _psi_json(self.disagreement_psi),
            "matured": 0 if judged is None else judged.matured,
            "coverage": None if judged is None else judged.coverage,
            "quality": {}
            if judged is None
            else {name: value.to_json() for name, value in judged.quality.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Watched:
    """All windows, by time."""

    windows: list[Window]
    references: Mapping[str, Reference]  # version -> the ensemble on its run's test block


def watch(
    service: Path,
    *,
    run_dir: Path | None = None,
    since_ms: int | None = None,
    mature_days: float = 7.0,
    now_ms: int | None = None,
) -> Watched:
    """Read a service's predictions and feedback.

    Drift is measured against the test block for every version that comes from the run, and
    against its own first week of `ENOUGH` answers for every other. Degraded answers are told by
    their share alone: others answered them, which is neither drift nor a loss of quality.

    Args:
        service: the service directory.
        run_dir: where ensembles come from.
        since_ms: leave out what was answered before.
        mature_days: quality is that of answers which are so old.
        now_ms: the clock.

    Raises:
        ConfigError: the run directory is none.
        DataError: nothing was predicted, or files cannot be read.
    """
    now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    until_ms = now - round(mature_days * _DAY_MS)
    for _ in range(_TRIES):
        # A service that runs merges files and deletes the oldest.
        with suppress(FileNotFoundError):
            return _watch(service, run_dir, since_ms, until_ms)
    raise DataError(
        f"{service}: files of the prediction log went while they were read, {_TRIES} times: "
        "expected them to stay for a moment. Try again, or read a copy of the directory."
    )


def _watch(service: Path, run_dir: Path | None, since_ms: int | None, until_ms: int) -> Watched:
    """All windows of the files that are there."""
    predictions = read_predictions(service, since_ms)
    complete = predictions.filter(~pl.col("degraded"))
    judged = judge_matured(complete, read_feedback(service), until_ms)
    facts = _facts(predictions)
    references = {} if run_dir is None else test_references(run_dir, set(facts["version"]))
    scores, apart = _scores(complete), _disagreements(complete)
    windows = []
    for row in facts.iter_rows(named=True):
        key = tuple(row.pop(name) for name in WINDOW)
        week, version, role = key
        on_test = references.get(version)
        window = Window(
            week=week,
            version=version,
            role=role,
            **row,
            psi=_moved(scores, key, None if on_test is None else on_test.scores),
            disagreement_psi=_moved(apart, key, None),
            judged=judged.get(key),
        )
        windows.append(window)
    return Watched(windows=windows, references=references)


def _facts(predictions: pl.LazyFrame) -> pl.DataFrame:
    """A row a window; an answer is told by its first item."""
    return (
        predictions.filter(pl.col("rank") == 1)
        .group_by(*WINDOW)
        .agg(
            answers=pl.len(),
            last_ms=pl.col("answered_ms").max(),
            degraded=pl.col("degraded").mean(),
            p50_ms=pl.col("latency_ms").quantile(0.5, "linear"),
            p99_ms=pl.col("latency_ms").quantile(0.99, "linear"),
            disagreement=pl.col("disagreement").filter(~pl.col("degraded")).mean(),
        )
        .sort(*WINDOW)
        .collect()
    )


#: Values of a window, and how many requests they come from.
_Values = Mapping[tuple[object, ...], tuple[NDArray[np.float64], int]]


def _scores(predictions: pl.LazyFrame) -> _Values:
    """A yes or no: every candidate's score. A ranking: the best item's, where all were ranked.

    What was chosen from a few, or without some, has other best scores than a catalogue.
    """
    ranked = pl.col("whole") & (pl.col("rank") == 1)
    scored = pl.col("path").is_in(["/v1/score", "/v1/batch"]) & pl.col("binary")
    return _values(predictions.filter(ranked | scored), "score")


def _disagreements(predictions: pl.LazyFrame) -> _Values:
    return _values(predictions.filter(pl.col("rank") == 1), "disagreement")


def _values(rows: pl.LazyFrame, column: str) -> _Values:
    found = (
        rows.drop_nulls(column)
        .group_by(*WINDOW)
        .agg(pl.col(column), number=pl.col("request_id").n_unique())
        .collect()
    )
    return {
        tuple(row[name] for name in WINDOW): (np.asarray(row[column]), row["number"])
        for row in found.iter_rows(named=True)
    }


def _moved(
    values: _Values, key: tuple[object, ...], fixed: NDArray[np.float64] | None
) -> Psi | None:
    """PSI against a fixed reference, or else the first week of the same version and role.

    A week that is too small to judge is too small to be judged by: PSI against ten answers is noise
    for ever.
    """
    if key not in values:
        return None
    now, number = values[key]
    if fixed is not None:
        return psi(fixed, now, independent=(len(fixed), number))
    large = [k for k in values if k[1:] == key[1:] and values[k][1] >= ENOUGH]
    first = min(large, key=lambda k: str(k[0]), default=key)
    if str(key[0]) <= str(first[0]):
        return None
    before, then = values[first]
    return psi(before, now, independent=(then, number))


def _psi_json(found: Psi | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"value": found.value, "noise": found.noise, "level": found.level}
