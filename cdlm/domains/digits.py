"""The whole sets of digits and clothes, plain and blended into photographs.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor
from torchvision import datasets

from cdlm.data.archives import (
    USPS_BYTES,
    DamagedError,
    NotHereError,
    is_hidden,
    read_bounded,
    read_idx,
    read_usps,
)
from cdlm.data.cache import files_fingerprint, remembered
from cdlm.data.domain import Recipe, Split
from cdlm.data.pictures import read_picture
from cdlm.data.search import Attempt, RemoteFile, Resource, Search, first_folder, need_files
from cdlm.domains.blend import blend, cut_patches
from cdlm.domains.samples import (
    DIGITS,
    TEST_PHOTOS,
    TRAIN_PHOTOS,
    load_mnist,
    load_mnistm,
    load_optdigits,
    load_photo,
)
from cdlm.settings import Span

__all__ = [
    "BLEND_OPTIONS",
    "BSDS_PHOTOS",
    "CLOTHES",
    "DIGIT_RECIPES",
    "FASHION_FILES",
    "IDX_FILES",
    "IDX_SIGNATURES",
    "MNIST_FILES",
    "PHOTO_FOLDERS",
    "PatchMaker",
    "USPS_FILES",
    "WHOLE_RECIPES",
    "blended_terms",
    "build_blended",
    "build_fashion",
    "build_mnist",
    "build_optdigits",
    "build_usps",
    "count_idx",
    "count_usps",
    "enlarge",
    "find_idx",
    "find_photos",
    "idx_file",
    "noise_patches",
    "photo_files",
    "photo_patches",
    "read_idx_splits",
    "splits_of",
    "torchvision_files",
]


# 60_data: The digits and the clothes

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
             "t10k-labels-idx1-ubyte")
# MD5 of the unpacked labels to test: two sets have files of the same names, so the content
# must say which it is
IDX_SIGNATURES = {"27ae3e4e09519cfbb04c329615203637": "MNIST",
                  "15d484375f8d13e6eb1aabb0c3f46965": "Fashion-MNIST"}


def find_idx(name: str, below: Sequence[str], place: Path) -> Path:
    """The folder with the four IDX files of the set ``name``. Raises NotHereError."""
    def look(folder: Path) -> Path:
        for file in IDX_FILES:
            if not idx_file(folder, file).is_file():
                raise NotHereError(f"no {file} in {folder}")
        labels = bytes(read_bounded(idx_file(folder, IDX_FILES[3])))
        other = IDX_SIGNATURES.get(hashlib.md5(labels, usedforsecurity=False).hexdigest(),
                                   name)
        if other != name:
            raise NotHereError(f"{folder} holds {other}")
        return folder
    return first_folder(place, below, look)


def idx_file(folder: Path, name: str) -> Path:
    """An IDX file, with a dash or a dot before "idx", unpacked if it is there in both
    forms."""
    choices = [folder / f"{spelled}{ending}" for ending in ("", ".gz")
               for spelled in (name, name.replace("-idx", ".idx"))]
    return next((path for path in choices if path.is_file()), choices[2])


def count_idx(search: Search, images: Resource) -> tuple[int, int]:
    """How many images to train and to test the headers of IDX files announce."""
    folder, counts = search.find(images), []
    for name in (IDX_FILES[0], IDX_FILES[2]):
        path = idx_file(folder, name)
        try:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
                counts.append(struct.unpack(">4xI", stream.read(8))[0])
        except (OSError, EOFError, zlib.error, struct.error):
            raise DamagedError(f"{path} is truncated or damaged; put a whole copy in its "
                               "place") from None
    return counts[0], counts[1]


def read_idx_splits(folder: Path) -> tuple[Split, Split]:
    """Both splits of MNIST or of a set of the same form. Raises DamagedError."""
    splits = []
    for images_name, labels_name in (IDX_FILES[:2], IDX_FILES[2:]):
        images, labels = (read_idx(idx_file(folder, images_name), 3),
                          read_idx(idx_file(folder, labels_name), 1).long())
        if len(images) != len(labels) or images.shape[1:] != (28, 28) or labels.max() > 9:
            raise DamagedError(
                f"{folder}: {images_name} and {labels_name} do not belong together")
        splits.append(Split(images[:, None], labels))
    return splits[0], splits[1]


def torchvision_files(dataset: type, folder: str) -> tuple[RemoteFile, ...]:
    """The files of MNIST or Fashion-MNIST with the addresses and checksums that torchvision
    knows."""
    return tuple(
        RemoteFile(f"{folder}/{name}", tuple(f"{mirror}{name}" for mirror in dataset.mirrors),
                   f"md5:{md5}") for name, md5 in dataset.resources)


MNIST_FILES = Resource(
    "MNIST", lambda place: find_idx(
        "MNIST", ("MNIST/raw", "mnist", "mnist/MNIST/raw", ""), place), "`cdlm data "
    "fetch mnist` where there is a network, or set CDLM_DATA to a folder that holds MNIST/raw "
    "with the four IDX files", remote=torchvision_files(datasets.MNIST, "MNIST/raw"))

FASHION_FILES = Resource("Fashion-MNIST", lambda place: find_idx(
    "Fashion-MNIST", ("FashionMNIST/raw", "fashion-mnist", "fashion",
                      "fashion/FashionMNIST/raw", ""), place),
                         "`cdlm data fetch fashion` where there is a network, "
                         "`apt install dataset-fashion-mnist` on Debian, or set CDLM_DATA to "
                         "a folder that holds FashionMNIST/raw with the four IDX files",
                         system=("/usr/share/datasets/fashion-mnist",),
                         remote=torchvision_files(datasets.FashionMNIST, "FashionMNIST/raw"))

USPS_FILES = Resource("USPS", lambda place: first_folder(
    place, ("USPS", "usps", ""), lambda f: need_files(f, ("usps.bz2", "usps.t.bz2"))),
                      "`cdlm data fetch usps` where there is a network, or set CDLM_DATA to a "
                      "folder that holds USPS/usps.bz2 and USPS/usps.t.bz2",
                      remote=tuple(RemoteFile(f"USPS/{name}", (url,), f"md5:{md5}")
                                   for url, name, md5 in datasets.USPS.split_list.values()))

PHOTO_FOLDERS = ("BSDS500/images", "BSDS500/data/images", "BSR/BSDS500/data/images",
                 "BSDS300/images", "images", "")


BSDS_PHOTOS = Resource("BSDS500",
                       lambda place: first_folder(place, PHOTO_FOLDERS, find_photos),
                       "get BSR_bsds500.tgz from the Berkeley Computer Vision Group, "
                       "unpack it, and set CDLM_DATA to the folder that holds BSR")


def find_photos(folder: Path) -> Path:
    """``folder`` itself if it holds photographs in train and in test. Raises NotHereError."""
    for part in ("train", "test"):
        if not photo_files(folder / part):
            raise NotHereError(f"no photographs in {folder / part}")
    return folder


def photo_files(folder: Path) -> list[Path]:
    """The photographs in a folder, hidden files left out; their order decides which patches
    are cut, and is that of characters, as ever."""
    return sorted(path for path in folder.glob("*.jpg") if not is_hidden(path.name))


def enlarge(images: Tensor, size: int) -> Tensor:
    """Bytes (N, C, n, n) drawn larger to (N, C, size, size): bilinear, in whole numbers, the
    same on every machine.

    Pixel i of the large image lies at (i + 1/2) n / size - 1/2 of the small one; here in parts
    of 2 size.
    """
    n, whole = images.shape[-1], 2 * size
    place = ((2 * torch.arange(size) + 1) * n - size).clamp(min=0)
    low, part = place // whole, place % whole
    high = (low + 1).clamp(max=n - 1)
    for dimension in (-1, -2):
        weight = part.int() if dimension == -1 else part.int()[:, None]
        wide = images.int()
        images = (wide.index_select(dimension, low) * (whole - weight)
                  + wide.index_select(dimension, high) * weight)
    return ((images + whole * whole // 2) // (whole * whole)).to(torch.uint8)


def build_mnist(search: Search) -> tuple[Split, Split]:
    """MNIST, whole."""
    return read_idx_splits(search.find(MNIST_FILES))


def build_fashion(search: Search) -> tuple[Split, Split]:
    """Fashion-MNIST, whole."""
    return read_idx_splits(search.find(FASHION_FILES))


def build_usps(search: Search) -> tuple[Split, Split]:
    """USPS, whole, drawn larger from 16 to 28 pixels."""
    folder = search.find(USPS_FILES)
    files = [folder / "usps.bz2", folder / "usps.t.bz2"]
    def make() -> dict[str, Tensor]:
        (train, y_train), (test, y_test) = map(read_usps, files)
        return {"train_images": enlarge(train, 28), "train_labels": y_train,
                "test_images": enlarge(test, 28), "test_labels": y_test}
    return splits_of(
        remembered("usps", {"version": 1, "files": files_fingerprint(folder, files)}, make))


def splits_of(parts: Mapping[str, Tensor]) -> tuple[Split, Split]:
    """Both splits from ``train_images``, ``train_labels``, ``test_images`` and
    ``test_labels``."""
    return (Split(parts["train_images"], parts["train_labels"]),
            Split(parts["test_images"], parts["test_labels"]))


def count_usps(search: Search) -> tuple[int, int]:
    """How many lines the files of USPS have."""
    folder = search.find(USPS_FILES)
    return tuple(read_bounded(folder / name, USPS_BYTES).rstrip(b"\n").count(b"\n") + 1
                 for name in ("usps.bz2", "usps.t.bz2"))


def build_optdigits(search: Search) -> tuple[Split, Split]:
    """The optical digits, which come with scikit-learn and are whole."""
    digits = load_optdigits()
    search.attempts.append(Attempt("scikit-learn", ""))
    return digits.train, digits.test


# 60_data: Blended into photographs, all of them

PatchMaker = Callable[[int, torch.Generator], Tensor]


def photo_patches(search: Search, photographs: str) -> tuple[str, list[PatchMaker]]:
    """A text that changes when the photographs do, and what cuts patches for images to train
    and to test from them."""
    if photographs == "embedded":
        search.attempts.append(Attempt("package", ""))
        which, groups, load = "embedded", [TRAIN_PHOTOS, TEST_PHOTOS], load_photo
    else:
        folder = search.find(BSDS_PHOTOS)
        groups = [photo_files(folder / part) for part in ("train", "test")]
        which = files_fingerprint(folder, [*groups[0], *groups[1]])
        def load(path: Path) -> Tensor:
            return torch.from_numpy(read_picture(path, None).copy())
    return which, [lambda count, generator, group=group: cut_patches(
        [load(path) for path in group], count, generator) for group in groups]


def noise_patches(count: int, generator: torch.Generator) -> Tensor:
    """Random noise in the place of patches of photographs: independent bytes,
    (count, 3, 28, 28)."""
    return torch.randint(256, (count, 3, 28, 28), generator=generator, dtype=torch.uint8)


def build_blended(search: Search, images: Resource, background: str = "photos",
                  photographs: str = "bsds", seed: int = 0) -> tuple[Split, Split]:
    """Images of an IDX set over patches of photographs, or over random noise; made once for
    each seed.

    Images to train lie over photographs to train, images to test over photographs to test.
    """
    folder = search.find(images)
    which, patch_makers = (photo_patches(search, photographs)
                           if background == "photos" else ("noise", [noise_patches] * 2))
    files = [idx_file(folder, name) for name in IDX_FILES]
    key = {"version": 1, "images": files_fingerprint(folder, files), "background": which,
           "seed": seed}
    def make() -> Mapping[str, Tensor]:
        parts = {}
        for number, (name, split, patches_of) in enumerate(
            zip(("train", "test"), read_idx_splits(folder), patch_makers)
        ):
            patches = patches_of(len(split), torch.Generator().manual_seed(2 * seed + number))
            pairs = zip(split.images.split(4096), patches.split(4096))
            parts[f"{name}_images"] = torch.cat([blend(digits, ground)
                                                 for digits, ground in pairs])
            parts[f"{name}_labels"] = split.labels
        return parts
    return splits_of(remembered(f"{images.name.lower()}-m", key, make))


CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
           "Bag", "Ankle boot")


def blended_terms(images: str, license: str) -> dict[str, tuple[str, str]]:
    """Origin and license of blended images where the ground is not BSDS500, by the option that
    says so."""
    return {ground: (f"{images}, blended into {what}", license)
            for ground, what in (("noise", "random noise"),
                                 ("embedded", "photographs of scikit-image and scikit-learn"))}


BLEND_OPTIONS = {"background": ("photos", "noise"), "photographs": ("bsds", "embedded"),
                 "seed": Annotated[int, Span(0, 2**32)]}


DIGIT_RECIPES = (
    Recipe("mnist", "MNIST", DIGITS, (1, 28, 28), (60000, 10000), "LeCun, Cortes and Burges",
           "CC BY-SA 3.0", build_mnist, (MNIST_FILES,), load_mnist, (4000, 1000),
           count=partial(count_idx, images=MNIST_FILES)),
    Recipe("usps", "USPS", DIGITS, (1, 28, 28), (7291, 2007),
           "US Postal Service, zip codes; 16 x 16 drawn larger", "not stated; "
           "distributed with The Elements of Statistical Learning", build_usps, (USPS_FILES,),
           count=count_usps),
    Recipe("optdigits", "Optical digits", DIGITS, (1, 28, 28), (1297, 500),
           "Alpaydin and Kaynak (UCI), by scikit-learn", "CC BY 4.0", build_optdigits, (),
           load_optdigits, (1297, 500)),
    Recipe("mnistm", "MNIST-M", DIGITS, (3, 28, 28), (60000, 10000), "MNIST, blended into "
           "photographs of BSDS500", "digits CC BY-SA 3.0; photographs for research",
           lambda search, **kw: build_blended(search, MNIST_FILES, **kw),
           (MNIST_FILES, BSDS_PHOTOS), load_mnistm, (4000, 1000), BLEND_OPTIONS,
           {"photographs": "embedded"}, terms=blended_terms("MNIST", "CC BY-SA 3.0"),
           count=partial(count_idx, images=MNIST_FILES)),
)


WHOLE_RECIPES = (
    *DIGIT_RECIPES,
    Recipe("fashion", "Fashion-MNIST", CLOTHES, (1, 28, 28), (60000, 10000),
           "Xiao, Rasul and Vollgraf (Zalando)", "MIT", build_fashion, (FASHION_FILES,),
           count=partial(count_idx, images=FASHION_FILES)),
    Recipe("fashionm", "Fashion-M", CLOTHES, (3, 28, 28), (60000, 10000), "Fashion-MNIST, "
           "blended into photographs of BSDS500", "clothes MIT; photographs for research",
           lambda search, **kw: build_blended(search, FASHION_FILES, **kw),
           (FASHION_FILES, BSDS_PHOTOS), None, None, BLEND_OPTIONS,
           {"photographs": "embedded"}, terms=blended_terms("Fashion-MNIST", "MIT"),
           count=partial(count_idx, images=FASHION_FILES)),
)
