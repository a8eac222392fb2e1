"""`penchant data`: only the event log."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from penchant.cli.options import ExperimentFile, Json, Out, Overrides, Quiet, RunDir

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Prepare and describe the events of an experiment.")


@app.command()
def prepare(
    experiment: ExperimentFile,
    out: Out = None,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read the events, refuse what cannot be used, write the log and the requests.

    Every input row is in the log, merged into one of its rows, or in quarantine.parquet with its
    reason; the counts are printed.

    \b
    Example:
      penchant data prepare examples/groceries.yaml --out runs/groceries
    """
    from penchant.platform.config import load_experiment
    from penchant.platform.events import read_log_card
    from penchant.platform.prepared import prepare as prepare_run
    from penchant.platform.progress import Progress
    from penchant.platform.store import RunDirectory

    settings = load_experiment(experiment, tuple(overrides or ()))
    run = RunDirectory(out or Path("runs") / settings.name)
    with Progress(quiet=quiet) as progress:
        prepared = prepare_run(settings, run, progress.say)
    card = read_log_card(run.log)
    if as_json:
        print(json.dumps({"log": card, "blocks": prepared.blocks.to_json()}))
        return
    print(
        f"{card['rows_read']:,} rows read: {card['events']:,} events, {card['merged']:,} merged, "
        f"{card['quarantined']:,} in {run.quarantine}"
    )
    for reason, count in card["reasons"].items():
        print(f"  {count:,} {reason}")
    for block, requests in prepared.requests.items():
        print(f"{block}: {len(requests):,} requests of {len(set(requests.user.tolist())):,} users")
    print(f"log: {run.log}")


@app.command()
def describe(
    place: RunDir,
    as_json: Json = False,
) -> None:
    """What the log holds: users, items, time span, repeats, history lengths, gaps, top items.

    \b
    Examples:
      penchant data describe runs/groceries
      penchant data describe runs/groceries --json
    """
    from penchant.cli.show import show_description
    from penchant.platform.describe import describe as describe_log
    from penchant.platform.events import Catalog, EventLog, read_log_card

    directory = place / "log" if (place / "log").is_dir() else place
    card = read_log_card(directory)
    facts = describe_log(EventLog.open(directory), Catalog.open(directory), card)
    if as_json:
        print(json.dumps(facts))
        return
    show_description(facts)
