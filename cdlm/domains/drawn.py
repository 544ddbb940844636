"""Faces and their sketches, shoes and their edges.

Generated from book/src/61_pictures.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from cdlm.data.archives import DamagedError, NotHereError
from cdlm.data.cache import Pieces, files_fingerprint, remembered
from cdlm.data.domain import Recipe, Split, checksum
from cdlm.data.pictures import class_folders, picture_files, read_picture, read_pictures
from cdlm.data.search import Resource, Search, first_folder
from cdlm.domains.digits import FASHION_FILES, build_fashion, splits_of
from cdlm.domains.sketch import canny_edges, draw_half, pencil_sketch

__all__ = [
    "CELEBA_TEST_START",
    "CELEBA_TRAIN_END",
    "FACE_TERMS",
    "FOOTWEAR",
    "IN_CATALOG",
    "PAIR_RECIPES",
    "SHOE_CLASSES",
    "SHOE_TERMS",
    "build_drawn",
    "build_faces",
    "build_shoes",
    "class_files",
    "footwear",
    "partition_faces",
]


# 61_pictures: Faces and sketches, shoes and edges

def images_in(folder: Path, least: int = 10) -> Path:
    """``folder`` itself if it holds at least ``least`` images somewhere below.

    Raises NotHereError.
    """
    if len(picture_files(folder)) < least:
        raise NotHereError(f"fewer than {least} images in {folder}")
    return folder


FACES_FILES = Resource(
    "CelebA", lambda place: first_folder(
        place, ("celeba/img_align_celeba", "celeba/Img/img_align_celeba", "img_align_celeba"),
        images_in),
    "get img_align_celeba.zip of CelebA (mmlab.ie.cuhk.edu.hk/projects/CelebA.html, "
    "research use) and unpack it into a folder celeba; name the folder that holds that, "
    "or set CDLM_DATA to it")
SHOES_FILES = Resource(
    "shoes", lambda place: first_folder(
        place, ("shoes", "ut-zap50k-images-square", "ut-zap50k-images"), images_in),
    "unpack UT-Zap50K (vision.cs.utexas.edu/projects/finegrained/utzap50k), "
    "or make a folder shoes with a folder for each class; name the folder that holds it, "
    "or set CDLM_DATA to that")


# numbers of the official partition; between them, validation
CELEBA_TRAIN_END, CELEBA_TEST_START = 162_770, 182_638


def partition_faces(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Files to train and to test, by the official numbers where both ranges are there, else
    the last fifth to test."""
    numbers = [int(path.stem) if path.stem.isdigit() else 0 for path in files]
    train = [path for path, number in zip(files, numbers) if number <= CELEBA_TRAIN_END]
    test = [path for path, number in zip(files, numbers) if number >= CELEBA_TEST_START]
    if train and test:
        return train, test
    cut = len(files) - max(1, len(files) // 5)
    return files[:cut], files[cut:]


def class_files(folder: Path) -> dict[str, tuple[list[Path], list[Path]]]:
    """Files to train and to test by class, the last fifth of each class to test; classes are
    the folders in ``folder`` that hold pictures. Raises DamagedError for a class of one."""
    groups = {name: files for name, files in class_folders(folder).items() if files}
    for name, files in groups.items():
        if len(files) < 2:
            raise DamagedError(f"{folder}: class {name!r} has one image only, and it takes "
                               "two to have one to test")
    cuts = {name: len(files) - max(1, len(files) // 5) for name, files in groups.items()}
    return {name: (groups[name][:cut], groups[name][cut:]) for name, cut in cuts.items()}


def read_groups(name: str, groups: dict[str, tuple[list[Path], list[Path]]], folder: Path,
                **how: object) -> tuple[Split, Split]:
    """Images of files by class, (N, 3, 64, 64), read once and kept in the cache; the label is
    -1 where there is one group.

    ``how`` are arguments of read_picture. Raises DamagedError.
    """
    files = [path for pair in groups.values() for part in pair for path in part]

    def make() -> dict[str, Tensor | Pieces]:
        parts: dict[str, Tensor | Pieces] = {}
        for side, part in enumerate(("train", "test")):
            chosen = [path for pair in groups.values() for path in pair[side]]
            sizes = torch.tensor([len(pair[side]) for pair in groups.values()])
            labels = torch.arange(len(groups)) if len(groups) > 1 else torch.tensor([-1])
            pieces = (piece for piece, _ in read_pictures(
                chosen, lambda path: read_picture(path, 64, 3, **how)))
            parts |= {f"{part}_images": Pieces((3, 64, 64), pieces),
                      f"{part}_labels": labels.repeat_interleave(sizes)}
        return parts
    return splits_of(remembered(
        name, {"version": 1, "files": files_fingerprint(folder, files), "how": how}, make))


FOOTWEAR = {5: "Sandal", 7: "Sneaker", 9: "Ankle boot"}  # among the classes of Fashion-MNIST


def footwear(split: Split) -> Split:
    """The footwear of Fashion-MNIST as dark pictures on white, (N, 3, 64, 64)."""
    chosen = torch.isin(split.labels, torch.tensor(list(FOOTWEAR)))
    images = 255 - tv.resize(split.images[chosen], [64, 64], antialias=True)
    labels = torch.searchsorted(torch.tensor(list(FOOTWEAR)), split.labels[chosen])
    return Split(images.expand(-1, 3, -1, -1), labels)


def build_shoes(search: Search, pictures: str = "catalog") -> tuple[Split, Split,
                                                                    tuple[str, ...]]:
    """Shoes on white by class, from a folder ("catalog") or from Fashion-MNIST ("fashion"):
    all of both splits."""
    if pictures == "fashion":
        train, test = map(footwear, build_fashion(search))
        return train, test, tuple(FOOTWEAR.values())
    folder = search.find(SHOES_FILES)
    groups = class_files(folder)
    if len(groups) < 2:
        raise DamagedError(f"{folder} must hold a folder for each of two classes or more, "
                           "with two images or more in each")
    return *read_groups("shoes", groups, folder, fit="pad"), tuple(groups)


def build_faces(search: Search) -> tuple[Split, Split, tuple[str, ...]]:
    """Faces, cut to the square in the middle, without labels."""
    folder = search.find(FACES_FILES)
    return *read_groups("faces", {"": partition_faces(picture_files(folder))}, folder,
                        fit="crop"), ()


def build_drawn(build, draw, name: str, second: bool, search: Search,
                **options: object) -> tuple[Split, Split, tuple[str, ...]]:
    """Half of what ``build`` gives, drawn; made once for each state of the files it is drawn
    from."""
    train, test, classes = build(search, **options)
    if draw is None:
        return (Split(train.images[int(second) :: 2], train.labels[int(second) :: 2]), test,
                classes)
    key = {"version": 1, "from": [checksum(train), checksum(test)]}

    def make() -> dict[str, Tensor]:
        half, shown = draw_half(train, test, draw, second)
        return {"train_images": half.images, "train_labels": half.labels,
                "test_images": shown.images, "test_labels": shown.labels}
    return *splits_of(remembered(name, key, make)), classes


FACE_TERMS, SHOE_TERMS = ("CelebA: non-commercial research",
                          "UT-Zap50K: academic, non-commercial use")
SHOE_CLASSES = ("Boots", "Sandals", "Shoes", "Slippers")
IN_CATALOG = {"pictures": ("catalog", "fashion")}


PAIR_RECIPES = (
    Recipe("faces", "CelebA, faces", (), (3, 64, 64), (81_385, 19_962),
           "CelebA, every other training image", FACE_TERMS,
           partial(build_drawn, build_faces, None, "faces", False), (FACES_FILES,),
           fixed=False),
    Recipe("sketches", "CelebA, pencil sketches", (), (1, 64, 64), (81_385, 19_962),
           "drawn here from the other half", FACE_TERMS,
           partial(build_drawn, build_faces, pencil_sketch, "sketches", True), (FACES_FILES,),
           fixed=False),
    Recipe("shoes", "Shoes", SHOE_CLASSES, (3, 64, 64), (20_010, 10_005),
           "a catalog of shoes, every other training image",
           SHOE_TERMS, partial(build_drawn, build_shoes, None, "shoes", False), (SHOES_FILES,),
           options=IN_CATALOG,
           partial={"pictures": "fashion"}, partial_resources=(FASHION_FILES,), fixed=False),
    Recipe("edges", "Shoes, edges", SHOE_CLASSES, (1, 64, 64), (20_010, 10_005),
           "drawn here from the other half", SHOE_TERMS,
           partial(build_drawn, build_shoes, canny_edges, "edges", True), (SHOES_FILES,),
           options=IN_CATALOG,
           partial={"pictures": "fashion"}, partial_resources=(FASHION_FILES,), fixed=False),
)
