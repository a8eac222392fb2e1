"""`penchant pretrain`: a base learns an experiment's language before any member learns its task.

While it runs, everything stands in `NAME.unfinished` beside the place of the result, so that the
same command goes on where it was cut; the result appears whole or not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from penchant.platform.cluster import start_ray
from penchant.platform.config import Experiment
from penchant.platform.errors import ConfigError
from penchant.platform.events import read_log_card
from penchant.platform.language_models import (
    is_encoder,
    load_model,
    load_tokenizer,
    weights_digest,
)
from penchant.platform.positions import most_tokens
from penchant.platform.prepared import Prepared, prepare
from penchant.platform.progress import Progress
from penchant.platform.store import RunDirectory, write_json
from penchant.platform.text import HistoryWriter, tokenizer_pieces
from penchant.platform.text_recipes import HistoryText, TextRecipe
from penchant.platform.tracking_settings import require_trackers
from penchant.trainers.base_models import refuse_later
from penchant.trainers.lineage import learned_here, write_learned
from penchant.trainers.pretrain.card import pretrain_card
from penchant.trainers.pretrain.corpus import Corpus, make_corpus
from penchant.trainers.pretrain.plan import PretrainSettings, total_steps
from penchant.trainers.pretrain.worker import (
    CORPUS_FILE,
    MODEL,
    RESULT_FILE,
    TRACKING,
    UNFINISHED,
    train_on_ray,
)
from penchant.trainers.text.batches import frame_of

__all__ = ["REPORT_FILE", "pretrain"]

REPORT_FILE = "pretrain.json"
_KEY_FILE = "key.json"
_VERSION = 1
_PACKAGES = ("penchant", "torch", "transformers", "deepspeed", "ray")


def pretrain(
    experiment: Experiment,
    out: Path,
    settings: PretrainSettings,
    progress: Progress,
    *,
    resume: Literal["automatic", "never"] = "automatic",
    address: str | None = None,
) -> dict[str, Any]:
    """Train a base further on the texts before `select`; returns what stands in `pretrain.json`.

    Args:
        out: becomes a directory that plain transformers loads, and that recipes name as `base`.
        settings: `masked` is found out from the base.
        resume: `automatic` goes on with an unfinished run of the same settings, and leaves a
            finished one as it is; `never` begins anew.
        address: of a Ray cluster that sees `out`, or None for a private Ray.

    Raises:
        ConfigError: `out` is of other settings, the base does not fit them or has learned from
            later events of the same log, or the client of a tracker is not installed.
        DataError: there is nothing to read.
        RunError: the training failed.
    """
    _refuse_foreign(out)
    require_trackers(experiment.tracking.to)
    work = out.with_name(out.name + UNFINISHED)
    if resume == "never":
        shutil.rmtree(work, ignore_errors=True)
    settings = _checked(settings)
    prepared = prepare(experiment, RunDirectory(work / "run"), progress.say)
    until_ms = prepared.blocks.select_ms
    refuse_later(prepared, [Path(settings.base)], until_ms, progress.say)
    history = _history(experiment)
    corpus = _corpus(prepared, settings, history)
    key = {
        "settings": settings.model_dump(mode="json"),
        "base_sha256": weights_digest(settings.base),
        "corpus_sha256": corpus.digest,
    }
    if (work / _KEY_FILE).exists():
        _refuse_other(key, json.loads((work / _KEY_FILE).read_text()), work)
    elif resume == "automatic" and out.exists():
        report: dict[str, Any] = json.loads((out / REPORT_FILE).read_text())
        shutil.rmtree(work)
        _refuse_other(key, report, out)
        progress.say(f"{out} is finished already")
        return report
    write_json(work / _KEY_FILE, key)
    corpus.save(work / CORPUS_FILE)
    progress.say(_told(corpus))
    progress.say("starting the workers; they measure the held-out perplexity first")
    with start_ray(address=address) as cluster:
        train_on_ray(work, settings, experiment, cluster, progress)
    report = _report(prepared, settings, history, corpus, key, work)
    write_json(work / MODEL / REPORT_FILE, report)
    own = learned_here(prepared.run.log, until_ms)
    write_learned(work / MODEL, [own], [Path(settings.base)])
    (work / MODEL / "README.md").write_text(pretrain_card(report))
    if (work / TRACKING).exists():
        (work / TRACKING).rename(work / MODEL / TRACKING)
    for name, why in report.get("untracked", {}).items():
        progress.say(f"{name} has not been told all: {why}")
    if out.exists():
        shutil.rmtree(out)
    (work / MODEL).rename(out)
    shutil.rmtree(work)
    return report


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not (out / REPORT_FILE).exists():
        raise ConfigError(
            f"{out} exists and holds no {REPORT_FILE}: expected a new place, or a model that "
            "`penchant pretrain` made. Choose another --out."
        )


def _refuse_other(wanted: Mapping[str, Any], found: Mapping[str, Any], place: Path) -> None:
    """Only the same settings, base and data go on."""
    flat = [
        {**side["settings"], **{k: side.get(k) for k in wanted if k != "settings"}}
        for side in (wanted, found)
    ]
    other = [
        f"{name} {flat[1].get(name)!r} (now {value!r})"
        for name, value in flat[0].items()
        if flat[1].get(name) != value
    ]
    if other:
        raise ConfigError(
            f"{place} was begun with other settings: {', '.join(other)}. Choose another --out, "
            "give the same settings, or begin anew with --resume never."
        )


def _checked(settings: PretrainSettings) -> PretrainSettings:
    """Settings that the base can take: which head it has, and how long its rows may be."""
    config = load_model(settings.base, layers=settings.layers).config
    tokenizer = load_tokenizer(settings.base)
    limits = [most_tokens(config), tokenizer.model_max_length]
    limit = min(int(one) for one in limits if one is not None)
    if settings.tokens > limit:
        raise ConfigError(
            f"--tokens is {settings.tokens}, but {settings.base} reads at most {limit}. Lower it."
        )
    masked = is_encoder(config)
    if masked and tokenizer.mask_token_id is None:
        raise ConfigError(
            f"base model {settings.base!r} is an encoder whose tokenizer has no mask token, "
            "expected one to hide tokens with. Use the tokenizer that came with the weights."
        )
    return settings.model_copy(update={"masked": masked})


def _history(experiment: Experiment) -> HistoryText:
    """Events are written as the experiment's first text member writes them."""
    written = (r.history for r in experiment.members if isinstance(r, TextRecipe))
    return next(written, HistoryText())


