"""Gate and admission inside Serve's proxy, where a refusal costs a tenth of one in a front.

Serve's proxy calls `middlewares` when it starts, if RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names
it. The front has its own of both, for clusters that were started without.
"""

from __future__ import annotations

import os
from pathlib import Path

from starlette.middleware import Middleware

from penchant.serve.gate.admission import Admission
from penchant.serve.gate.guard import Guard
from penchant.serve.gate.keys import KeyRing
from penchant.serve.gate.patient_protocol import take_over
from penchant.serve.gate.proxy_gate import ProxyGate
from penchant.serve.watch.meters import Meters

__all__ = ["KEYS_OF", "SERVE_VARIABLES", "middlewares", "serve_variables"]

#: Names the service directory whose keys the proxy asks for too.
KEYS_OF = "PENCHANT_KEYS_OF"
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


def serve_variables(keys_of: Path | None) -> dict[str, str]:
    """The environment in which Serve's processes start.

    Args:
        keys_of: the service directory whose keys are asked for; None for a service without keys.
    """
    return SERVE_VARIABLES | ({} if keys_of is None else {KEYS_OF: str(keys_of)})


def middlewares() -> list[Middleware]:
    """What a request passes in the proxy; the last of them comes first.

    Serve calls this before its server starts, which also gets an end to its patience by it.
    """
    take_over()
    refused = Meters().refused
    keys_of = os.environ.get(KEYS_OF)
    guard = Guard(ring=KeyRing(Path(keys_of))) if keys_of else None
    return [
        Middleware(Admission, part=0.6, refused=refused),
        Middleware(ProxyGate, guard=guard, refused=refused),
    ]
