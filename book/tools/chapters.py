"""Chapters in their two forms: the MyST text in ``book/src`` and the notebook in ``book``.

The text is the source. The notebook carries, in its own metadata under ``cdlm``, a fingerprint ``text`` of the cells as
they were generated, from which we see that somebody edited the notebook, and what its outputs depend on, from which we
see that they are out of date or come from elsewhere: see ``fingerprint.py``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import jupytext
import nbformat
from jupytext.config import JupytextConfiguration
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
SOURCE = BOOK / "src"
PACKAGE = ROOT / "cdlm"

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
# The form in which texts are kept. Not in book/jupytext.toml: JupyterLab would then take text and notebook for different
# wherever the notebook is the newer file, and refuse to open the chapter.
FORM = JupytextConfiguration(
    notebook_metadata_filter=",".join(
        ["kernelspec", *(f"-jupytext.text_representation.{key}" for key in ("jupytext_version", "format_version"))]
    ),
    cell_metadata_filter="tags,mystnb,-all",
)


class ChapterError(Exception):
    """Something an author has to mend; the message says what and how."""


def chapters(name: str = "") -> list[Path]:
    """Text files of all chapters in reading order, or of those whose name contains ``name``."""
    found = sorted(path for path in SOURCE.glob("*.md") if name in path.stem)
    if not found:
        known = ", ".join(path.stem for path in sorted(SOURCE.glob("*.md"))) or "none"
        raise ChapterError(f"no chapter matches {name!r}; there are: {known}")
    return found


def notebook_path(text: Path) -> Path:
    return BOOK / f"{text.stem}.ipynb"


def write_atomically(path: Path, content: str) -> None:
    """Write to a temporary neighbor, then rename: a reader sees the old file or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def one_line(error: Exception) -> str:
    """What an error of another library says, on one line."""
    return " ".join(str(error).split())[:300]


def read_text(path: Path) -> NotebookNode:
    try:
        return jupytext.reads(path.read_text(encoding="utf-8"), fmt="md:myst", config=FORM)
    except OSError:
        raise
    except Exception as error:  # jupytext, YAML and nbformat have no error in common
        raise ChapterError(f"{path.name} cannot be read as a MyST notebook: {one_line(error)}") from None


def to_text(notebook: NotebookNode) -> str:
    """The notebook as MyST text, in the one form in which texts are kept."""
    bare = nbformat.from_dict(json.loads(json.dumps(notebook)))
    bare.metadata = nbformat.from_dict({"kernelspec": dict(KERNEL)})
    return jupytext.writes(bare, fmt="md:myst", config=FORM)


def read_notebook(path: Path) -> NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, AttributeError, TypeError, nbformat.ValidationError) as error:
        raise ChapterError(
            f"{path.name} is not a notebook ({one_line(error)}); restore it or delete it and run `make sync`"
        ) from None


def notebook_json(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook, version=4, indent=1).rstrip("\n") + "\n"


def _sha(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def text_fingerprint(notebook: NotebookNode) -> str:
    """Fingerprint of what an author writes: kind, source and tags of each cell."""
    def meta(cell):
        return json.dumps({k: cell.metadata[k] for k in ("tags", "mystnb") if cell.metadata.get(k)}, sort_keys=True)
    return _sha(part for cell in notebook.cells for part in (cell.cell_type, cell.source.strip(), meta(cell)))


def without_magics(source: str) -> str:
    """The source with IPython magics replaced by ``pass``, line for line."""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


def cell_id(kind: str, source: str, taken: set[str]) -> str:
    """An id that follows from the cell's content, so that regenerating a notebook changes nothing."""
    number = 0
    while (name := _sha([kind, source.strip(), str(number)])[:12]) in taken:
        number += 1
    taken.add(name)
    return name


def statements(cell: NotebookNode) -> list[str]:
    """What a code cell runs, statement by statement, without comments and docstrings; its source if it is no Python."""
    try:
        from cdlm.closure import read_room
    except ImportError as error:
        raise ChapterError(f"cdlm/closure.py cannot be used ({error}); `python book/tools/export.py` writes it") from None
    magics = re.findall(r"^\s*([%!].*)$", cell.source, flags=re.M)
    try:
        return [*magics, *(statement.code for statement in read_room(without_magics(cell.source)).statements)]
    except SyntaxError:
        return [cell.source.strip()]


def keep_outputs(cells: list[dict], previous: NotebookNode) -> None:
    """Give to code cells the outputs that the same code had in ``previous``, however it was laid out there.

    Cells that only define may be split and joined: what ran without output in one cell runs without output in another.
    """
    kept: dict[str, list[NotebookNode]] = {}
    silent: set[str] = set()
    for cell in previous.cells:
        if cell.cell_type == "code":
            kept.setdefault("\n".join(statements(cell)), []).append(cell)
            if cell.execution_count is not None and not cell.outputs:
                silent.update(statements(cell))
    moved = False
    for cell in (cell for cell in cells if cell["cell_type"] == "code"):
        lines = statements(nbformat.from_dict(cell))
        if same := kept.get("\n".join(lines)):
            old = same.pop(0)
            cell |= {"execution_count": old.execution_count, "outputs": old.outputs}
        elif set(lines) <= silent and cell["source"].strip():
            cell["execution_count"], moved = 0, True
    if moved:
        count_cells(cells)


def count_cells(cells: list[dict]) -> None:
    """Number the cells that were run, in their order, as one whole run does."""
    count = 0
    for cell in cells:
        if cell["cell_type"] == "code" and cell["execution_count"] is not None:
            count += 1
            cell["execution_count"] = count
            for output in cell["outputs"]:
                if "execution_count" in output:
                    output["execution_count"] = count


def generate(text: Path, previous: NotebookNode | None = None) -> NotebookNode:
    """The notebook of a chapter; outputs of ``previous`` are kept for cells whose code has not changed."""
    source, taken = read_text(text), set()
    cells = []
    for cell in source.cells:
        metadata = {key: cell.metadata[key] for key in ("mystnb", "tags") if key in cell.metadata}
        new = {"cell_type": cell.cell_type, "id": cell_id(cell.cell_type, cell.source, taken), "metadata": metadata,
               "source": cell.source}  # fmt: skip
        cells.append(new | ({"execution_count": None, "outputs": []} if cell.cell_type == "code" else {}))
    noted = {}
    if previous is not None:
        keep_outputs(cells, previous)
        noted = dict(previous.metadata.get("cdlm", {}))
    metadata = {"cdlm": noted | {"text": text_fingerprint(source)}, "kernelspec": dict(KERNEL)}
    metadata["language_info"] = {"name": "python"}
    return nbformat.from_dict({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})
