"""Where data come from: the order of the search, and downloads.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from cdlm.data.archives import PIECE, DataError, NotHereError, looks_like_web_page
from cdlm.data.cache import cache_root

__all__ = [
    "Attempt",
    "NotFoundError",
    "RemoteFile",
    "Resource",
    "Search",
    "download_file",
    "first_folder",
    "need_files",
    "offline",
]


# 60_data: Where to look

@dataclass(frozen=True)
class RemoteFile:
    """A file on a web server: its place below a data folder, its addresses, and its checksum,
    such as "md5:…"."""

    path: str
    urls: tuple[str, ...]
    checksum: str


@dataclass(frozen=True)
class Resource:
    """Files that belong together, and the ways to get them.

    ``locate`` is given a data folder and returns the folder in it that holds the files, or
    raises NotHereError with the reason. ``system`` are folders of distributions; ``remote`` is
    downloaded into the user's cache; ``advice`` says what a person can do.
    """

    name: str
    locate: Callable[[Path], Path]
    advice: str
    system: tuple[str, ...] = ()
    remote: tuple[RemoteFile, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """One way that was tried: its name, and why it failed, or "" if it worked."""

    way: str
    why: str


class NotFoundError(DataError):
    """No way led to a data set; the message lists those tried, and what to do."""


def offline() -> bool:
    """Whether ``CDLM_OFFLINE`` forbids downloads."""
    return os.environ.get("CDLM_OFFLINE", "").lower() not in ("", "0", "no", "false")


@dataclass
class Search:
    """One search for data: a folder to look in first, whether to download, and what was tried
    so far.

    Raises DataError if there is no such folder.
    """

    root: Path | None = None
    download: bool = False
    attempts: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.root is not None and not Path(self.root).expanduser().is_dir():
            raise DataError(f"{self.root} is not a folder; name one that holds data, or none")

    def find(self, resource: Resource) -> Path:
        """The folder with the files of ``resource``: see find_resource."""
        return find_resource(self, resource)

    def places(self, resource: Resource) -> Iterator[tuple[str, Path]]:
        """The folders to look in, by the names of their ways, in the order in which they are
        tried."""
        if self.root is not None:
            yield "folder", Path(self.root).expanduser()
        if os.environ.get("CDLM_DATA"):
            yield "CDLM_DATA", Path(os.environ["CDLM_DATA"]).expanduser()
        yield "cache", cache_root() / "data"
        for path in resource.system:
            yield "system", Path(path)

    @property
    def way(self) -> str:
        """The ways that worked, such as "CDLM_DATA"."""
        return " and ".join(dict.fromkeys(attempt.way
                                          for attempt in self.attempts if not attempt.why))


def find_resource(search: Search, resource: Resource) -> Path:
    """The folder with the files of ``resource``, by the first way that works; tries are noted
    in ``search``.

    Raises NotFoundError with all of them if none does, and DamagedError where files are there
    and damaged, unless they are in the cache and can be downloaded again.
    """
    tried, before = [], len(search.attempts)
    for way, place in search.places(resource):
        try:
            found = resource.locate(place if way != "cache" else check_cache(resource, place))
            search.attempts += [*tried, Attempt(way, "")]
            return found
        except NotHereError as error:
            tried.append(Attempt(way, str(error)))
        except OSError as error:
            tried.append(Attempt(way, f"{place} cannot be read: {error.strerror}"))
    if not os.environ.get("CDLM_DATA"):
        tried.insert(0, Attempt("CDLM_DATA", "not set"))
    try:
        found = download_resource(search, resource)
        search.attempts += [*tried, Attempt("download", "")]
        return found
    except DataError as error:
        search.attempts += [*tried, Attempt("download", str(error))]
    ways = "\n".join(f"  {attempt.way}: {attempt.why}" for attempt in search.attempts[before:])
    raise NotFoundError(f"{resource.name} cannot be had. Tried:\n{ways}\n"
                        f"What to do: {resource.advice}")


def check_cache(resource: Resource, place: Path) -> Path:
    """``place`` itself, unless a file that was downloaded into it has changed since.

    Raises NotHereError.
    """
    for remote in resource.remote:
        path = place / remote.path
        if (path.is_file()
            and file_checksum(path, remote.checksum.partition(":")[0]) != remote.checksum):
            raise NotHereError(f"{path} is damaged")
    return place


def need_files(folder: Path, names: Iterable[str], packed: Sequence[str] = ("",)) -> Path:
    """``folder`` itself if it holds a file of each name, with one of the endings ``packed``.

    Raises NotHereError.
    """
    for name in names:
        if not any((folder / f"{name}{ending}").is_file() for ending in packed):
            raise NotHereError(f"no {name} in {folder}")
    return folder


def first_folder(place: Path, below: Sequence[str], look: Callable[[Path], Path]) -> Path:
    """What ``look`` finds in the first of the folders ``below`` a place.

    Raises NotHereError if it finds nothing in any.
    """
    folders = [place / inner for inner in below if (place / inner).is_dir()]
    if not folders:
        raise NotHereError(f"no {' or '.join(inner for inner in below if inner)} in {place}")
    reasons = []
    for folder in folders:
        try:
            return look(folder)
        except NotHereError as error:
            reasons.append(error)
    raise reasons[0]


# 60_data: Downloads

def file_checksum(path: Path, kind: str) -> str:
    """Checksum of a file in the form of a RemoteFile; ``kind`` is "md5" or "sha256"."""
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False))
    return f"{kind}:{digest.hexdigest()}"


def continue_download(url: str, part: Path, timeout: float = 30) -> None:
    """Get ``url`` into the file ``part``, or the rest of it.

    Raises DataError if the line breaks or the disk is full.
    """
    if not url.startswith(("https://", "http://")):
        raise DataError(f"{url} is no address of a web server")
    there = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "cdlm"} | ({"Range": f"bytes={there}-"} if there else {}))
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            there = there if answer.status == 206 else 0
            left = answer.length
            with tqdm(desc=part.stem, unit="B", unit_scale=True, disable=None, initial=there,
                      total=None if left is None else left + there) as bar:
                came = save_stream(answer, part, there, bar.update)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # "range not satisfiable": it was complete already
            raise DataError(f"{url}: the server answers {error.code} {error.reason}") from None
        return
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError,
            ConnectionError) as error:
        raise DataError(
            f"{url}: "
            f"{getattr(error, 'reason', None) or error or type(error).__name__}") from None
    if left is not None and came < left:
        raise DataError(f"{url}: the line broke after {there + came} of {there + left} bytes; "
                        "try again to get the rest")


def save_stream(stream: io.BufferedIOBase, part: Path, there: int,
                progress: Callable[[int], object]) -> int:
    """Append a stream to the first ``there`` bytes of a file; returns how many came.

    Raises DataError where the file cannot be written, and then removes it; errors of the
    stream pass through.
    """
    came = 0
    with open(part, "r+b" if there else "wb", buffering=0) as file:
        file.truncate(there)
        file.seek(there)
        while piece := stream.read(PIECE):
            try:
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest):]
            except OSError as error:
                part.unlink(missing_ok=True)
                raise DataError(f"{part.parent} cannot be written: {error.strerror}; "
                                "make room, or set CDLM_CACHE") from None
            came += len(piece)
            progress(len(piece))
    return came


def download_file(remote: RemoteFile, folder: Path) -> Path:
    """The file of a RemoteFile in ``folder``, downloaded unless it is there, and checked.

    Raises DataError.

    Two programs that want the same file wait for each other.
    """
    target, reasons = folder / remote.path, []
    part, kind = target.with_name(f"{target.name}.part"), remote.checksum.partition(":")[0]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            if target.exists() and file_checksum(target, kind) == remote.checksum:
                return target
            for url in remote.urls:
                try:
                    if part.exists():
                        continue_download(url, part)
                    # the parts did not fit
                    if not part.exists() or file_checksum(part, kind) != remote.checksum:
                        part.unlink(missing_ok=True)
                        continue_download(url, part)
                    check_download(part, url, remote.checksum)
                    os.replace(part, target)
                    return target
                except DataError as error:
                    reasons.append(str(error))
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}; "
                        "set CDLM_CACHE to another folder") from None
    raise DataError("; ".join(reasons))


def check_download(part: Path, url: str, wanted: str) -> None:
    """Remove a download that is not what it should be, and raise DataError."""
    if file_checksum(part, wanted.partition(":")[0]) == wanted:
        return
    with open(part, "rb") as stream:
        page = looks_like_web_page(stream.read(64))
    part.unlink()
    what = ("sent a web page in its place"
            if page else "sent something else: its checksum is wrong")
    raise DataError(f"{url}: the server {what}")


def download_resource(search: Search, resource: Resource) -> Path:
    """Download all files of a resource into the user's cache.

    Raises DataError with the reason why not.
    """
    if not resource.remote:
        raise DataError("no address with a known checksum")
    if not search.download:
        raise DataError("switched off")
    if offline():
        raise DataError("forbidden by CDLM_OFFLINE")
    for remote in resource.remote:
        download_file(remote, cache_root() / "data")
    return resource.locate(cache_root() / "data")
