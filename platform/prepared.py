"""A run that is ready for its members: events, blocks and requests, on disk and open."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from typing import Any

from ruamel.yaml import YAML

from penchant.platform.config import Experiment, load_experiment
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.events import Catalog, EventLog, read_log_card
from penchant.platform.ingest import ingest
from penchant.platform.log_words import log_words
from penchant.platform.metrics import check_metric
from penchant.platform.recipes import SequenceRecipe
from penchant.platform.requests import Requests, block_requests, read_requests
from penchant.platform.store import RunDirectory
from penchant.platform.swap import whole_file
from penchant.platform.timeline import Block, Blocks, blocks_from_dates, blocks_from_quantiles

__all__ = ["JUDGED_BLOCKS", "Prepared", "experiment_digest", "open_prepared", "prepare"]

#: Blocks whose requests are asked; `train` is learned from, not asked.
JUDGED_BLOCKS = (Block.SELECT, Block.BLEND, Block.TEST)
_MAX_SCORE_BYTES = 1 << 30
#: What the manifest keeps of the log's card.
_OF_EVENTS = ("fingerprint", "events", "users", "items")


@dataclass(frozen=True)
class Prepared:
    """What every later step needs, opened when first used."""

    run: RunDirectory
    experiment: Experiment

    @cached_property
    def log(self) -> EventLog:
        return EventLog.open(self.run.log)

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog.open(self.run.log)

    @cached_property
    def types(self) -> list[str]:
        """Names of the event types."""
        names: list[str] = read_log_card(self.run.log)["types"]
        return names

    @cached_property
    def blocks(self) -> Blocks:
        time = self.experiment.time
        if time.quantiles is not None:
            return blocks_from_quantiles(
                {str(k): v for k, v in time.quantiles.items()}, self.log.time_ms
            )
        card = read_log_card(self.run.log)
        return blocks_from_dates(
            {str(name): day for name, day in (time.dates or {}).items()},
            card["first_ms"],
            card["last_ms"],
        )

    @cached_property
    def requests(self) -> Mapping[Block, Requests]:
        return {block: read_requests(self.run.requests(block)) for block in JUDGED_BLOCKS}


def experiment_digest(experiment: Experiment) -> str:
    """Short hash of everything that shapes members and predictions.

    How members are combined, whether they are refitted as well, what the experiment is called and
    which machines do the work may change within a run directory.
    """
    return _digest(experiment, {"name", "refit"})


def _digest(experiment: Experiment, but: set[str]) -> str:
    other = {"ensemble", "resources", "members", "search", "time", "tracking"}
    shaping = experiment.model_dump(mode="json", exclude=other | but)
    shaping["time"] = experiment.time.model_dump(mode="json", exclude={"origins"})
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]


def prepare(
    experiment: Experiment, run: RunDirectory, tell: Callable[[str], None] | None = None
) -> Prepared:
    """Ingest the events and draw the requests; what is there already and still fits is kept.

    Raises:
        ConfigError: the directory belongs to another experiment, or a setting does not fit.
        DataError: the events are refused, are others than members of the run were fitted on, or a
            block holds no request.
    """
    check_metric(experiment.requests.metric, experiment.requests.task)
    run.begin(
        {"experiment": experiment_digest(experiment), "penchant": metadata.version("penchant")},
        also=[_digest(experiment, set())],  # of runs that were begun before `refit` was free
    )
    card = ingest(
        experiment.data,
        run.log,
        run.quarantine,
        progress=tell,
        check=lambda card: _refuse_other_events(run, card),
    )
    run.note_events({name: card[name] for name in _OF_EVENTS})
    if tell is not None:
        for line in log_words(card, texts=experiment.data.items is not None):
            tell(line)
    _write_experiment(experiment, run)
    prepared = Prepared(run=run, experiment=experiment)
    if experiment.requests.unit == "group" and not card["has_groups"]:
        raise ConfigError(
            "requests.unit is `group`, but the events have no groups. Map a column to `group` in "
            "data.events.columns (a basket or session id), or ask `unit: event`."
        )
    if card["has_groups"]:
        _refuse_whole_groups(experiment)
    _refuse_too_much(experiment, prepared.log.num_items)
    for block in JUDGED_BLOCKS:
        path = run.requests(block)
        path.parent.mkdir(parents=True, exist_ok=True)
        asked = block_requests(prepared.log, experiment.requests, prepared.blocks, block)
        asked.write(path)
    return prepared


def _refuse_other_events(run: RunDirectory, card: Mapping[str, Any]) -> None:
    """Scores of members stand by positions in one log: beside another they mean nothing.

    What was begun counts as well: a training that was cut off would go on with other events.
    """
    before = run.manifest().get("events")
    if before is None and (run.log / "log.json").exists():  # a run that was begun before
        before = read_log_card(run.log)
    if before is None or not run.begun:
        return
    if before["fingerprint"] == card["fingerprint"]:
        return
    raise DataError(
        f"{run.root} holds members that were fitted on other events: {before['events']:,} of "
        f"{before['users']:,} users and {before['items']:,} items, now there are "
        f"{card['events']:,} of {card['users']:,} and {card['items']:,}. Expected the same ones. "
        "Choose another --out for the new events, or bring the old ones back; nothing was changed."
    )


def _refuse_whole_groups(experiment: Experiment) -> None:
    """Events are asked about within groups; a network of whole groups learns between them only."""
    if experiment.requests.unit != "event":
        return
    for recipe in (*experiment.members, *([experiment.search.base] if experiment.search else [])):
        if isinstance(recipe, SequenceRecipe) and recipe.tokens == "group":
            raise ConfigError(
                "requests.unit is `event`, the events have groups, and a sequence member has "
                "`tokens: group`: it would be asked in the midst of a group, and learn only what "
                "follows a whole one. Set `tokens: event`, or ask `unit: group`."
            )


def _refuse_too_much(experiment: Experiment, num_items: int) -> None:
    """Every member scores every item for every request: that must fit into memory."""
    spec = experiment.requests
    if spec.task == "next_item" and 4 * spec.per_block * num_items > _MAX_SCORE_BYTES:
        most = _MAX_SCORE_BYTES // (4 * num_items)
        raise ConfigError(
            f"{spec.per_block} requests a block x {num_items} items are more scores than the "
            f"{_MAX_SCORE_BYTES >> 20} MB that a member's block may take. Set "
            f"requests.per_block to {most} or less, or use coarser items."
        )


def open_prepared(run: RunDirectory) -> Prepared:
    """A run that `prepare` made, in any process that sees its directory."""
    run.manifest()
    return Prepared(run=run, experiment=load_experiment(run.root / "experiment.yaml", kept=True))


def _write_experiment(experiment: Experiment, run: RunDirectory) -> None:
    decided = {"search": {"base": {"window", "size", "seed", "name"}}}  # by the grid
    tree = experiment.model_dump(mode="json", exclude_none=True, exclude=decided)
    with whole_file(run.root / "experiment.yaml") as partial, partial.open("w") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
