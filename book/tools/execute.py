"""Run the chapters whose code, modules or records have changed, and keep their outputs in the notebooks.

    python book/tools/execute.py                    what has changed
    python book/tools/execute.py 20_vae --force     one chapter, in any case
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from chapters import (
    BOOK,
    ROOT,
    ChapterError,
    chapters,
    notebook_json,
    notebook_path,
    read_notebook,
    run_fingerprint,
    write_atomically,
)

CELL_TIMEOUT_S = 1800
WIDGET = "application/vnd.jupyter.widget-view+json"
MACHINE_PATHS = tuple(
    f"{path}{os.sep}" for path in (ROOT, Path(sys.prefix), Path.home(), Path(tempfile.gettempdir())) if path.name
)


def stale(notebook: NotebookNode) -> bool:
    """Whether the outputs are not those of a whole run of this very code."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    whole = all(cell.execution_count is not None for cell in code)
    return not whole or notebook.metadata.get("cdlm", {}).get("run") != run_fingerprint(notebook)


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


def run(notebook: NotebookNode, profile: str = "book") -> NotebookNode:
    """A copy with fresh outputs. Raises ChapterError where a cell fails."""
    fresh = nbformat.from_dict(notebook)
    # One thread: sums are then taken in one order, whatever number of cores a machine has.
    os.environ |= {"CDLM_PROFILE": profile, "PYTHONHASHSEED": "0", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    client = NotebookClient(
        fresh,
        timeout=CELL_TIMEOUT_S,
        startup_timeout=CELL_TIMEOUT_S,  # the usual limits, of a minute and of four seconds, lose outputs on a busy machine
        iopub_timeout=CELL_TIMEOUT_S,
        record_timing=False,
        kernel_name="python3",
        resources={"metadata": {"path": str(BOOK)}},
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise ChapterError(re.sub(r"\x1b\[[\d;]*m", "", str(error)).rstrip()) from None  # without colors
    for cell in fresh.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell.outputs = merge_streams(without_widgets(cell.outputs))
        if path := machine_path(cell):
            raise ChapterError(f"an output holds a path of this machine, {path}: {cell.source.splitlines()[0]!r}")
    fresh.metadata.pop("widgets", None)
    fresh.metadata["language_info"] = {"name": "python"}
    fresh.metadata["cdlm"] = {**notebook.metadata.get("cdlm", {}), "run": run_fingerprint(fresh)}
    return fresh


def execute(text: Path, force: bool = False) -> bool:
    """Run one chapter if needed; true if it was run."""
    target = notebook_path(text)
    if not target.exists():
        raise ChapterError(f"{text.stem}: there is no notebook; `make sync` generates it")
    notebook = read_notebook(target)
    if not force and not stale(notebook):
        return False
    try:
        write_atomically(target, notebook_json(run(notebook)))
    except ChapterError as error:
        raise ChapterError(f"{text.stem}: {error}") from None
    return True


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter", nargs="?", default="", help="part of a chapter's name")
    parser.add_argument("--force", action="store_true", help="run even what has not changed")
    options = parser.parse_args(arguments)
    failed = False
    try:
        for text in chapters(options.chapter):
            start = time.monotonic()
            try:
                ran = execute(text, options.force)
            except ChapterError as error:
                print(f"error: {error}", file=sys.stderr)
                failed = True
                continue
            print(f"{text.stem}: " + (f"executed in {time.monotonic() - start:.0f} s" if ran else "up to date"))
    except ChapterError as error:
        print(f"error: {error}", file=sys.stderr)
        failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
