"""Reading files of others without trusting them, and writing so that nobody reads a half.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import bz2
import gzip
import math
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "DamagedError",
    "DataError",
    "MAX_ARCHIVE_BYTES",
    "MAX_BYTES",
    "MAX_MEMBERS",
    "NotHereError",
    "PIECE",
    "check_members",
    "looks_like_web_page",
    "new_place",
    "read_bounded",
    "read_idx",
    "read_usps",
    "unpack_archive",
]


# 60_data: Reading what others have written

class DataError(RuntimeError):
    """Data cannot be found, read or made; the message says which, why, and what to do."""


class NotHereError(DataError):
    """A place does not hold what is looked for: look elsewhere."""


class DamagedError(DataError):
    """A file is there and is not what it should be; the message names it."""


# 60_data: Compressed files, with a limit

MAX_BYTES = 2**30               # of one unpacked file
PIECE = 2**20


def looks_like_web_page(head: bytes) -> bool:
    """Whether a file begins like HTML: the page of a login or of an error, saved in the place
    of the data."""
    return head.lstrip()[:1] == b"<"


def read_bounded(path: Path, limit: int = MAX_BYTES) -> bytearray:
    """Content of a file, unpacked if its name ends in .gz or .bz2.

    Raises DamagedError if it is damaged or more than ``limit`` bytes, DataError if it may not
    be read.
    """
    unpacked, content = ({".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open),
                         bytearray())
    try:
        with open(path, "rb") as raw:
            if looks_like_web_page(raw.read(64)):
                raise DamagedError(f"{path} is a web page, not data: "
                                   "what was saved is a login or an error. Delete it.")
        with unpacked(path, "rb") as stream:
            while piece := stream.read(PIECE):
                content += piece
                if len(content) > limit:
                    raise DamagedError(f"{path} unpacks to more than {limit} bytes, "
                                       "which is no data set of ours")
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (EOFError, OSError, zlib.error, ValueError) as error:
        raise DamagedError(f"{path} is truncated or damaged ({type(error).__name__}); "
                           "delete it and get it again") from None
    return content


# 60_data: IDX, the format of MNIST

def read_idx(path: Path, dimensions: int) -> Tensor:
    """Bytes of an IDX file, packed or not, as a tensor with so many ``dimensions``.

    Raises DamagedError.
    """
    content, head = read_bounded(path), 4 + 4 * dimensions
    if len(content) < head or bytes(content[:4]) != bytes((0, 0, 8, dimensions)):
        raise DamagedError(f"{path} is not an IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:head])
    if math.prod(shape) != len(content) - head or 0 in shape:
        raise DamagedError(f"{path} announces {' x '.join(map(str, shape))} bytes and holds "
                           f"{len(content) - head}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=head).reshape(shape))


# 60_data: USPS, as libsvm has it

def read_usps(path: Path) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 16, 16), bytes, and labels (N,) of a file of USPS in libsvm's format.

    Raises DamagedError.
    """
    words = bytes(read_bounded(path)).replace(b":", b" ").split()
    try:
        table = np.array(words, dtype=np.float32).reshape(-1, 513)
    except ValueError:
        raise DamagedError(
            f"{path} does not hold lines of a label and 256 numbered values") from None
    labels, numbers, values = table[:, 0], table[:, 1::2], table[:, 2::2]
    if (len(table) == 0 or (numbers != np.arange(1, 257)).any()
        or not (np.abs(values) <= 1).all()):
        raise DamagedError(f"{path} does not hold 256 values from -1 to 1 in each line")
    if not np.isin(labels, np.arange(1, 11)).all():
        raise DamagedError(f"{path} has labels that are not 1 to 10")
    images = ((values + 1) / 2 * 255).astype(np.uint8).reshape(-1, 1, 16, 16)
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64) - 1)


# 60_data: Archives of many files

MAX_ARCHIVE_BYTES, MAX_MEMBERS = 2**35, 2**20


def check_members(path: Path, members: Iterable[tuple[str, int, bool]], limit: int) -> None:
    """Refuse an archive by its members, each (name, size, is a plain file or folder).

    Raises DamagedError.
    """
    total = 0
    for number, (name, size, plain) in enumerate(members):
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not plain or not parts or ".." in parts or parts[0][0] == "/" or ":" in parts[0]:
            raise DamagedError(
                f"{path} holds {name!r}, which leads out of its folder or is no file: refused")
        total += size
        if total > limit or number >= MAX_MEMBERS:
            raise DamagedError(f"{path} would unpack to more than {limit} bytes or "
                               f"{MAX_MEMBERS} files: refused")


def unpack_archive(path: Path, folder: Path, limit: int = MAX_ARCHIVE_BYTES) -> Path:
    """Unpack a zip or tar archive into the new ``folder``, whole or not at all.

    Raises DamagedError.
    """
    with new_place(folder) as place:
        try:
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    check_members(path, ((m.filename, m.file_size,
                                          not stat.S_ISLNK(m.external_attr >> 16))
                                         for m in archive.infolist()), limit)
                    archive.extractall(place)
            else:
                with tarfile.open(path) as archive:
                    check_members(path, ((m.name, m.size, m.isfile() or m.isdir())
                                         for m in archive), limit)
                    archive.extractall(place, filter="data")
                    # to the very end, where the checksum is
                    while archive.fileobj.read(PIECE):
                        pass
        except (zipfile.BadZipFile, gzip.BadGzipFile, tarfile.TarError, EOFError, zlib.error,
                NotImplementedError) as error:
            raise DamagedError(f"{path} is truncated or damaged ({type(error).__name__}); "
                               "delete it and get it again") from None
    return folder


# 60_data: Writing so that nobody reads half a file

@contextmanager
def new_place(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` when the block ends well, and vanishes when
    it does not.

    If another program has made ``folder`` meanwhile, that one stays and ours vanishes.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield place
        place.chmod(0o755)
        try:
            os.rename(place, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(place, ignore_errors=True)
