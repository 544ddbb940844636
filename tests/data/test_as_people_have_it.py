"""Folders, archives, pictures and caches as people and systems leave them: each with its right value, or with one line."""

from __future__ import annotations

import io
import json
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from cdlm.data import archives, cache
from cdlm.data import search as search_module
from cdlm.data.archives import (
    DamagedError,
    DataError,
    DataNote,
    is_hidden,
    printable,
    read_bounded,
    read_usps,
    unpack_archive,
    user_path,
)
from cdlm.data.cache import cache_root, remembered, sweep_places, working_place
from cdlm.data.domain import UnknownDomainError, checksum
from cdlm.data.pictures import PICTURE_ENDINGS, PICTURE_FORMATS, natural, picture_files, read_picture
from cdlm.data.search import NotFoundError, RemoteFile, download_file, find_below
from cdlm.domains.catalog import check_classes, domain_info, open_domain, open_folder, overview
from cdlm.domains.digits import IDX_FILES, find_photos, idx_file, photo_files

APPLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + b"\0" * 100
LEFT = ("._00.png", ".DS_Store", "Thumbs.db", "desktop.ini", "00.png~")
posix = pytest.mark.skipif(os.name != "posix", reason="file systems of POSIX")


def picture(path: Path, value: int = 100, size: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), value, np.uint8)).save(path)
    return path


def classes(folder: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 5) -> Path:
    for value, name in enumerate(names):
        for number in range(count):
            picture(folder / name / f"{number:02}.png", (60 * value + number) % 256)
    return folder


def values(folder: Path | str, **options: object) -> tuple[list[int], list[int], tuple[str, ...]]:
    """The gray values of a folder of uniform images, to train and to test, and its classes."""
    domain = open_folder(folder, channels=1, **options)
    return *(split.images[:, 0, 0, 0].tolist() for split in (domain.train, domain.test)), domain.classes


PETS = ([0, 1, 2, 3, 60, 61, 62, 63], [4, 64], ("cat", "dog"))


# What is no data


def test_one_rule_of_what_is_hidden() -> None:
    for name in (
        "._x.png",
        "__MACOSX",
        ".DS_Store",
        ".ipynb_checkpoints",
        "Thumbs.db",
        "thumbs.DB",
        "desktop.ini",
        "x.png~",
        "@eaDir",
        ".git",
    ):
        assert is_hidden(name), name
    for name in ("x.png", "cat", "_x", "__init__", "thumbs", "~x", "Icon.png"):
        assert not is_hidden(name), name


def test_leftovers_of_systems_are_no_data(no_data: Path, tmp_path: Path) -> None:
    folder = classes(tmp_path / "pets")
    for place in (folder, folder / "cat"):
        for name in LEFT:
            (place / name).write_bytes(APPLE)
    for inner in ("__MACOSX/cat", ".ipynb_checkpoints", "cat/.ipynb_checkpoints", "@eaDir"):
        picture(folder / inner / "99.png", 250)
    assert values(folder) == PETS
    loose = tmp_path / "loose"
    for number in range(5):
        picture(loose / f"{number}.png", number)
        (loose / f"._{number}.png").write_bytes(APPLE)
    assert values(loose) == ([0, 1, 2, 3], [4], ())


def test_leftovers_are_no_photographs_and_no_archive_members(no_data: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / "b" / part).mkdir(parents=True)
        (tmp_path / "b" / part / "._1.jpg").write_bytes(APPLE)
    with pytest.raises(DataError, match="no photographs"):
        find_photos(tmp_path / "b")
    for part in ("train", "test"):
        for number in (100, 9):
            picture(tmp_path / "b" / part / f"{number}.jpg")
    assert [p.name for p in photo_files(find_photos(tmp_path / "b") / "train")] == [
        "100.jpg",
        "9.jpg",
    ]  # as ever: order decides patches
    folder = classes(tmp_path / "pets")
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
            archive.writestr(f"__MACOSX/{path.parent.name}/._{path.name}", APPLE)
    assert values(tmp_path / "mac.zip") == PETS


# Folders


def test_one_class_names_the_folder_below(no_data: Path, tmp_path: Path) -> None:
    classes(tmp_path / "amazon/images")
    with pytest.raises(DataError, match=r"amazon holds one folder only.*amazon.images$"):
        open_folder(tmp_path / "amazon")
    assert values(tmp_path / "amazon/images") == PETS


