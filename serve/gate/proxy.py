"""Admission inside Serve's proxy, where a refusal costs a tenth of what it costs in a front.

Serve's proxy calls `middlewares` when it starts, if RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names
it. The front has an admission of its own, for clusters that were started without.
"""

from __future__ import annotations

from starlette.middleware import Middleware

from penchant.serve.gate.admission import Admission
from penchant.serve.watch.meters import Meters

__all__ = ["SERVE_VARIABLES", "middlewares"]

#: What Serve's processes read from the environment when they start.
SERVE_VARIABLES = {
    # Serve's own lines go to its log files, not to the terminal.
    "RAY_SERVE_LOG_TO_STDERR": "0",
    # Ray gives its workers the manners of a batch job; who answers customers goes first.
    "RAY_worker_niceness": "0",
    # A proxy that has died is missed after these; by default only after half a minute.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "penchant.serve.gate.proxy.middlewares",
    # With these, replicas listen themselves, HAProxy's own pages on all addresses too, and nobody
    # asks for admission.
    "RAY_SERVE_ENABLE_HA_PROXY": "0",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
}


def middlewares() -> list[Middleware]:
    """What a request passes first; nothing else of a request is looked at in the proxy."""
    return [Middleware(Admission, part=0.6, refused=Meters().refused)]
