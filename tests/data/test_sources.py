"""Where data come from: files of others, the cache, downloads, and the order of the search."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import itertools
import json
import os
import resource
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdlm.data import archives, cache
from cdlm.data import search as search_module
from cdlm.data.archives import (
    DamagedError,
    DataError,
    NotHereError,
    check_members,
    new_place,
    read_bounded,
    read_idx,
    read_usps,
    unpack_archive,
)
from cdlm.data.cache import Pieces, array_header, cache_root, files_fingerprint, read_array, remembered, write_array
from cdlm.data.search import Attempt, NotFoundError, RemoteFile, Resource, Search, download_file, first_folder, need_files, offline

WEB_PAGE = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


# Compressed files and formats


@pytest.mark.parametrize("ending, pack", [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress)])
def test_idx_is_read_packed_and_plain(tmp_path: Path, ending: str, pack) -> None:
    pixels = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
    (tmp_path / f"images{ending}").write_bytes(pack(idx(pixels)))
    read = read_idx(tmp_path / f"images{ending}", 3)
    assert read.dtype == torch.uint8 and np.array_equal(read.numpy(), pixels)
    read += 1                                                               # it is memory of its own, without a warning


def test_idx_is_read_as_torchvision_reads_it(tmp_path: Path) -> None:
    from torchvision.datasets.mnist import read_image_file, read_label_file

    pixels = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
    (tmp_path / "images").write_bytes(idx(pixels))
    (tmp_path / "labels").write_bytes(idx(pixels[:, 0, 0]))
    assert torch.equal(read_idx(tmp_path / "images", 3), read_image_file(str(tmp_path / "images")))
    assert torch.equal(read_idx(tmp_path / "labels", 1).long(), read_label_file(str(tmp_path / "labels")))


GOOD = idx(np.ones((2, 3, 5), dtype=np.uint8))


@pytest.mark.parametrize("content, words", [
    (GOOD[:-1], "announces 2 x 3 x 5 bytes and holds 29"),
    (GOOD + b"x", "holds 31"),
    (GOOD[:7], "is not an IDX file"),
    (b"", "is not an IDX file"),
    (bytes((0, 0, 9, 3)) + GOOD[4:], "is not an IDX file of bytes in 3 dimensions"),
    (bytes((0, 0, 8, 1)) + GOOD[4:], "is not an IDX file of bytes in 3 dimensions"),
    (bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**31, 2**31, 2**31), "and holds 0"),
    (bytes((0, 0, 8, 3)) + struct.pack(">3I", 0, 28, 28), "announces 0 x 28 x 28"),
    (WEB_PAGE, "is a web page"),
])  # fmt: skip
def test_a_damaged_idx_file_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "images-idx3").write_bytes(content)
    with pytest.raises(DamagedError, match=words) as caught:
        read_idx(tmp_path / "images-idx3", 3)
    assert "images-idx3" in str(caught.value)


@given(content=st.binary(max_size=80), packed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content: bytes, packed: bool) -> None:
    path = tmp_path_factory.mktemp("bytes") / ("x.gz" if packed else "x")
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    for read in (lambda: read_idx(path, 1), lambda: read_usps(path)):
        with pytest.raises(DamagedError):
            read()
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        read_idx(path, 3)


@pytest.mark.parametrize("ending, pack", [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_truncated_altered_and_bombs(tmp_path: Path, ending: str, pack, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"data{ending}"
    content = pack(os.urandom(5000))
    for wrong in (content[:-100], content[:2000] + bytes(50) + content[2050:], b"not packed at all", content[:12]):
        path.write_bytes(wrong)
        with pytest.raises(DamagedError, match="truncated or damaged"):
            read_bounded(path)
    path.write_bytes(pack(bytes(50_000_000)))
    assert path.stat().st_size < 100_000
    seen = []
    monkeypatch.setattr(archives, "PIECE", 2**16)
    with pytest.raises(DamagedError, match="more than 1000000 bytes"):
        seen.append(read_bounded(path, 1_000_000))
    assert len(read_bounded(path, 50_000_000)) == 50_000_000 and seen == []


def test_missing_and_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="gone.gz cannot be read: No such file") as caught:
        read_bounded(tmp_path / "gone.gz")
    assert not isinstance(caught.value, DamagedError)
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_bounded(tmp_path)
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")
    (tmp_path / "locked.gz").touch()
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        read_bounded(tmp_path / "locked.gz")


def usps_line(label: int, values: np.ndarray) -> str:
    return f"{label} " + " ".join(f"{number}:{value:.6g}" for number, value in enumerate(values, 1)) + " \n"


def test_usps_is_read_as_torchvision_reads_it(tmp_path: Path) -> None:
    from torchvision.datasets import USPS

    draw = np.random.default_rng(0)
    lines = [usps_line(label, draw.uniform(-1, 1, 256).round(3)) for label in (1, 10, 7)]
    (tmp_path / "usps.bz2").write_bytes(bz2.compress("".join(lines).encode()))
    images, labels = read_usps(tmp_path / "usps.bz2")
    theirs = USPS(tmp_path)
    assert images.shape == (3, 1, 16, 16) and images.dtype == torch.uint8
    assert np.array_equal(images[:, 0].numpy(), theirs.data) and labels.tolist() == theirs.targets == [0, 9, 6]


@pytest.mark.parametrize("text, words", [
    ("", "does not hold 256 values"),
    ("1 1:0.5\n", "does not hold lines"),
    (usps_line(1, np.zeros(256)).replace("3:0", "3:x", 1), "does not hold lines"),
    (usps_line(11, np.zeros(256)), "labels that are not 1 to 10"),
    (usps_line(0, np.zeros(256)), "labels that are not 1 to 10"),
    (usps_line(1, np.full(256, 1.5)), "256 values from -1 to 1"),
    (usps_line(1, np.full(256, np.nan)), "256 values from -1 to 1"),
    (usps_line(1, np.zeros(256)).replace(" 7:", " 8:", 1), "256 values from -1 to 1"),
])  # fmt: skip
def test_a_damaged_usps_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "usps.bz2").write_bytes(bz2.compress(text.encode()))
    with pytest.raises(DamagedError, match=words):
        read_usps(tmp_path / "usps.bz2")


# Archives


def zipped(path: Path, members: dict[str, bytes], link: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    return path


def test_archives_are_unpacked_whole(tmp_path: Path) -> None:
    members = {"a/one.txt": b"1", "two.txt": b"2" * 1000}
    zipped(tmp_path / "good.zip", members)
    with tarfile.open(tmp_path / "good.tgz", "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    for name in ("good.zip", "good.tgz"):
        folder = unpack_archive(tmp_path / name, tmp_path / "out" / name)
        assert {p: (folder / p).read_bytes() for p in files_below(folder)} == members


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/out.txt", "C:/out.txt", "..\\out.txt", "a\\..\\..\\out.txt"])
def test_members_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    zipped(tmp_path / "evil.zip", {"fine.txt": b"x", name: b"y"})
    with pytest.raises(DamagedError, match="leads out of its folder"):
        unpack_archive(tmp_path / "evil.zip", tmp_path / "deep" / "down")
    assert files_below(tmp_path) == ["evil.zip"]


def test_links_and_absurd_sizes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped(tmp_path / "bomb.zip", {"zeros": bytes(10_000_000)})
    assert bomb.stat().st_size < 20_000
    with pytest.raises(DamagedError, match="would unpack to more than 1000000 bytes"):
        unpack_archive(bomb, tmp_path / "bomb", limit=1_000_000)
    with pytest.raises(DamagedError, match="is no file"):
        unpack_archive(zipped(tmp_path / "link.zip", {}, link="innocent"), tmp_path / "link")
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        info = tarfile.TarInfo("innocent")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(info)
    with pytest.raises(DamagedError, match="is no file"):
        unpack_archive(tmp_path / "link.tar", tmp_path / "link")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1000)
    with pytest.raises(DamagedError, match="1000 files: refused"):
        check_members(Path("x"), ((f"{n}", 0, True) for n in itertools.count()), 10)
    assert not (tmp_path / "bomb").exists() and not (tmp_path / "link").exists()


@pytest.mark.parametrize("name", ["good.zip", "good.tgz"])
def test_damaged_archives_leave_nothing(tmp_path: Path, name: str) -> None:
    content = os.urandom(20_000)
    if name.endswith("zip"):
        zipped(tmp_path / name, {"data": content})
    else:
        with tarfile.open(tmp_path / name, "w:gz") as archive:
            info = tarfile.TarInfo("data")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    whole = (tmp_path / name).read_bytes()
    cut, altered = whole[:-5000], whole[:9000] + bytes(100) + whole[9100:]
    for wrong, words in ((cut, "truncated or damaged"), (altered, "truncated or damaged"), (WEB_PAGE, "is a web page"),
                         (b"", "is an empty file, neither a folder of images nor an archive")):
        (tmp_path / name).write_bytes(wrong)
        with pytest.raises(DataError, match=words):
            unpack_archive(tmp_path / name, tmp_path / "out")
        assert files_below(tmp_path) == [name] and not (tmp_path / "out").exists()


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b", "C:", "~"]), min_size=1, max_size=5), st.sampled_from("/\\"))
def test_members_that_pass_stay_inside(parts: list[str], bar: str) -> None:
    name = bar.join(parts)
    try:
        check_members(Path("x"), [(name, 0, True)], 10)
    except DamagedError:
        return
    inside = os.path.normpath(os.path.join("/folder", name.replace("\\", "/")))
    assert inside.startswith("/folder")


# New folders and the cache


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        with new_place(tmp_path / "made") as place:
            (place / "half").write_text("half")
            assert not (tmp_path / "made").exists()
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with new_place(tmp_path / "made") as place:
        (place / "first").write_text("")
        with new_place(tmp_path / "made") as other:                        # another program is faster
            (other / "second").write_text("")
    assert files_below(tmp_path) == ["made/second"]


@given(shape=st.lists(st.integers(0, 10**7), min_size=1, max_size=5).map(tuple),
       dtype=st.sampled_from(["uint8", "int64", "float32"]))
def test_headers_have_one_length_and_are_numpys(shape: tuple[int, ...], dtype: str) -> None:
    stream = io.BytesIO(array_header(shape, np.dtype(dtype)))
    assert len(stream.getvalue()) == 128
    assert np.lib.format.read_magic(stream) == (1, 0)
    assert np.lib.format.read_array_header_1_0(stream) == (shape, False, np.dtype(dtype))


def test_arrays_are_written_in_pieces_and_mapped(tmp_path: Path) -> None:
    whole = torch.arange(24, dtype=torch.uint8).reshape(6, 2, 2)
    write_array(tmp_path / "whole.npy", whole)
    write_array(tmp_path / "pieces.npy", Pieces((2, 2), iter([whole[:1].numpy(), whole[1:].numpy()])))
    assert (tmp_path / "whole.npy").read_bytes() == (tmp_path / "pieces.npy").read_bytes()
    read = read_array(tmp_path / "pieces.npy")
    read += 100                                                             # a private copy of the pages
    assert torch.equal(read_array(tmp_path / "pieces.npy"), whole)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", WEB_PAGE, array_header((1000, 28), np.dtype("uint8")) + b"few"])
def test_damaged_arrays_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DamagedError, match="x.npy is damaged"):
        read_array(tmp_path / "x.npy")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "pwned"),))
    np.save(tmp_path / "x.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(DamagedError):
        read_array(tmp_path / "x.npy")
    assert not (tmp_path / "pwned").exists()


def counting() -> tuple[list[int], object]:
    calls: list[int] = []
    def make() -> dict[str, torch.Tensor | Pieces]:
        calls.append(1)
        return {"a": torch.arange(3), "b": Pieces((2,), (np.full((n, 2), n, np.uint8) for n in (1, 2)))}
    return calls, make


def test_made_once_and_again_when_the_key_changes_or_a_file_is_damaged(no_data: Path) -> None:
    calls, make = counting()
    for expected in (1, 1):
        parts = remembered("toy", {"seed": 0}, make)
        assert parts["a"].tolist() == [0, 1, 2] and parts["b"].tolist() == [[1, 1], [2, 2], [2, 2]] and len(calls) == expected
    remembered("toy", {"seed": 1}, make)
    assert len(calls) == 2 and len([path for path in (no_data / "arrays").iterdir() if path.is_dir()]) == 2
    for damage in (lambda p: p.write_bytes(p.read_bytes()[:-1]), Path.unlink, lambda p: p.write_bytes(WEB_PAGE)):
        for part in ("a.npy", "parts.json"):
            for folder in (no_data / "arrays").glob("toy-*"):
                damage(folder / part)
            before = len(calls)
            assert remembered("toy", {"seed": 1}, make)["a"].tolist() == [0, 1, 2] and len(calls) == before + 1


def test_an_error_while_making_leaves_nothing(no_data: Path) -> None:
    def make() -> dict:
        raise DamagedError("a.png cannot be used")
    with pytest.raises(DamagedError, match=r"a\.png"):
        remembered("toy", {}, make)
    assert files_below(no_data) == []


def test_an_interrupt_while_writing_leaves_nothing(no_data: Path) -> None:
    def pieces() -> Iterator[np.ndarray]:
        yield np.zeros((5, 2), np.uint8)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        remembered("toy", {}, lambda: {"a": Pieces((2,), pieces())})
    assert files_below(no_data) == []


def test_a_full_disk_costs_the_cache_and_not_the_data(no_data: Path) -> None:
    """Really full: the system refuses to let files grow beyond 64 KiB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = torch.arange(100_000, dtype=torch.int64)
    make = lambda: {"a": big, "b": Pieces((), iter([big.numpy()] * 2), "int64")}  # noqa: E731
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
        with pytest.warns(UserWarning, match="toy is not kept in .*File too large"):
            parts = remembered("toy", {}, make)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(parts["a"], big) and len(parts["b"]) == 200_000
    assert files_below(no_data) == []
    assert torch.equal(remembered("toy", {}, make)["a"], big) and len(files_below(no_data)) == 3


