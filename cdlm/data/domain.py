"""What a domain is: its splits, its classes, what it tells of itself, and what to say when it is missing.

Generated from book/src/03_digits.md, book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from cdlm.data.search import Attempt, Resource, Search

__all__ = [
    "Domain",
    "MissingDataError",
    "OpenedDomain",
    "Recipe",
    "Split",
    "UnknownDomainError",
    "checksum",
]


# 03_digits: What there is

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


class UnknownDomainError(ValueError):
    """No domain has this name; the message lists those there are."""


class MissingDataError(RuntimeError):
    """Images that come with a package cannot be read; the message says what to do."""


def _missing(what: str, distribution: str, error: Exception) -> MissingDataError:
    again = f"pip install --force-reinstall {distribution}"
    return MissingDataError(f"{what} cannot be read ({type(error).__name__}); "
                            f"it comes with {distribution}: `{again}`")


# 03_digits: One door to all three

def checksum(split: Split) -> str:
    """SHA-256 of a split, images and labels, as 64 hexadecimal digits; the same on every
    machine."""
    digest = hashlib.sha256(repr(tuple(split.images.shape)).encode())
    digest.update(split.images.cpu().contiguous().numpy().tobytes())
    digest.update(split.labels.cpu().numpy().astype("<i8").tobytes())
    return digest.hexdigest()


# 60_data: What a domain tells about itself

@dataclass(frozen=True)
class OpenedDomain(Domain):
    """A domain with the story of how it was got."""

    size: str                                   # "full", "partial" or "sample"
    way: str  # the ways that worked, such as "CDLM_DATA and cache", or "package"
    attempts: tuple[Attempt, ...] = ()          # all that were tried
    skipped: tuple[str, ...] = ()  # messages about damaged images that were left out

    @property
    def found(self) -> str:
        """What a caption says, such as "full set, 60000 + 10000 images, by CDLM_DATA"."""
        return f"{self.size} set, {len(self.train)} + {len(self.test)} images, by {self.way}"


@dataclass(frozen=True)
class Recipe:
    """What there is to know of a domain before it is opened, and how it is made.

    ``build(search, **options)`` gives the whole set as (train, test), or as
    (train, test, classes) where the files decide on the classes, and finds its ``resources``
    by ``search.find``. ``sample()`` gives a small one that comes with the package. ``partial``
    are options under which less is needed.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]  # channels, height, width
    counts: tuple[int, int]      # images to train and to test, of the whole set as published
    origin: str
    license: str
    build: Callable[..., tuple]
    resources: tuple[Resource, ...] = ()
    sample: Callable[[], Domain] | None = None
    sample_counts: tuple[int, int] | None = None
    # what may be chosen: words, the default first, or the kind of a value
    options: Mapping[str, object] = field(default_factory=dict)
    partial: Mapping[str, str] | None = None
    # those needed then; by default the first of ``resources``
    partial_resources: tuple[Resource, ...] = ()
    # by option's value: other origin and license
    terms: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    # whether every whole copy has these counts and classes; else the folder decides
    fixed: bool = True
    # how many images the files hold that are here, by search; None where ``counts`` is true
    count: Callable[[Search], tuple[int, int]] | None = None
