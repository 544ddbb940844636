"""The repository around the book: what is declared, what is committed, and the commands a reader types."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, copy_of_repository
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import chapters

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name != "rivals"}  # nothing needs those
CONDA_NAMES = {"pytorch-cpu": "torch", "pytorch": "torch", "matplotlib-base": "matplotlib"}
MIB = 2**20

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


def requirements(lines: list[str]) -> dict[str, Requirement]:
    stripped = (line.partition("#")[0].strip() for line in lines)
    return {canonicalize_name(r.name): r for r in map(Requirement, filter(None, stripped))}


@cache
def committed() -> tuple[Path, ...]:
    """Files of the repository: those under version control and new ones, without what it ignores."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    command = [git, "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


# Dependencies

PACKAGE_NEEDS = requirements(PROJECT["dependencies"])
BOOK_NEEDS = requirements((ROOT / "book/requirements.txt").read_text(encoding="utf-8").splitlines())
EXTRA_NEEDS = {name: requirements(lines) for name, lines in EXTRAS.items()}


def conda() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def test_environment_names_the_packages_of_the_project() -> None:
    listed = conda()["dependencies"]
    found = requirements([entry for entry in listed if isinstance(entry, str)])
    found = {CONDA_NAMES.get(name, name): str(requirement.specifier) for name, requirement in found.items()}
    assert found.pop("pip") == ""
    assert found.pop("python") == PROJECT["requires-python"]
    assert found == {name: str(requirement.specifier) for name, requirement in PACKAGE_NEEDS.items()}


def test_environment_brings_the_rest_by_pip() -> None:
    assert conda()["channels"] == ["conda-forge"]
    assert conda()["dependencies"][-1] == {"pip": ["-r book/requirements.txt", f"-e .[{','.join(sorted(EXTRAS))}]"]}


def test_no_package_is_required_in_two_ways() -> None:
    groups = [PACKAGE_NEEDS, BOOK_NEEDS, *EXTRA_NEEDS.values()]
    for position, group in enumerate(groups):
        for other in groups[position + 1 :]:
            for name in set(group) & set(other):    # the book's pin may be one of the versions that the package allows
                pin = str(BOOK_NEEDS[name].specifier).removeprefix("==")
                assert group is PACKAGE_NEEDS and other is BOOK_NEEDS and group[name].specifier.contains(pin), name


def test_book_pins_are_exact() -> None:
    assert BOOK_NEEDS and all(str(requirement.specifier).startswith("==") for requirement in BOOK_NEEDS.values())
    assert "torch" not in BOOK_NEEDS


def test_installed_versions_are_those_asked_for() -> None:
    for group in [PACKAGE_NEEDS, BOOK_NEEDS, *EXTRA_NEEDS.values()]:
        for name, requirement in group.items():
            version = importlib.metadata.version(name)
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, but {version} is installed"


