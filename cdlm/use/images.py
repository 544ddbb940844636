"""What a word on the command line stands for: images with names, as a run reads them.

Generated from book/src/87_own_images.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import glob
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cdlm.data.archives import (
    DamagedError,
    DataError,
    is_hidden,
    printable,
    refuse_special,
    unpack_archive,
    user_path,
)
from cdlm.data.pictures import (
    MAX_PIXELS,
    PICTURE_ENDINGS,
    fit_picture,
    known_formats,
    natural,
    picture_files,
    plain_picture,
    read_pictures,
    upright,
)
from cdlm.domains.catalog import CATALOG, find_recipe, in_color
from cdlm.files import RunError
from cdlm.runs.spec import open_at

__all__ = [
    "ARCHIVE_ENDINGS",
    "Framing",
    "Group",
    "asked_images",
    "domain_group",
    "files_below",
    "first_frame",
    "folder_group",
    "matches",
    "named_frame",
    "path_group",
    "pieces",
]


# 87_own_images: Every image has a name

class Group(NamedTuple):
    """Images that one word stands for: their names, and files or bytes (N, C, H, W)."""

    names: list[str]
    content: list[Path] | Tensor


ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".gz", ".bz2", ".xz",
                   ".7z", ".rar", ".zst")


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and below, hidden ones left out, in the order of their names;
    links to folders are followed where there are pictures. Raises DataError for a link that
    leads back."""
    others = [path for path in folder.rglob("*")
              if path.suffix.lower() not in PICTURE_ENDINGS and not path.is_dir()
              and not any(map(is_hidden, path.relative_to(folder).parts))]
    return sorted({*picture_files(folder), *others},
                  key=lambda path: [natural(part) for part in path.relative_to(folder).parts])


def folder_group(word: str, folder: Path) -> Group:
    """The files of a folder, named as if they were below ``word``. Raises DataError if there
    are none."""
    if not (files := files_below(folder)):
        raise DataError(f"{word} holds no images")
    start = printable(word.rstrip("/" + os.sep)) or "/"
    return Group([f"{start}/{printable(path.relative_to(folder).as_posix())}"
                  for path in files], files)


def domain_group(name: str, size: str, shape: tuple[int, int, int]) -> Group:
    """The test images of a domain of the catalog.

    Raises RunError if they are not of a ``shape`` (channels, height, width), nor gray where
    color is wanted.
    """
    split = open_at(name, size).test
    if split.images.shape[1] == 1 and shape[0] == 3:
        split = in_color(split)
    if (found := tuple(split.images.shape[1:])) != shape:
        there, wanted = (" x ".join(map(str, x)) for x in (found, shape))
        raise RunError(f"images of {name} are {there}, and the run reads {wanted}; "
                       "name a run that was trained on such")
    return Group([f"{name}/test/{number}" for number in range(len(split))], split.images)


def matches(word: str) -> list[str]:
    """What a pattern with * ? [] stands for, in the order of names; a path for itself."""
    text = str(user_path(word)) if word else ""
    if not word or os.path.exists(text) or not glob.has_magic(word):
        return [word]
    found = sorted(glob.glob(text, recursive=True), key=natural)
    if not found:
        raise DataError(f"no file matches {word}")
    return found


def path_group(word: str, stack: ExitStack) -> Group:
    """The images of a folder, an archive, or one file. Raises DataError for what is not
    there, and what unpack_archive raises."""
    if not word:
        raise DataError("an empty word names no image")
    path = user_path(word)
    if not os.path.exists(path):
        find_recipe(word)               # says what there is
    if path.is_dir():
        return folder_group(word, path)
    if path.suffix.lower() in ARCHIVE_ENDINGS:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        return folder_group(word, unpack_archive(path, Path(place, "content")))
    return Group([printable(word)], [path])


@contextmanager
def asked_images(words: Sequence[str], shape: tuple[int, int, int],
                 size: str = "best") -> Iterator[list[Group]]:
    """What words stand for, each a group; archives are unpacked while the block lasts.

    ``shape`` and ``size`` are those of images of a domain. Raises DataError, RunError.
    """
    with ExitStack() as stack:
        yield [domain_group(word, size, shape) if word in CATALOG
               else path_group(inner, stack)
               for word in words for inner in ([word] if word in CATALOG else matches(word))]


class Framing(NamedTuple):
    """How pictures become images of a run: its size and channels, how they are fitted ("crop",
    "pad", "stretch"), and the gray value under what is transparent."""

    size: int
    channels: int
    fit: str = "crop"
    ground: int = 255


def first_frame(path: Path, framing: Framing) -> np.ndarray:
    """An image file, or the first frame of an animation, as bytes (channels, size, size).

    Raises ValueError, OSError, or whatever Pillow's decoders raise.
    """
    refuse_special(path)
    if not path.stat().st_size:
        raise ValueError("an empty file")
    with (warnings.catch_warnings(action="ignore"),         # Pillow's, about what it mends
          Image.open(path, formats=known_formats()) as picture):
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"more than {MAX_PIXELS} pixels")
        plain = plain_picture(upright(picture), framing.channels, framing.ground)
        pixels = np.asarray(fit_picture(plain, framing.size, framing.fit, framing.ground))
    return pixels[None] if framing.channels == 1 else pixels.transpose(2, 0, 1)


def named_frame(path: Path, name: str, framing: Framing) -> np.ndarray:
    """As first_frame; raises DamagedError, which names the file, for what is no image or
    cannot be read."""
    try:
        return first_frame(path, framing)
    except Exception as error:          # Pillow raises whatever its decoders raise
        told = str(error).replace(f" {str(path)!r}", "").replace(f"{path} ", "")
        told = getattr(error, "strerror", None) or told or type(error).__name__
        raise DamagedError(f"{name} is left out, it cannot be read as an image: {told}"
                           ) from None


def pieces(group: Group, framing: Framing, skipped: list[str] | None,
           count: int = 500) -> Iterator[tuple[list[str], Tensor]]:
    """A group in parts: names, and images as bytes (n, C, H, W).

    What is no image raises DamagedError, or with a list ``skipped`` is told there.
    """
    if isinstance(group.content, Tensor):
        for start in range(0, len(group.names), count):
            chosen = slice(start, start + count)
            yield group.names[chosen], group.content[chosen]
        return
    named = dict(zip(group.content, group.names))
    def read(path: Path) -> np.ndarray:
        return named_frame(path, named[path], framing)
    for images, numbers in read_pictures(group.content, read, skipped, count):
        yield [group.names[number] for number in numbers], torch.from_numpy(images)
