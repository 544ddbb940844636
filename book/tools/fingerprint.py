"""What the outputs of a chapter depend on, and why they are out of date.

They depend on the code of its cells, on the code of each name that it uses, on the files that it read while it ran, and on
the versions of packages that it prints. The notebook carries all of this in its metadata under ``cdlm``, in hashes, with a
hash of the outputs themselves; ``run`` is one hash over all of it.

- ``code``: of the cells, without comments, docstrings and imports, however the statements are split over cells;
- ``uses``: of each definition that is reached by name, in the package or from elsewhere (see ``cdlm.closure``), and of what
  is reached from entries of tables that were looked up;
- ``reads``: of each file, or of the files that match a pattern, and names of entries that were looked up (see ``reads.py``);
- ``versions``: of packages, as they were printed;
- ``outputs``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from disk import ChapterError, visible
from nbformat import NotebookNode
from reads import contents

import chapters
from cdlm.closure import Library, Place, Room, closure, read_room

PARTS = ("code", "uses", "reads", "versions", "outputs")
AT_MOST = 3     # causes that are named


def short_hash(text: str, length: int = 12) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@functools.lru_cache(maxsize=2)
def _library(package: Path, _contents: tuple[tuple[Path, str], ...]) -> Library:
    return Library(package)


def library() -> Library:
    """The package as it is on disk now; read again only where a file differs."""
    files = visible(chapters.PACKAGE, "**/*.py")
    return _library(chapters.PACKAGE, tuple((file, file.read_text(encoding="utf-8")) for file in files))


def library_now() -> Library:
    """The package as it is at this moment, every module read, whatever becomes of the files."""
    found = library()
    for file in visible(chapters.PACKAGE, "**/*.py"):
        found.room(module_of(file))
    return found


def module_of(file: Path) -> str:
    """The dotted name of a module by its file."""
    return ".".join(["cdlm", *file.relative_to(chapters.PACKAGE).with_suffix("").parts])


def code_room(notebook: NotebookNode) -> Room:
    """The code of a chapter as one module. Raises ChapterError where a cell is no Python."""
    sources = (cell.source for cell in notebook.cells if cell.cell_type == "code")
    try:
        return read_room(chapters.without_magics("\n".join(sources)))
    except SyntaxError as error:
        raise ChapterError(f"a code cell does not parse: {error.msg}: {(error.text or '').strip()}") from None


def output_texts(notebook: NotebookNode) -> str:
    """All text in the outputs of a chapter."""
    found = []
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        found += [output.get("text", ""), *(str(v) for kind, v in output.get("data", {}).items() if "text" in kind)]
    return "\n".join(found)


def code_hash(notebook: NotebookNode, room: Room) -> str:
    """Hash of the cells' statements, of their magics, and of dotted names of the package that are printed as such."""
    magics = chapters.magics_of("\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code"))
    printed = output_texts(notebook)
    shown = {text for statement in room.statements for text in statement.texts if "cdlm." in text and text in printed}
    return short_hash(json.dumps([[statement.code for statement in room.statements], magics, sorted(shown)]))


def outputs_hash(notebook: NotebookNode) -> str:
    """Hash of the outputs, without the numbers of the cells."""
    def plain(output: NotebookNode) -> dict:
        return {key: value for key, value in output.items() if key != "execution_count"}
    outputs = [plain(output) for cell in notebook.cells for output in cell.get("outputs", [])]
    return short_hash(json.dumps(outputs, sort_keys=True))


def version_of(package: str) -> str | None:
    """Version of an installed package, or of "python"."""
    try:
        return platform.python_version() if package == "python" else version(package)
    except (PackageNotFoundError, ValueError):
        return None


def printed_versions(notebook: NotebookNode, used: dict[str, str], reads: dict[str, str]) -> dict[str, str]:
    """Versions that a chapter prints, by package: those its code asks for, unless they stand in a record that it shows."""
    own = code_room(notebook).statements
    asking = [code for code in [*used.values(), *(statement.code for statement in own)]
              if re.search(r"\b(version|python_version)\(|\.__version__\b", code)]  # fmt: skip
    words = set(re.findall(r"[A-Za-z][\w-]*", "\n".join(asking)))
    words |= {"python"} if any("python_version" in code for code in asking) else set()
    printed = output_texts(notebook)
    shown = {word: version_of(word) for word in sorted(words)}
    shown = {word: found for word, found in shown.items() if found and re.search(rf"(?<![\w.]){re.escape(found)}", printed)}
    if shown:
        files = (file for pattern in reads for file in chapters.ROOT.glob(pattern.rstrip("/")) if file.is_file())
        recorded = "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
        shown = {word: found for word, found in shown.items() if f'"{found}' not in recorded}
    return shown


ENTRY = re.compile(r"(cdlm[\w.]*)\.(\w+)\[([^\]]*)\]")     # of a table, looked up: module, table, name


def entry_place(noted: str, shelf: Library) -> Place | None:
    """Where an entry of a table that was looked up is defined; None for a file, and for an entry that is not there."""
    found = ENTRY.fullmatch(noted)
    room = shelf.room(found[1]) if found else None
    unit = noted.removeprefix(f"{found[1]}.") if found else ""
    return (room, unit) if room and unit in room.units else None


