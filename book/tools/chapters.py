"""Chapters in their two forms: the MyST text in ``book/src`` and the notebook in ``book``.

The text is the source. The notebook carries, in its own metadata under ``cdlm``, a fingerprint ``text`` of the cells as
they were generated, from which we see that somebody edited the notebook, and what its outputs depend on, from which we
see that they are out of date or come from elsewhere: see ``fingerprint.py``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path

import jupytext
import nbformat
from address import without_address
from disk import ChapterError, visible
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
KEPT = ("tags", "mystnb")       # of a cell's metadata, in both forms
# Of a cell or a notebook, what programs note of their own views and runs; it may go without a word.
INCIDENTAL = {
    "autoscroll", "cdlm", "collapsed", "colab", "deletable", "editable", "execution", "ExecuteTime", "id", "is_executing",
    "jp-MarkdownHeadingCollapsed", "jupyter", "jupytext", "kernelspec", "language_info", "lines_to_next_cell", "outputId",
    "pycharm", "scrolled", "trusted", "vscode", "widgets",
}
# Line ends of other kinds, where jupytext would cut a line in two, and what YAML does not take.
UNKEPT = re.compile("[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
CONFLICT = re.compile(r"^(<<<<<<<|>>>>>>>) ", flags=re.M)


def chapters(name: str = "") -> list[Path]:
    """Text files of all chapters in reading order, or of those whose name contains ``name``."""
    texts = visible(SOURCE, "*.md")
    found = [path for path in texts if name in path.stem]
    if not found:
        known = ", ".join(path.stem for path in texts) or "none"
        raise ChapterError(f"no chapter matches {name!r}; there are: {known}")
    return found


def notebook_path(text: Path) -> Path:
    return BOOK / f"{text.stem}.ipynb"


def one_line(error: Exception) -> str:
    """What an error of another library says, on one line."""
    return " ".join(str(error).split())[:300]


def read_text(path: Path) -> NotebookNode:
    return parse(path.read_text(encoding="utf-8-sig", errors="surrogateescape"), path.name)


def parse(text: str, name: str) -> NotebookNode:
    """A MyST text as a notebook. Raises ChapterError for one that cannot be read, or would be read as something else."""
    for number, line in enumerate(text.split("\n"), start=1):
        if found := UNKEPT.search(line):
            raise ChapterError(f"{name} cannot be read: line {number} holds {character(found[0])}; delete it there")
    if found := CONFLICT.search(text):
        number = text.count("\n", 0, found.start()) + 1
        raise ChapterError(f"{name} cannot be read: line {number} is the mark of a merge that is not finished; finish it")
    try:
        return jupytext.reads(text, fmt="md:myst", config=FORM)
    except Exception as error:  # jupytext, YAML and nbformat have no error in common
        raise ChapterError(f"{name} cannot be read as a MyST notebook: {one_line(error)}") from None


def character(found: str) -> str:
    """What a character that is not kept is called: "U+2028", or a byte that is not UTF-8."""
    return f"a byte that is not UTF-8, {ord(found) - 0xDC00:#x}" if "\udc80" <= found <= "\udcff" else f"U+{ord(found):04X}"


def to_text(notebook: NotebookNode) -> str:
    """The notebook as MyST text, in the one form in which texts are kept."""
    bare = nbformat.from_dict(json.loads(json.dumps(notebook)))
    bare.metadata = nbformat.from_dict({"kernelspec": dict(KERNEL)})
    return jupytext.writes(bare, fmt="md:myst", config=FORM)


def says_something(cell: NotebookNode) -> bool:
    """Not so an empty cell of prose, which no text can hold."""
    return cell.cell_type != "markdown" or bool(cell.source.strip())


def content(notebook: NotebookNode) -> list[tuple[str, str, dict]]:
    """What an author writes: kind, source and kept metadata of each cell that says something."""
    return [(cell.cell_type, cell.source.strip("\n "), {key: cell.metadata[key] for key in KEPT if cell.metadata.get(key)})
            for cell in notebook.cells if says_something(cell)]


def refuse_what_texts_cannot_hold(notebook: NotebookNode, name: str) -> None:
    """Raises ChapterError for pasted images, and for metadata that somebody may have meant, before they are lost."""
    if any(cell.get("attachments") for cell in notebook.cells):
        raise ChapterError(
            f"{name}: an image is pasted into the notebook, which the text cannot hold; save it as a file in"
            f" figures/ and link that (`make sync DISCARD={name}` throws it away)"
        )
    places = [("the notebook", notebook.metadata), *((f"cell {n}", cell.metadata) for n, cell in enumerate(notebook.cells, 1))]
    for place, metadata in places:
        if other := sorted(set(metadata) - INCIDENTAL - set(KEPT)):
            raise ChapterError(
                f"{name}: {place} has metadata {', '.join(map(repr, other))}, which the text cannot hold; take it out"
                f" (`make sync DISCARD={name}` throws away what only the notebook has)"
            )


def faithful_text(notebook: NotebookNode, name: str) -> str:
    """The notebook as a text from which all of it comes back. Raises ChapterError where some of it would not."""
    refuse_what_texts_cannot_hold(notebook, name)
    refused = f"{name}: {{}} cannot be kept in a text: {{}}; rewrite that cell"
    for number, cell in enumerate(notebook.cells, start=1):
        if found := UNKEPT.search(cell.source):
            raise ChapterError(refused.format(f"cell {number}", f"it holds {character(found[0])}"))
    try:
        written = to_text(notebook)
        back = content(parse(written, "its text"))
    except Exception as error:  # of jupytext, YAML or nbformat
        raise ChapterError(refused.format("the notebook", one_line(error))) from None
    for number, (mine, theirs) in enumerate(zip_longest(content(notebook), back), start=1):
        if mine != theirs:
            raise ChapterError(refused.format(f"cell {number}", "it would come back as something else"))
    return written


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
        digest.update(part.encode(errors="surrogatepass") + b"\0")
    return digest.hexdigest()[:16]


def text_fingerprint(notebook: NotebookNode) -> str:
    """Fingerprint of what an author writes: kind, source and tags of each cell."""
    def meta(cell):
        return json.dumps({k: cell.metadata[k] for k in KEPT if cell.metadata.get(k)}, sort_keys=True)
    cells = filter(says_something, notebook.cells)
    return _sha(part for cell in cells for part in (cell.cell_type, cell.source.strip(), meta(cell)))


def magics_of(source: str) -> list[str]:
    """IPython magics of a source, whatever address they install from."""
    return [without_address(line) for line in re.findall(r"^\s*([%!].*)$", source, flags=re.M)]


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
    magics = magics_of(cell.source)
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
        metadata = {key: cell.metadata[key] for key in sorted(KEPT) if key in cell.metadata}
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
