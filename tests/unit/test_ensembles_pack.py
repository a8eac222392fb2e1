"""An artefact in one file: the same bytes each time, and nothing unpacked that is not right."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from penchant.ensembles.artefacts import pack
from penchant.ensembles.artefacts.artefact import ENSEMBLE_VERSION
from penchant.ensembles.artefacts.pack import pack_ensemble, unpack_ensemble
from penchant.platform.errors import ConfigError, DataError

FILES = {"members/a/member.json": b"{}", "members/a/model.safetensors": b"\0" * 5000}


@pytest.fixture(autouse=True)
def no_self_test(monkeypatch) -> None:
    """What members say is the matter of `test_ensembles_proof.py`; here they are no real ones."""
    monkeypatch.setattr(pack, "refuse_other_scores", lambda directory, card: None)


def artefact(directory: Path, files: dict[str, bytes] = FILES, **card) -> Path:
    """An artefact whose member is no real one: packing reads hashes alone."""
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    content = {
        "version": ENSEMBLE_VERSION,
        "name": "mean",
        "weights": {"a": 1.0},
        "combination": {"kind": "linear", "normalization": "zscore", "weights": {"a": 1.0}},
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        **card,
    }
    (directory / "ensemble.json").write_text(json.dumps(content))
    return directory


def content_of(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.fixture
def archive(tmp_path) -> Path:
    return pack_ensemble(artefact(tmp_path / "made"), tmp_path / "mean.tar.gz")


def entries(archive: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(archive) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]


def rewritten(archive: Path, *more: tuple[tarfile.TarInfo, bytes]) -> Path:
    """The archive with further entries."""
    before = entries(archive)
    with tarfile.open(archive, "w:gz") as tar:
        for info, data in [*before, *more]:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive


def entry(name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, data if kind == tarfile.REGTYPE else b""


def test_what_is_unpacked_is_what_was_packed(archive, tmp_path):
    card = unpack_ensemble(archive, tmp_path / "new" / "place")
    assert content_of(tmp_path / "new" / "place") == content_of(tmp_path / "made")
    assert card["weights"] == {"a": 1.0}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["place"]


def test_equal_artefacts_give_equal_bytes_whenever_and_wherever_they_were_made(archive, tmp_path):
    turned = dict(reversed(FILES.items()))
    other = artefact(
        tmp_path / "elsewhere" / "copy",
        turned,
        sha256=json.loads((tmp_path / "made" / "ensemble.json").read_text())["sha256"],
    )
    for path in other.rglob("*"):
        os.utime(path, (10**9, 10**9))
        path.chmod(0o700)
    again = pack_ensemble(other, tmp_path / "other-name.tar.gz")
    assert again.read_bytes() == archive.read_bytes()


def test_entries_are_sorted_and_name_no_owner_and_no_time(archive):
    found = [info for info, _ in entries(archive)]
    names = [info.name for info in found]
    assert names == sorted(names)
    assert {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode) for i in found} == {
        (0, 0, 0, "", "", 0o644)
    }


def test_files_that_the_card_does_not_list_stay_at_home(tmp_path):
    made = artefact(tmp_path / "made")
    (made / "notes.txt").write_text("mine")
    archive = pack_ensemble(made, tmp_path / "a.tar.gz")
    assert {info.name for info, _ in entries(archive)} == {
        "ensemble/ensemble.json",
        *(f"ensemble/{name}" for name in FILES),
    }


def test_a_changed_artefact_is_not_packed(tmp_path):
    made = artefact(tmp_path / "made")
    (made / "members/a/model.safetensors").write_bytes(b"\1" * 5000)
    with pytest.raises(DataError, match="is not the file that was saved"):
        pack_ensemble(made, tmp_path / "a.tar.gz")
    assert not (tmp_path / "a.tar.gz").exists()


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.zip: expected a name that ends in \.tar\.gz"):
        pack_ensemble(artefact(tmp_path / "made"), tmp_path / "a.zip")


@pytest.mark.parametrize("kind", ["directory", "file", "link"])
def test_an_existing_target_is_refused_and_left_alone(archive, tmp_path, kind):
    target = tmp_path / "there"
    if kind == "directory":
        target.mkdir()
    elif kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="exists: expected a new directory"):
        unpack_ensemble(archive, target)
    assert target.is_symlink() == (kind == "link")


def test_a_missing_archive_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is no file: expected an archive"):
        unpack_ensemble(tmp_path / "none.tar.gz", tmp_path / "new")


def refused(archive: Path, tmp_path: Path, message: str) -> None:
    """Nothing is left of what is refused, neither in its place nor beside it."""
    parent = tmp_path / "parent"
    with pytest.raises(DataError, match=message):
        unpack_ensemble(archive, parent / "new")
    assert list(parent.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (entry("ensemble/../../evil"), "is outside ensemble/"),
        (entry("/tmp/evil"), "is outside ensemble/"),
        (entry("evil"), "is outside ensemble/"),
        (entry("ensemble/link", kind=tarfile.SYMTYPE, link="/etc/passwd"), "is no plain file"),
        (entry("ensemble/hard", kind=tarfile.LNKTYPE, link="ensemble/ensemble.json"), "no plain"),
        (entry("ensemble/pipe", kind=tarfile.FIFOTYPE), "is no plain file"),
        (entry("ensemble/ensemble.json"), "comes twice"),
        (entry("ensemble/more.txt"), "more.txt, which its ensemble.json does not list"),
    ],
)
def test_an_archive_with_anything_else_in_it_is_refused(archive, tmp_path, more, message):
    refused(rewritten(archive, more), tmp_path, message)


def test_a_changed_file_is_refused(archive, tmp_path):
    changed = [(info, data[:-1] + b"?") for info, data in entries(archive)[-1:]]
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as tar:
        for info, data in [*entries(archive)[:-1], *changed]:
            tar.addfile(info, io.BytesIO(data))
    refused(tmp_path / "b.tar.gz", tmp_path, "is not the file that was saved")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_torn_archive_is_refused(archive, tmp_path, share):
    content = archive.read_bytes()
    archive.write_bytes(content[: int(share * len(content))])
    refused(archive, tmp_path, "cannot be unpacked")


def test_a_flipped_bit_in_the_checksum_is_refused(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    content[-6] ^= 1  # CRC-32 and length are the last eight bytes
    archive.write_bytes(content)
    refused(archive, tmp_path, "cannot be unpacked")


def test_no_archive_at_all_is_refused(tmp_path):
    (tmp_path / "a.tar.gz").write_text("<html>not found</html>")
    refused(tmp_path / "a.tar.gz", tmp_path, "cannot be unpacked")


def test_more_bytes_than_the_bound_are_refused_before_they_are_written(
    archive, tmp_path, monkeypatch
):
    monkeypatch.setattr("penchant.ensembles.artefacts.pack._MAX_BYTES", 1 << 20)
    monkeypatch.setattr("penchant.ensembles.artefacts.pack._MAX_READ", 1 << 20)
    refused(rewritten(archive, entry("ensemble/zeros", bytes(8 << 20))), tmp_path, "holds over")


def test_zeros_behind_the_end_count_too(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("penchant.ensembles.artefacts.pack._MAX_BYTES", 1 << 20)
    plain = gzip.decompress(archive.read_bytes())
    archive.write_bytes(gzip.compress(plain + bytes(8 << 20)))
    refused(archive, tmp_path, "holds over")


def test_a_header_that_claims_gigabytes_is_not_read_into_memory(archive, tmp_path):
    info = tarfile.TarInfo("ensemble/x")
    info.type, info.size = tarfile.XHDTYPE, 7 << 30
    archive.write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 16)))
    refused(archive, tmp_path, "a header of 7,5")


def test_too_many_files_are_refused(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("penchant.ensembles.artefacts.pack._MAX_FILES", 2)
    refused(archive, tmp_path, "is file 3: expected distinct names, 2 at most")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"version": 7}, "has version 7"),
        ({"combination": {"kind": "from the future"}}, "is no card of an ensemble that this"),
        ({"weights": None}, "is no card of an ensemble that this"),
    ],
)
def test_an_artefact_that_this_version_does_not_know_is_refused(archive, tmp_path, card, message):
    other = artefact(tmp_path / "other", **card)
    data = (other / "ensemble.json").read_bytes()
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as tar:
        for info, content in entries(archive):
            changed = data if info.name.endswith("ensemble.json") else content
            info.size = len(changed)
            tar.addfile(info, io.BytesIO(changed))
    refused(tmp_path / "b.tar.gz", tmp_path, message)
    with pytest.raises(DataError, match=message):
        pack_ensemble(other, tmp_path / "c.tar.gz")
