"""`penchant serve build`: a service as a file, for a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penchant.cli.deploy import EngineOption, PlacementOption
from penchant.cli.options import RunDir
from penchant.platform.errors import ConfigError

__all__ = ["build"]


def build(
    place: RunDir,
    service: Annotated[
        Path, typer.Option("--service", help="Service directory, at a path that all nodes see.")
    ],
    out: Annotated[Path, typer.Option(help="File to write.")],
    image: Annotated[
        str | None, typer.Option(help="Image with Penchant: write a RayService for KubeRay.")
    ] = None,
    claim: Annotated[
        str, typer.Option(help="Volume claim that holds the service directory (KubeRay).")
    ] = "penchant",
    mount: Annotated[
        Path | None,
        typer.Option(help="Where it is mounted; by default where RUN_DIR lies too (KubeRay)."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen.")] = 8000,
    placement: PlacementOption = None,
    engine: EngineOption = None,
    max_replicas: Annotated[int, typer.Option(min=1, help="Of each deployment.")] = 8,
    users: Annotated[
        str | None,
        typer.Option(
            help="Keep events of users in a Redis that all fronts reach, such as "
            "redis://HOST:6379/0 (needs penchant\\[redis]; its password stands in "
            "PENCHANT_REDIS_PASSWORD). Without it, questions bring their histories.",
        ),
    ] = None,
) -> None:
    """Write the configuration of a service for `serve deploy` or KubeRay.

    Another version on a cluster is another file, with a service directory of its own: `penchant
    serve deploy` and `rollback` speak to a service of `penchant serve run`.

    \b
    Examples:
      penchant serve build runs/demo --service services/shop --out service.yaml
      serve deploy service.yaml
      penchant serve build runs/demo --service services/shop --out rayservice.yaml --image shop:1
      kubectl apply -f rayservice.yaml
    """
    import os

    from ruamel.yaml import YAML

    from penchant.serve.run import find_ensemble
    from penchant.serve.versions.build import ray_service, serve_config
    from penchant.serve.versions.choice import layout_for
    from penchant.serve.versions.service import Service

    directory, kept = find_ensemble(place), Service(service)
    config = serve_config(
        directory,
        kept,
        port=port,
        layout=layout_for(None, "", placement, engine),
        max_replicas=max_replicas,
        users=users,
    )
    if image is not None:
        shared = Path(os.path.commonpath([directory.resolve(), kept.directory]))
        root = mount if mount is not None else shared
        if not kept.directory.is_relative_to(root.resolve()) or root == Path("/"):
            raise ConfigError(
                f"{kept.directory} does not lie below {root}: expected a directory with it inside, "
                "which the volume claim holds. Name it with --mount."
            )
        config = ray_service(config, image=image, claim=claim, mount=str(root.resolve()))
    yaml = YAML()
    yaml.default_flow_style = False
    with out.open("w") as file:
        yaml.dump(config, file)
    print(out)
