"""Run the chapters whose outputs are out of date, and keep what comes out in the notebooks.

Where it is what came out before, the chapter is recorded as verified.

    python book/tools/execute.py                    what has changed, on as many kernels as there are cores
    python book/tools/execute.py 20_vae --force     one chapter, in any case
    python book/tools/execute.py --jobs 1           one kernel at a time
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager, suppress
from pathlib import Path

from program import INTERRUPTED, STOPPED, finish, heed

# isort: split
import nbformat
from disk import ChapterError, write_atomically
from fingerprint import library_now, run_hash, state, why_stale
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode
from reads import noted
from verified import came_out_again, has_code, is_strict, keep, row_of

from chapters import (
    BOOK,
    ROOT,
    chapters,
    notebook_json,
    notebook_path,
    read_notebook,
)

CELL_TIMEOUT_S = START_TIMEOUT_S = 1800
MESSAGE_TIMEOUT_S = 240      # from the end of a cell to its last output, on a busy machine
PATIENCE_S = 20         # for threads whose kernels were killed
WIDGET = "application/vnd.jupyter.widget-view+json"
HOOK = Path(__file__).parent / "kernel"     # holds what every Python of a chapter runs first
MACHINE_PATHS = tuple(
    f"{path}{os.sep}" for path in (ROOT, Path(sys.prefix), Path.home(), Path(tempfile.gettempdir())) if path.name
)


def machine_path(cell: NotebookNode) -> str | None:
    """A path of this machine that stands in the text outputs of a cell."""
    texts = [output.get("text", "") for output in cell.get("outputs", [])]
    for output in cell.get("outputs", []):
        texts += [str(value) for kind, value in output.get("data", {}).items() if "text" in kind or "xml" in kind]
    return next((path for path in MACHINE_PATHS for text in texts if path in text), None)


def merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs with consecutive pieces of one stream joined: how a slow cell's lines were cut depends on the clock."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def without_widgets(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs without sliders and the like: those live with a kernel only, and their ids are random."""
    return [output for output in outputs if WIDGET not in output.get("data", {})]


class Kernels:
    """The kernels at work, so that they can be ended together; after that no other one starts."""

    def __init__(self) -> None:
        self.clients: set[NotebookClient] = set()
        self.ended = False
        self.lock = threading.Lock()

    def go_on(self, **_: object) -> None:
        """Asked before each cell. Raises ChapterError where all were ended while this kernel was still starting."""
        if self.ended:
            raise ChapterError("was stopped")

    @contextmanager
    def one(self, client: NotebookClient):
        with self.lock:
            self.go_on()
            self.clients.add(client)
        try:
            yield
        finally:
            with self.lock:
                self.clients.discard(client)

    def end(self) -> None:
        """Kill what is at work."""
        with self.lock:
            self.ended = True
            for client in self.clients:
                with suppress(OSError):     # it ends by itself just now
                    self.kill(client)

    @staticmethod
    def kill(client: NotebookClient) -> None:
        process = getattr(getattr(client.km, "provisioner", None), "process", None)
        if process is not None and process.poll() is None:
            # Its own session, made by jupyter_client: the group is the kernel with all that it started.
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()


KERNELS = Kernels()


