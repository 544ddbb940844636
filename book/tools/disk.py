"""How the tools read and write folders: which files are nobody's, and files written whole or not at all.

With nothing but the standard library, so that every tool can begin with it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini", "__macosx", "__pycache__")
LEFTOVER = ".tmp"       # how the name of a temporary neighbor ends
LEFTOVER_AGE_S = 60     # older ones are of a process that was killed: a file is written in far less


class ChapterError(Exception):
    """Something an author has to mend; the message says what and how."""


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is none of ours: hidden, or left by a system, a browser of files or an editor."""
    return name.startswith((".", "#")) or name.endswith("~") or name.lower() in LEFT_BY_SYSTEMS


def visible(folder: Path, pattern: str = "*") -> list[Path]:
    """Files and folders that match, sorted, without what is hidden or lies in something hidden."""
    found = sorted(folder.glob(pattern))
    return [path for path in found if not any(map(hidden, path.relative_to(folder).parts))]


def write_atomically(path: Path, content: str, instead_of: bytes | None = None) -> None:
    """Write to a temporary neighbor, then rename: a reader sees the old file or the new one, never a half.

    Raises ChapterError, and writes nothing, where the file no longer holds ``instead_of``: somebody has saved it meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=LEFTOVER)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        if instead_of is not None and (not path.exists() or path.read_bytes() != instead_of):
            raise ChapterError(f"{path.name} was edited meanwhile, and stays as it was saved; run it again")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def leftovers(*folders: Path) -> Iterator[Path]:
    """What killed processes left of their temporary neighbors in folders and those below."""
    for folder in folders:
        for path in folder.rglob(f".*{LEFTOVER}"):
            if path.is_file() and time.time() - path.stat().st_mtime > LEFTOVER_AGE_S:
                yield path
