"""Which files of the repository a chapter reads while it runs, in its kernel and in every process that it starts.

Python tells an audit hook of each file that is opened. The hook notes those of the repository, with a hash of what was in
them at that moment; the functions that read records by a pattern announce it, so that a record which appears later and
matches is noticed, too. Code is left out: it is judged by name, see ``fingerprint.py``. Tables of things by name announce which
of their entries are looked up; such an entry, "cdlm.methods.registry.METHODS[dann]", is noted like a file, without a hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from disk import hidden, visible

ANNOUNCED = "cdlm.read_records"     # audit event of the package: folder, pattern
LOOKED_UP = "cdlm.lookup"           # another one: a table's dotted name, the name of an entry
EVENTS = ("open", ANNOUNCED, LOOKED_UP, "os.listdir", "os.scandir")
LISTED = "book/results"             # folders in which a listing counts, too
CODE = (".py", ".pyc", ".pyi", ".so", ".ipynb")
BUILT = ("_build", "build", "runs", "site-packages")


def counts(path: str) -> bool:
    """Whether a file of the repository, by its path from there, is one that outputs can depend on without being code."""
    parts = PurePosixPath(path).parts
    built = any(hidden(part) or part in BUILT or part.endswith((".egg-info", ".dist-info")) for part in parts)
    return bool(parts) and not built and not path.endswith(CODE)


def contents(root: Path, pattern: str) -> str:
    """Hash of what the files that match a pattern hold, "" where there is none; of a folder, "a/b/", of the names in it."""
    if pattern.endswith("/"):
        folder = root / pattern
        names = [path.name for path in visible(folder)] if folder.is_dir() else []
        return hashlib.sha256("\0".join(names).encode()).hexdigest()[:12] if names else ""
    digest = hashlib.sha256()
    files = [path for path in visible(root, pattern) if path.is_file()]
    for path in files:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12] if files else ""


def watch(root: str, log: str) -> None:
    """Note from now on each file of ``root`` that this process reads: a line in ``log`` with a pattern and its hash."""
    top, seen, listed, noting = os.path.realpath(root), set(), [], threading.local()

    def inside(path: object) -> str | None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None
        whole = os.path.realpath(os.fsdecode(path))
        return os.path.relpath(whole, top).replace(os.sep, "/") if whole.startswith(top + os.sep) else None

    def note(pattern: str, entry: bool = False) -> None:
        if pattern in seen:
            return
        seen.add(pattern)
        line = json.dumps([pattern, "" if entry else contents(Path(top), pattern)]) + "\n"
        handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def hook(event: str, values: tuple) -> None:
        if event in EVENTS and not getattr(noting, "now", False):
            noting.now = True       # what is opened in order to note is not noted
            try:
                look(event, values)
            finally:
                noting.now = False

    def look(event: str, values: tuple) -> None:
        if event == "open":
            path, _, flags = values
            reading = (flags or 0) & (os.O_WRONLY | os.O_RDWR) != os.O_WRONLY
            if reading and (name := inside(path)) and counts(name) and not os.path.isdir(path):
                note(name)
        elif event == LOOKED_UP:
            note("{}[{}]".format(*values), entry=True)
        elif event == ANNOUNCED:
            if folder := inside(values[0]):
                note(f"{folder}/{values[1]}")
                listed.append(folder)
        else:
            folder = inside(values[0]) if values[0] is not None else None
            if folder in listed:
                listed.remove(folder)
            elif folder and f"{folder}/".startswith(f"{LISTED}/"):
                note(f"{folder}/")

    sys.addaudithook(hook)


def noted(log: Path) -> dict[str, str]:
    """What was noted: hash by pattern; files that a pattern covers are left to it. Raises ValueError if one was changed."""
    found: dict[str, str] = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        pattern, digest = json.loads(line)
        if found.setdefault(pattern, digest) != digest:
            raise ValueError(f"{pattern} was changed while the chapter ran")
    patterns = [pattern for pattern in found if "*" in pattern]

    def covered(path: str) -> bool:
        return any(path != p and os.path.dirname(path) == os.path.dirname(p) and fnmatch(path, p) for p in patterns)
    return {path: found[path] for path in sorted(found) if not covered(path)}
