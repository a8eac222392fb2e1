"""A training goes on from the last checkpoint that is whole, whatever has become of later ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from penchant.trainers.checkpoints import drop_torn_list, seal, sound_and_torn

LIST = "checkpoint_manager_snapshot.json"


def keep(place: Path, name: str) -> Path:
    checkpoint = place / name
    (checkpoint / "encoder").mkdir(parents=True)
    (checkpoint / "progress.json").write_text('{"step": 3}')
    (checkpoint / "encoder" / "state.safetensors").write_bytes(b"weights" * 100)
    seal(checkpoint)
    return checkpoint


def cut(checkpoint: Path) -> None:
    path = checkpoint / "encoder" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def turn_a_bit(checkpoint: Path) -> None:
    path = checkpoint / "encoder" / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[350] ^= 1
    path.write_bytes(content)


def lose_a_file(checkpoint: Path) -> None:
    (checkpoint / "progress.json").unlink()


def never_seal(checkpoint: Path) -> None:
    (checkpoint / "seal.json").unlink()


def cut_the_seal(checkpoint: Path) -> None:
    (checkpoint / "seal.json").write_text((checkpoint / "seal.json").read_text()[:-5])


def leave_zeros(checkpoint: Path) -> None:
    (checkpoint / "seal.json").write_bytes(bytes(200))


@pytest.mark.parametrize(
    "hurt", [cut, turn_a_bit, lose_a_file, never_seal, cut_the_seal, leave_zeros]
)
def test_what_is_not_whole_is_passed_over(tmp_path: Path, hurt: Callable[[Path], None]) -> None:
    keep(tmp_path, "checkpoint_2026-11-30_10-00-00.000001")
    sound = keep(tmp_path, "checkpoint_2026-11-30_10-00-00.000002")
    last = keep(tmp_path, "checkpoint_2026-11-30_11-00-00.000000")
    assert sound_and_torn(tmp_path) == (last, [])
    hurt(last)
    assert sound_and_torn(tmp_path) == (sound, [last])


def test_where_none_is_whole_there_is_none(tmp_path: Path) -> None:
    assert sound_and_torn(tmp_path / "new") == (None, [])
    only = keep(tmp_path, "checkpoint_2026-11-30_10-00-00.000000")
    (tmp_path / LIST).write_text("{}")  # no checkpoint, though its name begins like one
    cut(only)
    assert sound_and_torn(tmp_path) == (None, [only])


def test_a_list_that_ray_would_refuse_is_removed_and_no_other(tmp_path: Path) -> None:
    drop_torn_list(tmp_path)  # there is none yet
    checkpoint = keep(tmp_path, "checkpoint_2026-11-30_10-00-00.000000")
    ours = {"ray_version": metadata.version("ray")}
    results = [{"checkpoint_dir_name": checkpoint.name, "metrics": {}}]
    listed = ours | {"checkpoint_results": results}
    gone = ours | {"checkpoint_results": [{"checkpoint_dir_name": "checkpoint_gone"}]}
    others = listed | {"ray_version": "2.0.0"}
    whole = json.dumps(listed)
    (tmp_path / LIST).write_text(whole)
    drop_torn_list(tmp_path)
    assert (tmp_path / LIST).read_text() == whole
    for torn in (whole[:-3], "", "[]", "{}", json.dumps(gone), json.dumps(others)):
        (tmp_path / LIST).write_text(torn)
        drop_torn_list(tmp_path)
        assert not (tmp_path / LIST).exists()
