"""What weights have learned from is known wherever they lie, and through all that made them."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from penchant.platform.config import Experiment
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.language_models import load_model, load_tokenizer
from penchant.platform.prepared import prepare
from penchant.platform.recipes import SequenceRecipe
from penchant.platform.store import RunDirectory, write_json
from penchant.platform.text_recipes import TextRecipe
from penchant.platform.timeline import Block
from penchant.trainers.base_models import refuse_future
from penchant.trainers.fit import learned_from
from penchant.trainers.lineage import learned_here
from penchant.trainers.pretrain import run as pretraining
from penchant.trainers.pretrain.plan import PretrainSettings
from penchant.trainers.pretrain.worker import MODEL, RESULT_FILE
from penchant.trainers.score import keep_member
from penchant.trainers.sequence.model import SequenceMember, copier
from penchant.trainers.sequence.network import SequenceNetwork

EARLY = {"select": 0.5, "blend": 0.6, "test": 0.7}
LATE = {"select": 0.8, "blend": 0.9, "test": 0.95}
ITEMS = 12
SEQUENCE = {"kind": "sequence", "ids": False, "text": "minilm"}
SMALL = {"size": {"dim": 8, "layers": 1, "heads": 2}, "copy_half_lives_days": []}


@pytest.fixture
def write_log(draw, log_rows, tmp_path):
    """Writes events into a file; `more` of them follow the last one."""

    def write(name="events.csv", seed=3, more=0):
        rows = log_rows(draw("events", users=30, groups=20, items=ITEMS, seed=seed))
        last_ms = max(time for _, time, *_ in rows)
        rows += [(0, last_ms + 1 + at, 0) for at in range(more)]
        lines = [f"u{user},i{item:02},{time}" for user, time, item, *_ in rows]
        (tmp_path / name).write_text("\n".join(["user,item,time", *lines]) + "\n")
        return tmp_path / name

    return write


@pytest.fixture
def experiment(write_log, tmp_path):
    write_log()
    texts = [f"i{item:02},red wine" for item in range(ITEMS)]
    (tmp_path / "items.csv").write_text("\n".join(["item,text", *texts]) + "\n")

    def make(quantiles, events="events.csv"):
        files = {
            key: {"paths": [str(tmp_path / name)], "columns": {c: c for c in columns}}
            for key, name, columns in (
                ("events", events, ("user", "item", "time")),
                ("items", "items.csv", ("item", "text")),
            )
        }
        files["events"]["time_unit"] = "ms"
        settings = {"name": "x", "data": files, "time": {"quantiles": quantiles}}
        return Experiment.model_validate(settings | {"members": [{"kind": "text"}]})

    return make


@pytest.fixture
def early(experiment, tmp_path):
    return prepare(experiment(EARLY), RunDirectory(tmp_path / "runs" / "early"))


@pytest.fixture
def late(experiment, tmp_path):
    return prepare(experiment(LATE), RunDirectory(tmp_path / "runs" / "late"))


@pytest.fixture
def keep(recipes, fit_member):
    """Keeps a text member that has learned up to its run's `select`; returns its directory."""

    def kept(prepared, base=None, **facts):
        until_ms = prepared.blocks.select_ms
        member = fit_member(recipes["text"], learned_from(prepared, until_ms))
        if base is not None:
            recipe = member.recipe.model_copy(update={"base": str(base)})
            member = replace(member, recipe=recipe)
        _keep(prepared, member, {"until_ms": until_ms, **facts})
        return prepared.run.member("m")

    return kept


def _keep(prepared, member, facts):
    asked = {Block.SELECT: prepared.requests[Block.SELECT]}
    keep_member(prepared.run, "m", member, prepared.log, asked, facts, exclude_seen=False)


def begin(prepared, base):
    """See whether a member may begin with a base; returns what is told."""
    told = []
    recipe = TextRecipe(kind="text", base=str(base))
    refuse_future(prepared, [recipe], prepared.blocks.select_ms, told.append)
    return told


