"""Says in the OpenAPI document that keys are asked for, so that clients made of it send one."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

__all__ = ["describe_keys"]

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer KEY"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_OPEN = ("/healthz", "/readyz")


def describe_keys(app: FastAPI) -> None:
    """Add the two ways to send a key, either of which is enough, to an application's document."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        document = plain()
        document.setdefault("components", {})["securitySchemes"] = _SCHEMES
        document["security"] = [{name: []} for name in _SCHEMES]
        for path in _OPEN:
            document["paths"][path]["get"]["security"] = []
        return document

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's documentation has it
