"""`penchant ensemble`: only the combination, from the prediction store."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from penchant.cli.options import Json, Quiet, RunDir

__all__ = ["app"]

Ensemble = Annotated[
    Path, typer.Argument(metavar="ENSEMBLE_DIR", help="Such as runs/demo/ensembles/greedy.")
]
Archive = Annotated[Path, typer.Argument(metavar="ARCHIVE.tar.gz", help="The packed ensemble.")]


def _above_zero(value: float | None) -> float | None:
    if value is not None and value <= 0:
        raise typer.BadParameter(f"got {value:g}, expected milliseconds above zero.")
    return value


app = typer.Typer(no_args_is_help=True, help="Combine and compare members that are fitted already.")


@app.command()
def compare(
    place: RunDir,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(
            callback=_above_zero,
            help="Combine and recommend nothing whose slowest member is slower.",
        ),
    ] = None,
    max_members: Annotated[
        int | None, typer.Option(min=1, help="Combine and recommend no more members.")
    ] = None,
    max_cost_ms: Annotated[
        float | None,
        typer.Option(
            callback=_above_zero,
            help="Measured milliseconds a request, summed over members; of a cascade, expected.",
        ),
    ] = None,
    bags: Annotated[
        int | None,
        typer.Option(min=1, help="Greedy selections from random halves of the members, averaged."),
    ] = None,
    sorted_start: Annotated[
        int | None, typer.Option(min=1, help="Best members that greedy selection begins with.")
    ] = None,
    combiners: Annotated[
        list[str] | None,
        typer.Option("--combiner", help="Compare only these; may be repeated."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit every combiner on `blend`, judge once on `test`, write artefacts and the report.

    Needs no cluster and fits no member: it reads the prediction store. Earlier origins of the run
    are compared again too. Combiners pick their members within the limits.

    \b
    Examples:
      penchant ensemble compare runs/demo
      penchant ensemble compare runs/demo --combiner greedy --combiner stack --max-latency-ms 5
      penchant ensemble compare runs/demo --max-members 3 --bags 20 --sorted-start 5
    """
    from penchant.cli.show import show_report
    from penchant.ensembles.experiment import compare_again
    from penchant.platform.progress import Progress

    settings = {
        name: value
        for name, value in (
            ("max_latency_ms", max_latency_ms),
            ("max_members", max_members),
            ("max_cost_ms", max_cost_ms),
            ("bags", bags),
            ("sorted_start", sorted_start),
            ("combiners", None if combiners is None else _checked(combiners)),
        )
        if value is not None
    }
    with Progress(quiet=quiet) as progress:
        report = compare_again(place, progress, settings)
    if as_json:
        print(json.dumps(report))
        return
    show_report(report, place)


def _checked(combiners: list[str]) -> tuple[str, ...]:
    from penchant.platform.ensemble_settings import COMBINER_NAMES
    from penchant.platform.errors import ConfigError

    unknown = sorted(set(combiners) - set(COMBINER_NAMES))
    if unknown:
        raise ConfigError(
            f"--combiner {', '.join(unknown)} is not known: expected some of "
            f"{', '.join(COMBINER_NAMES)}."
        )
    return tuple(combiners)


@app.command()
def refit(
    place: RunDir,
    name: Annotated[
        str | None,
        typer.Argument(metavar="ENSEMBLE", help="By default the one that the run recommends."),
    ] = None,
    quiet: Quiet = False,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster; by default a private Ray.")
    ] = None,
) -> None:
    """Fit an ensemble's members again up to the newest event, with the same weights, for serving.

    Its figures stay those measured before: nothing is left to measure the refit on. What a refit up
    to the test block changed is in its card, where the experiment says `refit: true`.

    \b
    Example:
      penchant ensemble refit runs/demo greedy
      penchant serve run runs/demo/ensembles/greedy-newest
    """
    from penchant.ensembles.artefacts.newest import refit_ensemble
    from penchant.platform.progress import Progress
    from penchant.serve.run import find_ensemble

    chosen = name or find_ensemble(place).name
    # Ray prints its notices to standard output, which is kept for the result.
    with redirect_stdout(sys.stderr), Progress(quiet=quiet) as progress:
        made: Path = refit_ensemble(place, chosen, progress, address)
    print(f"{made}\nserve:  penchant serve run {made}")