def environment(profile: str, log: Path) -> dict[str, str]:
    """What a kernel gets: the profile, one thread, and the hook that notes in ``log`` which files are read.

    One thread: sums are then taken in one order, whatever number of cores a machine has.
    """
    places = [str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {"CDLM_PROFILE": profile, "PYTHONHASHSEED": "0", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    reads = {"CDLM_READS": str(log), "CDLM_READS_ROOT": str(ROOT), "PYTHONPATH": os.pathsep.join(places)}
    return os.environ | settings | reads


def plain(text: str) -> str:
    """A message without colors and without empty lines at its end."""
    return re.sub(r"\x1b\[[\d;]*m", "", text).rstrip()


def run_cells(notebook: NotebookNode, profile: str) -> dict[str, str]:
    """Run all cells in place; what they read, as hashes by path. Raises ChapterError where one fails.

    What a kernel says beside its cells (libraries that end, not always quietly) is told where it dies, and else dropped.
    """
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        startup_timeout=START_TIMEOUT_S,  # the usual limits, of a minute and of four seconds, lose outputs on a busy machine
        iopub_timeout=MESSAGE_TIMEOUT_S,
        raise_on_iopub_timeout=True,    # a message that is lost: no output is left out unsaid
        record_timing=False,
        kernel_name="python3",
        resources={"metadata": {"path": str(BOOK)}},
        on_cell_start=KERNELS.go_on,
    )
    with (tempfile.TemporaryDirectory() as place, KERNELS.one(client),
          open(Path(place) / "aside", "w+", encoding="utf-8", errors="replace") as aside):
        log = Path(place) / "reads"
        try:
            client.execute(env=environment(profile, log), stdout=aside, stderr=aside)
        except (CellExecutionError, CellTimeoutError) as error:
            raise ChapterError(plain(str(error))) from None
        except RuntimeError as error:       # a kernel dies
            aside.seek(0)
            raise ChapterError(plain(f"{error}\n{aside.read()}")) from None
        try:
            return noted(log)
        except ValueError as error:
            raise ChapterError(f"{error}; run it again") from None


def run(notebook: NotebookNode, profile: str = "book") -> NotebookNode:
    """A copy with fresh outputs. Raises ChapterError where a cell fails."""
    fresh = nbformat.from_dict(notebook)
    shelf = library_now()               # code that is changed from here on was perhaps not what ran
    reads = run_cells(fresh, profile)
    for cell in fresh.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell.outputs = merge_streams(without_widgets(cell.outputs))
        if path := machine_path(cell):
            raise ChapterError(f"an output holds a path of this machine, {path}: {cell.source.splitlines()[0]!r}")
    fresh.metadata.pop("widgets", None)
    fresh.metadata["language_info"] = {"name": "python"}
    parts = state(fresh, reads, shelf)
    text = {name: value for name, value in notebook.metadata.get("cdlm", {}).items() if name == "text"}
    fresh.metadata["cdlm"] = nbformat.from_dict(text | parts | {"run": run_hash(parts)})
    return fresh


def execute(text: Path, force: bool = False) -> dict | None:
    """Run one chapter if needed, then return its record: {} if outputs came out that were not there before, None if not run."""
    target = notebook_path(text)
    if not target.exists():
        raise ChapterError(f"{text.stem}: there is no notebook; `make sync` generates it")
    old, start = target.read_bytes(), time.monotonic()
    notebook = read_notebook(target)
    if not force and not why_stale(notebook):
        return None
    try:
        fresh = run(notebook)
        write_atomically(target, notebook_json(fresh), instead_of=old)
    except ChapterError as error:
        raise ChapterError(f"{text.stem}: {error}") from None
    again = has_code(fresh) and came_out_again(notebook, fresh, is_strict(text.stem))
    return row_of(text.stem, fresh, time.monotonic() - start) if again else {}


def durations() -> dict[str, float]:
    """Seconds that chapters took the last time, on this machine; {} where nobody knows."""
    try:
        return dict(json.loads(duration_file().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def duration_file() -> Path:
    return ROOT / "_build" / "durations.json"


def execute_all(texts: list[Path], force: bool, jobs: int) -> bool:
    """Run chapters on ``jobs`` kernels, the longest first; a line for each as it ends. True if all went well."""
    known, well = durations(), True
    order = sorted(texts, key=lambda text: -known.get(text.stem, float("inf")))

    def timed(text: Path) -> tuple[dict | None, float]:
        start = time.monotonic()
        return execute(text, force), time.monotonic() - start

    with ThreadPoolExecutor(jobs) as pool:
        waiting = {}
        try:
            waiting |= {pool.submit(timed, text): text for text in order}
            for done in as_completed(waiting):
                text = waiting[done]
                try:
                    record, seconds = done.result()
                except ChapterError as error:
                    print(f"error: {error}", file=sys.stderr, flush=True)
                    well = False
                    continue
                if record is None:
                    print(f"{text.stem}: up to date", flush=True)
                    continue
                known[text.stem] = round(seconds, 1)
                print(f"{text.stem}: executed in {seconds:.0f} s" + (", with the outputs of before" if record else ""), flush=True)
                if record:
                    keep(text.stem, record)
        except BaseException:
            heed(signal.SIG_IGN)            # we are on the way out
            pool.shutdown(wait=False, cancel_futures=True)
            KERNELS.end()
            wait([one for one in waiting if not one.cancelled()], PATIENCE_S)   # for one that was, nobody ends the waiting
            raise
    write_atomically(duration_file(), json.dumps(known, indent=1, sort_keys=True) + "\n")
    return well


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter", nargs="?", default="", help="part of a chapter's name")
    parser.add_argument("--force", action="store_true", help="run even what has not changed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="kernels at a time (default: one for each core)")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error("--jobs wants at least one kernel")
    heed(stop)
    try:
        return int(not execute_all(chapters(options.chapter), options.force, options.jobs))
    except ChapterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr, flush=True)
        return INTERRUPTED


if __name__ == "__main__":
    try:
        status = finish(main)
        heed(signal.SIG_IGN)        # it is done
    except KeyboardInterrupt:       # between the two
        print(STOPPED, file=sys.stderr)
        status = INTERRUPTED
    with suppress(OSError):         # nobody reads on
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)                # libraries would clean up after kernels that are no more, and say so; no signal is heeded then
