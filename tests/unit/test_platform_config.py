"""The experiment file: each message names the place and says how to mend it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penchant.platform.config import Experiment, load_experiment
from penchant.platform.errors import ConfigError

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))
SMALL = """
name: small
data: {source: groceries}
time: {dates: {select: 2017-10-01, blend: 2017-11-01, test: 2017-12-01}}
requests: {unit: group}
members:
  - {kind: popularity}
"""
OWN = "data.events={paths: [a.csv], columns: {user: u, item: i, time: t}}"


@pytest.fixture
def load(tmp_path):
    def loaded(text: str | bytes = SMALL, *overrides: str) -> Experiment:
        path = tmp_path / "experiment.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_experiment(path, overrides)

    return loaded


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_is_a_valid_experiment(path):
    assert load_experiment(path).name == path.stem


def test_a_small_file_is_filled_up_with_defaults(load):
    experiment = load()
    assert experiment.time.dates["blend"] == datetime(2017, 11, 1)
    assert experiment.requests.per_block == 4000
    assert experiment.ensemble.combiners[:2] == ("mean", "median")
    assert experiment.members[0].window.label == "all"


def test_an_experiment_cannot_be_changed_once_it_is_checked(load):
    with pytest.raises(ValueError, match="frozen"):
        load().name = "other"


def test_dates_are_midnights_and_moments_keep_their_zone(load):
    dates = load(SMALL, "time.dates.end=2017-12-24T18:30:00+01:00").time.dates
    assert dates["select"] == datetime(2017, 10, 1)
    assert dates["end"] == datetime(2017, 12, 24, 17, 30, tzinfo=UTC)


def test_overrides_reach_any_key_and_are_read_as_yaml(load):
    experiment = load(
        SMALL,
        "requests.per_block=500",
        "ensemble.combiners=[greedy]",
        "search={windows: [{days: 30}, {}], sizes: [{dim: 32}], base: {kind: sequence, epochs: 2}}",
        "search.base.dropout=0.25",
        "resources.workers=2",
        "name=other",
        "name=last",
    )
    assert experiment.requests.per_block == 500
    assert experiment.ensemble.combiners == ("greedy",)
    assert experiment.search.base.dropout == 0.25
    assert experiment.search.base.epochs == 2
    assert experiment.resources.workers == 2
    assert experiment.name == "last"


def test_an_infinite_half_life_is_written_as_yaml_writes_it(load):
    recipe = load(SMALL, "members=[{kind: sequence, copy_half_lives_days: [7, .inf]}]").members[0]
    assert recipe.copy_half_lives_days == (7.0, float("inf"))


UNKNOWN = "unknown key; remove it or correct its spelling"
#: override -> place and what is said of it
REFUSED = {
    "requests.per_blok=5": rf"requests\.per_blok: {UNKNOWN}",
    "window.days=5": rf"  window: {UNKNOWN}",
    "members=[{kind: popularity, windw: {}}]": rf"members\.0\.popularity\.windw: {UNKNOWN}",
    "members=[{kind: popularity, window: {dayz: 3}}]": rf"window\.dayz: {UNKNOWN}",
    "time.dates.train=2017-05-01": r"time\.dates\.train.*should be 'select', 'blend', 'test' or",
    "members=[{kind: personel}]": r"members\.0: Input tag 'personel' .*'personal', 'item_item'",
    "members=[{kin: boosted, window: {}}]": (
        r"members\.0: missing key `kind`, which says what it is \(received: kin, window\)"
    ),
    "members=[]": "nothing to fit: list `members`, or a `search`",
    "members=[{kind: boosted, window: {days: 0}}]": (
        r"members\.0\.boosted\.window\.days: Input should be greater than 0 \(got 0\)"
    ),
    "members=[{kind: boosted, window: {events: 0}}]": r"window\.events: .*equal to 1 \(got 0\)",
    "search={windows: [{days: 0}], sizes: [{}]}": r"search\.windows\.0\.days: .*greater than 0",
    "search={windows: [], sizes: [{}]}": r"search\.windows: .*at least 1 item",
    "search={windows: [{}], sizes: [{}], base: {kind: sequence, window: {days: 3}}}": (
        r"search: the grid decides window: remove it from `base`"
    ),
    "requests.per_block=many": r"requests\.per_block: .*valid integer.* \(got \"many\"\)",
    "requests.per_block=0": r"requests\.per_block: .*greater than or equal to 1 \(got 0\)",
    "requests.seed=-1": r"requests\.seed: .*greater than or equal to 0 \(got -1\)",
    "ensemble.seed=-1": r"ensemble\.seed: .*greater than or equal to 0",
    "ensemble.bootstrap=10": r"ensemble\.bootstrap: .*greater than or equal to 100",
    "members=[{kind: popularity, name: greedy}]": "greedy is what a combination is called",
    "members=[{kind: popularity, name: single}]": "single is what a combination is called",
    "members=[{kind: sequence, text: minilm, ids: false, text_training: {}, average: 2}]": (
        "text_training goes with one epoch's weights"
    ),
    "members=[{kind: popularity, name: x}, {kind: personal, name: x}]": (
        r"two members are called x: give each a name of its own"
    ),
    "ensemble.combiners=[mode]": r"ensemble\.combiners\.0: .*'mean', 'median'",
    "name=My run": r"name: String should match pattern .* \(got \"My run\"\)",
    OWN: "data: name either a `source` or your own `events`, not both and not neither",
    "data={}": "data: name either a `source` or your own `events`, not both and not neither",
    "data.source=movielens": r"data\.source: Input should be 'groceries', .* or 'movielens-100k'",
    "data.items={paths: [i.csv], columns: {item: i, text: t}}": "brings its own texts: remove `it",
    "data={events: {paths: [a.csv], columns: {user: u, who: w}}}": (
        r"data: `events\.columns` .*missing: item, time, unknown: who"
    ),
    "data={events: {paths: [], columns: {user: u, item: i, time: t}}}": r"data\.events\.paths: ",
    "data={events: {paths: [a], columns: {user: u, item: i, time: t}, time_unit: h}}": (
        r"data\.events\.time_unit: Input should be 'auto', 's', 'ms', 'us' or 'ns'"
    ),
    "time.quantiles={select: .7, blend: .8, test: .9}": "give either `dates` or `quantiles`",
    "time={}": "time: give either `dates` or `quantiles`",
    "time={dates: {select: 2017-10-01}}": "time: missing the start of blend, test",
    "time={quantiles: {select: 0.7, blend: 0.8, test: 1.5}}": (
        r"time\.quantiles\.test: Input should be less than or equal to 1 \(got 1\.5\)"
    ),
    "time={quantiles: {select: -0.9, blend: 0.8, test: 0.9}}": r"select: .*greater than 0",
    "data={events: {paths: [a], columns: {user: u, item: i, time: t, label_time: l}}}": (
        r"data: `events\.columns` maps label_time, which needs a `label`"
    ),
    "requests.positive_above=3": "`positive_above` belongs to `task: binary`",
    "requests={task: binary, positive_above: 3, unit: group}": "asks about single events",
    "requests={task: binary, unit: group}": "asks about single events",
    "requests={min_items: 2}": "`min_items` counts the items of a group: it needs `unit: group`",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_is_not_understood_is_refused_with_its_place(override, load):
    with pytest.raises(ConfigError, match=r"experiment\.yaml: \d+ problem") as refused:
        load(SMALL, override)
    assert re.search(REFUSED[override], str(refused.value)), refused.value
    assert refused.value.exit_code == 2


def test_a_binary_experiment_takes_no_member_that_ranks(load):
    binary = "requests={task: binary, positive_above: 3, metric: auc}"
    assert load(SMALL, binary).requests.task == "binary"
    for kind in ("sequence", "item_item"):
        with pytest.raises(ConfigError, match="sequence and item_item members rank items"):
            load(SMALL, binary, f"members=[{{kind: {kind}}}]")


BINARY = "requests={task: binary, positive_above: 3, metric: auc}"
#: member -> the task in which one of its settings does nothing, and that setting
IDLE = {
    "{kind: text, history: {relevant_share: 0.5}}": ("next_item", "history.relevant_share"),
    "{kind: text, positive_weight: 5.0}": ("next_item", "positive_weight"),
    "{kind: zero_shot, history: {relevant_share: 0.5}}": ("next_item", "history.relevant_share"),
    "{kind: text, negatives: 500}": ("binary", "negatives"),
    "{kind: text, copy_half_lives_days: [3]}": ("binary", "copy_half_lives_days"),
    "{kind: zero_shot, rerank: 20}": ("binary", "rerank"),
}


@pytest.mark.parametrize("member", IDLE)
def test_a_setting_acts_in_its_own_task_and_is_refused_in_the_other(member, load):
    task, setting = IDLE[member]
    overrides = {"next_item": [], "binary": [BINARY]}
    other = ({"next_item", "binary"} - {task}).pop()
    load(SMALL, *overrides[other], f"members=[{member}]")
    with pytest.raises(ConfigError, match=f"`{setting}` .* acts in a task `{other}` only.*remove"):
        load(SMALL, *overrides[task], f"members=[{member}]")


@pytest.mark.parametrize("member", IDLE)
def test_a_run_that_was_made_with_a_setting_that_does_nothing_is_opened(member, tmp_path):
    """Its members are there, under ids that hang on the setting."""
    path, task = tmp_path / "experiment.yaml", IDLE[member][0]
    overrides = ([BINARY] if task == "binary" else []) + [f"members=[{member}]"]
    path.write_text(SMALL)
    assert len(load_experiment(path, tuple(overrides), kept=True).members) == 1


@pytest.mark.parametrize("task", [[], [BINARY]], ids=["next_item", "binary"])
def test_an_experiment_with_its_defaults_written_out_is_the_same_one(task, load):
    """As a run directory keeps it; and what is switched off in words is no trouble either."""
    experiment = load(SMALL, *task, "members=[{kind: text}, {kind: zero_shot}]")
    tree = experiment.model_dump(mode="json", exclude_none=True)
    assert Experiment.model_validate(tree) == experiment
    load(SMALL, *task, "members=[{kind: text, copy_half_lives_days: [], negatives: 0}]")


def test_every_problem_is_listed_at_once(load):
    with pytest.raises(ConfigError, match="3 problem") as refused:
        load(SMALL, "name=No Name", "requests.k=5", "refit=perhaps")
    assert all(f"  {place}: " in str(refused.value) for place in ("name", "requests.k", "refit"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL + "name: again\n", 'not valid YAML: .*duplicate key "name".* line 8'),
        (SMALL + "\tkey: 1\n", "not valid YAML: .*line 8.*Correct the line it names"),
        (SMALL + "key: [1, 2\n", "not valid YAML"),
        (SMALL.encode() + b"x: \xff\n", "not valid YAML"),
        (SMALL + "x: !!python/object/apply:os.getcwd []\n", "not valid YAML: .*constructor"),
        ("- a\n- b\n", "expected keys and values at the top, got list"),
        ("", "expected keys and values at the top, got NoneType"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(text, message, load):
    with pytest.raises(ConfigError, match=message):
        load(text)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("requests.per_block", "--set expects key.path=value, got 'requests.per_block'"),
        ("=5", "--set expects key.path=value"),
        ("members.0.kind=boosted", "'members' holds a value, not keys; check the path"),
        ("name.first=x", "'name' holds a value, not keys; check the path"),
        ("requests.metric=[", r"--set requests.metric=\[ is not valid YAML"),
    ],
)
def test_an_override_that_leads_nowhere_is_refused(override, message, load):
    with pytest.raises(ConfigError, match=message):
        load(SMALL, override)


@pytest.mark.parametrize("name", ["gone.yaml", "."])
def test_a_missing_file_is_named(name, tmp_path):
    with pytest.raises(ConfigError, match="does not exist: expected an experiment file, such as"):
        load_experiment(tmp_path / name)


def test_personal_members_are_refused_where_labels_are_asked(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text(
        "name: e\ndata: {source: coupons}\n"
        "time: {quantiles: {select: 0.7, blend: 0.8, test: 0.9}}\n"
        "requests: {task: binary, metric: auc}\nmembers: [{kind: personal}]\n"
    )
    with pytest.raises(ConfigError, match="labels are no values"):
        load_experiment(path)
