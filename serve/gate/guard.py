"""Who may ask, and how often: a request's key is looked at before anything is done for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import Scope

from penchant.serve.gate.keys import PREFIX, KeyRing
from penchant.serve.gate.rates import Rates

__all__ = ["Guard", "TurnedAwayError"]

#: Below /-/ Serve's proxy says for itself that it runs, and on which ways; load balancers ask it.
_OPEN_PATHS = frozenset(
    {"/", "/healthz", "/readyz", "/openapi.json", "/docs", "/-/healthz", "/-/routes"}
)
_OPEN_BELOW = "/console/"
_WITHOUT_BODY = frozenset({"GET", "HEAD"})
#: Histories of users, if only as examples.
_CLOSED = "/console/examples.json"
_KEY_PARAMETERS = frozenset({"key", "api_key", "api-key", "apikey", "x-api-key", "access_token"})


class TurnedAwayError(Exception):
    """A request goes no further: its status, what is wrong, and headers of the answer."""

    def __init__(self, status: int, error: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, error)
        self.status, self.error, self.headers = status, error, headers


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Asks for a key, and holds each key to its rate."""

    ring: KeyRing
    rates: Rates = field(default_factory=Rates)

    def caller(self, scope: Scope, headers: Headers) -> str | None:
        """Name of the key that a request has; None for pages that are open to all.

        Raises:
            TurnedAwayError: 401 without a right key, 429 where it asks too often.
        """
        if _is_open(scope):
            return None
        if _key_in_query(scope.get("query_string", b"")):
            raise _unknown(
                "a key in the address is not accepted, since addresses are kept in logs: revoke "
                "it, and send a new one as Authorization: Bearer KEY"
            )
        key = self.ring.check(_token(headers))
        if key is None:
            raise _unknown("expected a valid key, as Authorization: Bearer KEY or X-API-Key: KEY")
        wait_s = self.rates.take(key.name, key.rate_per_s, key.burst)
        if wait_s > 0:
            raise TurnedAwayError(
                429,
                f"this key may ask {key.rate_per_s:g} times a second: see Retry-After",
                {"Retry-After": str(max(1, math.ceil(wait_s)))},
            )
        return key.name

    def charge(self, name: str, number: int) -> None:
        """A request of this key was so many questions more than one."""
        key = self.ring.named(name)
        if key is not None and number > 0:
            self.rates.owe(name, key.rate_per_s, number)


def _is_open(scope: Scope) -> bool:
    """Whether anybody may ask; never with a body, which would take a place among those read."""
    path = scope["path"]
    below = path.startswith(_OPEN_BELOW) and path != _CLOSED
    return scope["method"] in _WITHOUT_BODY and (path in _OPEN_PATHS or below)


def _token(headers: Headers) -> str:
    """What was sent as a key; empty, which is no key, where nothing was."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()


def _key_in_query(query: bytes) -> bool:
    given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return any(
        name.lower() in _KEY_PARAMETERS or name.startswith(PREFIX) or value.startswith(PREFIX)
        for name, value in given
    )


def _unknown(error: str) -> TurnedAwayError:
    return TurnedAwayError(401, error, {"WWW-Authenticate": "Bearer"})
