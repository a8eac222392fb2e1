"""`penchant serve key`: who may ask a service, and how often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penchant.cli.options import Json
from penchant.platform.errors import ConfigError

if TYPE_CHECKING:
    from penchant.serve.gate.keys import KeyRing

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="API keys of a service. They hold at once, without a restart."
)

_Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Small letters, digits, hyphens; at most 40.", show_default=False
    ),
]
_Service = Annotated[
    Path,
    typer.Option(
        "--service",
        metavar="DIR",
        help="The service's directory, as given to serve run.",
        show_default=False,
    ),
]


@app.command()
def add(
    name: _Name,
    service: _Service,
    rate_per_s: Annotated[
        float, typer.Option(help="Requests a second that it may keep up.")
    ] = 50.0,
    burst: Annotated[int, typer.Option(help="Requests that it may make at once.")] = 100,
) -> None:
    """Make a key and print it, once: only a hash of it is kept.

    \b
    Examples:
      penchant serve key add shop-backend --service services/shop
      penchant serve key add nightly --service services/shop --rate-per-s 5
    """
    key = _ring(service).add(name, rate_per_s, burst)
    typer.echo("Keep this key now: it is not stored and cannot be shown again.", err=True)
    print(key)


@app.command("list")
def list_keys(service: _Service, as_json: Json = False) -> None:
    """Names and limits of the keys; never the keys themselves.

    \b
    Example:
      penchant serve key list --service services/shop
    """
    keys = [key.model_dump(exclude={"sha256"}) for key in _existing(service).stored()]
    if as_json:
        print(json.dumps({"keys": keys}))
        return
    if not keys:
        print(f"no keys in {service}; make one with: penchant serve key add NAME --service DIR")
        return
    print(f"{'name':<40}  {'created':<25}  {'per second':>10}  {'at once':>7}")
    for key in keys:
        print(
            f"{key['name']:<40}  {key['created']:<25}  {key['rate_per_s']:>10g}  {key['burst']:>7}"
        )


@app.command()
def revoke(name: _Name, service: _Service) -> None:
    """Refuse a key from now on.

    \b
    Example:
      penchant serve key revoke nightly --service services/shop
    """
    _existing(service).revoke(name)
    print(f"revoked {name}: requests with it are refused within a second")


def _ring(service: Path) -> KeyRing:
    from penchant.serve.gate.keys import KeyRing

    return KeyRing(service)


def _existing(service: Path) -> KeyRing:
    if not service.is_dir():
        raise ConfigError(
            f"--service {service}: expected the directory of a service. It is made by penchant "
            "serve run, or with the first key: penchant serve key add NAME --service DIR"
        )
    return _ring(service)
