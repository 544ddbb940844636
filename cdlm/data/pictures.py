"""Image files of every kind as bytes of one size.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cdlm.data.archives import DamagedError, DataError, is_hidden, printable, refuse_special

__all__ = [
    "MAX_PIXELS",
    "PICTURE_ENDINGS",
    "PICTURE_FORMATS",
    "TURNS",
    "class_folders",
    "class_name",
    "eight_bits",
    "fit_picture",
    "identity",
    "known_formats",
    "natural",
    "picture_files",
    "plain_picture",
    "read_picture",
    "read_pictures",
    "upright",
    "visible",
    "with_alpha",
]


# 60_data: Pictures in folders

PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000",
                   "AVIF", "TGA", "PCX", "SGI", "QOI")
# those of these formats that Pillow knows, and MPO, a JPEG with further frames
PICTURE_ENDINGS = frozenset((
    ".png .apng .jpg .jpeg .jpe .jfif .mpo .bmp .dib .gif .tif .tiff .webp .pbm .pgm .ppm "
    ".pnm .jp2 .j2k .jpc .jpf .jpx .j2c .avif .avifs .tga .icb .vda .vst .pcx .bw .rgb "
    ".rgba .sgi .qoi "
    # pictures that are not read here: counted as damaged, and not passed over in silence
    ".heic .heif .jxl .psd .xcf .exr .dng .cr2 .cr3 .nef .arw .orf .rw2").split())
MAX_PIXELS = 50_000_000


@lru_cache
def known_formats() -> tuple[str, ...]:
    """Formats of ours that this version of Pillow can read."""
    Image.init()
    return tuple(name for name in PICTURE_FORMATS if name in Image.OPEN)


TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
         4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
         6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}


def upright(picture: Image.Image) -> Image.Image:
    """A picture turned as the note in its file says; a note that is damaged says nothing."""
    try:
        turn = TURNS.get(picture.getexif().get(0x0112))
    except Exception:  # Pillow raises whatever its parsers raise
        turn = None
    return picture if turn is None else picture.transpose(turn)


def with_alpha(picture: Image.Image) -> Image.Image:
    """A picture with transparency in any form as RGBA.

    In a file of 16 bits one color may be named transparent, in 16 bits; the rest is 8 by then.
    """
    named = picture.info.get("transparency")
    if isinstance(named, tuple) and max(named) > 255:
        picture.info["transparency"] = tuple(value >> 8 for value in named)
    return picture.convert("RGBA")


def eight_bits(picture: Image.Image) -> Image.Image:
    """A gray picture of 16 bits in 8, its transparent value kept. Raises ValueError for
    pixels beyond 16 bits."""
    gray = np.asarray(picture)      # Pillow's own conversion would clip
    if gray.min() < 0 or gray.max() > 65535:
        raise ValueError("pixels beyond 16 bits")
    plain = Image.fromarray((gray // 257).astype(np.uint8))
    if isinstance(named := picture.info.get("transparency"), int):
        seen = Image.fromarray(np.where(gray == named, 0, 255).astype(np.uint8))
        plain = Image.merge("LA", (plain, seen))
    return plain


def plain_picture(picture: Image.Image, channels: int, ground: int = 255) -> Image.Image:
    """A picture of any kind as gray (1 channel) or RGB (3): 16 bits become 8, transparency the
    gray value ``ground``."""
    if picture.mode.startswith("I"):
        picture = eight_bits(picture)
    if picture.mode == "F":
        raise ValueError("pixels that are not whole numbers")
    if picture.has_transparency_data:
        layer = with_alpha(picture)
        picture = Image.alpha_composite(
            Image.new("RGBA", layer.size, (ground, ground, ground, 255)), layer)
    return picture.convert({1: "L", 3: "RGB"}[channels])


def fit_picture(picture: Image.Image, size: int, fit: str, ground: int) -> Image.Image:
    """Resize to ``size`` by ``size``: the middle square ("crop"), all of it on a ground
    ("pad"), or "stretch"."""
    if fit == "crop":
        return ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
    if fit == "pad":
        color = ground if picture.mode == "L" else (ground,) * 3
        return ImageOps.pad(picture, (size, size), Image.Resampling.BILINEAR, color)
    return picture.resize((size, size), Image.Resampling.BILINEAR)


def read_picture(path: Path, size: int | None = 28, channels: int = 3, fit: str = "crop",
                 ground: int = 255) -> np.ndarray:
    """An image file as bytes (channels, size, size), or in its own size where that is None.

    ``fit`` is "crop", "pad" or "stretch". Raises DamagedError, which names the file, for what
    is no image, is damaged, has several frames (but for those that a phone adds to its first)
    or more than MAX_PIXELS; DataError if it may not be read.
    """
    try:
        refuse_special(path)
        with (warnings.catch_warnings(action="ignore"),     # Pillow's, about what it mends
              Image.open(path, formats=known_formats()) as picture):
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"more than {MAX_PIXELS} pixels")
            if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
                raise ValueError("several frames")
            plain = plain_picture(upright(picture), channels, ground)
            pixels = np.asarray(plain
                                if size is None else fit_picture(plain, size, fit, ground))
            return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except DataError:
        raise
    except Exception as error:  # Pillow raises whatever its decoders raise
        raise DamagedError(
            f"{path} cannot be used as an image: "
            f"{str(error).replace(f' {str(path)!r}', '') or type(error).__name__}") from None


# 60_data: In which order, and which of them

def natural(name: str) -> tuple[list[str | int], str]:
    """Key of an order of names in which 9 comes before 10."""
    pieces = re.split("([0-9]+)", unicodedata.normalize("NFC", name))
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], name


def visible(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders, and pictures, in a folder, in the order of their names, without what is hidden;
    links are followed."""
    there = sorted((path for path in folder.iterdir() if not is_hidden(path.name)),
                   key=lambda path: natural(path.name))
    folders = [path for path in there if path.is_dir()]
    inner = set(folders)
    return folders, [path for path in there
                     if path.suffix.lower() in PICTURE_ENDINGS and path not in inner]


