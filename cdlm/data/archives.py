"""Reading files of others without trusting them, and writing so that nobody reads a half.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import math
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "ALWAYS_BYTES",
    "DamagedError",
    "DataError",
    "DataNote",
    "LEFTOVERS",
    "MAX_ARCHIVE_BYTES",
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_MEMBERS",
    "MAX_RATIO",
    "NotHereError",
    "PIECE",
    "USPS_BYTES",
    "broken_archive",
    "check_members",
    "file_checksum",
    "is_hidden",
    "looks_like_web_page",
    "member_parts",
    "new_place",
    "printable",
    "read_bounded",
    "read_idx",
    "read_usps",
    "refuse_special",
    "refuse_web_page",
    "unpack_archive",
    "unpacked_limit",
    "user_path",
]


# 60_data: Reading what others have written

class DataError(RuntimeError):
    """Data cannot be found, read or made; the message says which, why, and what to do.

    Each argument is a line of it. A name of a file may hold anything, so what cannot be
    printed is shown as an escape.
    """

    def __str__(self) -> str:
        return "\n".join(printable(str(line)) for line in self.args)


class NotHereError(DataError):
    """A place does not hold what is looked for: look elsewhere."""


class DamagedError(DataError):
    """A file is there and is not what it should be; the message names it."""


class DataNote(UserWarning):
    """Something that was done with data, not wrong, and not to be passed over in silence."""


def printable(text: str) -> str:
    """A text in which control characters, and bytes of names that are no Unicode, are
    escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


# 60_data: What is not data

LEFTOVERS = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir",
             "$recycle.bin", "system volume information", "lost+found", "__pycache__"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data, but was left there by a system or a
    program."""
    return name.startswith(".") or name.endswith("~") or name.lower() in LEFTOVERS


def refuse_special(path: Path) -> None:
    """Raise DamagedError for a pipe, a device or a socket: reading it may never end."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DamagedError(f"{path} is a pipe or a device, and no file")


def user_path(text: str | Path) -> Path:
    """A path as a person writes it, with ``~`` for a home folder. Raises DataError where
    nobody knows that home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise DataError(
            f"no home folder is known for {text}: write the path in full") from None


# 60_data: Compressed files, with a limit

MAX_BYTES = 2**30               # of one unpacked file
PIECE = 2**20


def looks_like_web_page(head: bytes) -> bool:
    """Whether a file begins like HTML: the page of a login or of an error, saved in the place
    of the data."""
    return head.lstrip()[:1] == b"<"


def refuse_web_page(path: Path, head: bytes) -> None:
    """Raise DamagedError for a file that begins like a web page."""
    if looks_like_web_page(head):
        raise DamagedError(f"{path} is a web page, not data: what was saved is a login or an "
                           "error; get the file again")


def read_bounded(path: Path, limit: int = MAX_BYTES) -> bytearray:
    """Content of a file, unpacked if its name ends in .gz or .bz2.

    Raises DamagedError if it is damaged or more than ``limit`` bytes, DataError if it may not
    be read.
    """
    unpacked, content = ({".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open),
                         bytearray())
    try:
        refuse_special(path)
        with open(path, "rb") as raw:
            refuse_web_page(path, raw.read(64))
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
                           "put a whole copy in its place") from None
    return content


def file_checksum(path: Path, kind: str = "sha256") -> str:
    """Checksum of a file, such as "sha256:…"; ``kind`` is "md5" or "sha256"."""
    refuse_special(path)
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False))
    return f"{kind}:{digest.hexdigest()}"


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

USPS_BYTES = 2**26              # three times what the larger file unpacks to


def read_usps(path: Path) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 16, 16), bytes, and labels (N,) of a file of USPS in libsvm's format.

    Raises DamagedError.
    """
    lines = io.BytesIO(read_bounded(path, USPS_BYTES))
    try:
        table = np.array([np.array(words, np.float32) for line in lines
                          if (words := line.replace(b":", b" ").split(maxsplit=513))],
                         np.float32).reshape(-1, 513)
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