def test_no_space_left_is_told_as_such(no_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(cache, "write_array", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert remembered("toy", {}, counting()[1])["a"].tolist() == [0, 1, 2]


def test_a_cache_that_cannot_be_made(no_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_data.write_text("a file in its place")
    with pytest.warns(UserWarning, match="set CDLM_CACHE"):
        assert remembered("toy", {}, counting()[1])["a"].tolist() == [0, 1, 2]


@pytest.mark.slow
def test_two_processes_make_one_cache(no_data: Path, tmp_path: Path) -> None:
    """Both get the arrays, and one of them made them: the other waited."""
    program = f"""
import os, sys, time, torch
from pathlib import Path
from cdlm.data.cache import remembered
def make():
    open({str(tmp_path / "made")!r}, "a").write("x")
    Path({str(tmp_path)!r}, "making").touch()
    time.sleep(1)
    return {{"a": torch.arange(5)}}
print(remembered("toy", {{}}, make)["a"].tolist())
"""
    both = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=600)[0].strip() for process in both] == ["[0, 1, 2, 3, 4]"] * 2
    assert (tmp_path / "made").read_text() == "x"


def test_fingerprints_see_names_sizes_and_times(tmp_path: Path) -> None:
    def now() -> str:
        return files_fingerprint(tmp_path, tmp_path.rglob("*.txt"))
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(folder)
        os.utime(tmp_path / folder / "x.txt", (0, 0))
    first = now()
    assert first == now() and len(first) == 16
    (tmp_path / "a/x.txt").rename(tmp_path / "a/y.txt")
    renamed = now()
    (tmp_path / "a/y.txt").write_text("aa")
    os.utime(tmp_path / "a/y.txt", (0, 0))
    grown = now()
    os.utime(tmp_path / "a/y.txt", (1, 1))
    assert len({first, renamed, grown, now()}) == 4


def test_the_cache_is_where_one_says(no_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_root() == no_data
    monkeypatch.delenv("CDLM_CACHE")
    assert cache_root().name == "cdlm" and cache_root().is_absolute()


# Downloads

BODY = os.urandom(3_000_000)


class Server(ThreadingHTTPServer):
    """Serves BODY; the first part of a path says what goes wrong."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[tuple[str, str | None]] = []

    def remote(self, *ways: str, body: bytes = BODY, kind: str = "md5") -> RemoteFile:
        urls = tuple(f"http://127.0.0.1:{self.server_port}/{way}/data.gz" for way in ways)
        return RemoteFile("set/raw/data.gz", urls, f"{kind}:{hashlib.new(kind, body).hexdigest()}")


class Answer(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        way, wanted = self.path.split("/")[1], self.headers.get("Range")
        self.server.asked.append((way, wanted))
        start = int(wanted[6:-1]) if wanted and way not in ("deaf", "html") else 0
        body = {"html": WEB_PAGE, "other": BODY[:-1] + b"!"}.get(way, BODY)
        if way.isdigit() and int(way) >= 400:
            self.send_error(int(way))
            return
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if way != "endless":
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        broken = way == "broken" or (way == "once" and len(self.server.asked) == 1)
        self.wfile.write(body[start : start + (len(body) - start) // 2] if broken else body[start:])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def is_there(folder: Path) -> bool:
    assert files_below(folder) == ["set/raw/data.gz"]
    return (folder / "set/raw/data.gz").read_bytes() == BODY


@pytest.mark.parametrize("kind", ["md5", "sha256"])
@pytest.mark.parametrize("way", ["good", "endless"])
def test_a_download_is_checked_and_happens_once(server: Server, tmp_path: Path, way: str, kind: str) -> None:
    for _ in range(2):
        assert download_file(server.remote(way, kind=kind), tmp_path) == tmp_path / "set/raw/data.gz"
        assert is_there(tmp_path)
    assert server.asked == [(way, None)]


@pytest.mark.parametrize("way, words", [
    ("html", "sent a web page in its place"),
    ("other", "its checksum is wrong"),
    ("404", "the server answers 404"),
    ("500", "the server answers 500"),
])  # fmt: skip
def test_what_is_not_the_data_is_refused_and_removed(server: Server, tmp_path: Path, way: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        download_file(server.remote(way), tmp_path)
    assert files_below(tmp_path) == []


def test_a_broken_line_is_continued(server: Server, tmp_path: Path) -> None:
    """What came is kept under another name; the next try asks for the rest."""
    with pytest.raises(DataError, match=f"the line broke after {len(BODY) // 2} of {len(BODY)} bytes"):
        download_file(server.remote("once"), tmp_path)
    assert files_below(tmp_path) == ["set/raw/data.gz.part"]
    download_file(server.remote("once"), tmp_path)
    assert is_there(tmp_path) and server.asked[1] == ("once", f"bytes={len(BODY) // 2}-")


def test_a_line_that_breaks_again_and_again_gets_there(server: Server, tmp_path: Path) -> None:
    sizes = []
    for _ in range(3):
        with pytest.raises(DataError, match="line broke"):
            download_file(server.remote("broken"), tmp_path)
        sizes.append((tmp_path / "set/raw/data.gz.part").stat().st_size)
    assert sizes == [len(BODY) // 2, len(BODY) * 3 // 4, len(BODY) * 7 // 8]
    download_file(server.remote("good"), tmp_path)
    assert is_there(tmp_path)


def test_a_server_that_cannot_continue_starts_again(server: Server, tmp_path: Path) -> None:
    for part in (BODY[:1000], BODY + b"and more", b"something else"):
        (tmp_path / "set/raw").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set/raw/data.gz.part").write_bytes(part)
        download_file(server.remote("deaf"), tmp_path)
        assert is_there(tmp_path)
        (tmp_path / "set/raw/data.gz").unlink()


def test_a_wrong_beginning_does_not_survive(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set/raw").mkdir(parents=True)
    for part in (b"wrong", BODY[:-1] + b"!", BODY + b"too much"):
        (tmp_path / "set/raw/data.gz.part").write_bytes(part)
        download_file(server.remote("good"), tmp_path)
        assert is_there(tmp_path)
        (tmp_path / "set/raw/data.gz").unlink()


def test_a_complete_part_needs_no_more_bytes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set/raw").mkdir(parents=True)
    (tmp_path / "set/raw/data.gz.part").write_bytes(BODY)
    download_file(server.remote("good"), tmp_path)
    assert is_there(tmp_path) and server.asked == [("good", f"bytes={len(BODY)}-")]


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    download_file(server.remote("500", "html", "good"), tmp_path)
    assert is_there(tmp_path) and [way for way, _ in server.asked] == ["500", "html", "good"]
    with pytest.raises(DataError, match="answers 404.*web page"):
        download_file(server.remote("404", "html"), tmp_path / "other")


def test_an_interrupted_download_is_continued(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting(search_module.tqdm):
        def update(self, n: float = 1) -> None:
            raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(search_module, "tqdm", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            download_file(server.remote("good"), tmp_path)
    [part] = files_below(tmp_path)
    assert part == "set/raw/data.gz.part" and 0 < (tmp_path / part).stat().st_size < len(BODY)
    download_file(server.remote("good"), tmp_path)
    assert is_there(tmp_path) and server.asked[1][1] is not None


def test_a_full_disk_during_a_download_leaves_nothing(server: Server, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
        with pytest.raises(DataError, match="cannot be written: File too large; make room"):
            download_file(server.remote("good"), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_below(tmp_path) == []


def test_a_place_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set").write_text("a file in its place")
    with pytest.raises(DataError, match="cannot be written: .*CDLM_CACHE"):
        download_file(server.remote("good"), tmp_path)
    assert server.asked == []


@pytest.mark.parametrize("url, words", [
    ("file:///etc/passwd", "is no address of a web server"),
    ("ftp://127.0.0.1/x", "is no address of a web server"),
    ("http://127.0.0.1:1/x", "Connection refused"),
])  # fmt: skip
def test_addresses_that_lead_nowhere(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        download_file(RemoteFile("x", (url,), "md5:0"), tmp_path)


def test_two_threads_want_the_same_file(server: Server, tmp_path: Path) -> None:
    threads = [threading.Thread(target=download_file, args=(server.remote("good"), tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert is_there(tmp_path) and len(server.asked) == 1


# The search


def toy(server: Server | None = None, way: str = "good", system: tuple[str, ...] = ()) -> Resource:
    remote = (server.remote(way),) if server else ()
    def locate(place: Path) -> Path:
        return first_folder(place, ("set/raw", ""), lambda folder: need_files(folder, ["data"], ("", ".gz")))
    return Resource("Toys", locate, "buy some", system, remote)


def put(folder: Path, content: bytes = BODY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.gz").write_bytes(content)
    return folder


def test_the_order_of_the_search(server: Server, no_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way is found when those before it have nothing, and says which it was."""
    monkeypatch.undo()                                                    # the system's folders are part of this test
    monkeypatch.setenv("CDLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CDLM_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("CDLM_OFFLINE", raising=False)
    (tmp_path / "root").mkdir()
    (tmp_path / "data").mkdir()
    wanted = toy(server, system=(str(tmp_path / "system"),))
    def found() -> tuple[str, Path]:
        search = Search(tmp_path / "root", download=True)
        return (place := search.find(wanted)) and (search.way, place)
    assert found() == ("download", tmp_path / "cache/data/set/raw")
    assert found() == ("cache", tmp_path / "cache/data/set/raw") and len(server.asked) == 1
    (tmp_path / "cache/data/set/raw/data.gz").unlink()
    put(tmp_path / "system")
    assert found() == ("system", tmp_path / "system")
    put(tmp_path / "cache/data/set/raw")
    assert found()[0] == "cache"
    put(tmp_path / "data/set/raw")
    assert found() == ("CDLM_DATA", tmp_path / "data/set/raw")
    put(tmp_path / "root")
    assert found() == ("folder", tmp_path / "root")


def test_when_no_way_works_the_message_names_them_all(server: Server, no_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(download=True)
    with pytest.raises(NotFoundError) as caught:
        search.find(toy(server, "404"))
    lines = str(caught.value).splitlines()
    assert lines[0] == "Toys cannot be had. Tried:" and lines[-1] == "What to do: buy some"
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == ["CDLM_DATA", "cache", "download"]
    assert "not set" in lines[1] and "no set/raw in" in lines[2] and "404" in lines[3]
    assert [attempt.way for attempt in search.attempts] == ["CDLM_DATA", "cache", "download"] and search.way == ""
    (no_data / "empty").mkdir(parents=True)
    monkeypatch.setenv("CDLM_DATA", str(no_data / "empty"))
    with pytest.raises(NotFoundError, match="CDLM_DATA: no toys in .*empty"):
        Search().find(Resource("Toys", lambda place: first_folder(place, ("toys",), Path), ""))
    monkeypatch.setenv("CDLM_DATA", str(no_data / "nowhere"))               # mistyped: no smaller set in its place
    with pytest.raises(DataError, match="CDLM_DATA names .*nowhere, which is not a folder; correct it"):
        Search().find(Resource("Toys", lambda place: first_folder(place, ("toys",), Path), ""))


@pytest.mark.parametrize("download, setting, words", [
    (False, "", "download: switched off"),
    (True, "1", "download: forbidden by CDLM_OFFLINE"),
])  # fmt: skip
def test_downloads_can_be_switched_off(server: Server, no_data: Path, monkeypatch, download, setting, words) -> None:
    monkeypatch.setenv("CDLM_OFFLINE", setting)
    with pytest.raises(NotFoundError, match=words):
        Search(download=download).find(toy(server))
    assert server.asked == []


@pytest.mark.parametrize("value, expected", [("", False), ("0", False), ("no", False), ("False", False), ("1", True)])
def test_the_switch(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("CDLM_OFFLINE", value)
    assert offline() is expected


def test_without_a_known_checksum_nothing_is_downloaded(no_data: Path) -> None:
    with pytest.raises(NotFoundError, match="download: no address with a known checksum"):
        Search(download=True).find(toy())


def test_a_file_that_has_changed_in_the_cache_is_downloaded_again(server: Server, no_data: Path) -> None:
    put(no_data / "data/set/raw", BODY[:-1])
    with pytest.raises(NotFoundError, match=r"cache: .*data\.gz is damaged"):
        Search().find(toy(server))
    search = Search(download=True)
    assert search.find(toy(server)) == no_data / "data/set/raw" and search.way == "download"
    assert is_there(no_data / "data")


def test_a_folder_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        Search(tmp_path / "nowhere")


def test_an_unreadable_folder_is_one_way_that_failed(no_data: Path, tmp_path: Path) -> None:
    def locked(place: Path) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(NotFoundError, match="folder: .* cannot be read: Permission denied"):
        Search(tmp_path).find(Resource("Toys", locked, "buy some"))


def test_damage_is_not_passed_over(no_data: Path, tmp_path: Path) -> None:
    """Where a folder has the files and they are broken, looking elsewhere would hide it."""
    def broken(place: Path) -> Path:
        raise DamagedError(f"{place / 'data'} is broken")
    with pytest.raises(DamagedError, match="data is broken"):
        Search(tmp_path, download=True).find(Resource("Toys", broken, "buy some"))


def test_the_reason_is_that_of_the_first_folder(tmp_path: Path) -> None:
    (tmp_path / "set/raw").mkdir(parents=True)
    (tmp_path / "set/raw/one").touch()
    with pytest.raises(NotHereError, match=r"no two in .*raw"):
        first_folder(tmp_path, ("absent", "set/raw", ""), lambda folder: need_files(folder, ["one", "two"]))


def test_ways_are_told_once_and_in_order() -> None:
    tries = [Attempt("CDLM_DATA", "not set"), Attempt("cache", ""), Attempt("cache", ""), Attempt("download", "")]
    assert Search(attempts=tries).way == "cache and download"


def test_the_key_of_a_cache_is_kept_beside_it(no_data: Path) -> None:
    remembered("toy", {"seed": 3}, counting()[1])
    [folder] = (no_data / "arrays").glob("toy-*")
    found = json.loads((folder / "parts.json").read_text())
    sums = {part: f"sha256:{hashlib.sha256((folder / f'{part}.npy').read_bytes()).hexdigest()}" for part in "ab"}
    assert found == {"key": {"seed": 3}, "parts": sums}
