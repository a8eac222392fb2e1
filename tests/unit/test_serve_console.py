"""The console's routes: its own files and no others, under headers that let nothing else run."""

from __future__ import annotations

import asyncio
import re
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from penchant.platform.wheel import build_wheel
from penchant.serve.routes.console_page import ConsoleExample, console_router
from penchant.serve.routes.examples import console_examples
from penchant.serve.versions.service import Service

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "serve" / "routes" / "console"
NAMES = sorted(path.name for path in FOLDER.iterdir())
SCRIPTS = [name for name in NAMES if name.endswith(".js")]
EXAMPLE = ConsoleExample(
    title='a </script><b title="quotes">',
    body={"time": 1_512_129_600_000, "history": [{"item": "a", "time": 1, "group": "7"}]},
)


def app_with(*examples: ConsoleExample) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.include_router(console_router(examples))
    return app


def get(path: str, *examples: ConsoleExample, method: str = "GET") -> httpx.Response:
    app = app_with(*examples)

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path)

    return asyncio.run(go())


def status_of(path: str) -> int:
    """The status that a path gets as it stands: httpx would take `..` out of it first."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": unquote(path), "raw_path": path.encode()}
    scope |= {"query_string": b"", "headers": [], "scheme": "http", "server": ("test", 80)}
    asyncio.run(app_with()(scope, receive, send))
    return int(sent[0]["status"])


def test_the_root_is_the_page() -> None:
    response = get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text == (FOLDER / "index.html").read_text()
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "index.html"])
def test_every_file_is_given_as_what_it_is(name: str) -> None:
    response = get(f"/console/{name}")
    assert response.status_code == 200
    assert response.content == (FOLDER / name).read_bytes()
    kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    kind = response.headers["content-type"].partition(";")[0]
    assert kind == kinds[name.rpartition(".")[2]]
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/", "/console/console.js", "/console/examples.json"])
def test_nothing_from_elsewhere_may_load_and_nothing_inline_may_run(path: str) -> None:
    headers = get(path).headers
    policy = dict(
        part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert not {"script-src", "style-src", "connect-src"} & set(policy)
    for name in ("object-src", "base-uri", "form-action", "frame-ancestors", "trusted-types"):
        assert policy[name] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path",
    [
        "/console/",
        "/console/index.html",
        "/console/console_page.py",
        "/console/CONSOLE.JS",
        "/console/console.js%00",
        "/console/../console_page.py",
        "/console/%2e%2e/console_page.py",
        "/console/..%2fconsole_page.py",
        "/console/..%5cconsole_page.py",
        "/console/%2fetc%2fpasswd",
        "/console//etc/passwd",
        "/console/./console.js",
        "/console/sub/console.js",
    ],
)
def test_what_is_not_on_the_list_cannot_be_reached(path: str) -> None:
    assert status_of(path) == 404


@pytest.mark.parametrize("path", ["/", "/console/console.js", "/console/examples.json"])
def test_the_page_is_only_read(path: str) -> None:
    assert get(path, method="POST").status_code == 405


def test_examples_are_told_in_their_order_and_may_be_none() -> None:
    other = ConsoleExample(title="b", body={"history": [], "candidates": ["x"]})
    response = get("/console/examples.json", EXAMPLE, other)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.json() == [
        {"title": EXAMPLE.title, "body": dict(EXAMPLE.body)},
        {"title": "b", "body": {"history": [], "candidates": ["x"]}},
    ]
    assert get("/console/examples.json").json() == []


def test_the_console_is_no_part_of_the_described_interface() -> None:
    app = FastAPI()
    app.include_router(console_router([]))
    assert app.openapi()["paths"] == {}


def test_the_page_holds_nothing_inline_and_names_only_its_own_files() -> None:
    page = (FOLDER / "index.html").read_text()
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page) == []
    assert re.findall(r"<script(?![^>]*\ssrc=)", page) == []
    linked = set(re.findall(r'(?:src|href)="([^"#]+)"', page))
    assert {name for name in linked if name != "docs"} == {
        "console/console.css",
        "console/console.js",
        "console/icon.svg",
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_turn_no_text_into_markup_or_code(name: str) -> None:
    script = (FOLDER / name).read_text()
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(|srcdoc"
    assert re.findall(sinks, script) == []
    imported = re.findall(r'from\s+"([^"]+)"', script)
    assert {f"./{other}" for other in SCRIPTS} >= set(imported)


def test_every_id_that_the_scripts_look_for_is_on_the_page() -> None:
    ids = set(re.findall(r'\sid="([^"]+)"', (FOLDER / "index.html").read_text()))
    wanted = {
        name
        for script in SCRIPTS
        for name in re.findall(r'byId\("([^"]+)"\)', (FOLDER / script).read_text())
    }
    assert wanted <= ids
    assert wanted


def test_the_key_is_kept_for_the_session_alone() -> None:
    everything = "".join((FOLDER / name).read_text() for name in SCRIPTS)
    assert "sessionStorage" in everything
    assert not re.search(r"localStorage|document\.cookie|indexedDB", everything)


@pytest.mark.parametrize("name", NAMES)
def test_files_stay_small(name: str) -> None:
    assert len((FOLDER / name).read_text().splitlines()) < 300


def test_the_files_travel_with_the_package(tmp_path: Path) -> None:
    packed = zipfile.ZipFile(build_wheel(tmp_path)).namelist()
    assert {f"penchant/serve/routes/console/{name}" for name in NAMES} <= set(packed)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    unpacked = [n for n in NAMES if not any(fnmatch(f"console/{n}", p) for p in patterns)]
    assert unpacked == []


@pytest.mark.parametrize("text", ["", '[{"title": "a', '[{"title": "a"}]', "7"])
def test_examples_that_cannot_be_read_are_none(tmp_path: Path, text: str) -> None:
    """A front that dies of them would answer nobody."""
    service = Service(tmp_path)
    service.examples.write_text(text)
    assert console_examples(service) == []
