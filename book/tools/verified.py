"""Which chapters are verified in the size of the book: run twice, with the same outputs where outputs are compared.

The second run is one of `make verify`, or one of `make execute` whose outputs are those that were there. A record is current
while the chapter's fingerprint is the one it was verified with.
"""

from __future__ import annotations

import json
import platform
import re
from importlib.metadata import version
from pathlib import Path

from checksums import keep_checksum
from disk import ChapterError, write_atomically
from fingerprint import is_whole, run_fingerprint
from nbformat import NotebookNode

from chapters import BOOK, ROOT, chapters, notebook_path, read_notebook

VERSIONS_OF = ("torch", "numpy", "scikit-learn")
FIGURE = re.compile(r"(?s)<\?xml.*</svg>")


def is_strict(chapter: str) -> bool:
    """Whether all outputs are compared: theory chapters hold no number that a machine could change, but for figures."""
    return chapter.startswith("5") and "\n# Workshop: " not in (BOOK / "src" / f"{chapter}.md").read_text(encoding="utf-8")


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


def ran_here(text: Path, records: dict[str, dict]) -> bool:
    """Whether a chapter has passed as it is, and with the versions that are installed here."""
    row = current_record(text, records)
    return row is not None and row["versions"] == versions_here()


def row_of(chapter: str, notebook: NotebookNode, seconds: float) -> dict:
    """The record of a chapter that has just passed, its notebook being as it was executed."""
    return {"fingerprint": run_fingerprint(notebook), "compared": what_is_compared(chapter), "profile": "book",
            "seconds": round(seconds), "versions": versions_here()}


def versions_here() -> dict[str, str]:
    """What a chapter passes or fails with, by name."""
    return {"python": platform.python_version()} | {name: version(name) for name in VERSIONS_OF}


def keep(chapter: str, row: dict | None) -> None:
    """Write the record of a chapter, or take it out; chapters that are no more go, too."""
    there = {path.stem for path in chapters()}
    records = {name: old for name, old in read_records().items() if name in there and name != chapter}
    if row is not None:
        records[chapter] = row
    write_atomically(record_path(), json.dumps(dict(sorted(records.items())), indent=1) + "\n")
    keep_checksum(ROOT, record_path())


def compared_outputs(notebook: NotebookNode, strict: bool) -> list[tuple[str, str]]:
    """Code and outputs, as text without figures, of each cell whose outputs are compared."""
    found = []
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        tags = cell.metadata.get("tags", [])
        if "nbval-ignore-output" in tags or not (strict or "nbval-check-output" in tags):
            continue
        plain = [{kind: value for kind, value in output.items() if kind not in ("execution_count", "metadata")}
                 for output in cell.outputs]  # fmt: skip
        for output in plain:
            output["data"] = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
        found.append((cell.source, FIGURE.sub("FIGURE", json.dumps(plain, sort_keys=True))))
    return found


def came_out_again(old: NotebookNode, new: NotebookNode, strict: bool) -> bool:
    """Whether a chapter that was executed anew has the outputs that a whole run of before has left, where they are compared.

    Cells with other code, or in another order, are no repetition.
    """
    return is_whole(old) and compared_outputs(old, strict) == compared_outputs(new, strict)