def names_in(table: str) -> list[str]:
    """Names of all entries of a table, "cdlm.methods.registry.METHODS"."""
    module, _, name = table.rpartition(".")
    room = library().room(module)
    return [unit[len(name) + 1 : -1] for unit in (room.units if room else ()) if unit.startswith(f"{name}[")]


def listed_tables(notebook: NotebookNode, reads: dict[str, str]) -> set[str]:
    """Tables in which a chapter looked something up, and of which it prints all names, so that a new one would be printed."""
    words = set(re.findall(r"[\w-]+", output_texts(notebook)))
    tables = {".".join(ENTRY.fullmatch(noted).group(1, 2)) for noted in reads if ENTRY.fullmatch(noted)}
    return {table for table in tables if set(names_in(table)) <= words}


def content_of(noted: str) -> str:
    """Hash of what was noted as it is now: of files, of the names in a table, "" for one entry, which is judged by its code."""
    if ENTRY.fullmatch(noted):
        return "" if entry_place(noted, library()) else "gone"
    if noted.startswith("cdlm.") and "/" not in noted:
        return short_hash(json.dumps(names_in(noted)))
    return contents(chapters.ROOT, noted)


def state(notebook: NotebookNode, reads: dict[str, str] | None = None,
          shelf: Library | None = None) -> dict[str, str | dict[str, str]]:
    """All that the outputs depend on, in hashes, as it is now; ``reads`` and versions are looked for again if not None.

    With None, the files that the notebook says it read are looked at, and the packages whose versions it says it printed.
    ``shelf`` is the package as it was when the notebook ran, if that is not now.
    """
    shelf = shelf or library()
    room = code_room(notebook)
    noted = notebook.metadata.get("cdlm", {})
    patterns = noted.get("reads", {}) if reads is None else reads
    looked_up = [place for pattern in patterns if (place := entry_place(pattern, shelf))]
    used = closure(shelf, [(room, "*"), *looked_up], own=room)
    if reads is None:
        reads = {pattern: content_of(pattern) for pattern in noted.get("reads", {})}
        versions = {package: version_of(package) or "none" for package in noted.get("versions", {})}
    else:
        versions = printed_versions(notebook, used, reads)
        reads = reads | {table: content_of(table) for table in listed_tables(notebook, reads)}
    return {
        "code": code_hash(notebook, room),
        "uses": {name: short_hash(code, 8) for name, code in used.items()},
        "reads": reads,
        "versions": versions,
        "outputs": outputs_hash(notebook),
    }


def run_hash(parts: dict) -> str:
    return short_hash(json.dumps(parts, sort_keys=True), 16)


def run_fingerprint(notebook: NotebookNode) -> str:
    """One hash over the outputs of a chapter and all that they depend on, as it is now."""
    return run_hash(state(notebook))


def home_of(name: str) -> str:
    """The module of the package that defines a name, in words, or "" where none does."""
    package = chapters.PACKAGE
    for file in visible(package, "**/*.py"):
        room = library().room(dotted := module_of(file))
        if room and name in room.units:
            return f" ({dotted})"
    return ""


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Names whose hash differs; those that came or went only where no other explains it."""
    changed = [name for name in now if name in before and before[name] != now[name]]
    return changed or sorted(set(before) ^ set(now))


def listed(causes: list[str]) -> str:
    more = len(causes) - AT_MOST
    return ", ".join(causes[:AT_MOST]) + (f" and {more} more" if more > 0 else "")


def is_whole(notebook: NotebookNode) -> bool:
    """Whether the outputs are those that a whole run has left, of this code or of older."""
    return notebook.metadata.get("cdlm", {}).get("outputs") == outputs_hash(notebook)


def why_stale(notebook: NotebookNode) -> str:
    """What makes the outputs out of date, or "" where they are those of a whole run of this very code."""
    if not all(cell.execution_count is not None for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()):
        return "not all of its cells were run"
    noted = notebook.metadata.get("cdlm", {})
    if "run" not in noted:
        return "it was never run by `make execute`"
    now = state(notebook)
    if noted["run"] == run_hash(now):
        edited = [part for part in PARTS if part in noted and noted[part] != now[part]]
        return f"its notes on {edited[0]} were edited" if edited else ""
    if not all(part in noted for part in PARTS):
        return "it does not say what its outputs depend on"
    if noted["code"] != now["code"]:
        return "the code of the chapter changed"
    if used := differences(noted["uses"], now["uses"]):
        return listed([f"`{name}`{home_of(name)}" for name in used]) + " changed"
    if read := differences(noted["reads"], now["reads"]):
        return listed([path.removeprefix("book/") for path in read]) + " changed"
    if noted["outputs"] != now["outputs"]:
        return "its outputs were edited"
    old, new = noted["versions"], now["versions"]
    return listed([f"it prints {name} {old[name]}, and {new[name]} is installed" for name in differences(old, new)])
