"""Small worlds for tests: event logs built by hand or drawn with a seed, and members on them.

Fixtures give functions, because test modules cannot import one another.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from penchant.platform import config
from penchant.platform.events import EventLog
from penchant.platform.recipes import (
    Alike,
    BoostedRecipe,
    ItemItemRecipe,
    PersonalRecipe,
    PopularityRecipe,
    Recipe,
    SequenceRecipe,
    Size,
    TextRecipe,
)
from penchant.platform.requests import Requests, all_requests
from penchant.platform.timeline import DAY_MS, Window
from penchant.trainers.member import Member, Past

settings.register_profile("same each time", derandomize=True, database=None, deadline=None)
settings.load_profile("same each time")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # networks here are too small for threads

START_MS = 1_483_228_800_000  # 2017-01-01, a Sunday
HOUR_MS = DAY_MS // 24


def build_log(rows: Iterable[tuple[Any, ...]], num_items: int, num_users: int = 0) -> EventLog:
    """A log of rows (user, time_ms, item[, group[, value]]) that are given in input order.

    A group is a run of rows of one user with the same key, as `ingest` numbers them; rows without
    a key make a log without groups.
    """
    full = [(*row, None, 1.0)[:5] if len(row) == 3 else (*row, 1.0)[:5] for row in rows]
    full.sort(key=lambda row: (row[0], row[1]))  # stable: equal times keep their order
    keys = [(user, group) for user, _, _, group, _ in full]
    runs = np.cumsum([at > 0 and key != keys[at - 1] for at, key in enumerate(keys)])
    users = max([num_users, *(1 + row[0] for row in full)])
    sizes = np.bincount(np.array([row[0] for row in full], dtype=np.int64), minlength=users)
    return EventLog(
        item=np.array([row[2] for row in full], dtype=np.int32),
        time_ms=np.array([row[1] for row in full], dtype=np.int64),
        kind=np.zeros(len(full), dtype=np.int8),
        value=np.array([row[4] for row in full], dtype=np.float32),
        group=runs.astype(np.int32) if full and full[0][3] is not None else None,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        num_items=num_items,
    )


def rows_of(log: EventLog) -> list[tuple[Any, ...]]:
    """The rows that `build_log` makes the same log of."""
    groups = [None] * log.num_events if log.group is None else log.group.tolist()
    parts = (log.user.tolist(), log.time_ms.tolist(), log.item.tolist(), groups, log.value.tolist())
    return list(zip(*parts, strict=True))


def draw_rows(shape: str, users: int, groups: int, items: int, seed: int) -> list[tuple[Any, ...]]:
    """Rows of users who mostly repeat the items they like.

    `baskets`: a group is a moment, and now and then two groups share it. `sessions`: the events of
    a group are hours apart, and the next group may begin at the moment when the last one ends.
    `events`: no groups, and ties in time.
    """
    random = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    for user in range(users):
        liked = random.choice(items, size=min(8, items), replace=False)
        moment = START_MS + int(random.integers(0, 100)) * HOUR_MS
        for group in range(groups):
            for _ in range(int(random.integers(1, 5))):
                item = random.choice(liked) if random.random() < 0.7 else random.integers(items)
                key = None if shape == "events" else group
                rows.append((user, moment, int(item), key, float(random.random() < 0.4)))
                if shape == "sessions":
                    moment += int(random.integers(0, 3)) * HOUR_MS
            if random.random() > 0.15:
                moment += int(random.integers(1, 60)) * HOUR_MS
    return rows


def texts_of(num_items: int) -> tuple[str, ...]:
    """A text an item; the last one has none."""
    kinds = ("red wine", "milk", "brown bread", "white bread and milk")
    words = [f"{kinds[at % 4]} {_NUMBERS[at % 7]}" for at in range(num_items)]
    return (*words[:-1], "") if num_items > 1 else tuple(words)


_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven")
_WORDS = [
    "red",
    "wine",
    "milk",
    "brown",
    "white",
    "bread",
    "and",
    "d",
    "w",
    "mo",
    "y",
    "ago",
    "today",
    "buy",
    ";",
    ".",
]


def write_bert(directory: Path, words: Sequence[str], **sizes: float) -> Path:
    """A BERT drawn at random, with a tokenizer of these words and BERT's five special ones."""
    import torch
    import transformers

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    torch.manual_seed(0)
    settings = transformers.BertConfig(vocab_size=len(vocabulary), num_attention_heads=2, **sizes)
    transformers.BertModel(settings).save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(vocabulary))
    card = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (directory / "tokenizer_config.json").write_text(json.dumps(card))
    return directory


