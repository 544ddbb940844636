"""Mini-batches drawn on the device from images held as bytes.

Generated from book/src/10_domain_shift.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cdlm.data.domains import Split

__all__ = ["DomainBatch", "draw", "draw_pair", "normalize"]


# 10_domain_shift: Batches

def normalize(images: Tensor) -> Tensor:
    """Bytes 0..255 as floats in [-1, 1]. Raises TypeError for what is not bytes: it may be normalized already."""
    if images.dtype != torch.uint8:
        raise TypeError(f"images are {images.dtype}, not uint8; are they normalized already?")
    return images.float() / 127.5 - 1


def draw(split: Split, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random batch, with replacement: images (B, C, 28, 28) in [-1, 1] and labels (B,), on the generator's device."""
    chosen = torch.randint(len(split), (batch_size,), generator=generator, device=generator.device)
    return normalize(split.images[chosen]), split.labels[chosen]


# 10_domain_shift: Batches

@dataclass(frozen=True)
class DomainBatch:
    """What a method may see: source images with labels, target images without."""

    x_s: Tensor     # (B, C, 28, 28) in [-1, 1]
    y_s: Tensor     # (B,)
    x_t: Tensor     # (B, C, 28, 28) in [-1, 1]
    x_t_again: Tensor | None = None     # the same target images, changed in another way, where a training wants them
    x_s_plain: Tensor | None = None     # the source images before they were changed, where they were


def draw_pair(source: Split, target: Split, batch_size: int, generator: torch.Generator) -> DomainBatch:
    """Independent random batches of both domains. Raises ValueError if they differ in their channels."""
    channels = source.images.shape[1], target.images.shape[1]
    if channels[0] != channels[1]:
        raise ValueError(f"source images have {channels[0]} channels, target images {channels[1]}: load both with 3")
    (x_s, y_s), (x_t, _) = draw(source, batch_size, generator), draw(target, batch_size, generator)
    return DomainBatch(x_s, y_s, x_t)
