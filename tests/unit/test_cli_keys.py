"""`penchant serve key`: the key on standard output alone, everything else in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from penchant.cli.keys import app
from penchant.platform.errors import ConfigError
from penchant.serve.gate.keys import KeyRing


def run(*words: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, ConfigError):
        raise result.exception
    return result


def test_a_key_is_printed_once_and_opens_the_service(tmp_path: Path) -> None:
    service = tmp_path / "services" / "shop"
    made = run("add", "backend", "--service", service, "--rate-per-s", "2.5", "--burst", "4")
    assert made.exit_code == 0
    key = made.stdout.removesuffix("\n")
    assert "cannot be shown again" in made.stderr
    found = KeyRing(service).check(key)
    assert found is not None
    assert (found.name, found.rate_per_s, found.burst) == ("backend", 2.5, 4)
    listed = run("list", "--service", service)
    assert "backend" in listed.stdout
    assert key not in listed.output
    assert found.sha256 not in listed.output


def test_a_list_for_machines_has_limits_and_no_hashes(tmp_path: Path) -> None:
    assert json.loads(run("list", "--service", tmp_path, "--json").stdout) == {"keys": []}
    assert "no keys" in run("list", "--service", tmp_path).stdout
    run("add", "b", "--service", tmp_path)
    run("add", "a", "--service", tmp_path)
    keys = json.loads(run("list", "--service", tmp_path, "--json").stdout)["keys"]
    assert [sorted(key) for key in keys] == [["burst", "created", "name", "rate_per_s"]] * 2
    assert [(key["name"], key["rate_per_s"], key["burst"]) for key in keys] == [
        ("b", 50.0, 100),
        ("a", 50.0, 100),
    ]


def test_a_revoked_key_is_refused(tmp_path: Path) -> None:
    key = run("add", "nightly", "--service", tmp_path).stdout.strip()
    assert "revoked nightly" in run("revoke", "nightly", "--service", tmp_path).stdout
    assert KeyRing(tmp_path).check(key) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "Shop", "--service", "{}"], "small letters"),
        (["add", "taken", "--service", "{}"], "already"),
        (["add", "x", "--service", "{}", "--rate-per-s", "0"], "expected a rate above 0"),
        (["add", "x", "--service", "{}", "--rate-per-s", "nan"], "expected a rate above 0"),
        (["add", "x", "--service", "{}", "--burst", "0"], "expected a rate above 0"),
        (["revoke", "x", "--service", "{}"], "Keys: taken"),
        (["revoke", "x", "--service", "{}/no"], "expected the directory of a service"),
        (["list", "--service", "{}/no"], "expected the directory of a service"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, words: list[str], said: str) -> None:
    KeyRing(tmp_path).add("taken")
    before = (tmp_path / "keys.json").read_bytes()
    with pytest.raises(ConfigError, match=said):
        run(*[word.format(tmp_path) for word in words])
    assert (tmp_path / "keys.json").read_bytes() == before


@pytest.mark.parametrize(
    "words", [["add", "x"], ["list"], ["revoke", "x"], ["add", "--service", "."]]
)
def test_what_is_missing_is_a_matter_of_usage(words: list[str]) -> None:
    assert run(*words).exit_code == 2
