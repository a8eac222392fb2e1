"""The text of `GET /metrics`: what the agent of this node exports of ours and of Serve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.platform.errors import UnreachableError

__all__ = ["only_ours", "scrape"]

_OURS = ("ray_penchant_", "ray_serve_")
_TIMEOUT_S = 3.0


def scrape() -> str:
    """Metrics of all replicas on this node, in Prometheus' text format.

    Blocks for as long as the agent takes: call it in a thread. Replicas report to the agent every
    10 seconds (`RAY_metrics_report_interval_ms`), so that numbers lag by as much.

    Raises:
        UnreachableError: there is no Ray here, its agent exports nothing, or does not answer.
    """
    import httpx
    import ray

    if not ray.is_initialized():
        raise UnreachableError("no Ray runs in this process, so that there are no metrics.")
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's lack
    url = _agent_url(nodes, ray.get_runtime_context().get_node_id())
    try:
        # Never through a proxy: the agent is on this machine.
        with httpx.Client(trust_env=False, timeout=_TIMEOUT_S) as client:
            response = client.get(url).raise_for_status()
    except httpx.HTTPError as error:
        raise UnreachableError(
            f"the metrics agent of this node does not answer ({type(error).__name__}): expected "
            "Prometheus text. It starts some seconds after Ray does; try again."
        ) from error
    return only_ours(response.text)


def only_ours(text: str) -> str:
    """The lines of our metrics and of Ray Serve's, each with its HELP and TYPE."""
    kept = [line for line in text.splitlines() if _name(line).startswith(_OURS)]
    return "\n".join([*kept, ""]) if kept else ""


def _name(line: str) -> str:
    parts = line.split(" ", 3)
    return parts[2] if line.startswith(("# HELP ", "# TYPE ")) and len(parts) > 2 else line


def _agent_url(nodes: list[Mapping[str, Any]], node_id: str) -> str:
    """The agent's address on the node of this id.

    Raises:
        UnreachableError: the node exports no metrics.
    """
    for node in nodes:
        if node["NodeID"] == node_id and int(node.get("MetricsExportPort", 0)) > 0:
            host, port = str(node["NodeManagerAddress"]), node["MetricsExportPort"]
            return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
    raise UnreachableError(
        "Ray exports no metrics on this node: expected its agent's port. Install ray[default] "
        "there, and leave RAY_enable_metrics_collection on."
    )