@cache
def tiny_encoder() -> Path:
    """A BERT of two layers and sixteen numbers a token that knows the words of these tests."""
    home = Path(tempfile.mkdtemp(prefix="tiny-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return write_bert(
        home / "bert",
        [*_WORDS, *_NUMBERS, *(str(number) for number in range(70))],
        hidden_size=16,
        num_hidden_layers=2,
        intermediate_size=32,
        max_position_embeddings=128,
        initializer_range=0.3,
    )


@dataclass(frozen=True, kw_only=True)
class World:
    """A log, what is asked on it, and the moment up to which members learn."""

    log: EventLog
    spec: config.Requests
    until_ms: int

    @property
    def past(self) -> Past:
        return Past(
            log=self.log,
            spec=self.spec,
            until_ms=self.until_ms,
            texts=texts_of(self.log.num_items),
            types=("buy",),
        )

    def asked(self) -> Requests:
        """The first request of each user after the cut-off."""
        later = all_requests(self.log, self.spec, self.until_ms, np.iinfo(np.int64).max)
        return later.take(np.unique(later.user, return_index=True)[1])


WORLDS = {
    "baskets": ("baskets", config.Requests(unit="group", min_items=2)),
    "events": ("events", config.Requests(unit="event")),
    "sessions": ("sessions", config.Requests(unit="group")),
    "session-events": ("sessions", config.Requests(unit="event")),
    "binary": ("baskets", config.Requests(task="binary", positive_above=0.5, metric="auc")),
}
_NEXT_ITEM = ("baskets", "events", "sessions", "session-events")

_NETWORK = SequenceRecipe(kind="sequence", size=Size(dim=16, layers=2, heads=2), dropout=0.0)
_BOOSTED = BoostedRecipe(kind="boosted", trees=12, leaves=7, fit_requests=300, popular_candidates=9)
#: Every kind of member, with the settings that change what is read from a history.
RECIPES: dict[str, Recipe] = {
    "popularity": PopularityRecipe(kind="popularity", window=Window(days=30, half_life_days=9)),
    "personal": PersonalRecipe(kind="personal", window=Window(half_life_days=20)),
    "personal-large-groups": PersonalRecipe(
        kind="personal", window=Window(days=30, events=12), min_group_items=2
    ),
    "personal-alike": PersonalRecipe(
        kind="personal",
        window=Window(days=30, events=12),
        alike=Alike(text="tiny", temperature=0.1, neighbors=6),
    ),
    "item_item": ItemItemRecipe(kind="item_item", regularization=50.0),
    "item_item-faded": ItemItemRecipe(
        kind="item_item", regularization=50.0, half_life_events=5, window=Window(days=20)
    ),
    "item_item-transition": ItemItemRecipe(
        kind="item_item", relation="transition", half_life_events=5, window=Window(days=20)
    ),
    "boosted": _BOOSTED,
    "boosted-window": _BOOSTED.model_copy(update={"window": Window(days=25, events=15)}),
    "sequence-groups": _NETWORK,
    "sequence-events": _NETWORK.model_copy(update={"tokens": "event", "max_tokens": 8}),
    "sequence-window": _NETWORK.model_copy(update={"window": Window(days=25, events=15)}),
    "sequence-text": _NETWORK.model_copy(
        update={"ids": False, "text": "none", "copy_half_lives_days": ()}
    ),
    "text": TextRecipe(kind="text", base="tiny", layers=1),
    "text-window": TextRecipe(
        kind="text", base="tiny", window=Window(days=25, events=15), copy_half_lives_days=()
    ),
}
#: Every recipe on every world whose task its kind can answer.
CASES = [(recipe, world) for recipe in RECIPES for world in _NEXT_ITEM] + [
    (recipe, "binary")
    for recipe in ("popularity", "personal", "boosted", "boosted-window", "text", "text-window")
]


def fit(recipe: Recipe, past: Past) -> Member:
    """A member; a network is not trained, its weights are drawn at random."""
    from penchant.trainers.fit import fit_baseline

    if isinstance(recipe, TextRecipe):
        return untrained_text(recipe, past)
    if isinstance(recipe, PersonalRecipe) and recipe.alike is not None:
        alike = recipe.alike.model_copy(update={"text": str(tiny_encoder())})
        recipe = recipe.model_copy(update={"alike": alike})
        past = past if past.texts else replace(past, texts=texts_of(past.log.num_items))
    if not isinstance(recipe, SequenceRecipe):
        return fit_baseline(recipe, past)
    import torch

    from penchant.trainers.sequence.model import SequenceMember
    from penchant.trainers.sequence.network import SequenceNetwork

    random = torch.Generator().manual_seed(recipe.seed)
    text = torch.randn(past.log.num_items, 5, generator=random) if recipe.text else None
    network = SequenceNetwork(recipe, past.log.num_items, text)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.3)
    return SequenceMember(recipe=recipe, network=network)


