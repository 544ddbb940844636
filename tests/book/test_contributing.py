"""What meets those who want to change something: recipes, forms, hooks, and the guards around Jupyter Book."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote

import new_chapter
import pytest
import sphinx_conf
import test_notebooks
import yaml
from conftest import ROOT

import chapters

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))

needs_make = pytest.mark.skipif(shutil.which("make") is None or os.name == "nt", reason="no make on this machine")


def commands(text: str) -> list[str]:
    """Lines of blocks of shell commands, and what stands between single backticks."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", text, flags=re.S | re.M)
    return [line for block in blocks for line in block.splitlines()] + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def made(lines: list[str]) -> set[str]:
    """Targets of make among commands."""
    words = [re.sub(r"#.*", "", line).split()[1:] for line in lines if re.match(r" *make\b", line)]
    return {word for line in words for word in line if re.fullmatch(r"[a-z-]+", word)}


# The guide


def test_commands_in_the_guide_exist() -> None:
    named = made(commands(GUIDE) + commands((ROOT / "book/contributing.md").read_text(encoding="utf-8")))
    assert {"sync", "check", "ready", "chapter", "book-sphinx"} <= named <= TARGETS


def test_targets_are_found_in_commands() -> None:
    assert made(["make sync check  # both", "  make chapter CHAPTER=58_x", "makes much", "$ make"]) == {"sync", "check", "chapter"}


def test_tests_in_the_guide_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", GUIDE))
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    defined = set(re.findall(r"^def (test_\w+)", "\n".join(tests), flags=re.M))
    assert len(named) > 20 and named - defined == set()


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md", "README.md"])
def test_links_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert links and [link for link in links if not (ROOT / unquote(link)).exists()] == []


def test_the_guide_has_the_five_recipes_each_with_time_and_files() -> None:
    for title in ("Fix a typo", "Add a method", "Add a data set", "Add a chapter", "Add a record"):
        recipe = re.search(rf"^## {title}\n\n(.+?)^## ", GUIDE, flags=re.S | re.M)[1]
        assert re.match(r"\*.+Files?: .+\*", recipe) and "```bash" in recipe, title


def test_the_readme_leads_to_the_guide() -> None:
    assert "](CONTRIBUTING.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


# A new chapter


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    path = tmp_path / "58_prior_knowledge.md"
    path.write_text(new_chapter.skeleton(path.stem), encoding="utf-8")
    return path


def test_a_skeleton_has_the_form_of_a_chapter(skeleton: Path) -> None:
    for test in ("chapters_have_the_parts_that_readers_expect", "chapters_have_exercises", "code_cells_are_short",
                 "every_exercise_has_one_folded_solution", "links_between_chapters_name_notebooks_that_exist"):  # fmt: skip
        getattr(test_notebooks, f"test_{test}")(skeleton)
    cells = [chapters.generate(text).cells for text in (skeleton, chapters.chapters("20_vae")[0])]
    installs = [next(cell for cell in found if cell.cell_type == "code") for found in cells]
    assert installs[0] == installs[1]
    assert chapters.to_text(chapters.read_text(skeleton)) == skeleton.read_text(encoding="utf-8")
    assert skeleton.read_text(encoding="utf-8").count("# Prior knowledge\n") == 1


def test_no_chapter_is_a_skeleton(skeleton: Path) -> None:
    assert "TODO" in test_notebooks.prose(skeleton)
    assert [text.stem for text in chapters.chapters() if "TODO" in test_notebooks.prose(text)] == []


@pytest.mark.parametrize("name, before", [("58_priors", r"5\d_\w+"), ("21_b", "20_vae"), ("99_z", r"9\d_\w+")])
def test_a_new_chapter_is_listed_after_the_one_before_it(name: str, before: str) -> None:
    toc = (ROOT / "book/_toc.yml").read_text(encoding="utf-8")
    new = new_chapter.listed(toc, name)
    lines = new.splitlines()
    place = lines.index(f"      - file: {name}")
    assert re.fullmatch(rf"      - file: {before}", lines[place - 1])
    assert "\n".join(lines[:place] + lines[place + 1 :]) + "\n" == toc
    numbered = re.findall(r"file: (\d\d[a-z]?_\w+)", new)
    assert numbered == sorted(numbered)


