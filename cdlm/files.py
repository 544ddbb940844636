"""Files written whole or not at all, and JSON read without trusting it.

Generated from book/src/02_records.md, book/src/73_long_runs.md, book/src/74_runs.md by `make
sync`: edit there, not here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "MAX_JSON_BYTES",
    "RunError",
    "flush",
    "read_json",
    "replacing",
    "sweep",
    "write_json",
]


# 02_records: Errors that say what to do

class RunError(RuntimeError):
    """A run cannot be made, stored or read; the message says what to do."""


MAX_JSON_BYTES = 16 * 2**20


def read_json(path: Path, kind: type = dict) -> dict | list:
    """A JSON object, or a list, from a file of bounded size.

    Raises RunError if it is missing, too large or not such an object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise RunError(
                f"{path} is larger than {MAX_JSON_BYTES} bytes; it is no file of ours")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; is this a run folder?") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise RunError(f"{path} is damaged (not JSON); restore it, or train again") from None
    if not isinstance(content, kind):
        wanted = "an object" if kind is dict else "a list"
        raise RunError(f"{path} is damaged (not {wanted}); restore it, or train again")
    return content


# 73_long_runs: Whole or not at all

def flush(path: Path) -> None:
    """Push a file, or the names in a folder, through to the disk; for folders only POSIX
    systems know how."""
    if path.is_dir() and os.name != "posix":
        return
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbor of ``path`` that takes its place, through to the disk, when the
    block ends well.

    Readers see the old file or the new one, never a half, and so do those who come after a
    loss of power.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what killed processes left of their temporary neighbors of ``path``; nobody else
    may be writing it."""
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)


# 74_runs: Where a run lives until it is finished

def write_json(path: Path, content: object) -> None:
    """Write JSON, through to the disk: readers see the old file or the new one, never
    a half."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n",
                             encoding="utf-8")
