"""Everything that a run follows from, and the data and the method that it asks for.

Generated from book/src/74_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Annotated

import torch

from cdlm.data.domain import Domain, OpenedDomain
from cdlm.domains.catalog import CATALOG, SIZES, check_classes, in_color, open_domain
from cdlm.files import RunError
from cdlm.methods.base import Method
from cdlm.methods.registry import METHODS, build_config
from cdlm.settings import Count, Images, Seed, Span, check_fields

__all__ = [
    "RunSpec",
    "build_method",
    "found_size",
    "load_pair",
    "located",
    "open_at",
    "sizes_of",
]


# 74_runs: What defines a run

@dataclass(frozen=True)
class RunSpec:
    """Everything that a run follows from.

    ``settings`` are fields of the method's config that differ from its defaults. Raises
    SettingError for what the annotation of a field does not allow.
    """

    method: str
    source: str
    target: str
    seed: Seed = 0
    steps: Annotated[int, Span(1, 10**9)] = 1500
    batch_size: Count = 64
    settings: dict[str, float | int | bool | str] = field(default_factory=dict)
    # of the data: "sample", "full", "partial", "best", or one for each, as "sample,full"
    size: str = "sample"
    precision: str = "float32"          # of the networks' arithmetic: "float32" or "bfloat16"
    # random changes to images of both domains, as Augment has them
    augment: dict[str, float] = field(default_factory=dict)
    # and to those target images that come a second time, if any
    strong: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)


# 74_runs: The data of a run

def open_at(name: str, size: str) -> OpenedDomain:
    """A domain of the catalog, or a folder, in one of its sizes; "partial" is what a set can
    be made of with less files."""
    if size == "partial":
        return open_domain(name, "full",
                           **(CATALOG[name].partial or {} if name in CATALOG else {}))
    return open_domain(name, size)


def located(name: str) -> str:
    """A domain as a stored run names it: one of the catalog by its name, a folder by its
    absolute path, so that it is found from anywhere."""
    path = os.path.abspath(os.path.expanduser(name))
    return path if name not in CATALOG and os.path.exists(path) else name


def sizes_of(spec: RunSpec) -> tuple[str, str]:
    """Size of the source's data and of the target's. Raises RunError for other words."""
    sizes = spec.size.split(",")
    if len(sizes) > 2 or not set(sizes) <= {*SIZES, "partial"}:
        raise RunError(f"size is one of {', '.join(SIZES)}, or one for each domain, "
                       f"as sample,full; not {spec.size!r}")
    return sizes[0], sizes[-1]


def found_size(source: OpenedDomain, target: OpenedDomain) -> str:
    """What to write in a config for the data that were found, such as "full", or "sample,full"
    where they differ.

    A domain whose sample is the whole set says what the other one says.
    """
    def any_will_do(domain: OpenedDomain) -> bool:
        return (domain.name in CATALOG
                and CATALOG[domain.name].sample_counts == CATALOG[domain.name].counts)
    first = target.size if any_will_do(source) and target.size != "partial" else source.size
    second = source.size if any_will_do(target) and source.size != "partial" else target.size
    return first if first == second else f"{first},{second}"


def load_pair(spec: RunSpec) -> tuple[OpenedDomain, OpenedDomain]:
    """Both domains of a run, with as many channels as the richer one of them.

    Raises RunError for pairs that no method can take, and what open_domain raises for domains
    that are not to be had.
    """
    source, target = pair = [open_at(*words)
                             for words in zip((spec.source, spec.target), sizes_of(spec))]
    check_classes(source, target)
    if not source.classes:
        raise RunError(f"{spec.source} has no classes to learn; "
                       "a source is a folder with a folder for each class")
    pixels = [tuple(domain.train.images.shape[2:]) for domain in pair]
    if pixels[0] != pixels[1] or pixels[0] not in ((28, 28), (32, 32), (64, 64)):
        raise RunError(f"images of {spec.source} and {spec.target} are "
                       f"{' and '.join(f'{h} x {w}' for h, w in pixels)}; "
                       "both must be 28 x 28, 32 x 32 or 64 x 64")
    channels = max(domain.channels for domain in pair)
    return tuple(domain if domain.channels == channels
                 else replace(domain, train=in_color(domain.train), test=in_color(domain.test))
                 for domain in pair)


def build_method(spec: RunSpec, source: Domain) -> Method:
    """The method of a run for images like those of ``source``, its weights initialized from
    the seed.

    Raises RunError for settings that are not for images of this size.
    """
    config = build_config(spec.method, spec.settings)
    images = Images(source.channels, source.train.images.shape[-1], len(source.classes))
    torch.manual_seed(spec.seed)
    try:
        return METHODS[spec.method][0](config, images)
    except ValueError as error:
        raise RunError(f"{error} (images of {images.size} pixels)") from None
