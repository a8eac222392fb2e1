"""Members before they take traffic: loaded, on their engine, and proven to be what was saved."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from penchant.ensembles.artefacts.artefact import Ensemble, load_ensemble
from penchant.ensembles.artefacts.self_test import SelfTest
from penchant.platform.errors import RunError
from penchant.platform.events import read_log_card
from penchant.serve.answering.history import Question, merge, trial_question
from penchant.serve.wire.schema import MAX_EVENTS
from penchant.trainers.member import Member
from penchant.trainers.text.engine import EngineName, HasEngine

__all__ = ["ready_members", "sound"]

logger = logging.getLogger(__name__)


def ready_members(
    directory: Path, members: Sequence[str], *, threads: int, engine: EngineName
) -> Ensemble:
    """The ensemble with some of its members, ready to answer.

    Args:
        directory: the artefact.
        members: which to load.
        threads: CPUs that they may compute on.
        engine: of members with a language model. `auto` takes ONNX where it is faster and says the
            same; `onnx-int8` is faster still and changes scores, which the log tells.

    Raises:
        DataError: the artefact is not whole.
        RunError: a member's numbers are not sound, or not those of the day it was saved.
    """
    ensemble = load_ensemble(directory, only=members)
    _limit_threads(threads)
    test = SelfTest.read(directory, len(ensemble.item_ids))
    groups = read_log_card(directory)["has_groups"]
    ready: dict[str, Member] = {}
    for name in members:
        _refuse_changed(ensemble, name, test)
        ready[name] = _on_engine(ensemble, name, test, engine, threads)
    served = replace(ensemble, members=ready)
    for name in members:
        _refuse_unsound(served, name, has_groups=groups)
    return served


def sound(scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bool:
    """Whether all are numbers; -inf marks items that are not asked for."""
    return not bool(np.any(np.isnan(scores) | (scores == np.inf)))


def _on_engine(
    ensemble: Ensemble, name: str, test: SelfTest, engine: EngineName, threads: int
) -> Member:
    """The member on its engine, if that says what the self-test says; else, of `auto`, on torch."""
    member = ensemble.members[name]
    if not isinstance(member, HasEngine):
        return member
    chosen = member.on_engine(engine, threads=threads)
    scores = replace(ensemble, members={name: chosen}).member_scores(name, test.log, test.requests)
    difference = test.difference(name, scores)
    logger.info("%s runs on %s, %.2f tolerances off", name, chosen.engine_name, difference)
    if difference <= 1 or engine == "onnx-int8":
        return chosen
    if engine == "auto":
        return member.on_engine("torch", threads=threads)
    raise _changed(ensemble, name, difference, f" on {engine}")


def _refuse_changed(ensemble: Ensemble, name: str, test: SelfTest) -> None:
    scores = ensemble.member_scores(name, test.log, test.requests)
    difference = test.difference(name, scores)
    if difference > 1:
        raise _changed(ensemble, name, difference)


def _changed(ensemble: Ensemble, name: str, difference: float, where: str = "") -> RunError:
    return RunError(
        f"member {name} of {ensemble.name} fails its self-test{where}: its scores differ from "
        f"those of the day it was saved by {difference:.0f} times what is allowed. Its libraries, "
        "or the processor, are others than then: save the ensemble again here."
    )


def _refuse_unsound(ensemble: Ensemble, name: str, *, has_groups: bool) -> None:
    """Ask about nobody, and about somebody who has had every item."""
    for events in (0, min(len(ensemble.item_ids), MAX_EVENTS)):
        trial = trial_question(ensemble.requests, events, has_groups=has_groups)
        if not _sound_at(ensemble, name, trial):
            raise RunError(
                f"member {name} of {ensemble.name} has no sound scores for a history of "
                f"{events} events: expected finite numbers. Fit it again, or serve another."
            )


def _sound_at(ensemble: Ensemble, name: str, question: Question) -> bool:
    log, requests = merge([question], len(ensemble.item_ids))
    try:
        return sound(ensemble.member_scores(name, log, requests))
    except Exception as error:  # whatever a member does, it does not take traffic
        logger.error("member %s failed at a trial: %s", name, error)
        return False


def _limit_threads(threads: int) -> None:
    """Keep torch to the replica's CPUs; only members with a network bring it in."""
    torch = sys.modules.get("torch")
    if torch is not None:
        set_threads: Callable[[int], None] = torch.set_num_threads
        set_threads(threads)
