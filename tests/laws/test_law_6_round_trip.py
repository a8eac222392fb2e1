"""Law 6: save, load, score: the same numbers, from safetensors, JSON and text, never a pickle."""

from __future__ import annotations

import json

import numpy as np

from penchant.trainers.fit import load_member


def refuse(constant):
    raise ValueError(f"{constant} is no JSON")


def test_a_loaded_member_gives_the_same_scores(case, tmp_path):
    member, world = case
    member.save(tmp_path / "member")
    loaded = load_member(tmp_path / "member")
    assert type(loaded) is type(member)
    assert loaded.recipe == member.recipe
    assert loaded.num_parameters == member.num_parameters
    requests = world.asked()
    np.testing.assert_array_equal(
        loaded.score(world.log, requests), member.score(world.log, requests)
    )


def test_a_saved_member_is_safetensors_json_and_text(case, tmp_path):
    member, _ = case
    member.save(tmp_path / "member")
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert {path.suffix for path in files} <= {".json", ".md", ".safetensors", ".txt"}
    for path in tmp_path.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)


def test_saving_twice_writes_the_same_bytes(case, tmp_path):
    member, _ = case
    member.save(tmp_path / "one")
    load_member(tmp_path / "one").save(tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    same = {
        n: (tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names
    }
    assert all(same.values()), same
