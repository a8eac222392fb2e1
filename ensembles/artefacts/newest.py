"""The ensemble for serving: its weights stay, its members are fitted again up to the newest event.

Weights were fitted on `blend` and judged on `test` with members that ended before `select`. Fitting
those members again on everything spends the last blocks, so the figures of the artefact are those
measured before, and its card says so: `test` with `test_of`, and where the run has refitted members
up to `test` too, `refit` with what that changed on `test`.
"""

from __future__ import annotations

from pathlib import Path

from penchant.ensembles.artefacts.artefact import read_ensemble_card, save_ensemble
from penchant.ensembles.artefacts.saved import parse_combination
from penchant.platform.cluster import start_ray
from penchant.platform.errors import DataError
from penchant.platform.prepared import open_prepared
from penchant.platform.progress import Progress
from penchant.platform.store import RunDirectory
from penchant.platform.timeline import Block
from penchant.trainers.member import read_card
from penchant.trainers.refit import refit_recipes
from penchant.trainers.search import fit_members

__all__ = ["NEWEST", "refit_ensemble"]

#: Ends the id of a member that was fitted up to the newest event, and the name of its ensemble.
NEWEST = "@newest"
_KEPT = ("metric", "types", "test", "calibrator", "sets", "refit")


def refit_ensemble(
    directory: Path, name: str, progress: Progress, address: str | None = None
) -> Path:
    """Fit an ensemble's members up to the end of the log and save it as `<name>-newest`.

    Args:
        directory: the run directory.
        name: of an ensemble in it.
        address: of a Ray cluster that sees the directory, or None for a private Ray.

    Raises:
        DataError: there is no such ensemble.
        RunError: a member failed; what was finished is kept.
    """
    prepared = open_prepared(RunDirectory(directory))
    if not prepared.run.ensemble(name).is_dir():
        found = sorted(path.name for path in (directory / "ensembles").glob("[!.]*"))
        raise DataError(
            f"{directory} has no ensemble {name!r}: expected one of {', '.join(found) or 'none'}. "
            "Make them with `penchant ensemble compare`."
        )
    card = read_ensemble_card(prepared.run.ensemble(name))
    combination = parse_combination(card["combination"])
    first = [read_card(prepared.run.member(m))[0] for m in combination.shares]
    with start_ray(address=address):
        fit_members(
            prepared,
            [
                recipe.model_copy(update={"name": member_id})
                for member_id, recipe in zip(
                    combination.shares, refit_recipes(prepared.run, first), strict=True
                )
            ],
            progress,
            until_ms=prepared.blocks.end_ms,
            suffix=NEWEST,
            blocks=(Block.SELECT,),  # only to measure what a request costs
        )
    facts = {key: card[key] for key in _KEPT if key in card} | {
        "data_from": prepared.blocks.to_json()["train"],
        "data_until": prepared.blocks.to_json()["end"],
        "test_of": f"the same weights over members with data until {card['data_until']}",
    }
    return save_ensemble(
        prepared.run,
        f"{name}-newest",
        combination,
        prepared.experiment.requests,
        facts,
        suffix=NEWEST,
    )
