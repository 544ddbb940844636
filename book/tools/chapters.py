"""Chapters in their two forms: the MyST text in ``book/src`` and the notebook in ``book``.

The text is the source. The notebook carries, in its own metadata under ``cdlm``, two fingerprints: ``text``, of the
cells as they were generated, and ``run``, of its outputs with everything they depend on. From the first we see that
somebody edited the notebook; from the second, that its outputs are out of date or come from elsewhere.
"""

from __future__ import annotations

import ast
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


def module_imports(source: str) -> set[str]:
    """Dotted names of the ``cdlm`` modules that ``source`` imports; IPython magics are passed over."""
    found = set()
    for node in ast.walk(ast.parse(without_magics(source))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cdlm":
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.split(".")[0] == "cdlm")
    return found


def _module_file(dotted: str) -> Path | None:
    path = ROOT.joinpath(*dotted.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def dependencies(source: str) -> list[Path]:
    """Files of ``cdlm`` that ``source`` imports, directly or through other modules of ``cdlm``.

    Without ``__init__.py``, which holds nothing but a list of modules.
    """
    todo, found = list(module_imports(source)), set()
    while todo:
        file = _module_file(todo.pop())
        if file is not None and file.name != "__init__.py" and file not in found:
            found.add(file)
            todo.extend(module_imports(file.read_text(encoding="utf-8")))
    return sorted(found)


def without_headings(module: Path) -> str:
    """A generated module without empty lines and the comments that name chapter and heading, which change with every cell."""
    lines = module.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.strip() and not re.match(r"# \d\d_\w+: ", line))


def run_fingerprint(notebook: NotebookNode) -> str:
    """Fingerprint of the outputs and of what they depend on: the code, the modules it imports, the records it reads."""
    code = [cell.source.strip() for cell in notebook.cells if cell.cell_type == "code"]
    whole = "\n".join(code)
    try:
        files = dependencies(whole)
    except SyntaxError as error:
        raise ChapterError(f"a code cell does not parse: {error.msg}: {(error.text or '').strip()}") from None
    read = sorted(set(re.findall(r'read_record\("([\w./-]+)"', whole)) | set(re.findall(r'results/([\w./-]+)\.json"', whole)))
    records = [BOOK / "results" / f"{name}.json" for name in read]
    if "results/runs" in whole:                                                     # chapters that read every run there is
        records += sorted((BOOK / "results/runs").glob("*.json"))
    contents = [without_headings(file) if file in files else file.read_text(encoding="utf-8") for file in files + records
                if file.is_file()]
    outputs = [json.dumps(cell.outputs, sort_keys=True) for cell in notebook.cells if cell.cell_type == "code"]
    return _sha(code + contents + outputs)


def cell_id(kind: str, source: str, taken: set[str]) -> str:
    """An id that follows from the cell's content, so that regenerating a notebook changes nothing."""
    number = 0
    while (name := _sha([kind, source.strip(), str(number)])[:12]) in taken:
        number += 1
    taken.add(name)
    return name


def generate(text: Path, previous: NotebookNode | None = None) -> NotebookNode:
    """The notebook of a chapter; outputs of ``previous`` are kept for cells whose code has not changed."""
    source = read_text(text)
    kept, taken = {}, set()
    if previous is not None:
        kept = {cell_id(cell.cell_type, cell.source, taken): cell for cell in previous.cells}
    taken = set()
    cells = []
    for cell in source.cells:
        name = cell_id(cell.cell_type, cell.source, taken)
        metadata = {key: cell.metadata[key] for key in ("mystnb", "tags") if key in cell.metadata}
        new = {"cell_type": cell.cell_type, "id": name, "metadata": metadata, "source": cell.source}
        if cell.cell_type == "code":
            old = kept.get(name)
            new |= {"execution_count": old.execution_count if old else None, "outputs": old.outputs if old else []}
        cells.append(new)
    fingerprints = {"text": text_fingerprint(source)}
    if previous is not None and "run" in previous.metadata.get("cdlm", {}):
        fingerprints["run"] = previous.metadata["cdlm"]["run"]
    metadata = {"cdlm": fingerprints, "kernelspec": dict(KERNEL), "language_info": {"name": "python"}}
    return nbformat.from_dict({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})
