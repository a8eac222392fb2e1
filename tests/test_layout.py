"""Guards of the house plan: where files stand, what they may import, what the tree may say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__: list[str] = []

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("platform", "trainers", "ensembles", "serve", "cli")
MODULES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = [Requirement(line) for line in PROJECT["dependencies"]]
DEV = [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]
MAX_LINES = 300

# Written so that no pattern matches its own source.
FORBIDDEN_TEXT = {
    "a path of one machine": re.compile(r"(^|[^A-Za-z0-9_.])/(work|farm|tmp/lab|root)/"),
    "a host of a package registry": re.compile(
        r"pypi[.]org|files[.]pythonhosted|registry[.]npmjs|deb[.]debian[.]org"
    ),
}
SKIPPED_TEST = re.compile(r"pytest[.](skip|mark[.](skip|xfail))|importor[s]kip")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree() -> list[Path]:
    """Files that git tracks or would track, relative to the root; deleted ones are left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return sorted(Path(name) for name in set(names.split("\0")) if (ROOT / name).is_file())


def texts() -> Iterator[tuple[Path, str]]:
    """Text files of the tree; a file with a NUL byte counts as binary, as it does for git grep."""
    for path in tree():
        content = (ROOT / path).read_bytes()
        if b"\0" not in content and path.suffix != ".lock":
            yield path, content.decode("utf-8")