def test_a_name_that_is_wrong_or_taken_is_refused_and_nothing_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_chapter, "write_atomically", lambda *_: pytest.fail("written"))
    for name in ("", "priors", "5_priors", "58", "58_Priors", "58-priors", "58B_priors", "58bc_x", "00_x", "../58_x", "58_x.md"):
        with pytest.raises(chapters.ChapterError, match="is no name for a chapter"):
            new_chapter.add(name)
    with pytest.raises(chapters.ChapterError, match="20_vae has this number already"):
        new_chapter.add("20_bees")
    command = [sys.executable, ROOT / "book/tools/new_chapter.py", "20_bees"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (1, "error: 20_vae has this number already; take a free one\n")


@pytest.mark.slow
def test_a_new_chapter_is_written_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "book/_toc.yml", tmp_path)
    whole = new_chapter.skeleton("58_priors")
    monkeypatch.setattr(new_chapter, "SOURCE", tmp_path / "src")
    monkeypatch.setattr(new_chapter, "BOOK", tmp_path)
    new_chapter.add("58_priors")
    assert (tmp_path / "src/58_priors.md").read_text(encoding="utf-8") == whole
    new_chapter.add("58b_posteriors")
    toc = (tmp_path / "_toc.yml").read_text(encoding="utf-8")
    assert "- file: 58_priors\n      - file: 58b_posteriors\n" in toc


# Sphinx alone; that the pages are the same is tested with the built book


def test_a_conf_for_sphinx_follows_from_the_settings(tmp_path: Path) -> None:
    found = sphinx_conf.settings(CONFIG, "../book")
    assert found["html_title"] == found["project"] == CONFIG["title"]
    assert found["bibtex_bibfiles"] == ["../book/references.bib"] and found["html_logo"] == "../book/_static/logo.svg"
    assert set(CONFIG["sphinx"]["extra_extensions"]) | {"cdlm_book", "myst_nb"} <= set(found["extensions"])
    assert "jupyter_book" not in found["extensions"]
    scripts, styles = ([path.name for path in sorted((ROOT / "book/_static").glob(f"*.{kind}"))] for kind in ("js", "css"))
    own = CONFIG["sphinx"]["config"]
    assert found["html_js_files"] == own["html_js_files"] + scripts and found["html_css_files"] == styles and scripts and styles
    assert {name: found[name] for name in own} == own | {"html_js_files": found["html_js_files"]}
    assert found["html_theme_options"]["repository_url"] == CONFIG["repository"]["url"]
    script = {}
    before = list(sys.path)
    exec(sphinx_conf.conf(ROOT / "book"), script | {"__file__": str(ROOT / "book/conf.py")}, script)
    added, sys.path[:] = [path for path in sys.path if path not in before], before
    assert [Path(path).resolve() for path in added] in ([ROOT / "book/_ext"], [])
    assert script["html_static_path"] == ["./_static"] and script["nb_execution_mode"] == "off"


@pytest.mark.parametrize("change", [{"latex": {"latex_engine": "xelatex"}}, {"html": {"announcement": "News"}}, {"titel": "x"}])
def test_a_setting_that_is_not_known_is_refused_by_name(change: dict) -> None:
    key, value = next(iter(change.items()))
    name = f"{key}.{next(iter(value))}" if key == "html" else key
    with pytest.raises(ValueError, match=f"{name!r} is not known to book/tools/sphinx_conf.py"):
        sphinx_conf.settings({**CONFIG, **change}, ".")


# Jupyter Book 2 in the place of 1.x


@needs_make
@pytest.mark.parametrize("says, fine", [("v2.1.7", False), ("Jupyter Book      : 1.0.4.post1\nMyST-NB : 1.4.0", True),
                                        ("Jupyter Book      : 2.0.0", False), ("", False)])  # fmt: skip
def test_make_book_stops_at_another_jupyter_book(says: str, fine: bool, tmp_path: Path) -> None:
    program = tmp_path / ".venv/bin/jupyter-book"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{says}" || echo "built by $*"\n')
    program.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VENV"))}
    run = subprocess.run(["make", "book", "--assume-old=.venv/.book", "--assume-old=.venv/.made"], cwd=tmp_path,
                         env=environment, capture_output=True, text=True, timeout=60)  # fmt: skip
    assert (run.returncode == 0) == ("built by build" in run.stdout) == fine
    assert fine or run.stderr.startswith(f"This book needs Jupyter Book 1.x, not {says}: say .venv/bin/python -m pip install -r")


