"""Verify chapters in the size of the book: run every cell with its assertions, compare outputs, and record what passed.

    python book/tools/verify.py                 chapters without a current record, as many at once as there are cores
    python book/tools/verify.py 20_vae          of these, one
    python book/tools/verify.py --everything    all of them, whatever is recorded
    python book/tools/verify.py --check         run nothing; list the chapters without a current record, fail if there are any
    python book/tools/verify.py --seconds       run nothing; print what the others would take here, generously

A record is current while the chapter's fingerprint is the one it was verified with.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path

from program import finish

# isort: split
import pytest
from checksums import keep_checksum
from disk import ChapterError, write_atomically
from execute import MESSAGE_TIMEOUT_S, durations
from fingerprint import run_fingerprint, why_stale
from joblib import cpu_count
from nbformat import NotebookNode

from chapters import BOOK, ROOT, chapters, notebook_path, read_notebook

CELL_TIMEOUT_S = 1800
NO_FIGURES = Path(__file__).with_name("no_figures.cfg")
VERSIONS_OF = ("torch", "numpy", "scikit-learn")


def is_strict(chapter: str) -> bool:
    """Whether all outputs are compared: theory chapters hold no number that a machine could change, but for figures."""
    return chapter.startswith("5") and "\n# Workshop: " not in (BOOK / "src" / f"{chapter}.md").read_text(encoding="utf-8")


class Patience:
    """Pytest plugin: nbval waits for an output longer than five seconds; a busy machine may need that."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            item.output_timeout = MESSAGE_TIMEOUT_S


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def nbval(path: Path, profile: str, *options: str, strict: bool = False) -> tuple[int, str]:
    """Run a notebook, or those of a folder: pytest's exit status and what it printed.

    The outputs of the cells that ask for it are compared; if ``strict``, of all that do not ask for not, without figures.
    """
    how = ["--nbval", f"--nbval-sanitize-with={NO_FIGURES}"] if strict else ["--nbval-lax"]
    limits = [f"--nbval-cell-timeout={CELL_TIMEOUT_S}", f"--nbval-kernel-startup-timeout={CELL_TIMEOUT_S}"]
    words = ["-q", "--color=no", *how, "--nbval-current-env", *limits, "-p", "no:cacheprovider", "-p", "no:faulthandler"]
    printed, settings = io.StringIO(), {"CDLM_PROFILE": profile, "PYTHONHASHSEED": "0", "TQDM_DISABLE": "1"}
    with environment(**settings, OMP_NUM_THREADS="1"), contextlib.redirect_stdout(printed):
        status = pytest.main([*words, *options, str(path)], plugins=[Patience()])
    return int(status), printed.getvalue()


def has_code(notebook: NotebookNode) -> bool:
    return any(cell.cell_type == "code" for cell in notebook.cells)


def what_is_compared(chapter: str) -> str:
    return "all outputs" if is_strict(chapter) else "outputs of tagged cells"


def record_path() -> Path:
    return BOOK / "verified.json"


def read_records() -> dict[str, dict]:
    """What is recorded for each chapter. Raises ChapterError where the file is damaged."""
    try:
        found = json.loads(record_path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(row, dict) for row in found.values()):
        raise ChapterError(f"{record_path().name} is damaged; delete it and run `make verify`")
    return found


def current_record(text: Path, records: dict[str, dict]) -> dict | None:
    """The record of a chapter, if what it was verified with is what is there."""
    row = records.get(text.stem, {})
    wanted = {"fingerprint": run_fingerprint(read_notebook(notebook_path(text))), "compared": what_is_compared(text.stem)}
    return row if wanted.items() <= row.items() else None


def verify(text: Path) -> dict:
    """Run a chapter in the size of the book; its record.

    Raises ChapterError where a cell fails, an output differs, or the chapter was not executed as it is.
    """
    start, notebook = time.monotonic(), read_notebook(notebook_path(text))
    if why_stale(notebook):  # nobody knows what it depends on
        raise ChapterError(f"{text.stem}: its outputs are not of a whole run of this code; `make execute` first")
    status, printed = nbval(notebook_path(text), "book", strict=is_strict(text.stem))
    if status:
        raise ChapterError(f"{text.stem} does not pass:\n{printed[-6000:].rstrip()}")
    fingerprint = run_fingerprint(notebook)
    if run_fingerprint(read_notebook(notebook_path(text))) != fingerprint:
        raise ChapterError(f"{text.stem} was changed while it ran; run `make verify` again")
    versions = {"python": platform.python_version()} | {name: version(name) for name in VERSIONS_OF}
    return {"fingerprint": fingerprint, "compared": what_is_compared(text.stem), "profile": "book",
            "seconds": round(time.monotonic() - start), "versions": versions}


def keep(chapter: str, row: dict | None) -> None:
    """Write the record of a chapter, or take it out; chapters that are no more go, too."""
    there = {path.stem for path in chapters()}
    records = {name: old for name, old in read_records().items() if name in there and name != chapter}
    if row is not None:
        records[chapter] = row
    write_atomically(record_path(), json.dumps(dict(sorted(records.items())), indent=1) + "\n")
    keep_checksum(ROOT, record_path())


def unverified(name: str, everything: bool) -> list[Path]:
    """Chapters with code whose name contains ``name`` and that have no current record."""
    found, records = [], {} if everything else read_records()
    for text in chapters(name):
        if not notebook_path(text).exists():
            raise ChapterError(f"{text.stem}: there is no notebook; `make sync` generates it")
        if has_code(read_notebook(notebook_path(text))) and current_record(text, records) is None:
            found.append(text)
    return found


def seconds_for(name: str, jobs: int) -> int:
    """Twice the time that the chapters with a current record took when they were verified, shared by ``jobs`` cores."""
    records = read_records()
    rows = [current_record(text, records) for text in chapters(name) if text.stem in records]
    return 2 * sum(row["seconds"] for row in rows if row) // jobs


def verify_all(todo: list[Path], jobs: int) -> bool:
    """Verify chapters, ``jobs`` at once, the longest first, and keep each record as it comes; whether all passed."""
    passed, known = True, durations()
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        longest_first = sorted(todo, key=lambda text: -known.get(text.stem, float("inf")))
        running = {pool.submit(verify, text): text for text in longest_first}
        for done in as_completed(running):
            chapter, error = running[done].stem, done.exception()
            keep(chapter, None if error else done.result())
            if error:
                passed = False
                print(f"error: {error}", file=sys.stderr, flush=True)
            else:
                print(f"{chapter}: verified in {done.result()['seconds']} s", flush=True)
    return passed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter", nargs="?", default="", help="part of a chapter's name")
    parser.add_argument("--everything", action="store_true", help="whatever is recorded")
    parser.add_argument("--check", action="store_true", help="run nothing; list the chapters without a current record")
    parser.add_argument("--seconds", action="store_true",
                        help="run nothing; print a generous estimate of the time for the chapters with a current record")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="chapters at once; default: one for each core")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    try:
        todo = unverified(options.chapter, options.everything)
        if options.seconds:
            print(seconds_for(options.chapter, options.jobs))
            return 0
        if options.check:
            for text in todo:
                print(f"error: {text.stem} is not verified in the size of the book; `make verify`", file=sys.stderr)
            passed = not todo
        else:
            passed = verify_all(todo, options.jobs)
    except ChapterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if passed:
        print("every chapter is verified in the size of the book" if not options.chapter else f"{options.chapter}: verified")
    return int(not passed)


if __name__ == "__main__":
    sys.exit(finish(main))