@app.command()
def without(
    place: RunDir,
    members: Annotated[
        list[str],
        typer.Argument(metavar="MEMBERS...", help="Kinds, ids, or patterns such as 'text-*'."),
    ],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what some members bring: every combination with them against the same without them.

    The combination is fitted again without them on `blend`, and both are judged on `test`. Segments
    are of the combination that the run recommends, or else of the one that is best there.

    \b
    Examples:
      penchant ensemble without runs/coupons text zero_shot
      penchant ensemble without runs/demo 'sequence-*-d64*' --json
    """
    from penchant.cli.show import show_brought
    from penchant.ensembles.comparing.without import some_named, what_they_bring
    from penchant.ensembles.standing import finished_members
    from penchant.platform.prepared import open_prepared
    from penchant.platform.progress import Progress
    from penchant.platform.store import RunDirectory

    made = finished_members(place)
    some = some_named(members, made)
    with Progress(quiet=quiet) as progress:
        prepared = open_prepared(RunDirectory(place))
        found = what_they_bring(prepared, made, some, progress.say)
    metric = prepared.experiment.requests.metric
    if as_json:
        rows = [one.to_json() for one in found]
        print(json.dumps({"members": some, "metric": metric, "combinations": rows}))
        return
    report = place / "report" / "report.json"
    shipped = json.loads(report.read_text())["recommended"] if report.is_file() else ""
    show_brought(some, metric, found, shipped)


@app.command()
def soup(
    place: RunDir,
    members: Annotated[
        list[str],
        typer.Argument(metavar="MEMBERS...", help="Kinds, ids, or patterns such as 'text-*'."),
    ],
    quiet: Quiet = False,
) -> None:
    """Average the weights of members that began with the same ones, as one more member.

    Members are taken in one by one, the best first, where the mean is better on `select` with them.
    Text members of one base can be averaged, and sequence members with the same `init_from`.

    \b
    Example:
      penchant ensemble soup runs/likes text
      penchant ensemble compare runs/likes
    """
    from penchant.ensembles.artefacts.soup import make_soup
    from penchant.ensembles.comparing.without import members_named
    from penchant.ensembles.standing import finished_members
    from penchant.platform.prepared import open_prepared
    from penchant.platform.progress import Progress
    from penchant.platform.store import RunDirectory

    with Progress(quiet=quiet) as progress:
        some = members_named(members, finished_members(place))
        made = make_soup(open_prepared(RunDirectory(place)), some, progress.say)
    if len(made.parts) == 1:
        print(f"no mean is better on select than {made.member_id} alone: no soup is kept")
        return
    print(
        f"{made.member_id}: the mean of {', '.join(made.parts)}\n"
        f"compare it:  penchant ensemble compare {place}"
    )


@app.command()
def explain(place: RunDir) -> None:
    """Say why each member is in or out of each ensemble, from the report alone.

    \b
    Example:
      penchant ensemble explain runs/demo
    """
    from penchant.ensembles.page.explain import explain as in_words
    from penchant.platform.errors import ConfigError

    path = place / "report" / "report.json"
    if not path.is_file():
        raise ConfigError(
            f"{place} has no report: expected {path}. Make one with `penchant ensemble compare`."
        )
    print(in_words(json.loads(path.read_text())), end="")


@app.command()
def export(directory: Ensemble, archive: Archive) -> None:
    """Pack an ensemble into one file for another machine; the same bytes every time.

    \b
    Example:
      penchant ensemble export runs/demo/ensembles/greedy greedy.tar.gz
    """
    from penchant.ensembles.artefacts.pack import pack_ensemble

    print(pack_ensemble(directory, archive))


@app.command(name="import")
def import_(
    archive: Archive,
    directory: Annotated[
        Path, typer.Argument(metavar="NEW_DIR", help="Where it is put; nothing may stand there.")
    ],
) -> None:
    """Unpack an ensemble, check every file's hash and every member's scores, then put it there.

    Each member answers the requests that were stored with it and has to give the same scores here.
    Members with a network bring torch in for that, which takes seconds.

    \b
    Example:
      penchant ensemble import greedy.tar.gz ensembles/greedy
    """
    from penchant.ensembles.artefacts.pack import unpack_ensemble

    card = unpack_ensemble(archive, directory)
    print(
        f"{directory}: {card['name']}, {len(card['weights'])} members: all hashes are right, "
        "and all members score as on the day they were saved"
    )
