"""Codes with places: encoder, decoder and discriminator of maps, and local contrast.

Generated from book/src/84b_translating.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.model.networks import Encoded, ResidualBlock, conv_block, deconv_block

__all__ = [
    "LocalContrast",
    "MapDecoder",
    "MapDiscriminator",
    "MapEncoder",
    "doublings",
    "map_widths",
]


# 84b_translating: A code with places

def doublings(size: int, side: int) -> int:
    """How often ``side`` doubles to reach ``size``. Raises ValueError if it does not."""
    times = int(math.log2(size / side)) if side <= size else -1
    if times < 1 or side * 2**times != size:
        raise ValueError(f"a map of side {side} does not double to images of {size} pixels; "
                         "choose a side that is a half, a quarter, an eighth of it")
    return times


def map_widths(width: int, size: int, side: int) -> list[int]:
    """Channels from half the size of the image down to the ``side`` of the map: doubled each
    time, to four times ``width`` at most."""
    return [width * min(2**i, 4) for i in range(doublings(size, side))]


class MapEncoder(nn.Module):
    """Images (B, channels, size, size) to a code at each of ``side`` times ``side`` places.

    What comes out is ``Encoded``, each (B, depth * side**2): maps, flattened. Raises
    ValueError for sides that do not double to ``size``.
    """

    def __init__(self, depth: int = 8, channels: int = 3, width: int = 16, size: int = 64,
                 side: int = 8, normalization: str = "group") -> None:
        super().__init__()
        counts = [channels, *map_widths(width, size, side)]
        self.trunk = nn.Sequential(
            *(conv_block(a, b, 5, 2, 2, normalization) for a, b in pairwise(counts)),
            ResidualBlock(counts[-1], counts[-1], 1, normalization))
        self.mu, self.log_sigma, self.h = (nn.Conv2d(counts[-1], depth, 1) for _ in range(3))
        nn.init.zeros_(self.log_sigma.weight)

    def forward(self, x: Tensor) -> Encoded:
        """Encode images ``x`` (B, channels, size, size) in [-1, 1]."""
        features = self.trunk(x)                            # (B, c, side, side)
        sigma = self.log_sigma(features).clamp(-6, 3).exp()
        return Encoded(self.mu(features).flatten(1), sigma.flatten(1),
                       self.h(features).sigmoid().flatten(1))


class MapDecoder(nn.Sequential):
    """Codes (B, depth * side**2) of ``MapEncoder`` to images (B, channels, size, size) in
    [-1, 1]."""

    def __init__(self, depth: int = 8, channels: int = 3, width: int = 16, size: int = 64,
                 side: int = 8, normalization: str = "group") -> None:
        counts = [*map_widths(width, size, side)[::-1], width]
        doubling = [deconv_block(a, b, 4, 2, 1, normalization) for a, b in pairwise(counts)]
        super().__init__(
            nn.Unflatten(1, (depth, side, side)),
            conv_block(depth, counts[0], 3, 1, 1, normalization),
            ResidualBlock(counts[0], counts[0], 1, normalization),
            *doubling, nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())


class MapDiscriminator(nn.Sequential):
    """Features (B, depth * side**2) of ``MapEncoder`` to a logit for each place,
    (B, side**2); positive means source."""

    def __init__(self, depth: int = 8, side: int = 8, hidden: int = 64) -> None:
        super().__init__(nn.Unflatten(1, (depth, side, side)), nn.Conv2d(depth, hidden, 1),
                         nn.ReLU(), nn.Conv2d(hidden, 1, 1), nn.Flatten())


# 84b_translating: What asks for a resemblance

class LocalContrast(nn.Module):
    """Images (B, C, H, W) as (B, 1, H, W): gray, each pixel less the mean of its surroundings
    and divided by their deviation.

    The surroundings reach ``reach`` pixels in each direction; 0.1 is added to the deviation,
    in squares, so that flat surroundings stay flat.
    """

    def __init__(self, reach: int = 4) -> None:
        super().__init__()
        self.reach = reach

    def around(self, x: Tensor) -> Tensor:
        """Mean over the surroundings of each pixel."""
        padded = F.pad(x, (self.reach,) * 4, mode="reflect")
        return F.avg_pool2d(padded, 2 * self.reach + 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        gray = x.mean(1, keepdim=True)
        mean = self.around(gray)
        variance = (self.around(gray**2) - mean**2).clamp_min(0)
        return (gray - mean) / (variance + 0.1**2).sqrt()
