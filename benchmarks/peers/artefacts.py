"""Ensembles to serve in a benchmark: models of real size, whose training makes no difference.

Text members read MovieLens-100K histories with MiniLM's lowest three layers and a window each;
their heads are as they begin. Items of the catalogue are encoded once for all of them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers.utils import logging

from penchant.ensembles.artefacts.artefact import load_ensemble, save_ensemble
from penchant.ensembles.combinations.linear import Linear
from penchant.platform.config import Data, Experiment, Requests, Time
from penchant.platform.language_models import load_tokenizer
from penchant.platform.prepared import Prepared, prepare
from penchant.platform.recipes import SequenceRecipe, Size, TextRecipe
from penchant.platform.store import RunDirectory
from penchant.platform.text_recipes import HistoryText
from penchant.platform.timeline import Window
from penchant.serve.routes.stored import StoredRequests
from penchant.trainers.fit import learned_from
from penchant.trainers.sequence.model import SequenceMember
from penchant.trainers.sequence.network import SequenceNetwork
from penchant.trainers.text.model import TextMember, item_tower
from penchant.trainers.text.network import build_network
from penchant.trainers.text.words import read_words

LAYERS = 3
#: Events that the members see; the token budget cuts the longer ones.
WINDOWS = (None, 4, 8, 12, 6, 10, 5, 7)


def _recipe(events: int | None) -> TextRecipe:
    return TextRecipe(
        kind="text",
        base="minilm",
        layers=LAYERS,
        window=Window(events=events),
        history=HistoryText(max_tokens=64),
        copy_half_lives_days=(),
    )


_SMALL = SequenceRecipe(
    kind="sequence", tokens="event", max_tokens=20, size=Size(dim=16, layers=1, heads=2)
)


def prepare_movies(folder: Path) -> Prepared:
    """A run on MovieLens-100K: which film does the user rate next?"""
    experiment = Experiment(
        name="serve-peers",
        data=Data(source="movielens-100k"),
        # An early test: its histories are what is sent, and each is sent once.
        time=Time(quantiles={"select": 0.1, "blend": 0.15, "test": 0.2}),
        requests=Requests(unit="event", per_block=80_000),
        members=tuple(_recipe(events) for events in WINDOWS),
    )
    return prepare(experiment, RunDirectory(folder / "run"))


def save_text(prepared: Prepared, number: int) -> None:
    """Members text-0 to text-<number - 1> of a run."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    past = learned_from(prepared, prepared.blocks.select_ms)
    first = _recipe(WINDOWS[0])
    network = build_network(first, binary=False)
    words = read_words(first, past, network.base.config)
    tower = item_tower(network, words.writer, words.frame, words.log_share)
    member = TextMember(
        recipe=first,
        network=network,
        writer=words.writer,
        frame=words.frame,
        tower=tower,
        tokenizer=load_tokenizer(first.base),
        facts={
            "task": "next_item",
            "until_ms": past.until_ms,
            "requests": 0,
            "select_loss": 0.0,
            "metric": "ndcg@10",
            "select_metric": 0.0,
        },
    )
    random = torch.Generator().manual_seed(0)
    for at, events in enumerate(WINDOWS[:number]):
        with torch.no_grad():  # no server shall find the same weights twice and use one of them
            for parameter in network.base.parameters():
                parameter += 1e-4 * torch.randn(parameter.shape, generator=random)
        replace(member, recipe=_recipe(events)).save(prepared.run.member(f"text-{at}"))


def text_ensemble(prepared: Prepared, number: int) -> Path:
    """An ensemble of the first so many text members."""
    weights = {f"text-{at}": 1 / number for at in range(number)}
    return _saved(prepared, f"text-{number}", weights)


def small_ensemble(prepared: Prepared) -> Path:
    """One small network alone: what a server costs where its model costs nearly nothing."""
    torch.manual_seed(0)
    network = SequenceNetwork(_SMALL, prepared.log.num_items, None)
    SequenceMember(recipe=_SMALL, network=network).save(prepared.run.member("small"))
    return _saved(prepared, "small", {"small": 1.0})


def _saved(prepared: Prepared, name: str, weights: dict[str, float]) -> Path:
    how = Linear(normalization="zscore", weights=weights)
    return save_ensemble(prepared.run, name, how, prepared.experiment.requests, {})


def flops_per_request(prepared: Prepared, directory: Path) -> float:
    """Arithmetic of the encoders for an average test request, real tokens alone.

    A layer of width h multiplies each token with 12 h^2 weights, and each of L tokens with all L
    twice for attention: 24 h^2 L + 4 h L^2 operations.
    """
    stored = StoredRequests.open(prepared.run.root)
    total = 0.0
    for member in load_ensemble(directory).members.values():
        if not isinstance(member, TextMember):
            continue
        config = member.network.base.config
        if config.intermediate_size != 4 * config.hidden_size:
            raise ValueError("expected a feed-forward part of four times the width")
        texts = member.writer.write(stored.log, stored.requests, member.recipe.window)
        around = len(member.frame.begin) + len(member.frame.end)
        length = np.diff(texts.offsets).astype(np.float64) + around
        width, layers = config.hidden_size, config.num_hidden_layers
        each = layers * (24 * width**2 * length + 4 * width * length**2)
        total += float(each.mean())
    return total