def test_a_file_stops_jupyter_book_2() -> None:
    """In the form that was tried: version 2 wants to extend a file that is not there, and says its name."""
    content = (ROOT / "myst.yml").read_text(encoding="utf-8")
    guard = yaml.safe_load(content)
    assert set(guard) == {"version", "extends"} and guard["version"] == 1 and len(guard["extends"]) == 1
    assert guard["extends"][0].startswith("this book is built by Jupyter Book 1.x") and "requirements.txt" in guard["extends"][0]
    assert not (ROOT / guard["extends"][0]).exists()
    assert re.search(r"Tried with\n# Jupyter Book 2\.\d+\.\d+:", content) and "_config.yml" in content


@pytest.mark.slow
@pytest.mark.parametrize("version, says", [("2.1.7", "2.1.7, which cannot build this book: pip install -r"), ("1.0.3", "1.0.3\n")])
def test_doctor_knows_the_wrong_jupyter_book(version: str, says: str, tmp_path: Path) -> None:
    found = tmp_path / f"jupyter_book-{version}.dist-info"
    found.mkdir()
    (found / "METADATA").write_text(f"Metadata-Version: 2.1\nName: jupyter-book\nVersion: {version}\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    run = subprocess.run([sys.executable, "-m", "cdlm", "doctor"], env=environment, capture_output=True, text=True, timeout=300)
    assert re.search(rf"^  jupyter-book +{re.escape(says)}", run.stdout, flags=re.M), run.stdout + run.stderr


# Files that others read


def test_citation_says_who_what_and_where() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)                          # what the format requires
    assert (cited["version"], cited["repository-code"]) == (PROJECT["version"], CONFIG["repository"]["url"])
    assert cited["authors"] == [{"name": CONFIG["author"]}]
    paper = cited["references"][0]
    bibliography = (ROOT / "book/references.bib").read_text(encoding="utf-8")
    entry = re.search(r"^@article\{hou2022cdlm,(.*?)^\}", bibliography, flags=re.S | re.M)[1]
    people = " and ".join(f"{person['family-names']}, {person['given-names']}" for person in paper["authors"])
    assert paper["title"] in entry and people in entry and paper["url"] in entry and paper["year"] == 2022


def test_changelog_has_its_form() -> None:
    content = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert content.startswith("# Changelog\n") and "keepachangelog.com" in content
    headings = re.findall(r"^## (.+)$", content, flags=re.M)
    assert headings[0] == "Unreleased" and all(re.match(r"\[?\d+\.\d+\.\d+\]? - \d{4}-\d\d-\d\d", line) for line in headings[1:])
    assert set(made(commands(content))) <= TARGETS


def forms() -> list[Path]:
    return sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


def test_there_are_two_forms() -> None:
    assert [path.stem for path in forms()] == ["number-does-not-reproduce", "wrong-statement"]
    config = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/config.yml").read_text(encoding="utf-8"))
    assert all(set(link) == {"name", "url", "about"} for link in config["contact_links"])


@pytest.mark.parametrize("path", forms(), ids=lambda path: path.stem)
def test_a_form_is_one_that_github_reads(path: Path) -> None:
    """By its rules for forms: name, description and body; fields with an id of their own and a label; choices that differ."""
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form) <= {"name", "description", "title", "labels", "body"}
    names = [field["id"] for field in form["body"]]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[\w-]+", name) for name in names)
    for field in form["body"]:
        assert field["type"] in {"input", "textarea", "dropdown"} and set(field) <= {"type", "id", "attributes", "validations"}
        assert field["attributes"]["label"] and set(field["validations"]) == {"required"}
        options = field["attributes"].get("options", [])
        assert bool(options) == (field["type"] == "dropdown") and len(set(options)) == len(options)
        assert field["type"] == "textarea" or "render" not in field["attributes"]


def test_hooks_are_commands_of_this_project() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert made([hook["entry"] for hook in hooks]) == {"lint", "check"} and {"lint", "check"} <= TARGETS
    assert all(hook["language"] == "system" and hook["pass_filenames"] is False for hook in hooks)


def test_the_container_makes_the_environment() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    lowest = re.search(r"[\d.]+", PROJECT["requires-python"])[0]
    assert container["image"].startswith(f"python:{lowest}")
    target = container["postCreateCommand"].removeprefix("make .venv/")
    assert f"\n$(VENV)/{target}: " in (ROOT / "Makefile").read_text(encoding="utf-8")
