"""Mini-batches drawn on the device from images held as bytes.

Generated from book/src/03_digits.md, book/src/12_engine.md by `make sync`: edit there, not
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cdlm.data.domain import Split

__all__ = [
    "ByClass",
    "DomainBatch",
    "by_class",
    "draw",
    "draw_numbers",
    "draw_pair",
    "normalize",
]


# 03_digits: Batches

def normalize(images: Tensor) -> Tensor:
    """Bytes 0..255 as floats in [-1, 1].

    Raises TypeError for what is not bytes: it may be normalized already.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images are {images.dtype}, not uint8; are they normalized already?")
    return images.float() / 127.5 - 1


def draw(split: Split, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random batch, with replacement: images (B, C, 28, 28) in [-1, 1] and labels (B,), on
    the generator's device."""
    chosen = torch.randint(len(split), (batch_size,), generator=generator,
                           device=generator.device)
    return normalize(split.images[chosen]), split.labels[chosen]


@dataclass(frozen=True)
class DomainBatch:
    """What a method may see: source images with labels, target images without."""

    x_s: Tensor     # (B, C, 28, 28) in [-1, 1]
    y_s: Tensor     # (B,)
    x_t: Tensor     # (B, C, 28, 28) in [-1, 1]
    # the same target images, changed in another way, where a training wants them
    x_t_again: Tensor | None = None
    # the source images before they were changed, where they were
    x_s_plain: Tensor | None = None
    y_t_own: Tensor | None = None       # (B,) a method's own labels of x_t, -1 for none


def draw_pair(source: Split, target: Split, batch_size: int,
              generator: torch.Generator) -> DomainBatch:
    """Independent random batches of both domains.

    Raises ValueError if they differ in their channels.
    """
    channels = source.images.shape[1], target.images.shape[1]
    if channels[0] != channels[1]:
        raise ValueError(f"source images have {channels[0]} channels, "
                         f"target images {channels[1]}: load both with 3")
    x_s, y_s = draw(source, batch_size, generator)
    x_t, _ = draw(target, batch_size, generator)
    return DomainBatch(x_s, y_s, x_t)


# 12_engine: What else a method may ask for

class ByClass(NamedTuple):
    """Images sorted by class: each class has ``counts`` of ``order``, from ``starts`` on."""

    order: Tensor       # (labeled images,), their numbers
    starts: Tensor      # (classes that there are,)
    counts: Tensor


def by_class(labels: Tensor) -> ByClass | None:
    """Where each class is, by labels (N,), of which -1 is none; None if all are -1."""
    order = labels.argsort(stable=True)[(labels < 0).sum():]
    if not len(order):
        return None
    counts = labels[order].unique(return_counts=True)[1]
    return ByClass(order, counts.cumsum(0) - counts, counts)


def draw_numbers(split: Split, batch_size: int, generator: torch.Generator,
                 places: ByClass | None = None) -> Tensor:
    """Numbers (batch_size,) of random images: any, or as many of each class, or one more."""
    if places is None:
        return torch.randint(len(split), (batch_size,), generator=generator,
                             device=generator.device)
    turn = torch.randperm(len(places.counts), generator=generator, device=generator.device)
    which = turn.repeat(batch_size // len(turn) + 1)[:batch_size]
    share = torch.rand(batch_size, generator=generator, device=generator.device)
    return places.order[places.starts[which] + (share * places.counts[which]).long()]
