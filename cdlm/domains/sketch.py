"""Drawings of photographs: pencil sketches by color dodge, edges by Canny.

Generated from book/src/61_pictures.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from skimage.feature import canny
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from cdlm.data.domain import Split

__all__ = ["canny_edges", "draw_half", "pencil_sketch", "to_gray"]


# 61_pictures: Sketches: dodging a photograph

def to_gray(images: Tensor) -> Tensor:
    """Luminance (N, 1, H, W) in [0, 1] of bytes (N, 1 or 3, H, W)."""
    values = images.float() / 255
    if images.shape[1] == 1:
        return values
    return (values * torch.tensor([0.299, 0.587, 0.114],
                                  device=images.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def pencil_sketch(images: Tensor, blur: float = 3.0) -> Tensor:
    """Pencil sketches (N, 1, H, W) of images (N, 1 or 3, H, W), both as bytes: gray, dodged by
    its blurred negative.

    ``blur`` is the standard deviation, in pixels, of the Gaussian that defines the
    surroundings of a pixel.
    """
    gray = to_gray(images)
    size = 2 * math.ceil(3 * blur) + 1
    surroundings = tv.gaussian_blur(gray, [size, size], [blur, blur])
    return ((gray + 1 / 255) / (surroundings + 1 / 255) * 255).clamp(0, 255).round().to(
        torch.uint8)


# 61_pictures: Edges: where brightness jumps

def canny_edges(images: Tensor, sigma: float = 1.5) -> Tensor:
    """Edges (N, 1, H, W), black on white, of images (N, 1 or 3, H, W), both as bytes, by
    Canny's detector.

    ``sigma`` is the standard deviation of the smoothing in pixels: larger finds fewer edges.
    """
    gray = to_gray(images)[:, 0].cpu().numpy()
    edges = np.stack([canny(picture, sigma=sigma) for picture in gray])
    return torch.from_numpy(np.where(edges, 0, 255).astype(np.uint8))[:, None]


# 61_pictures: A domain and its drawing

def draw_half(train: Split, test: Split, draw, second: bool = True) -> tuple[Split, Split]:
    """Drawings of every other training image, the first or the second of each two, and of all
    test images.

    ``draw`` turns bytes (N, C, H, W) into bytes (N, C', H, W).
    """
    def drawn(images: Tensor) -> Tensor:
        return torch.cat([draw(part) for part in images.split(512)])
    start = int(second)
    return (Split(drawn(train.images[start::2]), train.labels[start::2]),
            Split(drawn(test.images), test.labels))
