"""The experiment file: one YAML that says everything, checked before anything runs."""

from __future__ import annotations

from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from penchant.platform.ensemble_settings import Ensemble
from penchant.platform.errors import ConfigError
from penchant.platform.new_members import check_kinds, check_new_members, check_settings
from penchant.platform.recipes import Recipe, SequenceRecipe, Size
from penchant.platform.schema import EVENT_COLUMNS, ITEM, LABEL, LABEL_TIME, TEXT, TIME, USER
from penchant.platform.timeline import Window
from penchant.platform.tracking_settings import Tracking
from penchant.platform.yaml_tree import apply_override, explain, read_yaml

__all__ = [
    "Data",
    "Ensemble",
    "Experiment",
    "Files",
    "Requests",
    "Resources",
    "Search",
    "Time",
    "Tracking",
    "load_experiment",
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Files(_Section):
    """Parquet or CSV files and what their columns mean."""

    paths: tuple[str, ...] = Field(
        min_length=1, description="Files, globs or directories of *.parquet or *.csv (or .csv.gz)."
    )
    columns: dict[str, str] = Field(
        description="Ours to theirs, such as `user: household_id`. Events: user, item, time are "
        "required; type, value, group are optional, and so are label (0 or 1, empty where nothing "
        "is asked) and label_time (when a yes became known; empty: at the event), which no member "
        "reads. Items: item and text are required."
    )
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = Field(
        default="auto",
        description="Unit of numeric times since 1970; `auto` reads dates and ISO 8601 texts. "
        "Times without a zone are UTC.",
    )
    separator: str = Field(default=",", min_length=1, max_length=1, description="Of CSV files.")


class Data(_Section):
    """Where events and items come from."""

    source: Literal["groceries", "products", "coupons", "movielens-100k"] | None = Field(
        default=None, description="A named source, read from its installed package."
    )
    events: Files | None = Field(default=None, description="Your own events.")
    items: Files | None = Field(
        default=None, description="Texts of your items: `text` may join columns, `title + genre`."
    )
    merge: bool = Field(
        default=False,
        description="Add up the values of rows with equal user, time, group, item, type and label.",
    )
    hash_users_with: str | None = Field(
        default=None,
        min_length=1,
        description="Name of the environment variable that holds a key: user ids are then kept as "
        "keyed hashes (HMAC-SHA256, the first 32 hexadecimal digits).",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        if (self.source is None) == (self.events is None):
            raise ValueError(
                "name either a `source` or your own `events`, not both and not neither"
            )
        if self.source is not None and self.items is not None:
            raise ValueError("a named `source` brings its own texts: remove `items`")
        return self

    @model_validator(mode="after")
    def _columns_are_ours(self) -> Data:
        if self.events is not None:
            _check_columns("events", self.events, (USER, ITEM, TIME), EVENT_COLUMNS)
            if LABEL_TIME in self.events.columns and LABEL not in self.events.columns:
                raise ValueError("`events.columns` maps label_time, which needs a `label`")
        if self.items is not None:
            _check_columns("items", self.items, (ITEM, TEXT), (ITEM, TEXT))
            if self.items.time_unit != "auto":
                raise ValueError("`items` have no times: remove `time_unit`")
        return self


def _check_columns(
    place: str, files: Files, required: tuple[str, ...], known: tuple[str, ...]
) -> None:
    missing = [name for name in required if name not in files.columns]
    unknown = [name for name in files.columns if name not in known]
    if missing or unknown:
        raise ValueError(
            f"`{place}.columns` maps our names to yours: needs {', '.join(required)} and knows "
            f"{', '.join(known)}; missing: {', '.join(missing) or 'none'}, "
            f"unknown: {', '.join(unknown) or 'none'}"
        )


Share = Annotated[float, Field(gt=0, le=1)]


class Time(_Section):
    """Where the blocks start: dates, or shares of the events."""

    dates: dict[Literal["select", "blend", "test", "end"], datetime] | None = None
    quantiles: dict[Literal["select", "blend", "test", "end"], Share] | None = None
    origins: int = Field(
        default=1,
        ge=1,
        le=12,
        description="Repeat everything with all blocks earlier by the length of `test`, so that "
        "one lucky month does not decide: so many times in all.",
    )

    @field_validator("dates", mode="before")
    @classmethod
    def _dates_are_midnights(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: datetime.combine(day, time())
            if isinstance(day, date) and not isinstance(day, datetime)
            else day
            for name, day in value.items()
        }

    @model_validator(mode="after")
    def _complete(self) -> Time:
        if (self.dates is None) == (self.quantiles is None):
            raise ValueError("give either `dates` or `quantiles`")
        given = self.dates if self.dates is not None else self.quantiles
        missing = {"select", "blend", "test"} - set(given or {})
        if missing:
            raise ValueError(f"missing the start of {', '.join(sorted(missing))}")
        return self


class Requests(_Section):
    """What is asked at which moment."""

    task: Literal["next_item", "binary"] = "next_item"
    unit: Literal["group", "event"] = Field(
        default="event", description="A request for each next group (basket) or each next event."
    )
    min_items: int = Field(
        default=1, ge=1, description="Ask only for groups of at least so many items."
    )
    per_block: int = Field(
        default=4000, ge=1, description="At most so many requests a block, sampled."
    )
    seed: int = Field(default=0, ge=0)
    exclude_seen: bool = Field(
        default=False, description="Items the user has had are never asked for."
    )
    positive_above: float | None = Field(
        default=None,
        description="`binary`: an event whose value is above this is a yes. Leave it out where the "
        "events have a `label`: those with one are asked.",
    )
    metric: str = Field(
        default="ndcg@10", description="The target metric of choices and ensembles."
    )

    @model_validator(mode="after")
    def _settings_fit_the_task(self) -> Requests:
        if self.task != "binary" and self.positive_above is not None:
            raise ValueError("`positive_above` belongs to `task: binary`")
        if self.task == "binary" and (self.unit == "group" or self.exclude_seen):
            raise ValueError(
                "`task: binary` asks about single events: `unit: event`, no exclude_seen"
            )
        if self.unit == "event" and self.min_items > 1:
            raise ValueError("`min_items` counts the items of a group: it needs `unit: group`")
        return self

    @property
    def asks_labels(self) -> bool:
        """Whether the answers are the events' labels, which are no part of any history."""
        return self.task == "binary" and self.positive_above is None

    @property
    def blind_to_its_moment(self) -> bool:
        """Whether a history ends before the first event of the request's own time."""
        return self.unit == "group" or self.asks_labels


class Search(_Section):
    """Sequence members over windows x sizes x seeds; `base` holds what they share."""

    windows: tuple[Window, ...] = Field(min_length=1)
    sizes: tuple[Size, ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,),
        min_length=1,
        description="Where training begins: members that differ in nothing else still help.",
    )
    base: SequenceRecipe = SequenceRecipe(kind="sequence")

    @model_validator(mode="after")
    def _grid_decides(self) -> Search:
        decided = sorted({"window", "size", "seed", "name"} & self.base.model_fields_set)
        if decided:
            raise ValueError(f"the grid decides {', '.join(decided)}: remove it from `base`")
        return self


class Resources(_Section):
    """What a run may use."""

    workers: int = Field(default=1, ge=1, description="Ray Train workers of each trial.")
    memory: Literal["auto", "zero0", "zero1", "zero2", "zero3", "offload"] = Field(
        default="auto",
        description="How a language model is spread over the workers (ZeRO stages); `auto` takes "
        "the lowest stage that fits their memory.",
    )
    concurrent_trials: int = Field(default=0, ge=0, description="0: as many as the CPUs carry.")


class Experiment(_Section):
    """One experiment: events in, compared ensemble out."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    data: Data
    time: Time
    requests: Requests = Requests()
    members: tuple[Recipe, ...] = ()
    search: Search | None = None
    refit: bool = Field(
        default=False,
        description="Also refit every member up to the start of `test`, and report both.",
    )
    ensemble: Ensemble = Ensemble()
    resources: Resources = Resources()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _has_members(self, info: ValidationInfo) -> Experiment:
        if not self.members and self.search is None:
            raise ValueError("nothing to fit: list `members`, or a `search`")
        every = [*self.members, *([self.search.base] if self.search else [])]
        check_kinds(every, self.requests.task, asks_labels=self.requests.asks_labels)
        check_new_members(every)
        if not (info.context or {}).get("kept"):
            check_settings(every, self.requests.task)
        return self


def load_experiment(
    path: Path, overrides: tuple[str, ...] = (), *, kept: bool = False
) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: the YAML file.
        overrides: texts such as `requests.per_block=500`; the value is read as YAML.
        kept: whether it is a run's own: settings that do nothing keep no run from being opened.

    Raises:
        ConfigError: the file is missing, is not YAML, repeats a key, or holds a key or a value
            that is not understood; every problem is listed with its place.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist: expected an experiment file, such as examples/groceries.yaml."
        )
    tree = read_yaml(path.read_bytes(), str(path))
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: expected keys and values at the top, got {type(tree).__name__}."
        )
    for override in overrides:
        apply_override(tree, override)
    try:
        return Experiment.model_validate(tree, context={"kept": kept})
    except ValidationError as error:
        raise ConfigError(explain(error, path)) from error