def test_several_collections_are_no_classes(no_data: Path, tmp_path: Path) -> None:
    for name in ("amazon", "webcam"):
        classes(tmp_path / "office" / name / "images")
        classes(tmp_path / "home" / name)
    for root in ("office", "home"):
        with pytest.raises(DataError, match="each of amazon, webcam, … holds folders cat, dog, …: name one of them"):
            open_folder(tmp_path / root)
    classes(tmp_path / "turned/cat", ("train", "test"))
    classes(tmp_path / "turned/dog", ("train", "test"))
    with pytest.raises(DataError, match="put the classes below these"):
        open_folder(tmp_path / "turned")
    for name in ("cat", "dog"):  # a class may have folders of its own
        picture(tmp_path / "deep" / name / "images/a/1.png")
        picture(tmp_path / "deep" / name / "images/b.png")
    assert open_folder(tmp_path / "deep").classes == ("cat", "dog")


@pytest.mark.parametrize(
    "pair",
    [
        ("train", "test"),
        ("training", "testing"),
        ("Train", "Test"),
        ("train", "val"),
        ("train", "valid"),
        ("TRAIN", "VALIDATION"),
        ("train", "dev"),
    ],
)
def test_splits_by_their_usual_names(no_data: Path, tmp_path: Path, pair: tuple[str, str]) -> None:
    classes(tmp_path / "set" / pair[0], count=3)
    classes(tmp_path / "set" / pair[1], count=1)
    with pytest.warns(DataNote, match=f"images to train from {pair[0]}, to test from {pair[1]}$"):
        assert values(tmp_path / "set") == ([0, 1, 2, 60, 61, 62], [0, 60], ("cat", "dog"))


