"""What a domain tells of itself, and the story of how it was got.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cdlm.data.domains import Domain
from cdlm.data.sources import Attempt, Resource

__all__ = ["OpenedDomain", "Recipe"]


# 60_data: What a domain tells of itself

@dataclass(frozen=True)
class OpenedDomain(Domain):
    """A domain with the story of how it was got."""

    size: str                                   # "full", "partial" or "sample"
    way: str                                    # the ways that worked, such as "CDLM_DATA and cache", or "package"
    attempts: tuple[Attempt, ...] = ()          # all that were tried
    skipped: tuple[str, ...] = ()               # messages about damaged images that were left out

    @property
    def found(self) -> str:
        """What a caption says, such as "full set, 60000 + 10000 images, by CDLM_DATA"."""
        return f"{self.size} set, {len(self.train)} + {len(self.test)} images, by {self.way}"


@dataclass(frozen=True)
class Recipe:
    """What there is to know of a domain before it is opened, and how it is made.

    ``build(search, **options)`` gives the whole set as (train, test), or as (train, test, classes) where the files decide on
    the classes, and finds its ``resources`` by ``search.find``.
    ``sample()`` gives a small one that comes with the package. ``partial`` are options under which less is needed.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]                 # channels, height, width
    counts: tuple[int, int]                     # images to train and to test, of the whole set as published
    origin: str
    license: str
    build: Callable[..., tuple]
    resources: tuple[Resource, ...] = ()
    sample: Callable[[], Domain] | None = None
    sample_counts: tuple[int, int] | None = None
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)       # what may be chosen; the default first
    partial: Mapping[str, str] | None = None
    partial_resources: tuple[Resource, ...] = ()        # those needed then; by default the first of ``resources``
    terms: Mapping[str, tuple[str, str]] = field(default_factory=dict)      # by option's value: other origin and license
    fixed: bool = True                          # whether every whole copy has these counts and classes; else the folder decides