def imported(source: str) -> set[str]:
    """Top-level names that a source imports, without those of Python itself and of this project."""
    found = set()
    for node in ast.walk(ast.parse(chapters.without_magics(source))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
    own = {path.stem for folder in ("book/tools", "tests") for path in (ROOT / folder).rglob("*.py")} | {"cdlm"}
    return found - set(sys.stdlib_module_names) - own


def undeclared(sources: list[str], declared: set[str]) -> set[str]:
    distributions = importlib.metadata.packages_distributions()
    names = set().union(*map(imported, sources))
    return {name for name in names if not declared & {canonicalize_name(d) for d in distributions.get(name, [name])}}


@pytest.mark.slow
def test_package_and_chapters_import_what_the_package_requires() -> None:
    modules = [path.read_text(encoding="utf-8") for path in (ROOT / "cdlm").rglob("*.py")]
    cells = [
        "\n".join(cell.source for cell in chapters.read_text(path).cells if cell.cell_type == "code")
        for path in chapters.chapters()
    ]
    # What runs in a notebook has IPython and its plotting backend. Sliders, Dask and ONNX Runtime are imported where they are
    # asked for, and the message where one is missing names its extra.
    optional = {"ipywidgets", "dask", "onnxruntime"}
    assert undeclared(modules + cells, set(PACKAGE_NEEDS)) <= {"IPython", "matplotlib_inline", "myst_nb"} | optional
    assert "dask" in EXTRA_NEEDS["cluster"] and "onnxruntime" in EXTRA_NEEDS["export"]
    assert "ipywidgets" in EXTRA_NEEDS["lab"]


def test_tools_import_what_is_declared() -> None:
    tools = [path.read_text(encoding="utf-8") for path in (ROOT / "book/tools").glob("*.py")]
    closure = {"nbformat", "pyyaml"}  # of jupytext and nbclient; of myst-parser
    extras = set(EXTRA_NEEDS["lab"]) | set(EXTRA_NEEDS["test"])  # `make ledger` runs tests
    assert undeclared(tools, set(PACKAGE_NEEDS) | extras | closure) == set()


def test_undeclared_imports_are_seen() -> None:
    source = "import os, sklearn.datasets\nfrom PIL import Image\n%matplotlib inline\nimport no_such_thing"
    assert imported(source) == {"sklearn", "PIL", "no_such_thing"}
    assert undeclared([source], {"scikit-learn"}) == {"PIL", "no_such_thing"}


# What is committed

# In halves, so that this file does not find itself.
PLACES = [
    "/home" + "/[a-z]", "/Users" + "/[A-Za-z]", "/ro" + "ot/", r"[A-Z]:\\" + r"\\?Users", "/tm" + "p/ipykernel", "/wo" + "rk/",
]
if len(ROOT.parts) > 2:
    PLACES.append(re.escape(str(ROOT) + os.sep))
MACHINE = re.compile("|".join(PLACES))
HARMLESS = re.compile("/home" + "/jovyan")  # the one user of mybinder.org


def test_no_path_of_a_machine_is_committed() -> None:
    found = []
    for path in committed():
        try:
            content = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path.suffix == ".ipynb":  # images are base64, which may spell anything
            content = re.sub(r'"image/png": "[^"]*"', "", content)
        found += [(path.name, match[0]) for match in MACHINE.finditer(HARMLESS.sub("", content))]
    assert found == []


def test_machine_paths_are_recognized() -> None:
    for path in ("/home" + "/ann/book", "/Users" + "/Ann", "C:" + r"\Users\Ann", str(ROOT / "cdlm")):
        assert MACHINE.search(f"see {path} there"), path
    for path in ("https://example.org/homepage", "book/src", "home/page", "users/a"):
        assert not MACHINE.search(path), path


def test_no_large_file_is_committed() -> None:
    assert [(path.name, path.stat().st_size) for path in committed() if path.stat().st_size > 2 * MIB] == []


def test_nothing_built_is_committed() -> None:
    parts = {part for path in committed() for part in path.relative_to(ROOT).parts}
    assert not parts & {"_build", "__pycache__", ".venv", ".ipynb_checkpoints", ".DS_Store"}
    runs = [path.relative_to(ROOT) for path in committed() if "runs" in path.relative_to(ROOT).parts]
    wanted = {("book/results/runs", ".json"), ("cdlm/runs", ".py"), ("tests/runs", ".py")}
    assert {(path.parent.as_posix(), path.suffix) for path in runs} <= wanted, "records and code, and no run"
    assert not [part for part in parts if part.endswith((".egg-info", ".pyc", ".pt", ".from-notebook"))]


def test_text_files_are_clean() -> None:
    """UTF-8, line ends of one kind, one at the end, no tabs but in the Makefile, no blanks at line ends."""
    for path in committed():
        if path.suffix in {".py", ".md", ".toml", ".yml", ".txt", ".bib", ".json"} or path.name == "Makefile":
            content = path.read_bytes().decode("utf-8")
            assert "\r" not in content, path
            assert content == "" or (content.endswith("\n") and not content.endswith("\n\n")), path
            assert path.name == "Makefile" or "\t" not in content, path
            assert path.suffix == ".md" or not re.search(r"[ \t]+$", content, flags=re.M), path


def test_one_address_of_the_repository() -> None:
    url = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    owner, name = url.rsplit("/", 2)[1:]
    # pages of the repository, and the services that open its notebooks from there
    pattern = re.compile(rf"(?:github\.com|githubusercontent\.com|colab\.research\.google\.com/github|/v2/gh)/([\w.-]+)/{name}\b")
    mentioned = set()
    for path in committed():
        if path.suffix in {".py", ".md", ".toml", ".yml", ".ipynb"}:
            mentioned |= set(pattern.findall(path.read_text(encoding="utf-8")))
    assert mentioned == {owner}


# Commands

DOCUMENTED = re.compile(r"^([a-z-]+):.*## (.+)$", flags=re.M)


def targets() -> tuple[set[str], dict[str, str]]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.search(r"^\.PHONY: (.+)$", makefile, flags=re.M)[1].split()), dict(DOCUMENTED.findall(makefile))


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


@needs_make
@pytest.mark.parametrize("arguments", [(), ("help",)], ids=["nothing", "help"])
def test_make_help_lists_every_target(arguments: tuple[str, ...]) -> None:
    phony, documented = targets()
    assert phony == set(documented)
    shown = make(*arguments)
    assert shown.returncode == 0
    assert {line.split()[0]: line.split(maxsplit=1)[1] for line in shown.stdout.splitlines()} == documented


