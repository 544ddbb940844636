"""The address of the repository: whether it is set, setting it, and that no chapter is run again because of it."""

from __future__ import annotations

from pathlib import Path

import fingerprint
import publish
import pytest
from address import PLACEHOLDER, is_placeholder, without_address
from conftest import ROOT, copy_of_repository
from disk import ChapterError
from nbformat.v4 import new_code_cell, new_notebook

NEW = "https://github.com/ann/her-book"
INSTALL = 'import importlib.util\nif importlib.util.find_spec("cdlm") is None:\n    %pip install -q "cdlm @ git+{}"'


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Those texts that name the address."""
    for path in [*publish.mentions(publish.address())]:
        to = tmp_path / path.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(path.read_bytes())
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    return tmp_path


def test_without_an_address_it_says_how_to_set_one(copy: Path) -> None:
    if not is_placeholder(publish.address()):
        pytest.skip("this book has an address")
    assert "placeholder" in publish.report()[0] and any("make publish-check ADDRESS=" in line for line in publish.report())


def test_an_address_is_set_in_all_texts(copy: Path) -> None:
    before = len([*publish.mentions(publish.address())])
    assert publish.set_address(NEW + ".git") == before > 30
    assert publish.address() == NEW and publish.report() == []
    for place in ("_config.yml", "CITATION.cff", "CONTRIBUTING.md", "book/src/20_vae.md", ".github/ISSUE_TEMPLATE/config.yml"):
        text = (copy / place).read_text(encoding="utf-8")
        assert NEW in text and PLACEHOLDER not in text, place
    assert publish.set_address(NEW) == 0


def test_what_still_has_the_placeholder_is_named(copy: Path) -> None:
    publish.set_address(NEW)
    (copy / "README.md").write_text(f"See {PLACEHOLDER}.\n", encoding="utf-8")
    assert publish.report() == [f"README.md still has the placeholder {PLACEHOLDER}"]


@pytest.mark.parametrize("wrong", ["github.com/ann/book", "https://example.org/ann/book", "https://github.com/ann", ""])
def test_what_is_no_address_is_refused(wrong: str, copy: Path) -> None:
    with pytest.raises(ChapterError, match="is no address like"):
        publish.set_address(wrong)
    assert publish.address() == publish.SETTING.search((ROOT / "_config.yml").read_text(encoding="utf-8"))[1]


def test_an_address_makes_no_chapter_stale_and_another_package_does() -> None:
    def hashed(line: str) -> str:
        notebook = new_notebook(cells=[new_code_cell(line), new_code_cell("print(1)")])
        return fingerprint.code_hash(notebook, fingerprint.code_room(notebook))
    assert hashed(INSTALL.format(NEW)) == hashed(INSTALL.format(PLACEHOLDER))
    assert hashed(INSTALL.format(NEW).replace("cdlm @", "other @")) != hashed(INSTALL.format(NEW))
    assert without_address("%pip install numpy") == "%pip install numpy"


@pytest.mark.parametrize("url", [PLACEHOLDER, NEW])
def test_buttons_are_shown_only_where_they_work(url: str) -> None:
    import cdlm_book

    class Config:
        html_theme_options = {"repository_url": url, "launch_buttons": {"colab_url": "x"}, "use_repository_button": True}

    cdlm_book.show_only_buttons_that_work(None, Config)
    assert bool(Config.html_theme_options["launch_buttons"]) is Config.html_theme_options["use_repository_button"] is (url == NEW)


def test_the_copy_of_a_repository_has_the_tool(tmp_path: Path) -> None:
    """It runs with the standard library alone, as `make publish-check` runs it."""
    import subprocess
    import sys

    book = copy_of_repository(tmp_path / "book")
    run = subprocess.run([sys.executable, "-S", book / "book/tools/publish.py"], capture_output=True, text=True)
    assert "Error" not in run.stderr and run.returncode == (1 if is_placeholder(publish.address()) else 0), run.stderr
