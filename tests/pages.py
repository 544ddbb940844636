"""A few pages of the book as a book of their own, and the browser in which tests look at pages."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = """--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking --disable-component-update
--disable-sync --no-first-run --no-default-browser-check""".split()

in_a_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or importlib.util.find_spec("playwright") is None, reason="no Chromium or no playwright"),
]


def built_alone(root: Path, *files: str) -> Path:
    """The pages in the book's dress, built below ``root`` from files of ``book/``; links to other chapters lead nowhere."""
    root.mkdir(exist_ok=True)
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copytree(ROOT / "figures", root / "figures")
    others = shutil.ignore_patterns("__pycache__", "src", "measurements", "runs", "*.ipynb", "*.md")
    shutil.copytree(ROOT / "book", root / "book", ignore=others)
    for file in files:
        shutil.copy(ROOT / "book" / file, root / "book")
    (root / "book/_ext/old_pages.toml").write_text("", encoding="utf-8")       # no page was moved here
    first, *rest = [Path(file).stem for file in files]
    chapters = "chapters:\n" + "".join(f"  - file: {name}\n" for name in rest) if rest else ""
    (root / "book/_toc.yml").write_text(f"format: jb-book\nroot: {first}\n{chapters}", encoding="utf-8")
    command = [Path(sys.executable).parent / "jupyter-book", "build", "book/"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return root / "_build/html"
