"""How near drawings are to the truth, how much they vary, and how blurred they are.

Generated from book/src/84b_translating.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from skimage.feature import hog
from skimage.metrics import structural_similarity
from torch import Tensor

__all__ = [
    "Variety",
    "detail_kept",
    "gradient_features",
    "mse_of_each",
    "psnr_of_each",
    "quality",
    "radial_power",
    "ssim_of_each",
    "variety",
]


# 84b_translating: Three numbers, and what they depend on

def mse_of_each(drawn: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of each image (N,), on a scale from 0 to 1.

    Both are (N, C, H, W) in [-1, 1]. Raises ValueError for shapes that differ.
    """
    if drawn.shape != truth.shape:
        raise ValueError(f"images are {tuple(drawn.shape)}, and the truth is "
                         f"{tuple(truth.shape)}; they must be pairs")
    return ((drawn.double() - truth.double()) / 2).square().flatten(1).mean(1)


def psnr_of_each(drawn: Tensor, truth: Tensor) -> Tensor:
    """Peak signal to noise ratio of each image in decibels (N,); infinite where they agree."""
    return -10 * mse_of_each(drawn, truth).log10()


def ssim_of_each(drawn: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each image (N,), in a Gaussian window of deviation 1.5, range
    0 to 1, mean over pixels and channels.

    Both are (N, C, H, W) in [-1, 1]. Raises ValueError for shapes that differ.
    """
    mse_of_each(drawn[:1], truth[:1])
    pairs = (((a + 1) / 2).double().numpy() for a in (drawn, truth))
    return torch.tensor([structural_similarity(
        a, b, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False) for a, b in zip(*pairs)], dtype=torch.float64)


def quality(drawn: Tensor, truth: Tensor) -> dict[str, float]:
    """SSIM, MSE and PSNR, means over images, and the PSNR of the mean MSE."""
    mse = mse_of_each(drawn, truth).mean()
    return {"ssim": float(ssim_of_each(drawn, truth).mean()), "mse": float(mse),
            "psnr": float(psnr_of_each(drawn, truth).mean()),
            "psnr_of_mean": float(-10 * mse.log10())}


# 84b_translating: Variety, and blur

def gradient_features(images: Tensor) -> Tensor:
    """Histograms of oriented gradients of images (N, C, H, W) in [-1, 1], cells of 8 pixels,
    (N, numbers)."""
    gray = ((images.mean(1) + 1) / 2).double().numpy()
    return torch.tensor(np.stack([hog(image, pixels_per_cell=(8, 8), cells_per_block=(2, 2))
                                  for image in gray]))


class Variety(NamedTuple):
    """Root mean square differences: among drawings of one input, and to the truth."""

    among: float
    to_truth: float


def variety(samples: Tensor, truth: Tensor,
            features: Callable[[Tensor], Tensor] | None = None) -> Variety:
    """How far drawings (K, N, C, H, W) of N inputs differ from each other, and from the truth
    (N, C, H, W), in pixels on a scale from 0 to 1, or in ``features``.

    K is 2 at least.
    """
    look = features or (lambda x: ((x + 1) / 2).double().flatten(1))
    seen, true = torch.stack([look(x) for x in samples]), look(truth)
    among = 2 * seen.var(0)                     # the mean of squared differences of two
    return Variety(among.mean(1).sqrt().mean().item(),
                   (seen - true).square().mean((0, 2)).sqrt().mean().item())


def radial_power(images: Tensor, bins: int = 16) -> Tensor:
    """Power (bins,) of images (N, C, H, W) by frequency, in equal rings from 0 to half a cycle
    per pixel: means over images, channels, and the ring, without the mean of each image."""
    x = images.double() - images.double().mean((2, 3), keepdim=True)
    power = torch.fft.fft2(x).abs().square().mean((0, 1)) / x[0, 0].numel()
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in power.shape)
    ring = ((rows[:, None] ** 2 + columns**2).sqrt() * 2 * bins).long()
    inside = (ring < bins) & ((rows[:, None] != 0) | (columns != 0))
    sums, counts = (torch.zeros(bins, dtype=torch.float64).index_add_(0, ring[inside], value)
                    for value in (power[inside], torch.ones_like(power[inside])))
    return sums / counts.clamp_min(1)


def detail_kept(drawn: Tensor, truth: Tensor, above: float = 0.25) -> float:
    """The power of drawings at frequencies from ``above`` on, in cycles per pixel, as a share
    of that of the truth."""
    powers = [radial_power(x, 16)[round(32 * above):].sum() for x in (drawn, truth)]
    return float(powers[0] / powers[1])
