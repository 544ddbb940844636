"""Every notebook in an environment that has nothing but Jupyter's kernel, installed by its own first cell.

One fresh environment for each group of chapters, in the smallest size. The address in the install cell leads to a copy of this
repository here; the packages come from where pip finds them, and without them the tests are skipped, with pip's reason.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import ROOT, copy_of_repository
from nbclient import NotebookClient

from chapters import chapters

URL = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
GROUPS = {"tools": ("00", "01", "02", "03"), "the_model": ("1", "2", "3", "4"), "theory": ("5",), "practice": ("6",),
          "engine": ("70", "71", "72", "73", "74", "75", "76"), "methods": ("77", "78"), "experiments": ("79", "80", "81", "82"),
          "inside": ("83", "84", "85"), "use": ("86", "87", "88", "89", "9")}


def group_of(name: str) -> list[str]:
    """The group or groups that a chapter is in."""
    return [group for group, starts in GROUPS.items() if name.startswith(starts)]


def reads_records(notebook: nbformat.NotebookNode) -> bool:
    """Whether a chapter needs the folder of records beside it, by what it was seen to read."""
    return any(place.startswith("book/results") for place in notebook.metadata.cdlm.get("reads", {}))


def test_every_chapter_is_in_one_group() -> None:
    assert [text.stem for text in chapters() if len(group_of(text.stem)) != 1] == []


def test_the_page_for_teachers_names_the_chapters_that_need_no_records() -> None:
    text = (ROOT / "book/teaching.md").read_text(encoding="utf-8")
    named = text.split("run from their notebook alone: ")[1].split(".")[0]
    alone = [path.stem[:3].rstrip("_") for path in chapters()
             if not reads_records(nbformat.read(ROOT / f"book/{path.stem}.ipynb", as_version=4))]
    assert named.split(", ") == alone


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository, under version control, from which pip can install."""
    copy = copy_of_repository(tmp_path_factory.mktemp("published") / "repository")
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words], cwd=copy, check=True)
    return copy


def environment(repository: Path, kernels: Path) -> dict[str, str]:
    """Variables under which the address of the book leads to the copy, and nothing of this environment is seen."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "VIRTUAL_ENV", "CDLM"))}
    redirected = {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf", "GIT_CONFIG_VALUE_0": URL,
                  "GIT_CONFIG_KEY_1": "safe.directory", "GIT_CONFIG_VALUE_1": "*"}
    return kept | redirected | {"CDLM_PROFILE": "smoke", "JUPYTER_PATH": str(kernels), "MPLBACKEND": "agg"}


def fresh(folder: Path, variables: dict[str, str]) -> Path:
    """A new environment with Jupyter's kernel, as a kernel called ``bare``; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / Path(sys.executable).parent.name / Path(sys.executable).name
    python = python if python.exists() else python.with_name("python")
    done = subprocess.run([python, "-m", "pip", "install", "-q", "ipykernel<7"], env=variables, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip finds no packages here: {done.stderr.strip().splitlines()[-1][:200]}")
    spec = folder / "kernels/kernels/bare"
    spec.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "bare", "language": "python"}), encoding="utf-8")
    return python


@pytest.mark.slow
@pytest.mark.everything
@pytest.mark.skipif(shutil.which("git") is None, reason="the install cell installs by git")
@pytest.mark.parametrize("group", GROUPS)
def test_chapters_run_where_only_their_install_cell_has_run(
    group: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = environment(repository, tmp_path / "kernels")
    python = fresh(tmp_path, variables)
    try:
        run_group(group, python, variables, tmp_path, monkeypatch)
    finally:
        shutil.rmtree(tmp_path / "venv")    # gigabytes, which pytest would keep until three more times


def run_group(group: str, python: Path, variables: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the chapters of a group one after the other; the first installs what all of them need."""
    assert subprocess.run([python, "-c", "import cdlm"], cwd=folder, env=variables, capture_output=True).returncode == 1
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "kernels"))
    failed = {}
    for text in chapters():
        if group_of(text.stem) != [group]:
            continue
        place = folder / text.stem
        place.mkdir()
        notebook = nbformat.read(ROOT / f"book/{text.stem}.ipynb", as_version=4)
        if reads_records(notebook):
            shutil.copytree(ROOT / "book/results", place / "results")
        client = NotebookClient(notebook, timeout=3600, kernel_name="bare", resources={"metadata": {"path": str(place)}})
        try:
            client.execute(env=variables)
        except Exception as error:  # whatever a cell raises
            failed[text.stem] = str(error)[-600:]
    assert failed == {}
    words = [python, "-c", "import cdlm; print(cdlm.__file__)"]
    found = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True)
    assert str(folder / "venv") in found.stdout