def _corpus(prepared: Prepared, settings: PretrainSettings, history: HistoryText) -> Corpus:
    tokenizer = load_tokenizer(settings.base)
    frame = frame_of(tokenizer)
    room = settings.tokens - len(frame.begin) - len(frame.end)
    item_tokens = min(history.item_tokens, room)
    texts = prepared.catalog.item_texts
    writer = HistoryWriter.make(
        history.model_copy(update={"max_tokens": room, "item_tokens": item_tokens}),
        texts,
        prepared.types,
        tokenizer_pieces(tokenizer),
    )
    return make_corpus(
        prepared.log,
        texts,
        writer,
        frame,
        tokens=settings.tokens,
        until_ms=prepared.blocks.select_ms,
        held_out_ms=prepared.blocks.blend_ms,
        seed=settings.seed,
    )


def _told(corpus: Corpus) -> str:
    facts = corpus.facts
    return (
        f"{facts['rows']:,} rows of {facts['tokens']:,} tokens from {facts['item_texts']:,} item "
        f"texts and {facts['events']:,} events; {facts['events_left_out']:,} events have no text "
        "or are longer than a row"
    )


def _report(
    prepared: Prepared,
    settings: PretrainSettings,
    history: HistoryText,
    corpus: Corpus,
    key: Mapping[str, Any],
    work: Path,
) -> dict[str, Any]:
    result = json.loads((work / RESULT_FILE).read_text())
    blocks = prepared.blocks
    edges = {"from": blocks.train_ms, "until": blocks.select_ms, "held_out_until": blocks.blend_ms}
    moments = {
        name: datetime.fromtimestamp(edge / 1000, UTC).isoformat(timespec="seconds")
        for name, edge in edges.items()
    }
    return {
        "version": _VERSION,
        **key,
        "history": history.model_dump(mode="json", exclude={"max_tokens", "relevant_share"}),
        "data": {
            "experiment": prepared.experiment.name,
            "fingerprint": read_log_card(prepared.run.log)["fingerprint"],
            **moments,
        },
        "corpus": corpus.facts,
        "steps": total_steps(settings, len(corpus.rows)),
        **result,
        "versions": {name: metadata.version(name) for name in _PACKAGES},
    }
