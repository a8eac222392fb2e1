"""`penchant serve`: an ensemble behind an endpoint."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penchant.cli.bench import bench
from penchant.cli.deploy import (
    EngineOption,
    PlacementOption,
    ServiceDir,
    UsersOption,
    deploy,
    rollback,
    service_of,
    status,
)
from penchant.cli.keys import app as keys_app
from penchant.cli.options import Json, RunDir
from penchant.cli.serve_build import build
from penchant.platform.errors import ConfigError

if TYPE_CHECKING:
    from penchant.serve.ask import Asked

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="An ensemble behind an HTTP endpoint.")

_SHOWN_PURCHASES = 8


@app.command()
def run(
    place: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN_DIR", help="A run directory.", show_default="what was live last"
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen.")] = 8000,
    host: Annotated[
        str, typer.Option(help="A loopback address; others need API keys.")
    ] = "127.0.0.1",
    service: ServiceDir = None,
    placement: PlacementOption = None,
    engine: EngineOption = None,
    users: UsersOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Serve RUN_DIR, whatever was live there last.")
    ] = False,
) -> None:
    """Serve the ensemble that a run recommends, until Ctrl-C.

    RUN_DIR may also be the directory of one ensemble, such as runs/demo/ensembles/greedy. A service
    that was stopped goes on with the version that was live last; RUN_DIR may be left out then, and
    another version is refused without --replace.

    \b
    Examples:
      penchant serve run runs/demo --port 8080
      penchant serve run runs/demo --service services/shop --host 0.0.0.0
      penchant serve run --service services/shop
    """
    from penchant.serve.run import find_ensemble, serving, wait_for_stop
    from penchant.serve.versions.service import Service

    if place is not None:
        directory, kept = find_ensemble(place), service_of(place, service)
    elif service is not None and not replace:
        directory, kept = None, Service(service)
    else:
        raise ConfigError(
            "no RUN_DIR was given, expected one, or --service DIR alone, to go on with what was "
            "live there last."
        )
    typer.echo(f"starting {directory or f'what was live in {service} last'} ...", err=True)
    with serving(
        directory,
        kept,
        host=host,
        port=port,
        placement=placement,
        engine=engine,
        users=users,
        examples=place if place is not None and (place / "manifest.json").is_file() else None,
        replace=replace,
    ) as url:
        live = kept.traffic()
        if live is not None:
            _introduce(url, Path(live.primary.directory))
        wait_for_stop()
        typer.echo("stopping ...", err=True)


@app.command()
def ask(
    place: RunDir,
    url: Annotated[
        str | None,
        typer.Option(help="A running endpoint; without it, one is started and stopped again."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask about one stored test request, and mark what was chosen in reality.

    A guarded endpoint wants its key in PENCHANT_API_KEY.

    \b
    Examples:
      penchant serve ask runs/demo
      penchant serve ask runs/demo --url http://127.0.0.1:8080 --json
    """
    from penchant.serve.ask import ask_stored
    from penchant.serve.routes.stored import StoredRequests
    from penchant.serve.run import find_ensemble, free_port, serving
    from penchant.serve.versions.service import Service

    stored = StoredRequests.open(place)
    if url is not None:
        asked = ask_stored(url, stored)
    else:
        directory = find_ensemble(place)
        typer.echo(f"starting {directory} ...", err=True)
        with (
            tempfile.TemporaryDirectory() as folder,
            serving(directory, Service(Path(folder)), port=free_port()) as started,
        ):
            asked = ask_stored(started, stored)
    if as_json:
        print(json.dumps(asked.answer))
        return
    _show(asked, dict(zip(stored.catalog.item_ids, stored.catalog.item_texts, strict=True)))


for verb in (bench, deploy, rollback, status, build):
    app.command()(verb)
app.add_typer(keys_app, name="key")


def _introduce(url: str, directory: Path) -> None:
    from penchant.serve.answering.card import example_question

    path, body = example_question(directory)
    quoted = json.dumps(body).replace("'", "'\\''")
    print(f"serving {directory} at {url}   (Ctrl-C stops)")
    print("  GET  /               a page to try it")
    print("  POST /v1/recommend   the best items for a history")
    print("  POST /v1/score       scores of given items")
    print("  GET  /v1/ensemble    members, weights, windows, metrics")
    print("  GET  /healthz        whether answers are given")
    print("  GET  /openapi.json   all of it, for machines; /docs for people")
    print(f"\ncurl -s {url}{path} -H 'content-type: application/json' \\")
    print(f"  -d '{quoted}'", flush=True)


def _show(asked: Asked, texts: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=120)
    events = asked.body["history"]
    console.print(f"\nlast {min(len(events), _SHOWN_PURCHASES)} of {len(events)} events:")
    for event in events[-_SHOWN_PURCHASES:]:
        console.print(f"  {_day(event['time'])}  {texts[event['item']] or event['item']}")
    table = Table(title=f"asked about {_day(asked.body['time'])}", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("item")
    table.add_column("score", justify="right")
    table.add_column("chosen then")
    for place, result in enumerate(asked.answer["results"], start=1):
        known = result["item"] in asked.chosen if asked.label is None else bool(asked.label)
        score = "" if result["score"] is None else f"{result['score']:.3f}"
        table.add_row(
            str(place), result.get("text") or result["item"], score, "yes" if known else ""
        )
    console.print(table)
    if asked.label is None:
        hits = sum(result["item"] in asked.chosen for result in asked.answer["results"])
        console.print(f"{hits} of these were among the {len(asked.chosen)} items chosen then")
    members = ", ".join(f"{m['id']} {m['weight']:.2f}" for m in asked.card["members"])
    console.print(
        f"ensemble {asked.card['name']} ({members}) answered in {asked.latency_ms:.0f} ms",
        soft_wrap=True,
    )
    if asked.answer["degraded"]:
        missing = ", ".join(f"{m['member']} ({m['reason']})" for m in asked.answer["left_out"])
        console.print(f"degraded, without {missing}", soft_wrap=True)


def _day(time_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
