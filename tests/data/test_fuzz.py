"""Files of others, damaged in every way that comes to a machine's mind: the right value, or one line, and nothing else.

Never a traceback, never a hang, nothing half-written, nothing outside of the folder. A fixed seed and few examples here; many more
under the marker ``slow``.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import signal
import struct
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from cdlm.data.archives import DataError, read_idx, read_usps, unpack_archive
from cdlm.data.pictures import known_formats, read_picture
from cdlm.domains.catalog import open_folder
from cdlm.domains.linemod import bop_camera, bop_crops

QUICK, LONG = 40, 400
SECONDS = 20  # of one example; a hang is longer


@contextmanager
def one_line(place: Path) -> Iterator[None]:
    """What happens in the block ends well, or in one printable line; and what is not asked for is not there afterwards."""

    def hang(*_: object) -> None:
        raise AssertionError("a hang")

    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    outside = set(os.listdir(place.parent))
    previous = signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=UserWarning, module="cdlm")
            yield
    except DataError as error:
        assert str(error) and str(error).isprintable()
        left = {path: path.read_bytes() for path in place.rglob("*") if path.is_file() and path.suffix != ".lock"}
        assert left == before, "half-written"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert set(os.listdir(place.parent)) == outside, "outside of the folder"


def change(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    """Bytes with parts of them replaced, cut out, doubled or put in; places are shares of the length."""
    for what, share, piece in edits:
        place = int(share * len(content))
        content = {
            "put": content[:place] + piece + content[place + len(piece) :],
            "insert": content[:place] + piece + content[place:],
            "cut": content[:place] + content[place + 1 + len(piece) :],
            "end": content[:place],
            "double": content[:place] * 2 + content[place:],
        }[what]
    return content


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "insert", "cut", "end", "double"]),
        st.floats(0, 1, exclude_max=True),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])),
    ),
    max_size=4,
)
NAMES = st.lists(
    st.sampled_from(
        [
            "..",
            ".",
            "",
            "a",
            "cat",
            "dog",
            "1.png",
            "C:",
            "~",
            "__MACOSX",
            "._x",
            "x" * 300,
            "\x1b[2J",
            "é",
            "é",
            "\\",
            "/",
            "d" * 40,
        ]
    ),
    min_size=1,
    max_size=6,
).map("/".join)


def png(value: int = 9, size: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (size, size), value).save(stream, "PNG")
    return stream.getvalue()


def archive(kind: str, members: list[tuple[str, bytes]], types: list[bytes]) -> bytes:
    """A zip or tar archive with members of any name, and for tar of any type."""
    stream = io.BytesIO()
    if kind == "zip":
        with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as out:
            for name, content in members:
                out.writestr(zipfile.ZipInfo(name), content)
        return stream.getvalue()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as out:
        for number, (name, content) in enumerate(members):
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = (
                len(content),
                types[number % len(types)] if types else tarfile.REGTYPE,
                "/etc/passwd",
            )
            out.addfile(info, io.BytesIO(content))
    return {"tar": bytes, "tgz": gzip.compress, "tbz": bz2.compress, "txz": lzma.compress}[kind](stream.getvalue())


ARCHIVES = (
    st.sampled_from(["zip", "tar", "tgz", "tbz", "txz"]),
    st.lists(st.tuples(NAMES, st.sampled_from([b"", b"x", bytes(600), png()])), max_size=5),
    st.lists(
        st.sampled_from(
            [
                tarfile.REGTYPE,
                tarfile.DIRTYPE,
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.FIFOTYPE,
                tarfile.CHRTYPE,
                tarfile.GNUTYPE_SPARSE,
                tarfile.GNUTYPE_LONGNAME,
                tarfile.XHDTYPE,
                b"9",
            ]
        ),
        max_size=3,
    ),
    EDITS,
)


def check_archive(place: Path, kind: str, members: list, types: list, edits: list) -> None:
    (place / "in").mkdir()
    path = place / "in/x.zip"
    path.write_bytes(change(archive(kind, members, types), edits))
    with one_line(place):
        folder = unpack_archive(path, place / "in/out")
        assert all(file.is_file() or file.is_dir() for file in folder.rglob("*")) and not any(
            file.is_symlink() for file in folder.rglob("*")
        )


def check_archive_as_domain(place: Path, kind: str, members: list, types: list, edits: list) -> None:
    whole = [(f"{name}/{number}.png", png(number)) for name in ("cat", "dog") for number in range(3)]
    path = place / "x.zip"
    path.write_bytes(change(archive(kind, [*members, *whole], []), edits))
    (place.parent / "cache").mkdir()
    with pytest.MonkeyPatch.context() as patch, one_line(place):
        patch.setenv("CDLM_CACHE", str(place.parent / "cache"))
        domain = open_folder(path, channels=1)
        assert len(domain.train) and len(domain.test) and domain.train.images.shape[1:] == (1, 28, 28)


PICTURES = (
    st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "TGA", "PCX", "SGI", "QOI", "AVIF"]),
    st.sampled_from(["L", "RGB", "RGBA", "P", "1", "LA", "I;16"]),
    EDITS,
)


def check_picture(place: Path, kind: str, mode: str, edits: list) -> None:
    stream = io.BytesIO()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    try:
        (Image.new("I;16", (7, 9), 900) if mode == "I;16" else noise.convert(mode)).save(stream, kind)
    except (OSError, ValueError, KeyError, SystemError):  # not every format has every mode
        noise.save(stream, "PNG")
    path = place / f"x.{kind.lower()}"
    path.write_bytes(change(stream.getvalue(), edits))
    with one_line(place):
        pixels = read_picture(path, 12)
        assert pixels.shape == (3, 12, 12) and pixels.dtype == np.uint8
        if not edits and kind in known_formats() and kind not in ("JPEG", "JPEG2000", "WEBP", "AVIF", "GIF") and mode == "RGB":
            assert np.array_equal(read_picture(path, None), np.asarray(noise).transpose(2, 0, 1))


def check_idx(place: Path, shape: list[int], packing: str, edits: list) -> None:
    content = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + bytes(range(min(256, int(np.prod(shape)))))
    path = place / f"x{packing}"
    path.write_bytes(change({"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[packing](content), edits))
    with one_line(place):
        read = read_idx(path, len(shape))
        if not edits:
            assert list(read.shape) == shape and read.flatten().tolist() == list(range(read.numel()))
    with one_line(place):
        images, labels = read_usps(path)
        assert len(images) == len(labels)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just(10**400)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["0", "1", "x", "obj_id"]), inner, max_size=3)
    ),
    max_leaves=6,
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["scene_gt", "scene_gt_info", "camera"]),
        st.integers(0, 24),
        st.sampled_from(["obj_id", "cam_R_m2c", "cam_t_m2c", "bbox_obj", "visib_fract", "fx", "cy", "frame", "entry", "all"]),
        JSON,
    ),
    max_size=3,
)


def check_bop(place: Path, changes: list, edits: list) -> None:
    rgb = place / "test/000001/rgb"
    rgb.mkdir(parents=True)
    (place / "models").mkdir()
    (place / "models/obj_000001.ply").write_text("")
    poses, boxes = {}, {}
    for frame in range(24):
        (rgb / f"{frame:06d}.png").write_bytes(png(frame, 20))
        poses[str(frame)] = [{"cam_R_m2c": [1, 0, 0, 0, 1, 0, 0, 0, 1], "cam_t_m2c": [0, 0, 9], "obj_id": 1}]
        boxes[str(frame)] = [{"bbox_obj": [2, 2, 9, 9], "visib_fract": 1.0}]
    files = {"scene_gt": poses, "scene_gt_info": boxes, "camera": {"fx": 1.0, "fy": 1.0, "cx": 0.0, "cy": 0.0}}
    for name, frame, key, value in changes:
        content = files[name]
        if key == "all":
            files[name] = value
        elif isinstance(content, dict) and key == "frame":
            content[str(frame)] = value
        elif isinstance(content, dict) and name == "camera":
            content[key] = value
        elif (
            isinstance(content, dict)
            and isinstance(entries := content.get(str(frame)), list)
            and entries
            and isinstance(entries[0], dict)
        ):
            entries[0] = value if key == "entry" else {**entries[0], key: value}
    for name, content in files.items():
        folder = place if name == "camera" else rgb.parent
        (folder / f"{name}.json").write_text(json.dumps(content))
    (rgb.parent / "scene_gt.json").write_bytes(change((rgb.parent / "scene_gt.json").read_bytes(), edits))
    with one_line(place):
        bop_camera(place)
        ids, train, test = bop_crops(place, 8)
        assert ids == [1] and len(train) and len(test) and torch.all(train.labels == 0)


PROPERTIES = {
    "archive": (check_archive, ARCHIVES),
    "archive_as_domain": (check_archive_as_domain, ARCHIVES),
    "picture": (check_picture, PICTURES),
    "idx": (check_idx, (st.lists(st.integers(1, 5), min_size=1, max_size=3), st.sampled_from(["", ".gz", ".bz2"]), EDITS)),
    "bop": (check_bop, (CHANGES, EDITS)),
}


def holds(kind: str, count: int, base: Path) -> None:
    """Try a property on so many examples, the same ones each time, each in a place of its own."""
    check, strategies = PROPERTIES[kind]

    @seed(20220515)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.tuples(*strategies))
    def tried(drawn: tuple) -> None:
        around = Path(tempfile.mkdtemp(dir=base))
        (around / "place").mkdir()
        try:
            check(around / "place", *drawn)
        finally:
            shutil.rmtree(around, ignore_errors=True)

    tried()


@pytest.mark.parametrize("kind", PROPERTIES)
def test_a_line_or_the_right_value(kind: str, tmp_path: Path) -> None:
    holds(kind, QUICK, tmp_path)


@pytest.mark.slow
@pytest.mark.everything
@pytest.mark.parametrize("kind", PROPERTIES)
def test_a_line_or_the_right_value_many_times(kind: str, tmp_path: Path) -> None:
    holds(kind, LONG, tmp_path)
