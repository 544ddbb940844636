"""Verify chapters in the size of the book: run every cell with its assertions, compare outputs, and record what passed.

`make execute` records as well where what it had to run again came out as it was; see ``verified.py`` for what is recorded.

    python book/tools/verify.py                 chapters without a current record, as many at once as there are cores
    python book/tools/verify.py 20_vae          of these, one
    python book/tools/verify.py --everything    all of them, whatever is recorded
    python book/tools/verify.py --check         run nothing; list the chapters without a current record, fail if there are any
    python book/tools/verify.py --seconds       run nothing; print what the others would take here, generously
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from program import finish

# isort: split
import pytest
from disk import ChapterError
from execute import MESSAGE_TIMEOUT_S, durations
from fingerprint import run_fingerprint, why_stale
from joblib import cpu_count
from verified import current_record, has_code, is_strict, keep, read_records, row_of

from chapters import ROOT, chapters, notebook_path, read_notebook

CELL_TIMEOUT_S = 1800
NO_FIGURES = Path(__file__).with_name("no_figures.cfg")


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
    return row_of(text.stem, notebook, time.monotonic() - start)


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
