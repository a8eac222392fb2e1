"""The way to a dashboard: what is wrong with it is said in seconds, in our words."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from penchant.platform import dashboard
from penchant.platform.dashboard import connect, explain_failures
from penchant.platform.errors import ConfigError, UnreachableError

ADDRESS = "http://head:8265"


def _answer(status: int, **content: Any) -> Any:
    return lambda url, **_: httpx.Response(status, request=httpx.Request("GET", url), **content)


@pytest.mark.parametrize("address", ["head:8265", "auto", "ray://head:10001"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="expected that of its dashboard"):
        connect(address)


def test_a_dashboard_that_is_not_there_fails_in_seconds() -> None:
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="No Ray dashboard answers"):
        connect("http://127.0.0.1:9")
    assert time.monotonic() - began < 6


def test_something_else_that_answers_is_no_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "get", _answer(200, text="<html>hello</html>"))
    with pytest.raises(UnreachableError, match="No Ray dashboard answers"):
        connect(ADDRESS)


def test_a_missing_token_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "get", _answer(200, json={"authentication_mode": "token"}))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(UnreachableError, match="Set RAY_AUTH_MODE=token"):
        connect(ADDRESS)


@pytest.mark.parametrize("version", ["2.59.1", "3.0.0", ""])
def test_another_ray_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(httpx, "get", _answer(200, json={"authentication_mode": "disabled"}))
    client = SimpleNamespace(_server_ray_version=version)
    monkeypatch.setattr(dashboard, "JobSubmissionClient", lambda _: client)
    with pytest.raises(UnreachableError, match="as installed here"):
        connect(ADDRESS)


def test_the_given_address_wins_over_rays_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def client(_: str) -> Any:
        seen.append(os.environ.get("RAY_API_SERVER_ADDRESS"))
        return SimpleNamespace(_server_ray_version=dashboard.ray.__version__)

    monkeypatch.setattr(httpx, "get", _answer(200, json={"authentication_mode": "disabled"}))
    monkeypatch.setattr(dashboard, "JobSubmissionClient", client)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:8265")
    connect(ADDRESS)
    assert seen == [ADDRESS]
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://elsewhere:8265"


def test_a_connection_that_breaks_is_unreachable() -> None:
    with pytest.raises(UnreachableError, match="stopped answering"), explain_failures(ADDRESS):
        raise ConnectionResetError("reset")
