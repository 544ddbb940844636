"""Arrays made once and mapped into memory.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from filelock import FileLock
from torch import Tensor

from cdlm.data.archives import DamagedError, new_place

__all__ = [
    "Pieces",
    "array_header",
    "cache_root",
    "files_fingerprint",
    "make_arrays",
    "read_array",
    "read_arrays",
    "remembered",
    "write_array",
]


# 60_data: Arrays made once

def cache_root() -> Path:
    """The user's cache: ``CDLM_CACHE``, or where the system keeps caches."""
    named = os.environ.get("CDLM_CACHE")
    return Path(named).expanduser() if named else platformdirs.user_cache_path("cdlm")


def files_fingerprint(folder: Path, files: Iterable[Path]) -> str:
    """Digest of the names below ``folder``, sizes and times of files: it changes when one of
    them does, and reads none."""
    digest = hashlib.sha256()
    for path in sorted(files):
        facts = path.stat()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{facts.st_size}\0"
                      f"{facts.st_mtime_ns}\n".encode())
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
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_root() / "arrays" / f"{name}-{digest}"
    try:
        return read_arrays(folder)
    except DamagedError:
        pass
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            return make_arrays(folder, key, make)
    except OSError as error:
        warnings.warn(f"{name} is not kept in {folder.parent} ({error.strerror}); "
                      "set CDLM_CACHE", stacklevel=2)
        return {part: content.whole() if isinstance(content, Pieces) else content
                for part, content in make().items()}


def make_arrays(folder: Path, key: Mapping[str, object],
                make: Callable[[], Mapping[str, Tensor | Pieces]]) -> dict[str, Tensor]:
    """Make a folder of the cache and read it, unless another program has made it meanwhile."""
    try:
        return read_arrays(folder)
    except DamagedError:
        shutil.rmtree(folder, ignore_errors=True)
    with new_place(folder) as place:
        parts = make()
        for part, content in parts.items():
            write_array(place / f"{part}.npy", content)
        (place / "parts.json").write_text(json.dumps({"key": key, "parts": sorted(parts)}),
                                          encoding="utf-8")
    return read_arrays(folder)


def read_arrays(folder: Path) -> dict[str, Tensor]:
    """All arrays of a folder of the cache.

    Raises DamagedError unless they are all there and whole.
    """
    try:
        parts = json.loads((folder / "parts.json").read_text(encoding="utf-8"))["parts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{folder} is not complete ({type(error).__name__})") from None
    return {part: read_array(folder / f"{part}.npy") for part in parts}
