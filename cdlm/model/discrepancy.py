"""Distances between two samples or distributions: moments, CORAL, maximum mean discrepancy, total variation.

Generated from book/src/55_alignment.md, book/src/56_bound.md by `make sync`: edit there, not
here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    "a_distance",
    "coral_distance",
    "covariance",
    "expected_kernel",
    "gaussian_kernel",
    "gaussian_mmd_squared",
    "jensen_shannon",
    "js_distance",
    "mean_distance",
    "mean_over_pairs",
    "median_width",
    "mmd_squared",
    "permutation_p_value",
    "total_variation",
]


# 55_alignment: Means

def mean_distance(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distance between the means of two samples (n, d) and (m, d); a scalar,
    in squared units of x."""
    return (x.mean(0) - y.mean(0)).square().sum()


# 55_alignment: Covariances: CORAL

def covariance(x: Tensor) -> Tensor:
    """Unbiased covariance matrix (d, d) of a sample (n, d).

    Raises ValueError for fewer than two points.
    """
    if len(x) < 2:
        raise ValueError(f"{len(x)} points have no covariance; two at least are needed")
    centered = x - x.mean(0)
    return centered.T @ centered / (len(x) - 1)


def coral_distance(x: Tensor, y: Tensor) -> Tensor:
    """CORAL loss of Sun and Saenko (2016) between samples (n, d) and (m, d); a scalar, zero
    for equal covariances."""
    return (covariance(x) - covariance(y)).square().sum() / (4 * x.shape[1] ** 2)


# 55_alignment: All moments at once: a kernel

def gaussian_kernel(x: Tensor, y: Tensor, width: float | Tensor) -> Tensor:
    """Kernel matrix (n, m) of samples (n, d) and (m, d): the exponential of minus the squared
    distance over twice ``width`` squared, in (0, 1]; ``width`` > 0."""
    squared = (x[:, None] - y[None]).square().sum(2)
    return torch.exp(-squared / (2 * width**2))


# 55_alignment: Two estimators

def mean_over_pairs(k: Tensor, distinct: bool) -> Tensor:
    """Mean of a kernel matrix (n, n) over all pairs, or over those of two
    ``distinct`` points."""
    return (k.sum() - k.trace()) / (len(k) * (len(k) - 1)) if distinct else k.mean()


def mmd_squared(x: Tensor, y: Tensor, width: float | Tensor, unbiased: bool = False) -> Tensor:
    """Squared maximum mean discrepancy with a Gaussian kernel between samples (n, d) and
    (m, d); a scalar.

    The biased estimator is in [0, 2]; the unbiased one leaves out pairs of a point with
    itself, and can be negative.
    """
    within = sum(mean_over_pairs(gaussian_kernel(a, a, width), unbiased) for a in (x, y))
    return within - 2 * gaussian_kernel(x, y, width).mean()


# 55_alignment: More than chance?

def permutation_p_value(distance: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor,
                        count: int, generator: torch.Generator) -> float:
    """Share of ``count`` random relabelings of the points, and of the true one, with at least
    the distance found.

    Samples are (n, d) and (m, d). If both have one distribution, it is at most p with a
    probability of at most p.
    """
    found, points = distance(x, y), torch.cat([x, y])
    reached = 1
    for _ in range(count):
        shuffled = points[torch.randperm(len(points), generator=generator)]
        reached += int(distance(shuffled[: len(x)], shuffled[len(x):]) >= found)
    return reached / (count + 1)


# 55_alignment: Check it: Gaussians in closed form

def expected_kernel(mean: Tensor, variance: Tensor, width: float) -> Tensor:
    """Mean of the Gaussian kernel over differences N(mean, diag variance), both (..., d);
    shape (...), in (0, 1]."""
    spread = width**2 + variance
    return (width / spread.sqrt() * torch.exp(-(mean**2) / (2 * spread))).prod(-1)


def gaussian_mmd_squared(mu_x: Tensor, sigma_x: Tensor, mu_y: Tensor, sigma_y: Tensor,
                         width: float) -> Tensor:
    """Squared MMD between N(mu_x, diag sigma_x^2) and N(mu_y, diag sigma_y^2), all (..., d);
    shape (...), in [0, 2)."""
    within = sum(expected_kernel(torch.zeros_like(sigma), 2 * sigma**2, width)
                 for sigma in (sigma_x, sigma_y))
    return within - 2 * expected_kernel(mu_x - mu_y, sigma_x**2 + sigma_y**2, width)


def median_width(x: Tensor, y: Tensor) -> Tensor:
    """Median distance between points of both samples together: a usual width of the kernel; at
    least 1e-6, detached."""
    return torch.pdist(torch.cat([x, y]).detach()).median().clamp(min=1e-6)


# 55_alignment: What it is worth

def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats of distributions p, q (..., k) that sum to one; shape
    (...), in [0, log 2].

    It is the entropy of their mixture less the mean of their entropies; zeros are allowed.
    """
    m = (p + q) / 2
    # 0 where they agree, 1 where one is zero
    a = ((p - q) / 2).abs() / torch.where(m > 0, m, 1)
    return (m * (torch.special.xlog1py(1 - a, -(a**2)) / 2 + a * a.log1p())).sum(-1)


# 56_bound: From the divergence to the A-distance

def a_distance(error: float | Tensor) -> float | Tensor:
    """A-distance 2 (1 - 2 error) of a domain classifier's error: 2 where it is always right, 0
    at chance."""
    return 2 * (1 - 2 * error)


# 56_bound: What alignment cannot do: other shares of the classes

def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """Half the sum of absolute differences of two distributions, (..., values) each; (...) in
    0..1."""
    return (p - q).abs().sum(-1) / 2


def js_distance(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon distance, the root of the divergence in bits, of two distributions
    (..., values); (...) in 0..1."""
    return (jensen_shannon(p, q) / math.log(2)).sqrt()
