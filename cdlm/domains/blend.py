"""Domains made from others: digits blended into photographs.

Generated from book/src/03_digits.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["blend", "cut_patches"]


# 03_digits: MNIST-M: a photograph minus a digit

def cut_patches(photos: Sequence[Tensor], count: int, generator: torch.Generator,
                size: int = 28) -> Tensor:
    """``count`` random square patches (count, C, size, size) of ``photos``, bytes (C, H, W)
    each with one C.

    Each patch comes from a random photograph and a random place in it. Raises ValueError for a
    photo below ``size``.
    """
    if any(min(photo.shape[1:]) < size for photo in photos):
        raise ValueError(f"a photograph is smaller than a patch of {size} by {size}")
    chosen = torch.randint(len(photos), (count,), generator=generator)
    # row, column; in [0, 1)
    place = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    patches = torch.empty(count, photos[0].shape[0], size, size, dtype=torch.uint8)
    for number, photo in enumerate(photos):
        mine = chosen == number
        room = torch.tensor(photo.shape[1:]) - size + 1
        corner = (place[mine] * room).long()[:, :, None] + torch.arange(size)  # (n, 2, size)
        # (n, size, 1), (n, 1, size)
        rows, columns = corner[:, 0, :, None], corner[:, 1, None, :]
        patches[mine] = photo[:, rows, columns].transpose(0, 1)
    return patches


def blend(digits: Tensor, patches: Tensor) -> Tensor:
    """Absolute difference of patch and digit as bytes, channel by channel: (N, 1, H, W) and
    (N, C, H, W) give (N, C, H, W)."""
    return (patches.short() - digits.short()).abs().to(torch.uint8)