def test_what_is_left_out_beside_splits_is_said_and_what_is_unclear_refused(no_data: Path, tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        classes(tmp_path / "three" / part)
    picture(tmp_path / "three/sample.png")
    with pytest.warns(DataNote, match="from train, to test from test; left out: val, sample.png"):
        open_folder(tmp_path / "three")
    classes(tmp_path / "alone/train")
    with pytest.warns(DataNote, match="the last fifth of each class is held out"):
        assert values(tmp_path / "alone") == PETS
    for names, words in ((("train", "Training", "test"), "which of them is it"), (("val", "test"), "nothing to train from")):
        folder = tmp_path / "-".join(names)
        for name in names:
            classes(folder / name)
        with pytest.raises(DataError, match=words):
            open_folder(folder)
    assert open_folder(classes(tmp_path / "vehicles", ("bus", "train"))).classes == ("bus", "train")


@posix
def test_links_are_followed_and_loops_refused(no_data: Path, tmp_path: Path) -> None:
    real, folder = classes(tmp_path / "real"), tmp_path / "pets"
    folder.mkdir()
    (folder / "cat").symlink_to(real / "cat")  # a class that is a link
    (folder / "dog").mkdir()
    (folder / "dog" / "more").symlink_to(real / "dog")  # and one that holds a link to a folder
    assert values(folder) == PETS
    (folder / "dog" / "again").symlink_to(folder)
    with pytest.raises(DataError, match="is a link that leads back"):
        open_folder(folder)
    (folder / "dog" / "again").unlink()
    (folder / "dog" / "000.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DamagedError, match="000.png cannot be used as an image: .*--skip-damaged"):
        open_folder(folder)
    with pytest.warns(DataNote, match="left out: 1; the first: .*000.png"):
        assert values(folder, skip_damaged=True) == PETS


@posix
def test_pipes_are_refused_and_never_read(no_data: Path, tmp_path: Path) -> None:
    folder = classes(tmp_path / "pets")
    os.mkfifo(folder / "cat/000.png")
    with pytest.raises(DamagedError, match="000.png is a pipe or a device"):
        open_folder(folder)
    with pytest.warns(DataNote, match="000.png is a pipe"):
        assert values(folder, skip_damaged=True) == PETS
    os.mkfifo(tmp_path / "images.gz")
    for work in (
        lambda: read_bounded(tmp_path / "images.gz"),
        lambda: open_folder(tmp_path / "images.gz"),
        lambda: open_folder("/dev/zero"),
    ):
        with pytest.raises(DataError, match="is a pipe or a device"):
            work()


@posix
def test_folders_a_thousand_deep(no_data: Path, tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for name in ("pets", *["d"] * 1000):
            os.mkdir(name)
            os.chdir(name)
        Image.new("L", (9, 9)).save("00.png")
        assert [path.name for path in picture_files(tmp_path / "pets")] == ["00.png"]
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-rf", tmp_path / "pets"], check=True)  # shutil cannot


def test_frames_without_zeros_are_in_the_order_of_their_numbers(no_data: Path, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(1, 16):
            picture(tmp_path / "film" / name / f"frame{number}.png", number)
    train, test, _ = values(tmp_path / "film")
    assert train == [*range(1, 13)] * 2 and test == [13, 14, 15] * 2
    names = ["9.png", "10.png", "010.png", "a1", "a02", "a2", "a10"]
    assert sorted(reversed(names), key=natural) == ["9.png", "010.png", "10.png", "a1", "a02", "a2", "a10"]


def test_padded_names_keep_their_order() -> None:
    names = [f"{number:06d}.jpg" for number in (1, 99, 100, 162770, 202599)]
    assert sorted(reversed(names), key=natural) == names == sorted(names)


@posix
def test_names_in_two_forms_of_unicode_are_one(no_data: Path, tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert one != other
    source, target = (open_folder(classes(tmp_path / form, (name, "zebra", "cafe"))) for form, name in (("c", one), ("d", other)))
    assert source.classes == target.classes == ("cafe", one, "zebra")
    check_classes(source, target)
    classes(tmp_path / "both", (one, other))
    with pytest.raises(DataError, match="two folders of the name .* in two forms of Unicode"):
        open_folder(tmp_path / "both")


@posix
def test_names_that_are_no_unicode_and_names_that_would_move_the_cursor(no_data: Path, tmp_path: Path) -> None:
    folder = classes(tmp_path / "pets")
    os.rename(folder / "cat/00.png", os.fsencode(folder / "cat") + b"/00\xe9.png")
    assert values(folder) == PETS
    (folder / "dog" / "00\x1b[2J\n.png").write_bytes(b"broken")
    with pytest.raises(DamagedError) as caught:
        open_folder(folder)
    assert r"00\x1b[2J\n.png cannot be used" in str(caught.value) and str(caught.value).isprintable()
    assert printable("a\udce9\u202eb") == r"a\udce9\u202eb"
    os.rename(folder / "dog", os.fsencode(folder) + b"/d\xf6g")
    with pytest.warns(DataNote):
        assert open_folder(folder, skip_damaged=True).classes == ("cat", r"d\udcf6g")


# Archives


def packed(
    folder: Path, path: Path, name: Callable[[Path], str] = lambda path: path.as_posix(), extra: tuple[str, ...] = ()
) -> Path:
    """A zip archive of the pictures below a folder; ``name`` gives their names from where they lie."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.writestr(zipfile.ZipInfo(name(file.relative_to(folder))), file.read_bytes())
        for member in extra:
            archive.writestr(member, "x")
    return path


def tarred(folder: Path, path: Path, name: str, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        archive.add(folder, name)
    return path


def test_archives_as_usual_tools_make_them(no_data: Path, tmp_path: Path) -> None:
    pets = classes(tmp_path / "pets")
    found = {
        "tar of .": tarred(pets, tmp_path / "dot.tgz", "."),
        "tar.bz2": tarred(pets, tmp_path / "a.tar.bz2", "pets", "w:bz2"),
        "tar.xz": tarred(pets, tmp_path / "a.tar.xz", "pets", "w:xz"),
        "tar by another name": tarred(pets, tmp_path / "a.zip", "pets", "w"),
        "zip": packed(pets, tmp_path / "plain.zip"),
        "zip with a license beside": packed(pets, tmp_path / "b.zip", lambda p: f"data/{p.as_posix()}", ("LICENSE.txt", "README")),
        "folders around": packed(pets, tmp_path / "c.zip", lambda p: f"a/b/c/{p.as_posix()}"),
        "other separators": packed(pets, tmp_path / "d.zip", lambda p: "pets\\" + str(p).replace("/", "\\")),
        "absolute dots": packed(pets, tmp_path / "e.zip", lambda p: f"./{p.as_posix()}"),
        "no ending": packed(pets, tmp_path / "archive"),
    }
    for kind, path in found.items():
        assert values(path) == PETS, kind
    for number in range(5):
        picture(tmp_path / "in/photos" / f"{number}.png", number)
    assert values(packed(tmp_path / "in", tmp_path / "flat.zip")) == ([0, 1, 2, 3], [4], ())


def test_an_archive_is_its_content(no_data: Path, tmp_path: Path) -> None:
    """Another time, another name, another folder: the same arrays, from the same cache."""
    path = packed(classes(tmp_path / "pets"), tmp_path / "pets.tar.zip")
    first = open_folder(path)
    os.utime(path, (1e9, 1e9))
    (tmp_path / "elsewhere").mkdir()
    again = open_folder(path.rename(tmp_path / "elsewhere/other.zip"))
    assert (first.name, again.name) == ("pets", "other") and checksum(first.train) == checksum(again.train)
    assert len([p for p in (no_data / "arrays").iterdir() if p.is_dir()]) == 1 and not (no_data / "archives").exists()


def test_damaged_pictures_in_archives_are_named_as_members(no_data: Path, tmp_path: Path) -> None:
    pets = classes(tmp_path / "pets")
    (pets / "cat/000.png").write_bytes(b"broken")
    path = packed(pets, tmp_path / "pets.zip")
    with pytest.raises(DamagedError, match=r"^pets.zip.cat.000.png cannot be used as an image"):
        open_folder(path)
    for _ in range(2):
        with pytest.warns(DataNote, match="left out: 1; the first: pets.zip.cat.000.png"):
            assert values(path, skip_damaged=True) == PETS
    assert [p.name for p in (no_data / "arrays").iterdir() if p.is_dir() and p.name.startswith(".")] == []


def encrypted(path: Path) -> Path:
    content = bytearray(packed(classes(path.parent / "secret"), path).read_bytes())
    for magic, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        place = -1
        while (place := content.find(magic, place + 1)) >= 0:
            content[place + flags] |= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("make, words", [
    (encrypted, "has a password: unpack it yourself"),
    (lambda path: path.write_text("a,b\n") and path, "is a file, neither a folder of images nor an archive of one"),
    (lambda path: path.write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(99)) and path, "is packed as 7z, which is not read here"),
    (lambda path: path.write_bytes(b"Rar!\x1a\x07\x01\0" + bytes(99)) and path, "is packed as rar"),
    (lambda path: packed(classes(path.parent / "p"), path, lambda p: "d/" * 1000 + p.as_posix()), "more than 64 deep"),
    (lambda path: packed(classes(path.parent / "p"), path, lambda p: "x" * 300 + p.as_posix()), "more than 255 bytes"),
    (lambda path: packed(path.parent, path, extra=("README",)), "holds no images"),
])  # fmt: skip
def test_archives_that_are_none_or_cannot_be_read(no_data: Path, tmp_path: Path, make, words: str) -> None:
    path = make(tmp_path / "x.zip")
    with pytest.raises(DataError, match=words) as caught:
        open_folder(path)
    assert "delete it" not in str(caught.value) and len(str(caught.value)) < 300 and str(no_data) not in str(caught.value)


def test_a_damaged_header_is_not_the_end(no_data: Path, tmp_path: Path) -> None:
    """tarfile takes it for one, and the files behind it would be missing in silence."""
    content = bytearray(tarred(classes(tmp_path / "pets"), tmp_path / "pets.tar", "pets", "w").read_bytes())
    place = content.find(b"pets/dog/03.png")
    for wrong in (content[: place + 5] + b"#" + content[place + 6 :], content[:place]):
        (tmp_path / "pets.tar").write_bytes(wrong)
        with pytest.raises(DamagedError, match="pets.tar is truncated or damaged"):
            open_folder(tmp_path / "pets.tar")


def test_bombs_end_early(no_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many times its own size, a header that announces a gigabyte of name, zeros without end behind the last member."""
    monkeypatch.setattr(archives, "ALWAYS_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/0.png", bytes(2**24))
    member = tarfile.TarInfo("a/0.png")
    member.size = 2**34
    announced = tarfile.TarInfo("././@LongLink")
    announced.type, announced.size = tarfile.GNUTYPE_LONGNAME, 2**30
    for name, head in (
        ("size.tgz", member.tobuf()),
        ("name.tgz", announced.tobuf(tarfile.GNU_FORMAT)),
        ("tail.tgz", tarfile.TarInfo("0.png").tobuf()),
    ):
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        (tmp_path / name).write_bytes(packer.compress(head + bytes(2**24)) + packer.flush())
    for path, words in (
        ("bomb.zip", "would unpack to more than"),
        ("size.tgz", "would unpack to more than"),
        ("name.tgz", "truncated or damaged"),
        ("tail.tgz", "truncated or damaged"),
    ):
        with pytest.raises(DamagedError, match=words):
            unpack_archive(tmp_path / path, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


GREEDY = """
import resource, sys
from pathlib import Path
from cdlm.data.archives import DamagedError, unpack_archive
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
path, out, room = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
if room:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
try:
    print(sorted(p.name for p in unpack_archive(path, out).iterdir()))
except DamagedError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see memory")
@pytest.mark.parametrize("room", [0, 2**30])
def test_an_xz_that_announces_four_gigabytes_takes_what_it_holds(room: int, tmp_path: Path) -> None:
    """The byte for the size of the dictionary says 4 GiB; where so much is not even allowed, there is one line."""
    with tarfile.open(tmp_path / "plain.tar", "w") as archive:
        member = tarfile.TarInfo("0.png")
        member.size = 5000
        archive.addfile(member, io.BytesIO(bytes(5000)))
    packed = bytearray(lzma.compress((tmp_path / "plain.tar").read_bytes()))
    end = 12 + 4 * (packed[12] + 1)                                     # of the header of the first block
    packed[packed.index(b"\x21\x01", 12) + 2] = 40
    packed[end - 4 : end] = struct.pack("<I", zlib.crc32(packed[12 : end - 4]))
    (tmp_path / "greedy.tar.xz").write_bytes(packed)
    command = [sys.executable, "-c", GREEDY, str(tmp_path / "greedy.tar.xz"), str(tmp_path / "out"), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answer, grown = done.stdout.splitlines()
    assert int(grown) < 100, "MiB"
    assert answer == "['0.png']" if not room else "greedy.tar.xz is truncated or damaged (MemoryError)" in answer


def test_a_full_disk_while_unpacking_is_told(no_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = packed(classes(tmp_path / "pets"), tmp_path / "pets.zip")
    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(DataError, match="cannot be unpacked into .*: No space left on device"):
        unpack_archive(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_text_of_a_gigabyte_is_no_usps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bz2

    from cdlm.domains import digits

    assert archives.USPS_BYTES > 2 * 20_000_000 and digits.USPS_BYTES == archives.USPS_BYTES
    monkeypatch.setattr(archives, "USPS_BYTES", 10**6)
    (tmp_path / "usps.bz2").write_bytes(bz2.compress(b"1 " * 10**7))
    with pytest.raises(DamagedError, match="more than 1000000 bytes"):
        read_usps(tmp_path / "usps.bz2")


# Pictures


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def deep_png(path: Path, kind: int, pixels: list[list[int]], transparent: bytes = b"") -> Path:
    """A PNG of 16 bits, rows of four pixels that are the same; ``kind`` 0 is gray, 2 RGB, 4 gray with alpha, 6 RGBA."""
    row = b"\0" + b"".join(struct.pack(f">{len(p)}H", *p) for p in pixels)
    head = struct.pack(">IIBBBBB", len(pixels), 4, 16, kind, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(row * 4))
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize(
    "kind, pixels, transparent, expected",
    [
        (0, [[1000], [40000], [1000], [40000]], struct.pack(">H", 1000), [7, 155, 7, 155]),
        (2, [[1000, 2000, 3000], [40000, 40000, 40000]] * 2, struct.pack(">3H", 1000, 2000, 3000), [7, 156, 7, 156]),
        (4, [[1000, 0], [40000, 65535]] * 2, b"", [7, 156, 7, 156]),
        (6, [[1000, 2000, 3000, 0], [40000, 40000, 40000, 65535]] * 2, b"", [7, 156, 7, 156]),
    ],
)
def test_transparency_in_sixteen_bits(tmp_path: Path, kind: int, pixels, transparent: bytes, expected: list[int]) -> None:
    path = deep_png(tmp_path / "x.png", kind, pixels, transparent)
    assert read_picture(path, None, 1, ground=7)[0, 0].tolist() == expected


def test_pictures_of_phones(tmp_path: Path) -> None:
    """A second frame in a JPEG is a preview or a depth map; a damaged note says nothing; a note on the turn is followed."""
    first, second = Image.new("RGB", (40, 30), (200, 0, 0)), Image.new("RGB", (40, 30), (0, 0, 200))
    first.save(tmp_path / "two.jpg", "MPO", save_all=True, append_images=[second])
    assert np.abs(read_picture(tmp_path / "two.jpg").mean((1, 2)) - (200, 0, 0)).max() < 2
    turned = np.zeros((30, 40, 3), np.uint8)
    turned[:, :20] = 255  # bright on the left: on top after the turn
    notes = (
        b"Exif\0\0garbage",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0c\0\0",
    )
    for note in notes:
        Image.fromarray(turned).save(tmp_path / "note.jpg", exif=note)
        assert read_picture(tmp_path / "note.jpg", None).shape == (3, 30, 40)
    good = (
        b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\x87\x69\0\x04\0\0\0\x01\xff\xff\xff\xf0" + bytes(4)
    )
    Image.fromarray(turned).save(tmp_path / "note.jpg", exif=good)  # a turn that is clear, beside a pointer to nowhere
    pixels = read_picture(tmp_path / "note.jpg", None, 1)[0]
    assert pixels.shape == (40, 30) and pixels[:18].min() > 240 and pixels[-18:].max() < 15


def test_endings_are_those_that_pillow_reads(no_data: Path, tmp_path: Path) -> None:
    Image.init()
    theirs = {ending for ending, kind in Image.registered_extensions().items() if kind in PICTURE_FORMATS}
    assert theirs - PICTURE_ENDINGS == {".pfm"}  # floats, which are depths and no picture
    for number, ending in enumerate((".jfif", ".JPE", ".tga", ".jp2", ".dib", ".PNM")):
        picture(tmp_path / "p" / f"{number}{ending.lower()}", 50).rename(tmp_path / "p" / f"{number}{ending}")
    train, test, _ = values(tmp_path / "p")
    assert len(train) == 5 and len(test) == 1 and set(np.abs(np.array(train + test) - 50)) <= {0, 1}
    (tmp_path / "p/photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic")  # not read, and not passed over in silence
    with pytest.raises(DamagedError, match="photo.HEIC cannot be used as an image"):
        open_folder(tmp_path / "p")


def test_animated_pictures_have_one_policy(no_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = classes(tmp_path / "pets")
    frames = [Image.new("L", (9, 9), value) for value in (0, 100)]
    for ending in ("gif", "webp", "apng"):
        frames[0].save(folder / f"cat/000film.{ending}", save_all=True, append_images=frames[1:])
    with pytest.raises(DamagedError, match="000film.* cannot be used as an image: several frames"):
        open_folder(folder)
    monkeypatch.setenv("CDLM_SKIP_DAMAGED", "1")
    with pytest.warns(DataNote, match="left out: 3"):
        assert values(folder) == PETS


# The cache


def poisoned(change: Callable[[Path], None], tmp_path: Path, no_data: Path) -> None:
    folder = classes(tmp_path / "pets")
    assert values(folder) == PETS
    [kept] = (no_data / "arrays").glob("folder-pets-*")
    change(kept)
    assert values(folder) == PETS
    before = (kept / "train_images.npy").stat().st_mtime_ns
    assert values(folder) == PETS and (kept / "train_images.npy").stat().st_mtime_ns == before  # made anew once


def flip(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: flip(kept / "train_images.npy"),
        lambda kept: flip(kept / "test_labels.npy", 128),
        lambda kept: np.save(kept / "train_labels.npy", np.zeros(3, np.int64)),
        lambda kept: np.save(kept / "train_images.npy", np.zeros((8, 4, 28, 28), np.uint8)),
        lambda kept: np.save(kept / "train_images.npy", np.zeros((8, 1, 28, 28), np.float32)),
        lambda kept: np.save(kept / "train_images.npy", np.load(kept / "train_images.npy")[::-1]),
        lambda kept: flip(kept / "story.npy", 140),
        lambda kept: (kept / "parts.json").write_text("{}"),
        lambda kept: (kept / "parts.json").write_text("[" * 100_000),
        lambda kept: (kept / "parts.json").write_text(json.dumps({"key": 1, "parts": {"train_images": 3}})),
        lambda kept: (kept / "parts.json").write_text((kept / "parts.json").read_text().replace('"as"', '"is"')),
        lambda kept: (kept / "train_images.npy").unlink(),
        lambda kept: os.mkfifo(kept.parent / "pipe") or (kept.parent / "pipe").replace(kept / "train_images.npy"),
    ],
)
def test_a_cache_that_was_changed_is_made_anew(no_data: Path, tmp_path: Path, change) -> None:
    poisoned(change, tmp_path, no_data)


def test_what_killed_programs_leave_is_swept(no_data: Path) -> None:
    arrays = no_data / "arrays"
    for name in (".toy-0123.abcd", ".unpacked-99.xyz", ".toy-4567.held"):
        (arrays / name).mkdir(parents=True)
        (arrays / name / "half.npy").write_bytes(b"x")
    with FileLock(arrays / ".toy-4567.lock"):  # somebody is at work on this one
        remembered("toy", {}, lambda: {"a": torch.arange(3)})
        assert (arrays / ".toy-4567.held").is_dir()
    assert not (arrays / ".toy-0123.abcd").exists() and not (arrays / ".unpacked-99.xyz").exists()
    sweep_places(arrays)
    assert [p.name for p in arrays.iterdir() if p.is_dir() and p.name.startswith(".")] == []


def test_a_place_to_work_in_vanishes(no_data: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        with working_place("x") as place:
            (place / "a").touch()
            assert place.parent == no_data / "arrays"
            raise KeyboardInterrupt
    assert not place.exists()
    with working_place("x") as again:
        assert again != place


def test_long_and_odd_names_have_a_cache(no_data: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    folder = classes(tmp_path / ("[x] " + "n" * 200))
    for _ in range(2):
        assert values(folder) == PETS
    assert not recwarn and len(list((no_data / "arrays").glob("folder-_x_*"))) == 1


# Homes, and names of folders


def test_homes_that_are_not_there(no_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for work in (
        lambda: user_path("~nobody-of-this-name/x"),
        lambda: open_domain("~nobody-of-this-name/x"),
        lambda: overview("~nobody-of-this-name"),
        lambda: open_folder("~nobody-of-this-name"),
    ):
        with pytest.raises(DataError, match="no home folder is known for ~nobody-of-this-name"):
            work()
    for name in ("CDLM_CACHE", "CDLM_DATA"):
        with monkeypatch.context() as patch, pytest.raises(DataError, match="no home folder is known for ~nobody"):
            patch.setenv(name, "~nobody-of-this-name/x")
            open_domain("usps")


@posix
def test_without_any_home_all_is_made_in_memory(no_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CDLM_CACHE")
    monkeypatch.setattr(
        cache.platformdirs, "user_cache_path", lambda name: Path("~/.cache/cdlm")
    )  # as with HOME unset and no account
    monkeypatch.chdir(tmp_path)
    folder = classes(tmp_path / "pets")
    with pytest.warns(DataNote, match="not kept in the cache .*set CDLM_CACHE"):
        assert values(folder) == PETS
    with pytest.warns(DataNote, match="not kept in the cache"):
        assert values(packed(folder, tmp_path / "pets.zip")) == PETS
    assert open_domain("mnist").size == "sample" and not (tmp_path / "~").exists()
    with pytest.raises(NotFoundError, match="no home folder to keep a cache in"):
        open_domain("usps", "full")


def test_a_cache_may_be_named_from_home(no_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CDLM_CACHE", "~/kept")
    assert cache_root() == tmp_path / "kept"


def test_a_mistyped_data_folder_is_no_smaller_set(no_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDLM_DATA", str(no_data / "dta"))
    for work in (lambda: open_domain("mnist"), overview):
        with pytest.raises(DataError, match="CDLM_DATA names .*dta, which is not a folder"):
            work()
    assert open_domain("mnist", "sample").size == "sample"  # asked for by name


def test_a_sample_in_the_place_of_a_set_is_said(no_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn) -> None:
    assert open_domain("mnist").size == "sample" and not recwarn  # nobody named a folder
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("CDLM_DATA", str(tmp_path / "data"))
    with pytest.warns(DataNote, match=r"MNIST: not the whole set .* since no train-images-idx3-ubyte in .*data \(CDLM_DATA\)"):
        assert open_domain("mnist").size == "sample"


def make_idx(folder: Path, name: Callable[[str], str]) -> None:
    folder.mkdir(parents=True)
    for file, count in zip(IDX_FILES, (6, 6, 4, 4)):
        shape = (count, 28, 28) if "images" in file else (count,)
        (folder / name(file)).write_bytes(
            bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + bytes(int(np.prod(shape)))
        )


@pytest.mark.parametrize("place", ["MNIST/raw", "mnist/raw", "mnist", "Mnist", "mnist/MNIST/raw", "."])
@pytest.mark.parametrize("name", [str, lambda file: file.replace("-idx", ".idx")], ids=["dash", "dot"])
def test_sets_are_found_under_their_usual_names(no_data: Path, tmp_path: Path, place: str, name) -> None:
    make_idx(tmp_path / "data" / place, name)
    domain = open_domain("mnist", root=tmp_path / "data")
    assert (domain.size, len(domain.train), len(domain.test)) == ("full", 6, 4)
    assert idx_file(tmp_path / "data" / place, IDX_FILES[0]).is_file()


def test_names_of_folders_are_compared_by_letters_and_digits(tmp_path: Path) -> None:
    for name in ("Fashion_MNIST", ".fashion-mnist", "CelebA/IMG_align_celeba"):
        (tmp_path / name).mkdir(parents=True)
    assert find_below(tmp_path, "fashion-mnist") == tmp_path / "Fashion_MNIST"
    assert find_below(tmp_path, "celeba/img_align_celeba") == tmp_path / "CelebA/IMG_align_celeba"
    assert (
        find_below(tmp_path, "") == tmp_path and find_below(tmp_path, "mnist") is None and find_below(tmp_path / "no", "") is None
    )


def test_the_overview_counts_what_is_there(no_data: Path, tmp_path: Path) -> None:
    make_idx(tmp_path / "MNIST/raw", str)
    (tmp_path / "USPS").mkdir()
    import bz2

    for name, count in (("usps.bz2", 3), ("usps.t.bz2", 2)):
        (tmp_path / "USPS" / name).write_bytes(bz2.compress(b"1 1:0\n" * count))
    rows = {row["name"]: (row["here"], row["train"], row["test"]) for row in overview(tmp_path)}
    assert rows["mnist"] == ("full", 6, 4) and rows["mnistm"] == ("partial", 6, 4) and rows["usps"] == ("full", 3, 2)
    (tmp_path / "MNIST/raw" / IDX_FILES[0]).write_bytes(b"\0\0")
    assert {row["name"]: row["here"] for row in overview(tmp_path)}["mnist"] == "damaged"


def test_a_folder_that_is_not_there_is_no_unknown_domain(no_data: Path) -> None:
    for name in ("./src", "data/src", "src.zip", "~/src-that-is-not-there"):
        with pytest.raises(DataError, match="there is no folder or archive"):
            open_domain(name)
    with pytest.raises(
        UnknownDomainError, match="unknown domain 'src'; known: mnist, .* a folder of images, and here is none of that name"
    ):
        open_domain("src")
    with pytest.raises(DataError, match="is a folder or a file, and no domain of the catalog"):
        domain_info(str(no_data.parent))


# Downloads


class Slow:
    """A server's answer that never ends: so many bytes each time, and the clock moves on."""

    def __init__(self, piece: bytes) -> None:
        self.status, self.length, self.piece = 200, None, piece

    def read1(self, _: int) -> bytes:
        return self.piece

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("piece, words", [(b"x", "not here after 1 s; try again"), (bytes(2**20), "more than 5000000 bytes")])
def test_downloads_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: bytes, words: str) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr(search_module.time, "monotonic", lambda: next(ticks) / 100)
    monkeypatch.setattr(search_module, "MAX_SECONDS", 1)
    monkeypatch.setattr(search_module, "MAX_DOWNLOAD", 5_000_000)
    monkeypatch.setattr(search_module.urllib.request, "urlopen", lambda *_, **__: Slow(piece))
    with pytest.raises(DataError, match=words):
        download_file(RemoteFile("set/data.gz", ("http://127.0.0.1/data.gz",), "md5:0"), tmp_path)


def test_an_answer_that_announces_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Slow(b"")
    answer.length = 2**40
    monkeypatch.setattr(search_module.urllib.request, "urlopen", lambda *_, **__: answer)
    with pytest.raises(DataError, match="which is no file of ours"):
        download_file(RemoteFile("set/data.gz", ("http://127.0.0.1/data.gz",), "md5:0"), tmp_path)
    assert not list(tmp_path.rglob("*.part"))