def untrained_text(recipe: TextRecipe, past: Past) -> Member:
    """A text member on the tiny encoder, its heads drawn at random."""
    import torch

    from penchant.platform.language_models import load_tokenizer
    from penchant.trainers.text.model import TextMember, item_tower
    from penchant.trainers.text.network import build_network
    from penchant.trainers.text.words import read_words

    recipe = recipe.model_copy(update={"base": str(tiny_encoder())})
    past = past if past.texts else replace(past, texts=texts_of(past.log.num_items))
    network = build_network(recipe, binary=past.spec.task == "binary")
    random = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("base."):
                parameter.copy_(torch.randn(parameter.shape, generator=random))
    words = read_words(recipe, past, network.base.config)
    return TextMember(
        recipe=recipe,
        network=network,
        writer=words.writer,
        frame=words.frame,
        tower=item_tower(network, words.writer, words.frame, words.log_share),
        tokenizer=load_tokenizer(recipe.base),
        facts={
            "task": past.spec.task,
            "until_ms": past.until_ms,
            "requests": 1,
            "select_loss": 1.0,
            "metric": "auc",
            "select_metric": 0.5,
        },
    )


@pytest.fixture(scope="session")
def tiny_base() -> Path:
    return tiny_encoder()


@pytest.fixture(scope="session")
def grocer_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer and eight numbers a token, with nine words."""
    return write_bert(
        tmp_path_factory.mktemp("models") / "tiny",
        ["milk", "bread", "red", "wine"],
        hidden_size=8,
        num_hidden_layers=1,
        intermediate_size=16,
        max_position_embeddings=80,
    )


@pytest.fixture(scope="session")
def make_log() -> Callable[..., EventLog]:
    return build_log


@pytest.fixture(scope="session")
def log_rows() -> Callable[[EventLog], list[tuple[Any, ...]]]:
    return rows_of


@pytest.fixture(scope="session")
def draw() -> Callable[..., EventLog]:
    """A drawn log: `draw("baskets", users=3, groups=5, items=4, seed=0)`."""

    def drawn(shape: str, *, users: int, groups: int, items: int, seed: int = 0) -> EventLog:
        return build_log(draw_rows(shape, users, groups, items, seed), items, users)

    return drawn


@pytest.fixture(scope="session")
def world() -> Callable[[str], World]:
    """The worlds of `WORLDS`, each drawn once."""
    made: dict[str, World] = {}

    def named(name: str) -> World:
        if name not in made:
            shape, spec = WORLDS[name]
            log = build_log(draw_rows(shape, 30, 30, 30, seed=1), 30)
            until = int(np.quantile(log.time_ms, 0.6)) // HOUR_MS * HOUR_MS
            made[name] = World(log=log, spec=spec, until_ms=until)
        return made[name]

    return named


@pytest.fixture(scope="session")
def fit_member() -> Callable[[Recipe, Past], Member]:
    return fit


@pytest.fixture(scope="session", params=CASES, ids="-on-".join)
def case(
    request: pytest.FixtureRequest, world: Callable[[str], World]
) -> Iterable[tuple[Member, World]]:
    """Each member of `CASES`, fitted once, with its world."""
    name, place = request.param
    return fit(RECIPES[name], world(place).past), world(place)


@pytest.fixture(scope="session")
def recipes() -> dict[str, Recipe]:
    return dict(RECIPES)