MAX_ARCHIVE_BYTES, MAX_MEMBERS, MAX_DEPTH = 2**35, 2**20, 64
ALWAYS_BYTES, MAX_RATIO = 2**28, 100    # so much, and so many times its own size beyond it


def unpacked_limit(path: Path) -> int:
    """To how many bytes an archive may unpack: images hardly shrink, and what shrinks a
    thousandfold is none."""
    return min(MAX_ARCHIVE_BYTES, ALWAYS_BYTES + MAX_RATIO * path.stat().st_size)


def member_parts(name: str) -> tuple[str, ...]:
    """Folders and name of a member; some programs of Windows write other separators."""
    return PurePosixPath(name.replace("\\", "/")).parts


def check_members(path: Path, members: Iterable[tuple[str, int, bool]], limit: int) -> None:
    """Refuse an archive by its members, each (name, size, is a plain file or folder).

    Raises DamagedError.
    """
    total = 0
    for number, (name, size, plain) in enumerate(members):
        parts = member_parts(name)
        if not plain or ".." in parts or parts and (
                parts[0][0] == "/" or re.match("[A-Za-z]:", parts[0])):
            raise DamagedError(
                f"{path} holds {name!r}, which leads out of its folder or is no file: refused")
        if len(parts) > MAX_DEPTH or any(len(os.fsencode(part)) > 255 for part in parts):
            raise DamagedError(f"{path} holds folders more than {MAX_DEPTH} deep, or a name "
                               "of more than 255 bytes: refused")
        total += size
        if total > limit or number >= MAX_MEMBERS:
            raise DamagedError(f"{path} would unpack to more than {limit} bytes or "
                               f"{MAX_MEMBERS} files: refused")


STREAMS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
NOT_READ = {b"7z\xbc\xaf": "7z", b"Rar!": "rar", b"\x28\xb5\x2f\xfd": "zstd"}


