"""One request ahead of a load: an endpoint that refuses it is not worth loading."""

from __future__ import annotations

import httpx

from penchant.platform.errors import RunError, UnreachableError
from penchant.serve.load.plan import LoadPlan

__all__ = ["probe"]

_SHOWN = 300


def probe(url: str, body: bytes, plan: LoadPlan) -> None:
    """Send one request as the load would.

    Raises:
        UnreachableError: nothing answers there.
        RunError: it is answered with something else than 200.
    """
    address = url.rstrip("/") + plan.path
    try:
        response = httpx.post(address, content=body, headers=plan.headers, timeout=plan.timeout_s)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreachableError(
            f"no endpoint answers at {address} ({type(error).__name__}): expected one that "
            "`penchant serve run` has started. Check the address."
        ) from error
    if response.status_code in (401, 403):
        raise RunError(
            f"{address} answered {response.status_code}: expected an API key that it knows. Give "
            "it in a file with --key-file, or in PENCHANT_API_KEY."
        )
    if response.status_code != 200:
        raise RunError(
            f"{address} answered a recorded request with {response.status_code}, expected 200 from "
            f"`penchant serve run` for the same run. It said: {response.text[:_SHOWN]}"
        )
