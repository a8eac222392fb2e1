"""What members begin with: found, and known to have learned nothing that they are judged on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penchant.platform.beginnings import beginnings
from penchant.platform.errors import ConfigError
from penchant.platform.events import read_log_card
from penchant.platform.prepared import Prepared
from penchant.platform.recipes import Recipe

__all__ = ["find_models", "language_models_of", "refuse_future"]


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


def refuse_future(prepared: Prepared, recipes: Iterable[Recipe], until_ms: int) -> None:
    """A member must not begin with what has learned from its future.

    That is known of bases that Penchant pretrained and of members in a run directory, where they
    have read the same events. With `time.origins` a source that is right for the latest origin may
    be wrong for an earlier one.

    Args:
        until_ms: the members' cut-off.

    Raises:
        ConfigError: a source has learned from later events.
    """
    fingerprint = read_log_card(prepared.run.log)["fingerprint"]
    for recipe in recipes:
        for source in (*language_models_of(recipe), getattr(recipe, "init_from", None)):
            for events, learned_ms in _learned(Path(source)) if source else ():
                if events == fingerprint and learned_ms > until_ms:
                    raise ConfigError(
                        f"{source} has learned from these very events until {_moment(learned_ms)}; "
                        f"a member that begins with it may know them until {_moment(until_ms)} "
                        "only, since it is judged on what follows. Name a source that ends "
                        "earlier; where that is the cut-off of an earlier origin, leave "
                        "time.origins at 1."
                    )


def _learned(source: Path) -> Iterator[tuple[str | None, int]]:
    """Of a pretrained base, or of a member or its `text/`: which events it read, until when."""
    base = _read(source / "pretrain.json").get("data", {})
    if "until" in base:
        until = datetime.fromisoformat(base["until"])
        yield base.get("fingerprint"), round(until.timestamp() * 1000)
    for member in (source, source.parent):
        facts = _read(member / "metrics.json")
        if "until_ms" in facts:
            run = member.parent.parent
            yield _read(run / "log" / "log.json").get("fingerprint"), facts["until_ms"]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="minutes")