def is_tar_header(head: bytes) -> bool:
    """Whether 512 bytes are the header of a member of a tar archive."""
    try:
        return bool(tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape"))
    except tarfile.HeaderError:
        return False


def archive_kind(path: Path) -> str:
    """ "zip" or "tar", the latter packed or not. Raises DataError for what is neither."""
    with open(path, "rb") as stream:
        head = stream.read(512)
    if any(head.startswith(magic) for magic in STREAMS) or is_tar_header(head):
        return "tar"
    if zipfile.is_zipfile(path) or head.startswith(b"PK"):
        return "zip"
    refuse_web_page(path, head)
    for magic, name in NOT_READ.items():
        if head.startswith(magic):
            raise DataError(f"{path} is packed as {name}, which is not read here: unpack it, "
                            "and name the folder")
    raise DataError(f"{path} is {'a file' if head else 'an empty file'}, neither a folder of "
                    "images nor an archive of one (zip, tar)")


class Member(NamedTuple):
    """A member of an archive: what it says of itself, and how to read it."""

    name: str
    size: int
    plain: bool
    folder: bool
    open: Callable[[], BinaryIO]


def zip_members(path: Path, archive: zipfile.ZipFile) -> list[Member]:
    """All members of a zip archive. Raises DataError if it has a password."""
    if any(m.flag_bits & 1 for m in archive.infolist()):
        raise DataError(f"{path} has a password: unpack it yourself, and name the folder")
    return [Member(m.filename, m.file_size, not stat.S_ISLNK(m.external_attr >> 16),
                   m.filename.endswith(("/", "\\")), partial(archive.open, m))
            for m in archive.infolist()]


def tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    """The members of a tar archive, one after the other, none of them remembered."""
    while m := archive.next():
        yield Member(m.name, m.size, m.isfile() or m.isdir(), m.isdir(),
                     partial(archive.extractfile, m))
        archive.members.clear()


class SmallReads:
    """A stream that gives no more than ``most`` bytes at once."""

    def __init__(self, stream: BinaryIO, most: int = 4 * PIECE) -> None:
        self.stream, self.most, self.seek, self.tell = stream, most, stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes. Raises tarfile.ReadError for too many."""
        if not 0 <= size <= self.most:
            raise tarfile.ReadError("a header of absurd length")
        return self.stream.read(size)


def check_end(stream: BinaryIO, start: int, limit: int) -> None:
    """Read a tar archive from its end mark to the very end, where a packed one has its
    checksum. Raises tarfile.ReadError where there is no end mark or more than padding."""
    stream.seek(start)
    count = 0
    while piece := stream.read(PIECE):
        count += len(piece)
        if count > limit or piece.strip(b"\0"):
            raise tarfile.ReadError("no end where it should be")
    if count < 512:
        raise tarfile.ReadError("no end mark")


@contextmanager
def archive_members(path: Path, limit: int) -> Iterator[Iterable[Member]]:
    """The members of a zip or tar archive, and at the end of the block a look at its end.

    Raises what zipfile, tarfile and the decompressors raise.
    """
    if archive_kind(path) == "zip":
        with zipfile.ZipFile(path) as archive:
            yield zip_members(path, archive)
        return
    with open(path, "rb") as raw:
        head = raw.read(8)
    unpacked = next((how for magic, how in STREAMS.items() if head.startswith(magic)), open)
    with unpacked(path, "rb") as stream:
        with tarfile.open(fileobj=SmallReads(stream), mode="r:") as archive:
            yield tar_members(archive)
            check_end(stream, archive.offset, limit)


def write_members(path: Path, members: Iterable[Member], place: Path, limit: int) -> None:
    """Write what an archive holds into ``place``, without what is hidden.

    Raises DamagedError.
    """
    def checked() -> Iterator[tuple[str, int, bool]]:
        for member in members:
            yield member.name, member.size, member.plain
            parts = member_parts(member.name)   # asked for the next: this one has passed
            if not any(map(is_hidden, parts)):
                write_member(member, place.joinpath(*parts))
    check_members(path, checked(), limit)


def write_member(member: Member, target: Path) -> None:
    """Write one member of an archive. Raises EOFError if it is cut short."""
    (target if member.folder else target.parent).mkdir(parents=True, exist_ok=True)
    if not member.folder:
        with member.open() as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file, PIECE)
        if target.stat().st_size != member.size:
            raise EOFError


def unpack_archive(path: Path, folder: Path, limit: int | None = None) -> Path:
    """Unpack a zip or tar archive into the new ``folder``, whole or not at all.

    Raises DamagedError for one that is damaged or dangerous, DataError for what is none.
    """
    limit = unpacked_limit(path) if limit is None else limit
    with new_place(folder) as place:
        try:
            with archive_members(path, limit) as members:
                if isinstance(members, list):   # of a zip all are known beforehand
                    check_members(path, ((m.name, m.size, m.plain) for m in members), limit)
                write_members(path, members, place, limit)
        except DataError:
            raise
        except OSError as error:
            if error.errno is None or isinstance(error, (NotADirectoryError,
                                                         IsADirectoryError, FileExistsError)):
                raise broken_archive(path, error) from None
            raise DataError(f"{path} cannot be unpacked into {folder.parent}: "
                            f"{error.strerror}") from None
        except Exception as error:  # zipfile and tarfile raise whatever their parsers raise
            raise broken_archive(path, error) from None
    return folder


def broken_archive(path: Path, error: Exception) -> DamagedError:
    """What to say of an archive whose content is not what it announces."""
    if isinstance(error, NotImplementedError):
        return DamagedError(f"{path} is packed in a way that is not read here ({error}): "
                            "unpack it yourself, and name the folder")
    return DamagedError(f"{path} is truncated or damaged ({type(error).__name__}); "
                        "put a whole copy in its place")


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
