"""An ensemble's artefact as one file for another machine: the same artefact, the same bytes.

    ensemble/ensemble.json  ensemble/items.arrow  ensemble/members/<id>/...   (.tar.gz)

What arrives is untrusted until its hashes are checked: it is unpacked beside its place, within a
bound of bytes and files, and gets its name only when every file is the one that was saved and every
member says here what it said then.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

from penchant.ensembles.artefacts.artefact import read_ensemble_card
from penchant.ensembles.artefacts.proof import refuse_other_scores
from penchant.ensembles.artefacts.saved import parse_combination
from penchant.platform.errors import ConfigError, DataError
from penchant.platform.swap import workspace

__all__ = ["pack_ensemble", "unpack_ensemble"]

_ROOT = "ensemble"
_CARD = "ensemble.json"
#: What an archive may hold once it is unpacked; a few kilobytes of zeros can claim any size.
_MAX_BYTES = 64 << 30
_MAX_FILES = 10_000
#: tarfile reads headers of any announced size into memory; ours are 512 bytes.
_MAX_READ = 1 << 20


def pack_ensemble(directory: Path, archive: Path) -> Path:
    """Write an artefact as a .tar.gz, after checking every file's hash; returns the archive.

    Only the card and the files that it lists are packed. Names are sorted and times, owners and
    modes are fixed, so that equal artefacts give equal bytes. An archive of that name is replaced
    once the new one is whole.

    Raises:
        ConfigError: the archive's name does not end in .tar.gz.
        DataError: the artefact is missing, of another version, or not as it was written.
    """
    if not archive.name.endswith(".tar.gz"):
        raise ConfigError(f"{archive}: expected a name that ends in .tar.gz. Rename the archive.")
    names = sorted([_CARD, *_verified(directory)["sha256"]])
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        with (
            partial.open("wb") as raw,
            gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name in names:
                with (directory / name).open("rb") as file:
                    info = tarfile.TarInfo(f"{_ROOT}/{name}")  # mode 644, owner and time 0
                    info.size = os.fstat(file.fileno()).st_size
                    tar.addfile(info, file)
        partial.replace(archive)
    finally:
        partial.unlink(missing_ok=True)
    return archive


def unpack_ensemble(archive: Path, directory: Path) -> dict[str, Any]:
    """Unpack an archive of `pack_ensemble` into a new directory; returns the artefact's card.

    Members answer the artefact's self-test before it is put there. Those with a network bring torch
    in, which takes seconds.

    Raises:
        ConfigError: there is no archive, or something stands where the artefact should go.
        DataError: the archive is torn, unsafe, too large, or not what was packed, or a member
            scores other than when it was saved; nothing is kept.
    """
    if not archive.is_file():
        raise ConfigError(
            f"{archive} is no file: expected an archive that `penchant ensemble export` wrote."
        )
    if directory.exists() or directory.is_symlink():
        raise ConfigError(
            f"{directory} exists: expected a new directory for the ensemble. "
            "Choose another name, or remove it."
        )
    with workspace(directory) as work:
        _extract(archive, work)
        card = _verified(work / _ROOT)
        listed = {_CARD, *card["sha256"]}
        there = {str(p.relative_to(work / _ROOT)) for p in work.rglob("*") if p.is_file()}
        if unlisted := sorted(there - listed):
            raise DataError(
                f"{archive} holds {unlisted[0]}, which its {_CARD} does not list: expected only "
                f"the {len(listed)} files of the artefact. Export the ensemble again."
            )
        refuse_other_scores(work / _ROOT, card)
        (work / _ROOT).rename(directory)
    return card


def _verified(directory: Path) -> dict[str, Any]:
    """The card of an artefact whose files are as they were saved and whose combination is known."""
    try:
        card = read_ensemble_card(directory)
        parse_combination(card["combination"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{directory / _CARD} is no card of an ensemble that this Penchant knows: {error!r}. "
            "Run `penchant ensemble compare` with this Penchant and export the ensemble again."
        ) from error
    return card


def _extract(archive: Path, work: Path) -> None:
    """Unpack plain files below `ensemble/` into an empty directory, refusing all else."""
    seen: set[str] = set()
    try:
        with _Bounded(archive) as content:
            with tarfile.open(fileobj=content, mode="r:") as tar:
                for info in tar:
                    _refuse_unsafe(archive, info, seen)
                    seen.add(info.name)
                    tar.extract(info, work, set_attrs=False, filter="data")
            while content.read(_MAX_READ):  # to the end: only there is the checksum compared
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise DataError(
            f"{archive} cannot be unpacked: {error}. Expected a whole .tar.gz that `penchant "
            "ensemble export` wrote; copy it again, or export it again."
        ) from error


def _refuse_unsafe(archive: Path, info: tarfile.TarInfo, seen: set[str]) -> None:
    if not info.isreg() or info.issparse():
        raise DataError(f"{archive}: {info.name!r} is no plain file: expected no links or devices.")
    if not info.name.startswith(f"{_ROOT}/") or ".." in info.name.split("/"):
        raise DataError(f"{archive}: {info.name!r} is outside {_ROOT}/: expected no other files.")
    if info.name in seen or len(seen) >= _MAX_FILES:
        raise DataError(
            f"{archive}: {info.name!r} comes twice or is file {len(seen) + 1}: expected distinct "
            f"names, {_MAX_FILES:,} at most."
        )


class _Bounded(gzip.GzipFile):
    """A stream that refuses to give more than an archive may hold, or too much at once."""

    def read(self, size: int | None = -1) -> bytes:
        wanted = -1 if size is None else size
        self._refuse(not 0 <= wanted <= _MAX_READ, f"a header of {wanted:,} bytes")
        self._refuse(self.tell() + wanted > _MAX_BYTES + _MAX_READ, f"over {_MAX_BYTES:,} bytes")
        return super().read(wanted)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._refuse(offset > _MAX_BYTES + _MAX_READ, f"over {_MAX_BYTES:,} bytes")
        return super().seek(offset, whence)

    def _refuse(self, refused: bool, what: str) -> None:
        if refused:
            raise tarfile.ReadError(
                f"it holds {what} (at most {_MAX_BYTES:,} bytes are unpacked, headers of at most "
                f"{_MAX_READ:,})"
            )
