"""Files written whole or not at all, and JSON read without trusting it.

Generated from book/src/02_records.md, book/src/73_long_runs.md, book/src/74_runs.md by `make
sync`: edit there, not here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

__all__ = [
    "MAX_DIGITS",
    "MAX_JSON_BYTES",
    "MAX_NESTING",
    "RunError",
    "checker_of",
    "fault_of",
    "finite",
    "flush",
    "is_deep",
    "json_digest",
    "json_text",
    "need_folder",
    "need_place",
    "number_of",
    "object_of",
    "parse_json",
    "plain_size",
    "read_json",
    "replacing",
    "sweep",
    "write_json",
]


# 02_records: Errors that say what to do

class RunError(RuntimeError):
    """A run cannot be made, stored or read; the message says what to do."""


MAX_JSON_BYTES, MAX_DIGITS, MAX_NESTING = 16 * 2**20, 25, 40


def number_of(text: str) -> float | int:
    """A number of JSON. Raises ValueError for what is none, or too large to count with."""
    if text.lstrip("-").isdecimal() and len(text) <= MAX_DIGITS:
        return int(text)
    number = float(text) if len(text) <= 10 * MAX_DIGITS else math.nan
    if not math.isfinite(number):
        raise ValueError(f"a number is {text[:MAX_DIGITS]}")
    return number


def object_of(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON. Raises ValueError where a name stands in it twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(n for n, _ in pairs).items() if count > 1)
        raise ValueError(f"{twice[:60]!r} stands twice")
    return found


def is_deep(content: object) -> bool:
    """Whether lists and objects are nested more than ``MAX_NESTING`` times."""
    level = [content]
    for _ in range(MAX_NESTING):
        inner = (part for whole in level if isinstance(whole, (dict, list))
                 for part in (whole.values() if isinstance(whole, dict) else whole))
        level = [part for part in inner if isinstance(part, (dict, list))]
    return bool(level)


def parse_json(text: bytes | str) -> object:
    """What JSON says: UTF-8, finite numbers, each name once in its object, no nesting without
    end. Raises ValueError: in what it is not that."""
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        content = json.loads(text, object_pairs_hook=object_of, parse_constant=number_of,
                             parse_int=number_of, parse_float=number_of)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON from line {error.lineno} on") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if is_deep(content):
        raise ValueError("nested too deeply")
    return content


@cache
def checker_of(kind: type) -> object:
    """What checks contents to be of a kind that pydantic knows."""
    from pydantic import TypeAdapter  # takes a moment to load, and most need it never

    return TypeAdapter(kind)


def fault_of(content: object, kind: type) -> str:
    """What keeps the content of a file from being a ``dict``, a ``list``, or of another kind,
    which pydantic knows how to check; "" if nothing does."""
    if kind in (dict, list):
        wanted = "an object" if kind is dict else "a list"
        return "" if isinstance(content, kind) else f"not {wanted}"
    try:
        checker_of(kind).validate_python(content)
    except ValueError as error:         # pydantic's, which tells more
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "as a whole"
        return f"{place[:60]!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
    return ""


def plain_size(path: Path) -> int:
    """The bytes of a plain file. Raises OSError for a folder, and for a pipe or a device,
    which a reader would wait for without end."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    return state.st_size


def read_json(path: Path, kind: type = dict) -> dict | list:
    """The content of a JSON file of bounded size, if it is of a ``kind``; see fault_of.

    The one way in which files of ours are read. Raises RunError if it is missing, too large,
    no JSON or of another kind.
    """
    try:
        if plain_size(path) > MAX_JSON_BYTES:
            raise RunError(
                f"{path} is larger than {MAX_JSON_BYTES} bytes; it is no file of ours")
        content = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; is this a run folder?") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); restore it, or make it again") from None
    if wrong := fault_of(content, kind):
        raise RunError(f"{path} is damaged ({wrong}); restore it, or make it again")
    return content


def finite(value: object) -> object:
    """A value as JSON can hold it: None for each number in it that is infinite or none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, (list, tuple)) else value


def json_text(content: object, **layout: object) -> str:
    """JSON as ``parse_json`` reads it; ``layout`` as for json.dumps."""
    return json.dumps(finite(content), allow_nan=False, **layout)


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
    loss of power. Who may read it follows from the umask, whatever the writer thinks of it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
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
    a half. Raises RunError where that is impossible."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(json_text(content, indent=1, sort_keys=True) + "\n",
                                 encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from None


def json_digest(content: object) -> str:
    """SHA-256 of what JSON can hold of ``content``, as 64 hexadecimal digits."""
    plain = json.loads(json_text(content))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def need_folder(folder: Path) -> Path:
    """``folder``, absolute, made if need be, into which files can be written.

    Raises RunError where they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.absolute()
    except OSError as error:
        raise RunError(
            f"cannot write to {folder}: {error.strerror}; name another folder") from None


def need_place(path: Path, is_older: Callable[[dict], bool]) -> None:
    """Make sure that a JSON file can be written, to where there is none or an older one that
    it may replace. Raises RunError otherwise."""
    need_folder(path.parent)
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:            # a name that no file can have
        raise RunError(f"cannot write {path}: {error.strerror}; name another file") from None
    try:
        found = is_older(read_json(path))
    except RunError:
        found = False
    if not found:
        raise RunError(f"{path} exists, and is no older record of the same; "
                       "name another file, or remove it")
