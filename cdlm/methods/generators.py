"""What draws and what judges drawings: a generator of images, a discriminator of patches, a pool.

Generated from book/src/78b_neighbors_pixels.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.model.networks import ResidualBlock, conv_block, norm

__all__ = [
    "ImagePool",
    "Painter",
    "PatchDiscriminator",
    "Redrawer",
    "fooling_loss",
    "judging_loss",
    "least_squares",
]


# 78b_neighbors_pixels: What it takes to redraw

class Redrawer(nn.Module):
    """Images (B, channels, S, S) in [-1, 1] to images of the same shape; it learns what to
    change.

    ``extra`` further planes, (B, extra, S, S) in all, may tell it more than the image; S is a
    multiple of 4.
    """

    def __init__(self, channels: int = 1, width: int = 16, blocks: int = 1, extra: int = 0,
                 normalization: str = "group") -> None:
        super().__init__()
        wide, kind = 2 * width, normalization
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(4),                           # (B, 16 (C + extra), S/4, S/4)
            conv_block(16 * (channels + extra), wide, 3, 1, 1, kind),   # (B, 2w, S/4, S/4)
            *(ResidualBlock(wide, wide, 1, kind) for _ in range(blocks)),
            nn.Conv2d(wide, 16 * channels, 3, 1, 1),        # (B, 16 C, S/4, S/4)
            nn.PixelShuffle(4),                             # (B, C, S, S)
        )

    def forward(self, x: Tensor, *planes: Tensor) -> Tensor:
        return torch.tanh(2 * x + self.layers(torch.cat([x, *planes], 1)))


class PatchDiscriminator(nn.Sequential):
    """Images (B, channels, S, S) to a score for each patch, (B, (S/4)^2); high means real."""

    def __init__(self, channels: int = 1, width: int = 16,
                 normalization: str = "group") -> None:
        wide = 2 * width
        super().__init__(
            nn.PixelUnshuffle(4), nn.Conv2d(16 * channels, wide, 3, 1, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(wide, wide, 3, 1, 1), norm(wide, normalization), nn.LeakyReLU(0.2),
            nn.Conv2d(wide, 1, 1), nn.Flatten())


class Painter(nn.Sequential):
    """Codes (B, latent) to images (B, channels, S, S) in [-1, 1]; S is a multiple of 4."""

    def __init__(self, latent: int, channels: int = 1, width: int = 16, size: int = 28,
                 normalization: str = "group") -> None:
        wide, side, kind = 2 * width, size // 4, normalization
        super().__init__(
            nn.Linear(latent, wide * side**2), nn.Unflatten(1, (wide, side, side)),
            norm(wide, kind), nn.LeakyReLU(0.01), ResidualBlock(wide, wide, 1, kind),
            nn.Conv2d(wide, 16 * channels, 3, 1, 1), nn.PixelShuffle(4), nn.Tanh())


def fooling_loss(logits: Tensor) -> Tensor:
    """Mean of -log sigmoid of the scores of drawings, (B, ...), a scalar: what a generator
    minimizes."""
    return F.softplus(-logits).mean()


def least_squares(scores: Tensor, truth: float) -> Tensor:
    """Mean squared distance of scores (B, ...) from ``truth``: 1 for real, 0 for drawn."""
    return (scores - truth).square().mean()


def judging_loss(real: Tensor, drawn: Tensor) -> Tensor:
    """Loss by squares of a discriminator, a scalar, from its scores (B, ...) of real and drawn
    images."""
    return (least_squares(real, 1.0) + least_squares(drawn, 0.0)) / 2


class ImagePool(nn.Module):
    """A ring of drawings (C, H, W) from earlier steps; part of the state of whoever has it."""

    def __init__(self, size: int, *shape: int) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def swap(self, drawn: Tensor, coins: Tensor) -> Tensor:
        """Drawings (B, C, H, W), of which those with a positive coin, (B,), are exchanged for
        an older one once the pool is full.

        At most ``size`` of them, the first ones, meet the pool.
        """
        size, count = len(self.images), min(len(self.images), len(drawn))
        turn = self.seen + torch.arange(count, device=drawn.device)
        new, old = drawn[:count].to(self.images.dtype), self.images[turn % size]
        full_up = turn >= size
        takes_old = (full_up & (coins[:count] > 0))[:, None, None, None]
        self.images[turn % size] = torch.where(takes_old | ~full_up[:, None, None, None], new,
                                               old)
        self.seen += count
        return torch.cat([torch.where(takes_old, old, new), drawn[count:].to(new.dtype)])