@pytest.mark.parametrize("place", [None, "models/mine", "ensembles/mean/members/m"])
def test_a_later_member_is_refused_wherever_its_directory_lies(early, late, keep, tmp_path, place):
    member = keep(late)
    assert begin(late, member) == []  # which ends where this one may end
    if place is not None:
        copy = shutil.copytree(member, tmp_path / place)
        shutil.rmtree(late.run.root)
        member = copy
    with pytest.raises(ConfigError, match="these very events until 2017"):
        begin(early, member)


def test_what_a_source_began_with_counts(early, late, keep, tmp_path):
    """The second has learned nothing late itself."""
    first = shutil.copytree(keep(late), tmp_path / "first")
    second = keep(early, base=first)
    shutil.rmtree(first)
    with pytest.raises(ConfigError, match="these very events"):
        begin(early, second)


def test_a_mean_of_members_knows_what_its_parts_know(early, late, keep, tmp_path):
    part = early.run.member("part")
    shutil.copytree(keep(late), part)
    mean = keep(early, soup_of=["part"])
    shutil.rmtree(part)
    with pytest.raises(ConfigError, match="these very events"):
        begin(early, mean)


def test_the_language_model_of_a_sequence_member_goes_alone(early, late, tiny_base, tmp_path):
    recipe = SequenceRecipe.model_validate(SEQUENCE | SMALL)
    network = SequenceNetwork(recipe, ITEMS, torch.zeros(ITEMS, 5))
    member = SequenceMember(recipe=recipe, network=network, write_text=copier(tiny_base))
    _keep(late, member, {"until_ms": late.blocks.select_ms})
    text = shutil.copytree(late.run.member("m") / "text", tmp_path / "text-alone")
    with pytest.raises(ConfigError, match="these very events"):
        begin(early, text)


@pytest.mark.parametrize("brings_text", [False, True])
def test_text_is_asked_about_where_the_source_of_a_transfer_brings_none(
    early, late, keep, tmp_path, brings_text
):
    (tmp_path / "source" / ("text" if brings_text else "")).mkdir(parents=True)
    named = {"text": str(keep(late)), "init_from": str(tmp_path / "source")}
    recipe = SequenceRecipe.model_validate(SEQUENCE | named)
    with nullcontext() if brings_text else pytest.raises(ConfigError, match="these very events"):
        refuse_future(early, [recipe], early.blocks.select_ms)


@pytest.mark.parametrize("more", [1, 100])
def test_a_log_that_has_grown_is_the_same_log(late, keep, experiment, write_log, tmp_path, more):
    member = keep(late)
    write_log(more=more)
    grown = prepare(experiment(EARLY), RunDirectory(tmp_path / "runs" / "grown"))
    with pytest.raises(ConfigError, match="this log, when it held more or fewer events, until"):
        begin(grown, member)


def _log(place, given, files, source=None):
    data = {"source": source, "events": given and {"paths": [given]}}
    built = {"data": data, "files": [{"path": file} for file in files]}
    write_json(place / "log.json", {"fingerprint": "a", "source": built})
    return place


@pytest.mark.parametrize(
    ("given", "files", "source", "same"),
    [
        ("/shop/day-*.csv", ["/shop/day-1.csv", "/shop/day-2.csv"], None, True),
        ("day-*.csv", ["/shop/day-1.csv"], None, True),  # from there
        ("/other/day-*.csv", ["/other/day-1.csv"], None, False),
        ("/shop/all.csv", ["/shop/all.csv"], None, False),
        (None, ["/shop/day-1.csv"], "groceries", False),
    ],
)
def test_a_log_is_the_same_where_the_same_paths_lead_to_the_same_place(
    tmp_path, given, files, source, same
):
    first = _log(tmp_path / "first", "/shop/day-*.csv", ["/shop/day-1.csv"])
    other = _log(tmp_path / "other", given, files, source)
    assert (learned_here(first, 1).origin == learned_here(other, 1).origin) is same


