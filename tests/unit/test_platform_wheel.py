"""The wheel is the running code, whole, the same each time, from whichever install."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from penchant.platform.wheel import FLOORS, build_wheel, unpack_wheel

ROOT = Path(__file__).resolve().parents[2]


def test_every_file_is_the_one_in_the_checkout(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        packed = {name: wheel.read(name) for name in wheel.namelist()}
    code = {name: content for name, content in packed.items() if name.startswith("penchant/")}
    for name, content in code.items():
        assert content == (ROOT / name.removeprefix("penchant/")).read_bytes(), name
    python = {f"penchant/{p.relative_to(ROOT)}" for f in FLOORS for p in (ROOT / f).rglob("*.py")}
    assert python <= set(code)
    assert "penchant/ensembles/page/report.html.j2" in code
    assert {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"} == {
        name.removeprefix("penchant-0.1.0.dist-info/") for name in packed.keys() - code.keys()
    }
    assert not [name for name in packed if "__pycache__" in name]


def test_the_floors_are_the_packages_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]
    assert [f"penchant.{floor}" for floor in FLOORS] == [p for p in packages if p.count(".") == 1]
    modules = [path for floor in FLOORS for path in (ROOT / floor).rglob("*.py")]
    rooms = {str(path.relative_to(ROOT).parent) for path in modules}
    assert {f"penchant.{room.replace('/', '.')}" for room in rooms} == set(packages)


def test_the_record_holds_the_digest_of_every_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        record = wheel.read("penchant-0.1.0.dist-info/RECORD").decode()
        rows = list(csv.reader(io.StringIO(record)))
        assert sorted(name for name, _, _ in rows) == sorted(wheel.namelist())
        for name, digest, size in rows[:-1]:
            content = wheel.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            assert (digest, size) == (f"sha256={expected.decode()}", str(len(content)))
        assert rows[-1] == ["penchant-0.1.0.dist-info/RECORD", "", ""]


def test_an_installed_penchant_builds_the_same_wheel_without_its_sources(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path / "editable")
    site = tmp_path / "site"
    unpack_wheel(wheel, site)  # what an installer does with a pure wheel
    script = (
        "import pathlib, penchant.platform.wheel as w;"
        "print(w.__file__); w.build_wheel(pathlib.Path('again'))"
    )
    again = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(again.stdout.strip()) == site / "penchant/platform/wheel.py"
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()


def test_unpacked_it_is_one_package_and_its_metadata(tmp_path: Path) -> None:
    folders = unpack_wheel(build_wheel(tmp_path / "wheel"), tmp_path / "code")
    assert [folder.name for folder in folders] == ["penchant", "penchant-0.1.0.dist-info"]
