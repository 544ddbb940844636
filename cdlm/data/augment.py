"""Random changes to a batch, in one pass on its device.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from cdlm.data.batches import draw
from cdlm.data.domain import Split
from cdlm.settings import Momentum, Settings, Share, Span

__all__ = ["Augment", "augment_images", "convolved", "draw_augmented", "restyled"]


# 60_data: Feeding a network

@dataclass(frozen=True)
class Augment(Settings):
    """How far images may be changed at random: turned (degrees), moved and scaled
    (share of the side), flipped, recolored.

    ``brightness`` is the largest shift of the range [-1, 1], ``contrast`` the largest relative
    change; the other ones are probabilities: to be inverted, flipped, recolored again channel
    by channel, to have the channels exchanged, and a random convolution. Nothing is changed by
    default.
    """

    degrees: Annotated[float, Span(0, 360)] = 0.0
    shift: Share = 0.0
    scale: Momentum = 0.0               # a whole one would leave nothing
    flip: Share = 0.0
    brightness: Annotated[float, Span(0, 2)] = 0.0
    contrast: Share = 0.0
    invert: Share = 0.0
    by_channel: Share = 0.0
    exchange: Share = 0.0
    convolve: Share = 0.0


def augment_images(images: Tensor, how: Augment, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W) in [-1, 1], each changed in its own way, in one pass on their
    device.

    What comes in from beyond the edge repeats the edge. Eight random numbers are drawn for
    each image, whatever is used of these; ``restyled`` draws for itself.
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
    images = torch.addcmul(offset[:, None, None, None], images,
                           factor[:, None, None, None]).clamp(-1, 1)
    return restyled(images, how, generator)


def convolved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W), each filtered by random kernels of 1, 3, 5 or 7 pixels and mixed
    with itself in random shares.

    The kernels keep the variance of noise; the side is the same for the whole batch.
    """
    count, channels, device = len(images), images.shape[1], images.device
    side = 2 * int(torch.randint(4, (1,), generator=generator, device=device)) + 1
    kernels = torch.randn(count * channels, channels, side, side, generator=generator,
                          device=device, dtype=images.dtype) / (channels**0.5 * side)
    padded = F.pad(images, (side // 2,) * 4, mode="replicate").flatten(0, 1)[None]
    filtered = F.conv2d(padded, kernels, groups=count).view_as(images)
    share = torch.rand(count, 1, 1, 1, generator=generator, device=device, dtype=images.dtype)
    return torch.lerp(images, filtered, share)


def restyled(images: Tensor, how: Augment, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W) in [-1, 1], some of them with other textures and colors; nothing is
    drawn for what has probability 0."""
    count, channels = images.shape[:2]
    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, 1, 1, generator=generator, device=images.device,
                          dtype=images.dtype)
    if how.convolve:
        chosen = drawn(count, 1) < how.convolve
        images = torch.where(chosen, convolved(images, generator), images)
    if how.by_channel:
        contrast, brightness, sign = drawn(3, count, channels)
        factor = 1 + (2 * contrast - 1) * how.contrast
        factor = torch.where(sign < how.invert, -factor, factor)
        other = images * factor + (2 * brightness - 1) * how.brightness
        images = torch.where(drawn(count, 1) < how.by_channel, other, images)
    if how.exchange:
        order = drawn(count, channels).argsort(1).expand_as(images)
        images = torch.where(drawn(count, 1) < how.exchange, images.gather(1, order), images)
    return images.clamp(-1, 1)


def draw_augmented(split: Split, batch_size: int, generator: torch.Generator,
                   how: Augment | None = None,
                   channels: int | None = None) -> tuple[Tensor, Tensor]:
    """A random batch as ``draw`` gives it, with gray expanded to ``channels`` and augmented;
    on the generator's device."""
    x, y = draw(split, batch_size, generator)
    if how is not None:
        x = augment_images(x, how, generator)
    return x if channels is None else x.expand(-1, channels, -1, -1), y
