"""Means and deviations of the modulated code, and its divergence from the prior, as tensors.

Generated from book/src/50_moments.md, book/src/53_objective.md by `make sync`: edit there, not
here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cdlm.losses import kl_divergence
from cdlm.nets import Encoded

__all__ = [
    "CODE_READINGS",
    "code_kl",
    "code_moments",
    "modulated_mean",
    "modulated_sigma",
    "modulated_variance",
    "simplified_mean",
    "simplified_sigma",
]


# 50_moments: In tensors

def modulated_mean(mu: Tensor, sigma: Tensor, mu_h: Tensor, gamma1: float = 1.0) -> Tensor:
    """Mean of a modulated code given its own image, Eq. 3.

    ``mu`` and ``sigma`` > 0 of the own image are (batch, latent); ``mu_h``, the mean feature of the other
    domain, is (latent,), or (batch, latent).
    """
    return mu + gamma1 * sigma * mu_h


def modulated_variance(sigma: Tensor, sigma_h: Tensor, gamma1: float = 1.0, gamma2: float = 0.1) -> Tensor:
    """Variance of a modulated code given its own image, Eq. 4, for any feature independent of the noise.

    ``sigma`` > 0 of the own image is (batch, latent); ``sigma_h`` >= 0, the deviation of the other domain's
    feature, is (latent,), or (batch, latent).
    """
    return sigma**2 * (gamma1**2 * sigma_h**2 + gamma2**2)


def modulated_sigma(sigma: Tensor, sigma_h: Tensor, gamma1: float = 1.0, gamma2: float = 0.1) -> Tensor:
    """Standard deviation of a modulated code, the root of Eq. 4; shapes as for ``modulated_variance``.

    Squares nothing, so that it is right where the variance would overflow or vanish.
    """
    return sigma * torch.hypot(gamma1 * sigma_h, torch.full_like(sigma_h, gamma2))


# 50_moments: Equation 6: the short deviation

def simplified_mean(mu_s: Tensor, mu_t: Tensor, gamma1: float = 1.0, sigma_s: Tensor | float = 1.0) -> Tensor:
    """Short mean of a modulated code, Eq. 5: ``mu_s`` of the own image, ``mu_t`` of the other, (batch, latent).

    Eq. 5 drops the factor ``sigma_s`` > 0; pass it to keep it, as Eq. 6 does.
    """
    return mu_s + gamma1 * sigma_s * mu_t


def simplified_sigma(sigma_s: Tensor | float, sigma_t: Tensor, gamma1: float = 1.0) -> Tensor:
    """Short deviation of a modulated code, Eq. 6: ``sigma_s`` and ``sigma_t`` > 0 are (batch, latent).

    Pass ``sigma_s`` = 1 to drop it, as Eq. 5 does.
    """
    return gamma1 * sigma_s * sigma_t


# 53_objective: Which divergence? Four readings

CODE_READINGS = ("base", "conditional", "marginal", "simplified")


def code_moments(own: Encoded, other: Encoded, gamma1: float = 1.0, gamma2: float = 0.1,
                 reading: str = "base") -> tuple[Tensor, Tensor]:
    """Mean and deviation, (batch, latent) each, of the code z_st (``own`` the source) or z_ts, in one of CODE_READINGS.

    "marginal" takes mean and variance of ``other.h`` over the batch. Raises ValueError for another reading.
    """
    if reading == "base":
        return own.mu, own.sigma
    if reading == "conditional":
        return modulated_mean(own.mu, own.sigma, other.h, gamma1), gamma2 * own.sigma
    if reading == "marginal":
        variance = gamma1**2 * other.h.var(0, correction=0) + gamma2**2
        return modulated_mean(own.mu, own.sigma, other.h.mean(0), gamma1), own.sigma * variance.sqrt()
    if reading == "simplified":
        return simplified_mean(own.mu, other.mu, gamma1), simplified_sigma(own.sigma, other.sigma, gamma1)
    raise ValueError(f"reading is {reading!r}; it must be one of {CODE_READINGS}")


def code_kl(own: Encoded, other: Encoded, gamma1: float = 1.0, gamma2: float = 0.1, reading: str = "base",
            reduction: str = "sum") -> Tensor:
    """A divergence of Eq. 18, KL(q(code) || N(0, I)) in nats averaged over the batch, in one of CODE_READINGS; a scalar.

    The conditional reading is infinite at gamma2 = 0, where the code is a point, and its gradient is not a number.
    """
    return kl_divergence(*code_moments(own, other, gamma1, gamma2, reading), reduction)
