"""Where data come from: the order of the search, and downloads.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from filelock import FileLock
from tqdm import tqdm

from cdlm.data.archives import (
    PIECE,
    DataError,
    NotHereError,
    file_checksum,
    is_hidden,
    looks_like_web_page,
    user_path,
)
from cdlm.data.cache import cache_root

__all__ = [
    "Attempt",
    "NotFoundError",
    "RemoteFile",
    "Resource",
    "Search",
    "download_file",
    "find_below",
    "first_folder",
    "named_folder",
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


def named_folder() -> Path | None:
    """The folder that ``CDLM_DATA`` names, if any.

    Raises DataError if there is none: a mistyped name must not mean a smaller set.
    """
    if not os.environ.get("CDLM_DATA"):
        return None
    place = user_path(os.environ["CDLM_DATA"])
    if not place.is_dir():
        raise DataError(f"CDLM_DATA names {place}, which is not a folder; correct it, "
                        "or unset it")
    return place


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
        if self.root is not None and not user_path(self.root).is_dir():
            raise DataError(f"{self.root} is not a folder; name one that holds data, or none")

    def find(self, resource: Resource) -> Path:
        """The folder with the files of ``resource``: see find_resource."""
        return find_resource(self, resource)

    def places(self, resource: Resource) -> Iterator[tuple[str, Path]]:
        """The folders to look in, by the names of their ways, in the order in which they are
        tried.

        Raises DataError where CDLM_DATA names no folder.
        """
        if self.root is not None:
            yield "folder", user_path(self.root)
        if (named := named_folder()) is not None:
            yield "CDLM_DATA", named
        with suppress(NotHereError):    # without a home folder there is no cache
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
    ways = [f"  {attempt.way}: {attempt.why}" for attempt in search.attempts[before:]]
    raise NotFoundError(f"{resource.name} cannot be had. Tried:", *ways,
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


def find_below(place: Path, inner: str) -> Path | None:
    """The folder ``inner`` below a place, or None; of its names only letters and digits
    count."""
    def bare(name: str) -> str:
        return re.sub("[^0-9a-z]", "", name.lower())
    here = place
    for part in PurePosixPath(inner).parts:
        exact = here / part
        if not exact.is_dir():
            alike = sorted(path for path in here.iterdir() if not is_hidden(path.name)
                           and bare(path.name) == bare(part) and path.is_dir()
                           ) if here.is_dir() else []
            exact = next(iter(alike), exact)
        here = exact
    return here if here.is_dir() else None


def first_folder(place: Path, below: Sequence[str], look: Callable[[Path], Path]) -> Path:
    """What ``look`` finds in the first of the folders ``below`` a place.

    Raises NotHereError if it finds nothing in any.
    """
    folders = [folder for inner in below if (folder := find_below(place, inner)) is not None]
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

MAX_DOWNLOAD, MAX_SECONDS = 2**31, 4 * 3600     # of one file


def continue_download(url: str, part: Path, timeout: float = 30) -> None:
    """Get ``url`` into the file ``part``, or the rest of it.

    Raises DataError if the line breaks, the disk is full, or there is no end to it.
    """
    if not url.startswith(("https://", "http://")):
        raise DataError(f"{url} is no address of a web server")
    there = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "cdlm"} | ({"Range": f"bytes={there}-"} if there else {}))
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            there, left = (there if answer.status == 206 else 0), answer.length
            refuse_size(url, there + (left or 0))
            with tqdm(desc=part.stem, unit="B", unit_scale=True, disable=None, initial=there,
                      total=None if left is None else left + there) as bar:
                came = save_stream(answer, part, there, bar.update, url)
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


def refuse_size(url: str, count: int) -> None:
    """Raise DataError for more bytes than any file of ours has."""
    if count > MAX_DOWNLOAD:
        raise DataError(f"{url}: more than {MAX_DOWNLOAD} bytes, which is no file of ours")


def save_stream(stream: http.client.HTTPResponse, part: Path, there: int,
                progress: Callable[[int], object], url: str) -> int:
    """Append a stream to the first ``there`` bytes of a file; returns how many came.

    Raises DataError where the file cannot be written, and then removes it, and where it takes
    too long or is too much; errors of the stream pass through.
    """
    came, end = 0, time.monotonic() + MAX_SECONDS
    with open(part, "r+b" if there else "wb", buffering=0) as file:
        file.truncate(there)
        file.seek(there)
        while piece := stream.read1(PIECE):
            refuse_size(url, there + came + len(piece))
            if time.monotonic() > end:
                raise DataError(f"{url}: not here after {MAX_SECONDS} s; try again to get the "
                                "rest")
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
            if target.is_file() and file_checksum(target, kind) == remote.checksum:
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
