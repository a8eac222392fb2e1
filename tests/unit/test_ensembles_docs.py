"""The page and the notebook on ensembles: every command exists, every block runs as it is."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from penchant.cli.main import app
from penchant.ensembles.artefacts.artefact import ENSEMBLE_VERSION

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "ensembles.md").read_text()
NOTEBOOK = json.loads((DOCS / "ensembles.ipynb").read_text())


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def run(source: str, names: dict[str, object]) -> str:
    """What a piece of code prints."""
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(source, "docs", "exec"), names)
    return printed.getvalue()


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working directory with what the page's blocks read: a run, and a table of scores."""
    monkeypatch.chdir(tmp_path)
    untested = "penchant.ensembles.artefacts.pack.refuse_other_scores"
    monkeypatch.setattr(untested, lambda directory, card: None)  # its members are no real ones
    weights = {"odd": 0.25, "good": 0.75}
    members = [
        {"id": name, "kind": "popularity", "window": {}, "test": {"ndcg@10": {"mean": 0.3}}}
        for name in weights
    ]
    greedy = {"name": "greedy", "combiner": "greedy", "weights": weights, "test": {}}
    report = {"name": "demo", "metric": "ndcg@10", "members": members, "ensembles": [greedy]}
    (tmp_path / "runs/demo/report").mkdir(parents=True)
    (tmp_path / "runs/demo/report/report.json").write_text(json.dumps(report))
    artefact = tmp_path / "runs/demo/ensembles/greedy"
    card = {
        "version": ENSEMBLE_VERSION,
        "weights": weights,
        "combination": {"kind": "linear", "normalization": "zscore", "weights": weights},
        "sha256": {f"members/{m}/member.json": hashlib.sha256(b"{}").hexdigest() for m in weights},
    }
    for name in card["sha256"]:
        (artefact / name).parent.mkdir(parents=True)
        (artefact / name).write_bytes(b"{}")
    (artefact / "ensemble.json").write_text(json.dumps(card))
    write_scores(tmp_path / "scores.parquet")
    return tmp_path


def write_scores(path: Path) -> None:
    """60 users, each asked once in each block about five items."""
    random, request = np.random.default_rng(0), np.repeat(np.arange(120), 5)
    target = (np.tile(np.arange(5), 120) == random.integers(5, size=120)[request]).astype(int)
    pl.DataFrame(
        {
            "request": request,
            "user": request % 60,
            "time": np.where(request < 60, "2024-05-01", "2024-06-01"),
            "candidate": np.tile(np.arange(5), 120),
            "target": target,
            "seen": np.tile(np.arange(5) < 2, 120),
            "one": random.normal(size=600) + target,
            "two": random.normal(size=600) + target,
        }
    ).write_parquet(path)


def test_every_command_of_the_page_exists():
    commands = [line.split() for block in blocks("sh") for line in block.splitlines()]
    assert commands
    for name, *words in commands:
        assert name == "penchant"
        verbs = [word for word in words[:2] if re.fullmatch("[a-z]+", word)]
        shown = CliRunner().invoke(app, [*verbs, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0, shown.output
        assert all(word in shown.output for word in words if word.startswith("--"))


def test_every_block_of_the_page_runs(place):
    printed = [run(block, {}) for block in blocks("python")]
    explained, compared, closer, moved = printed
    assert "in   good: counts for 75.0%" in explained
    assert re.match("Use (mean|greedy) of 2 models|Use (one|two) alone", compared)
    assert re.search(r"^\| week \| 2024-05-27 \| 60 \|", closer, re.MULTILINE)
    assert json.loads(closer.splitlines()[-1])["metric"] == "ndcg@10"
    assert moved == "{'odd': 0.25, 'good': 0.75}\n"
    assert (place / "greedy/members/good/member.json").exists()


def test_the_page_names_every_column_of_a_table():
    from penchant.ensembles.comparing.score_table import COLUMNS

    foreign = PAGE.partition("## Models that are not ours")[2]
    assert set(re.findall(r"^\| `([a-z]+)` \|", foreign, re.MULTILINE)) == set(COLUMNS)


def test_the_page_names_every_combiner():
    from penchant.platform.ensemble_settings import COMBINER_NAMES

    rows = PAGE.partition("## The combiners")[2].partition("`ensemble.combiners`")[0]
    first = re.findall(r"^\| ([^|]+) \|", rows, re.MULTILINE)
    assert set(re.findall(r"`([a-z_]+)`", " ".join(first))) == set(COMBINER_NAMES)


def test_the_notebook_prints_what_it_stores():
    """Run anew, in order, in one namespace; open it in Jupyter and run all to renew the outputs."""
    names: dict[str, object] = {}
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    with pl.Config():  # the notebook's own settings end with it
        for cell in cells:
            stored = "".join("".join(output["text"]) for output in cell["outputs"])
            assert run("".join(cell["source"]), names) == stored


def test_the_notebook_keeps_to_the_format():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | code


def test_what_notebooks_need_brings_neither_torch_nor_ray():
    program = (
        "import sys, penchant.ensembles.api as api; [getattr(api, name) for name in api.__all__]; "
        "print([name for name in ('torch', 'ray', 'transformers') if name in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (child.stdout, child.returncode) == ("[]\n", 0), child.stderr
