"""The wheel of the running Penchant, made from the very files that are imported.

A cluster must run the code that the user runs. Building from sources would need a checkout, pip
and setuptools, and would leave out what an editable install has changed since; a wheel is only a
zip of the packages and of the distribution's metadata, and both are at hand in every kind of
install: editable, from a wheel, or inside a job.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from penchant.platform.errors import RunError

__all__ = ["FLOORS", "build_wheel", "unpack_wheel"]

#: The packages that make up Penchant.
FLOORS = ("platform", "trainers", "ensembles", "serve", "cli")

_TAGS = "Wheel-Version: 1.0\nGenerator: penchant\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_METADATA = ("METADATA", "entry_points.txt", "licenses/LICENSE")


def build_wheel(into: Path) -> Path:
    """Write the wheel of the running Penchant into a directory.

    Equal code gives equal bytes, whenever and wherever it is built.

    Raises:
        RunError: Penchant's packages or metadata cannot be found.
    """
    penchant = _installed()
    info = f"penchant-{penchant.version}.dist-info"
    content = dict(_code()) | {f"{info}/{name}": text for name, text in _metadata(penchant)}
    content[f"{info}/WHEEL"] = _TAGS.encode()
    content[f"{info}/RECORD"] = _record(content, f"{info}/RECORD")
    into.mkdir(parents=True, exist_ok=True)
    wheel = into / f"penchant-{penchant.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name)  # dated 1980, whenever it is written
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content[name], zipfile.ZIP_DEFLATED)
    return wheel


def unpack_wheel(wheel: Path, into: Path) -> list[Path]:
    """Unpack a wheel; returns its top folders, which belong side by side on a Python path.

    Ray takes a wheel file too, but knows it by its name alone, so that changed code of the same
    version would never reach the cluster, and installs it on each node with pip and with all its
    dependencies. Folders are known by their content and are only put on the path.
    """
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(into)
    return sorted(into.iterdir())


def _code() -> Iterator[tuple[str, bytes]]:
    for floor in FLOORS:
        found = importlib.util.find_spec(f"penchant.{floor}")
        places = list(found.submodule_search_locations or ()) if found else []
        if not places:
            raise RunError(f"penchant.{floor} cannot be found: install Penchant again.")
        for place in reversed(places):  # the first on the path wins, so it is written last
            root = Path(place)
            for file in sorted(root.rglob("*")):
                name = file.relative_to(root)
                if file.is_file() and not _is_litter(name):
                    yield f"penchant/{floor}/{name.as_posix()}", file.read_bytes()


def _is_litter(name: Path) -> bool:
    return any(part == "__pycache__" or part.startswith(".") for part in name.parts)


def _installed() -> Distribution:
    # A checkout has a penchant.egg-info of its last build, which holds less and may be stale.
    for found in distributions(name="penchant"):
        if found.read_text("METADATA") is not None:
            return found
    raise RunError("Penchant's metadata cannot be found: install it (`pip install -e .`).")


def _metadata(penchant: Distribution) -> Iterator[tuple[str, bytes]]:
    for name in _METADATA:
        text = penchant.read_text(name)
        if text is not None:
            yield name, text.encode()


def _record(content: dict[str, bytes], own: str) -> bytes:
    """The wheel's table of contents: name, sha256, size; its own line has neither."""
    lines = []
    for name in sorted(content):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content[name]).digest()).rstrip(b"=")
        lines.append(f"{name},sha256={digest.decode()},{len(content[name])}")
    return "\n".join([*lines, f"{own},,", ""]).encode()