def hits(pattern: re.Pattern[str], files: Iterator[tuple[Path, str]]) -> list[str]:
    """Places where a pattern stands, as `path:line: text`."""
    return [
        f"{path}:{number}: {line.strip()}"
        for path, text in files
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def imported(source: str) -> set[str]:
    """Every module that a source imports, at any depth, inside functions and type checks too.

    `from a.b import c` counts as `a.b.c`, since c may be a module.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=module, names=names, level=level):
                prefix = "." * level + (f"{module}." if module else "")
                found |= {prefix + alias.name for alias in names}
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                found.add(name)
    return found


def misdirected(floor: str, source: str) -> set[str]:
    """Imports that leave the house plan: upwards, relative, or past the import package."""
    lower = FLOORS[: FLOORS.index(floor) + 1]
    bad = set()
    for name in imported(source):
        top, _, rest = name.partition(".")
        upwards = top == "penchant" and rest.split(".")[0] not in lower
        # `import platform` is the standard library's, and stays allowed.
        bare = top in FLOORS[1:] or name.startswith("platform.") and _is_module_of_ours(name)
        if top == "" or upwards or bare:
            bad.add(name)
    return bad


def _is_module_of_ours(name: str) -> bool:
    return (ROOT / Path(*name.split(".")[:2])).with_suffix(".py").is_file()


def exported(module: ast.Module) -> list[str] | None:
    """The names in `__all__`, or None where a module has none."""
    for node in module.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="__all__")], value=value)
                | ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value)
            ):
                names: list[str] = ast.literal_eval(value)
                return names
    return None


def defined(body: list[ast.stmt]) -> set[str]:
    """Names that statements bind at module level, inside `if`, `try` and `with` too."""
    names: set[str] = set()
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.ClassDef(name=name):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {alias.asname or alias.name for alias in aliases}
            case ast.If() | ast.Try() | ast.With():
                for part in ("body", "orelse", "finalbody"):
                    names |= defined(getattr(node, part, []))
            case _:
                stores = (n for n in ast.walk(node) if isinstance(n, ast.Name))
                names |= {n.id for n in stores if isinstance(n.ctx, ast.Store)}
    return names


def make_targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, flags=re.MULTILINE))


def mentioned_targets(markdown: str) -> set[str]:
    """Targets of `make` commands in code blocks and code spans; "make sure" in prose is none."""
    spans = re.findall(r"`([^`\n]+)`", markdown)
    blocks = re.findall(r"```.*?```", markdown, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    found: set[str] = set()
    for text in spans + lines:
        if command := re.match(r"\s*(?:\$ )?make ([^#;&|]+)", text):
            found |= {word for word in command[1].split() if "=" not in word and word != "..."}
    return found


def test_the_floors_are_no_real_packages_so_none_shadows_a_module() -> None:
    assert [relative(path) for path in MODULES if path.name == "__init__.py"] == []
    assert not (ROOT / "penchant").exists()


def test_a_process_started_in_the_root_finds_the_standard_librarys_platform() -> None:
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONSAFEPATH"}
    program = "import platform, uuid, polars; print(platform.system())"
    command = [sys.executable, "-c", program]
    child = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout.strip()


def test_no_module_has_the_name_of_a_stdlib_module_or_a_dependency() -> None:
    taken = set(sys.stdlib_module_names) | {dependency.name for dependency in DEPENDENCIES}
    assert [relative(path) for path in MODULES if path.stem in taken] == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_point_downwards_only(path: Path) -> None:
    assert misdirected(path.relative_to(ROOT).parts[0], path.read_text()) == set()


@pytest.mark.parametrize(
    ("floor", "source", "bad"),
    [
        ("trainers", "from penchant.platform.schema import ITEM", set()),
        ("trainers", "from penchant.trainers.fit import fit", set()),
        ("platform", "import platform\nfrom platform import system", set()),
        ("platform", "from ray import serve", set()),
        ("platform", "import penchant.trainers.fit", {"penchant.trainers.fit"}),
        ("trainers", "def f():\n    from penchant import serve", {"penchant.serve"}),
        ("serve", "importlib.import_module('penchant.cli.main')", {"penchant.cli.main"}),
        ("cli", "from serve import app", {"serve.app"}),
        ("cli", "from platform.errors import RunError", {"platform.errors.RunError"}),
        ("cli", "from . import main", {".main"}),
    ],
)
def test_the_import_guard_sees_every_way_upwards(floor: str, source: str, bad: set[str]) -> None:
    assert misdirected(floor, source) == bad


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_exports_only_names_that_it_defines(path: Path) -> None:
    module = ast.parse(path.read_text())
    names = exported(module)
    assert names is not None, "add __all__, the names that other modules may import"
    assert set(names) - defined(module.body) == set()
    assert len(names) == len(set(names))


def test_no_file_is_longer_than_300_lines() -> None:
    lines = {relative(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: n for path, n in lines.items() if n > MAX_LINES} == {}


@pytest.mark.parametrize("what", FORBIDDEN_TEXT)
def test_the_tree_names_nothing_that_only_one_machine_has(what: str) -> None:
    assert hits(FORBIDDEN_TEXT[what], texts()) == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    assert hits(SKIPPED_TEST, (file for file in texts() if file[0].parts[0] == "tests")) == []


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    for wanted in [*DEPENDENCIES, *DEV]:
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), str(wanted)
    # A local suffix would shut out either the CPU builds or the CUDA builds of torch.
    assert [version for version in pins.values() if "+" in version] == []


def test_every_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs/dependencies.md").read_text()
    assert [d.name for d in [*DEPENDENCIES, *DEV] if f"| `{d.name}` |" not in reasons] == []


def test_every_data_package_is_pinned_with_its_hash() -> None:
    text = (ROOT / "requirements-demo.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) == 4
    assert all(re.fullmatch(r"\S+==\S+ +--hash=sha256:[0-9a-f]{64}", line) for line in lines)


def test_the_target_guard_reads_commands_and_not_prose() -> None:
    block = "```sh\n$ make demo  # a run\nmake PYTHON=x test\n```\n"
    text = "make sure\n\n`make lint types`, `make`\n" + block
    assert mentioned_targets(text) == {"lint", "types", "demo", "test"}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_that_a_page_mentions_exists(page: str) -> None:
    targets = make_targets((ROOT / "Makefile").read_text())
    assert mentioned_targets((ROOT / page).read_text()) - targets == set()


def test_the_wheel_holds_every_module_and_nothing_outside_the_import_package(
    tmp_path: Path,
) -> None:
    # Built from a copy: a build in the root would pick up what older builds left there.
    for path in tree():
        copy = tmp_path / "source" / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / path).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    build = subprocess.run(command, cwd=tmp_path / "source", capture_output=True, text=True)
    assert build.returncode == 0, build.stdout + build.stderr
    (wheel,) = (tmp_path / "source" / "dist").glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    data = {path for floor in FLOORS for path in (ROOT / floor).rglob("*.html.j2")}
    page = {path for path in (ROOT / "serve/routes/console").iterdir() if path.suffix != ".py"}
    typed = {ROOT / floor / "py.typed" for floor in FLOORS}
    wanted = {*MODULES, *data, *page, *typed}
    assert names == {f"penchant/{relative(path)}" for path in wanted}
