"""Image files of every kind as bytes of one size.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cdlm.data.archives import DamagedError, DataError

__all__ = [
    "MAX_PIXELS",
    "PICTURE_ENDINGS",
    "PICTURE_FORMATS",
    "fit_picture",
    "picture_files",
    "plain_picture",
    "read_picture",
    "read_pictures",
]


# 60_data: Pictures in folders

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm",
                   ".ppm")
PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
MAX_PIXELS = 50_000_000


def plain_picture(picture: Image.Image, channels: int, ground: int = 255) -> Image.Image:
    """A picture of any kind as gray (1 channel) or RGB (3): 16 bits become 8, transparency the
    gray value ``ground``."""
    if picture.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip
        gray = np.asarray(picture)
        if gray.min() < 0 or gray.max() > 65535:
            raise ValueError("pixels beyond 16 bits")
        picture = Image.fromarray((gray // 257).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("pixels that are not whole numbers")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
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
    is no image, is damaged, has several frames or more than MAX_PIXELS; DataError if it may
    not be read.
    """
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"more than {MAX_PIXELS} pixels")
            if getattr(picture, "n_frames", 1) > 1:
                raise ValueError("several frames")
            plain = plain_picture(ImageOps.exif_transpose(picture), channels, ground)
            pixels = np.asarray(plain
                                if size is None else fit_picture(plain, size, fit, ground))
            return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError,
            zlib.error) as error:
        raise DamagedError(
            f"{path} cannot be used as an image: {error or type(error).__name__}") from None


def picture_files(folder: Path) -> list[Path]:
    """Image files anywhere below a folder, by their endings, hidden ones left out, in the
    order of their names."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_ENDINGS)
    return sorted(path for path in found
                  if not any(p.startswith(".") for p in path.relative_to(folder).parts))


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
