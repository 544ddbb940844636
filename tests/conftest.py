"""What several test files share: small books in temporary folders, and copies of this one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from joblib import cpu_count
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[1]

# One thread, here and in what the tests start: results do not depend on the number of cores, and on a machine with other
# work to do two threads spend most of their time waiting for each other. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts `make test &` from a script has SIGINT ignored, here and in all that the tests start: interrupts that
# tests send would not be heard. With a handler of its own a process passes on the usual behavior.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No example has to end in a given time: how long it takes is the machine's affair. Continuous integration draws the same ones
# each time. Profiles without a time limit stay: Hypothesis has one for integration, the planted errors have their own.
settings.register_profile("patient", deadline=None, derandomize="CI" in os.environ)
if settings.default.deadline is not None:
    settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--everything", action="store_true", help="run chapters in the book's size even where that is on record, "
                     "and what takes an hour")


def pytest_xdist_auto_num_workers() -> int:
    """One for each core that this process may use; more than eight would spend their time importing torch."""
    return min(cpu_count(), 8)


@cache
def makes_once(file: str) -> bool:
    """Whether a file of tests, named as from the root, makes something once for several of its tests."""
    path = ROOT / file
    return path.is_file() and re.search(r"scope=.(module|session)", path.read_text(encoding="utf-8")) is not None


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Tests go to the processes one by one, but those of a file that makes something once stay together."""
    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if makes_once(file) else nodeid

    config.option.loadscopereorder = False                      # in the order of their collection, which is ours
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no core waits for it at the end."""
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, not makes_once(item.nodeid.partition("::")[0])))
    skip_where_there_is_no_gpu(items)
    for item in items:
        if item.get_closest_marker("everything") and not item.config.getoption("--everything"):
            item.add_marker(pytest.mark.skip(reason="installs, prints or looks through everything: only by make test-everything"))


def skip_where_there_is_no_gpu(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no GPU here that torch can use by CUDA"))


HEADER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---
"""
MODULES = '[modules]\n"low" = "The ground."\n"room.middle" = "A floor in a room."\n"high" = "The roof."\n'
PROJECT = '[project]\nname = "cdlm"\nversion = "0.1.0"\n'


def code(source: str, *tags: str) -> str:
    """A code cell of a chapter's text."""
    options = ":tags: [" + ", ".join(f"'{tag}'" for tag in tags) + "]\n\n" if tags else ""
    return f"```{{code-cell}}\n{options}{source.strip()}\n```"


@dataclass
class House:
    """A repository with the real tools and only those chapters that a test writes."""

    root: Path

    @property
    def book(self) -> Path:
        return self.root / "book"

    @property
    def package(self) -> Path:
        return self.root / "cdlm"

    def write(self, chapter: str, *cells: str) -> Path:
        path = self.book / "src" / f"{chapter}.md"
        path.write_text(HEADER + "\n" + "\n\n".join([f"# Chapter {chapter}", *cells]) + "\n", encoding="utf-8")
        return path

    def notebook(self, chapter: str) -> Path:
        return self.book / f"{chapter}.ipynb"

    def tool(self, name: str, *arguments: str) -> subprocess.CompletedProcess:
        """Run one of the tools as a reader does, from the command line."""
        command = [sys.executable, self.book / "tools" / f"{name}.py", *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, timeout=600)

    def module_of(self, name: str) -> str:
        return self.package.joinpath(*name.split(".")).with_suffix(".py").read_text(encoding="utf-8")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """An empty house: the tools work on it in this process and as commands."""
    import check
    import execute
    import export
    import sync
    import verified
    import verify

    import chapters

    new = House(tmp_path / "a house")
    (new.book / "src").mkdir(parents=True)
    (new.book / "results").mkdir()
    new.package.mkdir()
    shutil.copytree(ROOT / "book/tools", new.book / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "book/jupytext.toml", new.book)
    (new.book / "tools/modules.toml").write_text(MODULES, encoding="utf-8")
    (new.root / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    places = {"ROOT": new.root, "BOOK": new.book, "SOURCE": new.book / "src", "PACKAGE": new.package}
    for tool in (chapters, check, execute, export, sync, verified, verify):
        for name, place in places.items():
            if hasattr(tool, name):
                monkeypatch.setattr(tool, name, place)
    return new


def copy_of_repository(target: Path) -> Path:
    """What a checkout holds, without version control, environments and built files."""
    left_out = (".git", ".venv*", "_build", "build", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
    built = shutil.ignore_patterns(*left_out, ".ipynb_checkpoints")

    def ignored(folder: str, names: list[str]) -> set[str]:
        return built(folder, names) | ({"runs"} if Path(folder) == ROOT else set())  # rooms of that name hold code

    return Path(shutil.copytree(ROOT, target, ignore=ignored))


@pytest.fixture(scope="session")
def chapter_texts() -> list[Path]:
    return sorted((ROOT / "book/src").glob("*.md"))


@pytest.fixture(scope="session")
def pair():
    """MNIST's sample and the optical digits."""
    from cdlm.domains.samples import load_domain

    return load_domain("mnist"), load_domain("optdigits")


@pytest.fixture
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without data: an empty cache, no data folder, no packages of the system. Returns the cache."""
    from cdlm.data import search

    monkeypatch.delenv("CDLM_DATA", raising=False)
    monkeypatch.delenv("CDLM_OFFLINE", raising=False)
    monkeypatch.setenv("CDLM_CACHE", str(tmp_path / "the cache"))
    places = search.Search.places
    monkeypatch.setattr(search.Search, "places", lambda *a: (place for place in places(*a) if place[0] != "system"))
    return tmp_path / "the cache"
