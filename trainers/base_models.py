"""What members begin with: found, and known to have learned nothing that they are judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from penchant.platform.beginnings import beginnings
from penchant.platform.errors import ConfigError
from penchant.platform.prepared import Prepared
from penchant.platform.recipes import Recipe
from penchant.trainers.lineage import Learned, learned_here, read_learned
from penchant.trainers.member import TEXT_FOLDER

__all__ = ["find_models", "language_models_of", "refuse_future", "refuse_later", "sources_of"]


def find_models(recipes: Iterable[Recipe]) -> None:
    """Look for every language model: what is misspelt is told before hours of other members.

    Raises:
        ConfigError: one is nowhere to be found.
    """
    names = dict.fromkeys(name for recipe in recipes for name in language_models_of(recipe))
    if names:
        from penchant.platform.language_models import resolve_model  # brings transformers

        for name in names:
            resolve_model(name)


def language_models_of(recipe: Recipe) -> list[str]:
    """Names of the language models that fitting this member begins with."""
    named = beginnings(recipe)
    if named.pop("init_from", None) is not None:
        named.pop("text", None)  # the source may bring its own
    return list(named.values())


def sources_of(recipe: Recipe) -> list[Path]:
    """Whose weights the member begins with: language models and members, by path or by name."""
    named = beginnings(recipe)
    if "init_from" in named and Path(named["init_from"], TEXT_FOLDER).exists():
        named.pop("text", None)  # the source brings its own
    return [Path(name) for name in named.values()]


def refuse_future(
    prepared: Prepared,
    recipes: Iterable[Recipe],
    until_ms: int,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """A member must not begin with what has learned from its future.

    With `time.origins` a source that is right for the latest origin may be wrong for an earlier
    one.

    Args:
        until_ms: the members' cut-off.
        tell: is told of sources that have learned from later events that may be of another log.

    Raises:
        ConfigError: a source has learned from later events of this log.
    """
    refuse_later(prepared, [s for recipe in recipes for s in sources_of(recipe)], until_ms, tell)


def refuse_later(
    prepared: Prepared, sources: Iterable[Path], until_ms: int, tell: Callable[[str], None]
) -> None:
    """The same for sources themselves, such as the base of a pretraining."""
    ours = learned_here(prepared.run.log, until_ms)
    for source in dict.fromkeys(sources):
        for theirs in read_learned(source):
            if theirs.until_ms <= until_ms:
                continue
            until, limit = _moment(theirs.until_ms), _moment(until_ms)
            if (shared := _shared(theirs, ours)) is None:
                tell(
                    f"careful: {source} has learned until {until}, from events that are not known "
                    f"to be of this log; what begins with it may know events until {limit} only. "
                    "If they tell of the same users or the same days, what is measured here is too "
                    "good to be true: name a source that ends earlier."
                )
                continue
            raise ConfigError(
                f"{source} has learned from {shared} until {until}; "
                f"a member that begins with it may know them until {limit} "
                "only, since it is judged on what follows. Name a source that ends "
                "earlier; where that is the cut-off of an earlier origin, leave "
                "time.origins at 1."
            )


def _shared(theirs: Learned, ours: Learned) -> str | None:
    """What two logs have in common, in words; None where nothing says that they are one."""
    if theirs.events is not None and theirs.events == ours.events:
        return "these very events"
    if theirs.origin is not None and theirs.origin == ours.origin:
        return "this log, when it held more or fewer events,"
    return None


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="minutes")