def picture_files(folder: Path) -> list[Path]:
    """Picture files anywhere below a folder, by their endings, hidden ones left out, in the
    order of their names. Raises DataError for a link that leads back."""
    found, left, start = [], [(folder, frozenset([identity(folder)]))], len(folder.parts)
    while left:
        here, above = left.pop()
        folders, pictures = visible(here)
        found += pictures
        for inner in folders:
            if (who := identity(inner)) in above:
                raise DataError(f"{inner} is a link that leads back to a folder above it")
            left.append((inner, above | {who}))
    return sorted(found, key=lambda path: [natural(part) for part in path.parts[start:]])


def identity(folder: Path) -> tuple[int, int]:
    """What a folder is, by whatever link it was reached."""
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


def read_pictures(files: Sequence[Path], read: Callable[[Path], np.ndarray],
                  skipped: list[str] | None = None,
                  piece: int = 256) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Images of files in pieces: (n, C, H, W) with the numbers of their files.

    A damaged image raises DamagedError, unless ``skipped`` is a list: then it is left out, and
    the message kept there.
    """
    for start in range(0, len(files), piece):
        images, numbers = [], []
        for number, path in enumerate(files[start:start + piece], start):
            try:
                images.append(read(path))
                numbers.append(number)
            except DamagedError as error:
                if skipped is None:
                    raise
                skipped.append(str(error))
        if images:
            yield np.stack(images), numbers


# 60_data: Any folder

def class_name(folder: Path) -> str:
    """A folder's name as the name of a class: in one of the forms of Unicode, and
    printable."""
    return printable(unicodedata.normalize("NFC", folder.name))


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Picture files by class, in the order of the classes' names: a folder for each class, or
    all in one class "" where there are none. Raises DataError."""
    inner, loose = visible(folder)
    if loose and inner:
        raise DataError(f"{folder} holds images beside folders ({loose[0].name}, "
                        f"{inner[0].name}): which are the classes?")
    if not inner and not loose:
        raise DataError(f"{folder} holds no images")
    groups = {}
    for path in sorted(inner, key=class_name):
        if class_name(path) in groups:
            raise DataError(f"{folder} holds two folders of the name {path.name!r}, in two "
                            "forms of Unicode: join them")
        groups[class_name(path)] = picture_files(path)
    return groups if inner else {"": loose}
