"""Random changes to a batch, in one pass on its device.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cdlm.data.batches import draw
from cdlm.data.domain import Split

__all__ = ["Augment", "augment_images", "draw_augmented"]


# 60_data: Feeding a network

@dataclass(frozen=True)
class Augment:
    """How far images may be changed at random: turned (degrees), moved and scaled
    (share of the side), flipped, recolored.

    ``brightness`` is the largest shift of the range [-1, 1], ``contrast`` the largest relative
    change, ``invert`` and ``flip`` are probabilities. Nothing is changed by default.
    """

    degrees: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    invert: float = 0.0


def augment_images(images: Tensor, how: Augment, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W) in [-1, 1], each changed in its own way, in one pass on their
    device.

    What comes in from beyond the edge repeats the edge. Eight random numbers are drawn for
    each image, whatever is used.
    """
    draws = torch.rand(8, len(images), generator=generator, device=images.device)
    signed = 2 * draws - 1  # (8, B) in [-1, 1)
    if how.degrees or how.shift or how.scale or how.flip:
        angle, zoom = signed[0] * math.radians(how.degrees), 1 / (1 + signed[1] * how.scale)
        mirror = 1 - 2 * (draws[2] < how.flip).float()
        rows = torch.stack(
            [mirror * zoom * angle.cos(), -zoom * angle.sin(), 2 * signed[3] * how.shift,
             mirror * zoom * angle.sin(), zoom * angle.cos(), 2 * signed[4] * how.shift])
        grid = F.affine_grid(rows.T.reshape(-1, 2, 3), images.shape, align_corners=False)
        images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    factor = 1 + signed[5] * how.contrast
    factor = factor * (1 - 2 * (draws[6] < how.invert).float())
    offset = signed[7] * how.brightness
    return torch.addcmul(offset[:, None, None, None], images,
                         factor[:, None, None, None]).clamp(-1, 1)


def draw_augmented(split: Split, batch_size: int, generator: torch.Generator,
                   how: Augment | None = None,
                   channels: int | None = None) -> tuple[Tensor, Tensor]:
    """A random batch as ``draw`` gives it, with gray expanded to ``channels`` and augmented;
    on the generator's device."""
    x, y = draw(split, batch_size, generator)
    if how is not None:
        x = augment_images(x, how, generator)
    return x if channels is None else x.expand(-1, channels, -1, -1), y
