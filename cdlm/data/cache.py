"""Arrays made once and mapped into memory.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from cdlm.data.archives import (
    DamagedError,
    DataError,
    DataNote,
    NotHereError,
    file_checksum,
    new_place,
    read_bounded,
    user_path,
)

__all__ = [
    "Pieces",
    "array_header",
    "arrays_folder",
    "cache_root",
    "files_fingerprint",
    "make_arrays",
    "read_array",
    "recalled",
    "remembered",
    "working_place",
    "write_array",
]


# 60_data: Arrays made once

def cache_root() -> Path:
    """The user's cache: ``CDLM_CACHE``, or where the system keeps caches.

    Raises NotHereError where neither is known.
    """
    if named := os.environ.get("CDLM_CACHE"):
        return user_path(named)
    place = platformdirs.user_cache_path("cdlm")
    if not place.is_absolute():     # "~" that nobody could resolve
        raise NotHereError("there is no home folder to keep a cache in; set CDLM_CACHE")
    return place


def files_fingerprint(folder: Path, files: Iterable[Path]) -> str:
    """Digest of the names below ``folder``, sizes and times of files: it changes when one of
    them does, and reads none."""
    digest = hashlib.sha256()
    for path in sorted(files):
        facts = path.stat() if path.exists() else path.lstat()      # a link to nowhere
        digest.update(f"{path.relative_to(folder).as_posix()}\0{facts.st_size}\0"
                      f"{facts.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Pieces:
    """An array that is made piece by piece: shape and type of an item, and the pieces, each
    ``(n, *shape)``, in order."""

    shape: tuple[int, ...]
    pieces: Iterable[np.ndarray]
    dtype: str = "uint8"

    def whole(self) -> Tensor:
        """All pieces in one tensor."""
        return torch.from_numpy(
            np.concatenate([np.empty((0, *self.shape), self.dtype), *self.pieces]))


def array_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Header of a .npy file, always of 128 bytes, so that it can be written again when the
    length is known."""
    entry = (f"{{'descr': {np.lib.format.dtype_to_descr(dtype)!r}, 'fortran_order': False, "
             f"'shape': {tuple(shape)!r}, }}")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + entry.ljust(117).encode() + b"\n"


def write_array(path: Path, content: Tensor | Pieces) -> None:
    """Write a tensor, or pieces one after the other, as a .npy file."""
    if isinstance(content, Tensor):
        content = Pieces(tuple(content.shape[1:]), [content.numpy()],
                         str(content.numpy().dtype))
    count = 0
    with open(path, "wb") as stream:
        stream.write(b"\0" * 128)
        for piece in content.pieces:
            stream.write(np.ascontiguousarray(piece, content.dtype).reshape(
                len(piece), *content.shape).data)
            count += len(piece)
        stream.seek(0)
        stream.write(array_header((count, *content.shape), np.dtype(content.dtype)))


def read_array(path: Path) -> Tensor:
    """A .npy file as a tensor, mapped into memory; writing to it does not reach the file.

    Raises DamagedError.
    """
    try:
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise DamagedError(f"{path} is damaged ({error}); delete it") from None


def remembered(name: str, key: Mapping[str, object],
               make: Callable[[], Mapping[str, Tensor | Pieces]]) -> dict[str, Tensor]:
    """What ``make`` gives, made once for each ``key`` (JSON) and mapped into memory from the
    user's cache.

    Programs that want the same wait for each other. What is damaged is made again. Where the
    cache cannot be written, all is made in memory, with a warning. Errors of ``make`` itself
    pass through.
    """
    try:
        folder = arrays_folder(name, key)
        with suppress(DamagedError):
            return read_arrays(folder, key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep_places(folder.parent)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            return make_arrays(folder, key, make)
    except (OSError, NotHereError) as error:
        warnings.warn(f"{name} is not kept in the cache ({error}); set CDLM_CACHE", DataNote,
                      stacklevel=2)
        return {part: content.whole() if isinstance(content, Pieces) else content
                for part, content in make().items()}


def arrays_folder(name: str, key: Mapping[str, object]) -> Path:
    """Where the arrays of a key are kept. Raises NotHereError where there is no cache."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return cache_root() / "arrays" / f"{re.sub(r'[^0-9A-Za-z._-]', '_', name)[:60]}-{digest}"


def recalled(name: str, key: Mapping[str, object]) -> dict[str, Tensor] | None:
    """What is remembered of a key, or None."""
    with suppress(DamagedError, NotHereError):
        return read_arrays(arrays_folder(name, key), key)
    return None


def make_arrays(folder: Path, key: Mapping[str, object],
                make: Callable[[], Mapping[str, Tensor | Pieces]]) -> dict[str, Tensor]:
    """Make a folder of the cache and read it, unless another program has made it meanwhile."""
    try:
        return read_arrays(folder, key)
    except DamagedError:
        shutil.rmtree(folder, ignore_errors=True)
    with new_place(folder) as place:
        parts = {}
        for part, content in make().items():
            write_array(place / f"{part}.npy", content)
            parts[part] = file_checksum(place / f"{part}.npy")
        (place / "parts.json").write_text(json.dumps({"key": key, "parts": parts}),
                                          encoding="utf-8")
    return read_arrays(folder, key)


def read_arrays(folder: Path, key: Mapping[str, object]) -> dict[str, Tensor]:
    """All arrays of a folder of the cache.

    Raises DamagedError unless they are those of ``key``, all there, and as they were written.
    """
    try:
        content = json.loads(read_bounded(folder / "parts.json"))
        parts = {part: folder / f"{part}.npy" for part in content["parts"]}
        same = content["key"] == json.loads(json.dumps(key)) and content["parts"] == {
            part: file_checksum(path) for part, path in parts.items()}
    except (DataError, OSError, ValueError, LookupError, TypeError, AttributeError,
            RecursionError) as error:
        raise DamagedError(f"{folder} is not complete ({type(error).__name__})") from None
    if not same:
        raise DamagedError(f"{folder} is not as it was written")
    return {part: read_array(path) for part, path in parts.items()}


def sweep_places(parent: Path) -> None:
    """Remove temporary folders that killed programs have left in ``parent``."""
    for left in parent.glob(".*.*"):
        if left.is_dir():
            lock = left.with_name(f"{left.name.rpartition('.')[0]}.lock")
            with suppress(Timeout), FileLock(lock, timeout=0):
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def working_place(name: str) -> Iterator[Path]:
    """A folder to work in, in the cache if that can be written, which vanishes with the block;
    another program that asks for the same ``name`` waits."""
    try:
        parent = cache_root() / "arrays"
        parent.mkdir(parents=True, exist_ok=True)
        sweep_places(parent)
        lock = FileLock(parent / f".{name}.lock")
        lock.acquire()
    except (OSError, NotHereError):
        parent = lock = None
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=f".{name}.") as place:
            yield Path(place)
    finally:
        if lock is not None:
            lock.release()