@needs_make
@pytest.mark.parametrize("target", sorted(targets()[0]))
def test_every_target_can_be_made_where_the_path_has_spaces(target: str, tmp_path: Path) -> None:
    """The recipe is complete, and quotes nothing wrongly; `book` is really made by the tests of the book."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "book").mkdir()
    shutil.copy(ROOT / "book/requirements.txt", folder / "book")
    run = make("-n", target, "CHAPTER=20_vae", cwd=folder)
    assert run.returncode == 0, run.stderr
    assert str(folder) not in run.stdout  # relative paths only, which have no spaces
    assert not (folder / ".venv").exists()


@needs_make
def test_make_passes_on_what_the_reader_says() -> None:
    stamps = {f"--assume-old=.venv/{stamp}" for stamp in (".made", ".book", ".all")}
    for arguments, command in {
        ("sync", "DISCARD=20_vae"): 'book/tools/sync.py --discard "20_vae"',
        ("adopt", "CHAPTER=20_vae"): 'book/tools/sync.py --adopt "20_vae"',
        ("execute", "CHAPTER=20_vae", "FORCE=1"): 'book/tools/execute.py "20_vae" --force',
        ("chapter", "CHAPTER=58_priors"): 'book/tools/new_chapter.py "58_priors"',
        ("book-sphinx", "BOOK_ARGS=-W"): "-m sphinx -b html -W -c _build/sphinx -d _build/sphinx/doctrees book _build/sphinx/html",
        ("test", "VENV=other", "JOBS=3"): 'other/bin/python -m pytest -q -n 3 -m "not slow and not quiet"',
    }.items():
        if os.name == "nt":
            command = command.replace("/bin/", "/Scripts/")
        assert command in make("-n", *stamps, *arguments).stdout


@needs_make
def test_commands_in_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(re.findall(r"`[^`\n]+`|^```.*?^```", readme, flags=re.S | re.M))))
    assert named and named <= targets()[0]


def test_continuous_integration_runs_the_tests() -> None:
    script = ROOT / ".ci/run"
    assert os.name == "nt" or os.access(script, os.X_OK)
    content = script.read_text(encoding="utf-8")
    assert "make test-all" in content and "-m everything --everything" in content and "set -euo pipefail" in content


@pytest.mark.skipif(os.name == "nt", reason="a script for bash")
@pytest.mark.parametrize(("work", "minutes", "status", "said"), [
    ("echo '1 passed in 1.0s'", 80, 0, "without a record, tests of make test-everything; chapters on record"),
    ("echo 'PASSED a'; sleep 20", 0.02, 0, "the time was up in chapters in the book's size without a record: 1 passed before"),
    ("echo 'FAILED b'; sleep 20", 0.02, 124, ""), ("echo '1 failed in 1.0s'; exit 1", 80, 1, ""),
])  # fmt: skip
def test_continuous_integration_ends_in_time_and_says_how_far_it_came(
    work: str, minutes: float, status: int, said: str, tmp_path: Path
) -> None:
    """With a command in the place of pytest: what it says of chapters in the book's size that fail, pass or take too long."""
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for old, new in (("make test-all", "echo '5 passed in 2.0s'"), (".venv/bin/python -m pytest", f'bash -c "{work}"'),
                     (".venv/bin/python book/tools/verify.py --seconds", "echo 0"), ("command -v apt-get", "false"),
                     ("$((60 * ${CI_MINUTES:-50} - SECONDS))", f"{60 * minutes:.0f}")):
        assert old in script
        script = script.replace(old, new)
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/run").write_text(script)
    done = subprocess.run(["bash", tmp_path / ".ci/run"], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert said in done.stdout


def test_code_is_clean() -> None:
    """What `make lint` says."""
    folders = ["cdlm", "book/tools", "book/_ext", "tests", "figures"]
    run = subprocess.run([sys.executable, "-m", "ruff", "check", *folders], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


# Figures


@pytest.fixture(scope="module")
def redrawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which every figure was deleted and every script of figures/ was run."""
    copy = copy_of_repository(tmp_path_factory.mktemp("redrawn") / "book")
    for folder in ("figures", "book/_static"):
        for path in [*(copy / folder).rglob("*.svg"), *(copy / folder).rglob("*.png")]:
            path.unlink()
    for script in sorted((copy / "figures").glob("*.py")):
        subprocess.run([sys.executable, script], cwd=copy, timeout=600)
    return copy


def drawn() -> list[Path]:
    files = [path for folder in ("figures", "book/_static") for path in sorted((ROOT / folder).rglob("*"))]
    return [path for path in files if path.suffix in (".svg", ".png")]


def scripts() -> set[str]:
    return {path.stem for path in (ROOT / "figures").glob("*.py")}


@pytest.mark.slow
@pytest.mark.parametrize("path", drawn(), ids=lambda path: path.name)
def test_every_drawing_is_what_its_script_draws(path: Path, redrawn: Path) -> None:
    again = redrawn / path.relative_to(ROOT)
    assert again.exists(), "no script draws this"
    made_by = re.search(rb"Matplotlib v([\d.]+)", path.read_bytes())
    if made_by and path.stem in scripts() and made_by[1].decode() != importlib.metadata.version("matplotlib"):
        pytest.skip("drawn with another version of Matplotlib")
    assert again.read_bytes() == path.read_bytes()
