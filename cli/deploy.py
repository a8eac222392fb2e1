"""`penchant serve deploy|rollback|status`: versions of a running service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penchant.cli.options import Json, RunDir
from penchant.platform.errors import ConfigError

if TYPE_CHECKING:
    from penchant.serve.versions.service import Service, Traffic

__all__ = [
    "EngineOption",
    "PlacementOption",
    "ServiceDir",
    "UsersOption",
    "deploy",
    "rollback",
    "service_of",
    "status",
]

ServiceDir = Annotated[
    Path | None,
    typer.Option("--service", help="What outlives the process; by default RUN_DIR/service."),
]
RunningService = Annotated[
    Path, typer.Option("--service", help="Service directory of a running `penchant serve run`.")
]
PlacementOption = Annotated[
    Literal["auto", "together", "apart"] | None,
    typer.Option(
        help="Which members share a process; auto goes by their measured cost.",
        show_default="as this version runs or ran last, or else auto",
    ),
]
EngineOption = Annotated[
    Literal["auto", "torch", "onnx", "onnx-int8"] | None,
    typer.Option(
        help="Runs language models; auto measures. int8 is faster and changes scores.",
        show_default="as this version runs or ran last, or else auto",
    ),
]

UsersOption = Annotated[
    str | None,
    typer.Option(
        help="Keep events of users in a Redis, such as redis://HOST:6379/0 (needs "
        "penchant\\[redis]; its password stands in PENCHANT_REDIS_PASSWORD).",
        show_default="the service directory",
    ),
]


def service_of(place: Path, given: Path | None) -> Service:
    """The service directory that is named, or the run's own."""
    from penchant.serve.versions.service import Service

    if given is not None:
        return Service(given)
    alone = (place / "ensemble.json").is_file()  # an artefact holds nothing but what was saved
    return Service(place.with_name(f"{place.name}-service") if alone else place / "service")


def deploy(
    place: RunDir,
    service: RunningService,
    canary: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Share of the users that get it.")
    ] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Give it copies of requests, and no answers.")
    ] = False,
    placement: PlacementOption = None,
    engine: EngineOption = None,
    as_json: Json = False,
) -> None:
    """Roll a new version into a running service; without a failed request.

    It takes traffic when all its replicas have started and passed their self-tests. Deploying a
    canary again without --canary gives it all the traffic, in the layout that it has. The ensemble
    that is served, with another --placement or --engine, is rolled in like a new one. What nothing
    needs any more ends some seconds later, when its last requests are answered; if this verb is
    interrupted before, at the end of the next.

    \b
    Examples:
      penchant serve deploy runs/november --service services/shop --canary 0.05
      penchant serve deploy runs/november --service services/shop
    """
    from penchant.serve.run import find_ensemble
    from penchant.serve.versions.deploy import deploy as roll_in
    from penchant.serve.versions.service import Service

    if canary is not None and shadow:
        raise ConfigError("--canary and --shadow were both given: expected one of them, or none.")
    directory = find_ensemble(place)
    typer.echo(f"starting {directory} beside what is served ...", err=True)
    part: Literal["primary", "canary", "shadow"] = "primary"
    if canary is not None or shadow:
        part = "shadow" if shadow else "canary"
    live = roll_in(
        Service(service),
        directory,
        part=part,
        share=canary or 0.0,
        placement=placement,
        engine=engine,
    )
    _show(live, as_json=as_json)


def rollback(service: RunningService, as_json: Json = False) -> None:
    """Go back: end a canary or shadow, or else return to the version before.

    \b
    Example:
      penchant serve rollback --service services/shop
    """
    from penchant.serve.versions.deploy import rollback as roll_back
    from penchant.serve.versions.service import Service

    _show(roll_back(Service(service)), as_json=as_json)


def status(service: RunningService, as_json: Json = False) -> None:
    """Which versions are live, and what each of them gets.

    \b
    Example:
      penchant serve status --service services/shop
    """
    from penchant.serve.versions.service import STARTS_S, Service

    kept = Service(service)
    endpoint, live = kept.endpoint(STARTS_S), kept.traffic()
    if live is None:
        raise ConfigError(f"{kept.directory} has no live version.")
    if not as_json:
        print(f"{endpoint.url}   (process {endpoint.pid})")
    _show(live, as_json=as_json)


def _show(live: Traffic, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(live.model_dump(mode="json")))
        return
    from rich.console import Console
    from rich.table import Table

    shares = {"primary": "all", "canary": f"{live.canary_share:.0%} of users", "shadow": "copies"}
    if live.canary is not None:
        shares["primary"] = "the others"
    table = Table()
    for column in ("part", "version", "gets", "ensemble", "engine", "processes"):
        table.add_column(column)
    for role in ("primary", "canary", "shadow", "previous"):
        version = getattr(live, role)
        if version is not None:
            places = ", ".join(f"{place.name} ({len(place.members)})" for place in version.places)
            gets = shares.get(role, "nothing; for a rollback")
            engine = version.layout.engine
            table.add_row(role, version.version, gets, version.source, engine, places)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=160)
    console.print(table)
