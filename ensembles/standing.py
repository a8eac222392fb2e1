"""Which members of a run directory its experiment stands for: what is compared, and what is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from penchant.platform.errors import ConfigError
from penchant.platform.prepared import Prepared, open_prepared
from penchant.platform.recipes import recipe_id
from penchant.platform.store import RunDirectory
from penchant.trainers.epoch_members import epochs_in
from penchant.trainers.member import read_card
from penchant.trainers.search import experiment_recipes

__all__ = ["dropped", "finished_members", "made_members", "unfinished"]


def unfinished(prepared: Prepared, where: str) -> list[str]:
    """A note on members of the experiment that are not in the store."""
    recipes = experiment_recipes(prepared.experiment)
    made = _whole(prepared.run.root)
    kept = [read_card(prepared.run.member(name))[0] for name in made]
    ids = {recipe_id(recipe): recipe for recipe in recipes}
    missing = [name for name, recipe in ids.items() if name not in made and recipe not in kept]
    if not missing:
        return []
    return [
        f"{where}: {len(missing)} of {len(ids)} are not finished and left out: {', '.join(missing)}"
    ]


def finished_members(directory: Path) -> list[str]:
    """Ids of the experiment's members that are fitted and scored, refits aside.

    Soups of them and epochs that were kept are members too; what the experiment no longer names is
    none, though it lies in the directory.

    Raises:
        ConfigError: there is none.
    """
    members = _standing(open_prepared(RunDirectory(directory)))
    if not members:
        raise ConfigError(
            f"{directory} holds no finished member of its experiment.yaml: expected at least one "
            "under members/. Run the experiment first."
        )
    return members


def _standing(prepared: Prepared) -> list[str]:
    """What the experiment names of the finished members, and what was made of these."""
    recipes, run = experiment_recipes(prepared.experiment), prepared.run
    named = {*map(recipe_id, recipes), *epochs_in(run, recipes)}
    parts: dict[str, list[str]] = {}
    for name in _whole(run.root):
        parts[name] = run.member_facts(name).get("soup_of") or []
        # what an older Penchant fitted may stand there under another id: then its recipe tells
        if not parts[name] and read_card(run.member(name))[0] in recipes:
            named.add(name)
    return [name for name, of in parts.items() if named.issuperset(of or [name])]


def dropped(directory: Path, finished: Sequence[str]) -> list[str]:
    """A note on what lies there beside `finished_members`: the experiment does not name it."""
    gone = sorted({*_whole(directory)} - {*finished})
    if not gone:
        return []
    return [f"members: left out, since experiment.yaml does not name them: {', '.join(gone)}"]


def _whole(directory: Path) -> list[str]:
    return [name for name in made_members(directory) if "@" not in name]


def made_members(directory: Path) -> list[str]:
    """Ids of all members that lie there finished, refits too."""
    return sorted(path.parent.name for path in (directory / "members").glob("*/metrics.json"))