@pytest.mark.parametrize("given", ["log/*/part.csv", "/shop/log/*/part.csv", "../log/*/part.csv"])
def test_a_log_of_folders_is_the_same_when_it_has_one_more(tmp_path, given):
    months = [f"/shop/log/month={month}/part.csv" for month in range(1, 4)]
    first = _log(tmp_path / "first", "log/*/part.csv", [*months[:2], "/shop/items.csv"])
    grown = _log(tmp_path / "grown", given, [*months, "/elsewhere/items.csv"])
    other = _log(tmp_path / "other", "log/*/part.csv", ["/other/log/month=1/part.csv"])
    assert learned_here(first, 1).origin == learned_here(grown, 1).origin
    assert learned_here(first, 1).origin != learned_here(other, 1).origin


def test_a_named_source_is_the_same_wherever_it_is_installed(tmp_path):
    first, other = (_log(tmp_path / at, None, [f"/{at}/groceries.csv"], "groceries") for at in "ab")
    assert learned_here(first, 1) == learned_here(other, 1)


def test_later_events_of_another_log_are_told_and_earlier_ones_are_not(
    late, early, keep, experiment, write_log, tmp_path
):
    write_log("others.csv", seed=4)
    place = RunDirectory(tmp_path / "runs" / "other")
    other = prepare(experiment(EARLY, "others.csv"), place)
    member = keep(late)
    (told,) = begin(other, member)
    assert str(member) in told
    for prepared in (late, other):
        assert str(prepared.blocks.to_json()["select"])[:16] in told
    assert begin(late, keep(early)) == []


def test_a_record_that_cannot_be_read_is_not_taken_for_none(early, late, keep):
    member = keep(late)
    (member / "learned.json").write_text('[{"events": "a"}]')
    with pytest.raises(DataError, match="cannot be read"):
        begin(early, member)


@pytest.fixture
def no_training(monkeypatch):
    """A pretraining that changes nothing."""

    def train(work, settings, *_):
        load_model(settings.base).save_pretrained(work / MODEL)
        load_tokenizer(settings.base).save_pretrained(work / MODEL)
        numbers = {"frequencies": 1, "before_model": 1, "after": 1, "asked_tokens": 1}
        facts = {"perplexity": numbers, "fresh": [], "parameters": 1, "tokens": 1}
        write_json(work / RESULT_FILE, facts)

    monkeypatch.setattr(pretraining, "train_on_ray", train)
    monkeypatch.setattr(pretraining, "start_ray", lambda address: nullcontext())


def pretrained(experiment, base, out, told):
    settings = PretrainSettings(base=str(base), tokens=64)
    pretraining.pretrain(experiment, out, settings, SimpleNamespace(say=told.append))
    return out


def test_a_pretraining_refuses_a_later_base(early, late, keep, no_training, tmp_path):
    with pytest.raises(ConfigError, match="these very events"):
        pretrained(early.experiment, keep(late), tmp_path / "base", [])
    assert not (tmp_path / "base").exists()


def test_a_pretrained_base_knows_what_its_own_base_knew(
    early, late, keep, no_training, experiment, write_log, tmp_path
):
    """Pretrained on an unrelated log, which is told, it still knows the first one's future."""
    write_log("others.csv", seed=4)
    told: list[str] = []
    between = pretrained(experiment(EARLY, "others.csv"), keep(late), tmp_path / "base", told)
    assert len([line for line in told if line.startswith("careful: ")]) == 1
    with pytest.raises(ConfigError, match="these very events"):
        begin(early, between)
    kept = json.loads((between / "learned.json").read_text())
    assert len(kept) == 2
    assert late.blocks.select_ms in [entry["until_ms"] for entry in kept]
