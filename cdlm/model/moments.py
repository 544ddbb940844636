"""Means, deviations and divergences of modulated codes, computed on tensors.

Generated from book/src/51_moments.md, book/src/52_divergence.md, book/src/54_objective.md by
`make sync`: edit there, not here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cdlm.model.losses import check_same_shape, kl_divergence
from cdlm.model.networks import Encoded

__all__ = [
    "CODE_READINGS",
    "code_kl",
    "code_moments",
    "equal_sigma_kl",
    "gaussian_kl",
    "kl_after_modulation",
    "modulated_kl",
    "modulated_mean",
    "modulated_sigma",
    "modulated_variance",
    "reduction_factor",
    "simplified_mean",
    "simplified_mean_error",
    "simplified_sigma",
    "simplified_sigma_error",
    "smallest_gamma1",
]


# 51_moments: In tensors

def modulated_mean(mu: Tensor, sigma: Tensor, mu_h: Tensor, gamma1: float = 1.0) -> Tensor:
    """Mean of a modulated code given its own image, Eq. 3.

    ``mu`` and ``sigma`` > 0 of the own image are (batch, latent); ``mu_h``, the mean feature
    of the other domain, is (latent,), or (batch, latent).
    """
    return mu + gamma1 * sigma * mu_h


def modulated_variance(sigma: Tensor, sigma_h: Tensor, gamma1: float = 1.0,
                       gamma2: float = 0.1) -> Tensor:
    """Variance of a modulated code given its own image, Eq. 4, for any feature independent of
    the noise.

    ``sigma`` > 0 of the own image is (batch, latent); ``sigma_h`` >= 0, the deviation of the
    other domain's feature, is (latent,), or (batch, latent).
    """
    return sigma**2 * (gamma1**2 * sigma_h**2 + gamma2**2)


def modulated_sigma(sigma: Tensor, sigma_h: Tensor, gamma1: float = 1.0,
                    gamma2: float = 0.1) -> Tensor:
    """Standard deviation of a modulated code, the root of Eq. 4; shapes as for
    ``modulated_variance``.

    Squares nothing, so that it is right where the variance would overflow or vanish.
    """
    return sigma * torch.hypot(gamma1 * sigma_h, torch.full_like(sigma_h, gamma2))


# 51_moments: Equation 6: the short deviation

def simplified_mean(mu_s: Tensor, mu_t: Tensor, gamma1: float = 1.0,
                    sigma_s: Tensor | float = 1.0) -> Tensor:
    """Short mean of a modulated code, Eq. 5: ``mu_s`` of the own image, ``mu_t`` of the other,
    (batch, latent).

    Eq. 5 drops the factor ``sigma_s`` > 0; pass it to keep it, as Eq. 6 does.
    """
    return mu_s + gamma1 * sigma_s * mu_t


def simplified_sigma(sigma_s: Tensor | float, sigma_t: Tensor, gamma1: float = 1.0) -> Tensor:
    """Short deviation of a modulated code, Eq. 6: ``sigma_s`` and ``sigma_t`` > 0 are
    (batch, latent).

    Pass ``sigma_s`` = 1 to drop it, as Eq. 5 does.
    """
    return gamma1 * sigma_s * sigma_t


# 51_moments: How wrong the short forms are

def simplified_mean_error(mu_t: Tensor, sigma_s: Tensor, mu_h: Tensor,
                          gamma1: float = 1.0) -> Tensor:
    """Exact mean of Eq. 3 less the short one of Eq. 5.

    ``mu_t`` and ``sigma_s`` > 0 are (batch, latent); ``mu_h``, the mean feature of the target
    domain, is (latent,), or (batch, latent).
    """
    return gamma1 * (sigma_s * mu_h - mu_t)


def simplified_sigma_error(sigma_s: Tensor, sigma_t: Tensor, sigma_h: Tensor,
                           gamma1: float = 1.0, gamma2: float = 0.1) -> Tensor:
    """Exact deviation, the root of Eq. 4, less the short one of Eq. 6, without losing digits
    to the difference.

    ``sigma_s`` and ``sigma_t`` > 0 are (batch, latent); ``sigma_h`` >= 0, the deviation of the
    target domain's feature, is (latent,), or (batch, latent). Not a number where ``gamma1``
    and ``gamma2`` are both zero.
    """
    total = torch.hypot(gamma1 * sigma_h, torch.full_like(sigma_h, gamma2)) + gamma1 * sigma_t
    # no square, which could overflow or vanish
    by_feature = gamma1 * (sigma_h - sigma_t) * (gamma1 * (sigma_h + sigma_t) / total)
    return sigma_s * (by_feature + gamma2 * (gamma2 / total))


# 52_divergence: Equation 7: the divergence in closed form

def gaussian_kl(mu_s: Tensor, sigma_s: Tensor, mu_t: Tensor, sigma_t: Tensor) -> Tensor:
    """Eq. 7: KL(N(mu_s, diag sigma_s^2) || N(mu_t, diag sigma_t^2)) in nats, one for each pair
    of images.

    All are (..., latent) of one shape, deviations > 0; the result is (...), summed over the
    latents and not averaged over anything. Raises ValueError where shapes differ.
    """
    check_same_shape(mu_s, sigma_s, mu_t, sigma_t)
    log_ratio = sigma_s.log() - sigma_t.log()
    return 0.5 * (
        ((mu_s - mu_t) / sigma_t) ** 2 + torch.expm1(2 * log_ratio) - 2 * log_ratio).sum(-1)


# 52_divergence: Equation 8: what equal deviations buy

def equal_sigma_kl(mu_s: Tensor, mu_t: Tensor, sigma: Tensor) -> Tensor:
    """Eq. 8: the divergence of Eq. 7 in nats where both images have the deviations ``sigma`` >
    0.

    All are (..., latent) of one shape; the result is (...). Raises ValueError where shapes
    differ.
    """
    check_same_shape(mu_s, mu_t, sigma)
    return 0.5 * (((mu_s - mu_t) / sigma) ** 2).sum(-1)


# 52_divergence: Equation 9: the short moments put in

def modulated_kl(mu_s: Tensor, sigma_s: Tensor, mu_t: Tensor, sigma_t: Tensor, gamma1: float,
                 keep_sigma: bool = False) -> Tensor:
    """Eq. 9: divergence in nats of two codes with the short moments of Eqs. 5 and 6.

    All are (..., latent) of one shape, deviations > 0, ``gamma1`` > 0; the result is (...).
    With ``keep_sigma`` the denominator has the sigma_s of Eq. 6, too. Raises ValueError where
    shapes differ or gamma1 is not positive.
    """
    check_same_shape(mu_s, sigma_s, mu_t, sigma_t)
    if gamma1 <= 0:
        raise ValueError(
            f"gamma1 is {gamma1}; at zero both codes are points, and below it is no deviation")
    gap = (1 - gamma1) / gamma1 * (mu_s - mu_t) / sigma_t
    return 0.5 * ((gap / sigma_s if keep_sigma else gap) ** 2).sum(-1)


def kl_after_modulation(
    mu_s: Tensor, sigma_s: Tensor, mu_t: Tensor, sigma_t: Tensor, gamma1: float = 1.0,
    gamma2: float = 0.1, features: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
) -> Tensor:
    """Divergence in nats of two Gaussians with the exact moments of z_st and z_ts, Eqs. 3-4;
    (...).

    All are (..., latent) of one shape, deviations > 0. ``features`` are mu_hs, sigma_hs,
    mu_ht, sigma_ht, with deviations >= 0; without them the paper's assumption holds, that h
    has the moments of the code of its own image. Each code needs some deviation: gamma2 > 0,
    or gamma1 sigma_h > 0. Raises ValueError where shapes differ.
    """
    mu_hs, sigma_hs, mu_ht, sigma_ht = features or (mu_s, sigma_s, mu_t, sigma_t)
    check_same_shape(mu_s, sigma_s, mu_t, sigma_t, mu_hs, sigma_hs, mu_ht, sigma_ht)
    return gaussian_kl(modulated_mean(mu_s, sigma_s, mu_ht, gamma1),
                       modulated_sigma(sigma_s, sigma_ht, gamma1, gamma2),
                       modulated_mean(mu_t, sigma_t, mu_hs, gamma1),
                       modulated_sigma(sigma_t, sigma_hs, gamma1, gamma2))


# 52_divergence: Equation 10: the factor

def reduction_factor(gamma1: Tensor | float, sigma: Tensor | float = 1.0,
                     gamma2: Tensor | float = 0.0) -> Tensor:
    """Factor of Eq. 10 with its exact dependence on ``sigma`` > 0 and ``gamma2`` >= 0; the
    defaults give the paper's.

    The arguments broadcast. It is below 1 where modulation brings a pair closer, and infinite
    at gamma1 = gamma2 = 0. It supposes that h has the moments of the code of its own image,
    and one deviation ``sigma`` for both images.
    """
    shift = torch.as_tensor(gamma1 * sigma)
    return ((1 - shift) / torch.hypot(shift, torch.as_tensor(gamma2, dtype=shift.dtype))) ** 2


def smallest_gamma1(sigma: Tensor | float = 1.0, gamma2: Tensor | float = 0.0) -> Tensor:
    """The gamma1 above which the factor of Eq. 10 is below 1; the paper's 1/2 for the default
    arguments."""
    return torch.as_tensor((1 - gamma2**2) / (2 * sigma)).clamp(min=0)


# 54_objective: Which divergence? Four readings

CODE_READINGS = ("base", "conditional", "marginal", "simplified")


def code_moments(own: Encoded, other: Encoded, gamma1: float = 1.0, gamma2: float = 0.1,
                 reading: str = "base") -> tuple[Tensor, Tensor]:
    """Mean and deviation, (batch, latent) each, of the code z_st (``own`` the source) or z_ts,
    in one of CODE_READINGS.

    "marginal" takes mean and variance of ``other.h`` over the batch. Raises ValueError for
    another reading.
    """
    if reading == "base":
        return own.mu, own.sigma
    if reading == "conditional":
        return modulated_mean(own.mu, own.sigma, other.h, gamma1), gamma2 * own.sigma
    if reading == "marginal":
        variance = gamma1**2 * other.h.var(0, correction=0) + gamma2**2
        return (modulated_mean(own.mu, own.sigma, other.h.mean(0), gamma1),
                own.sigma * variance.sqrt())
    if reading == "simplified":
        return (simplified_mean(own.mu, other.mu, gamma1),
                simplified_sigma(own.sigma, other.sigma, gamma1))
    raise ValueError(f"reading is {reading!r}; it must be one of {CODE_READINGS}")


def code_kl(own: Encoded, other: Encoded, gamma1: float = 1.0, gamma2: float = 0.1,
            reading: str = "base", reduction: str = "sum") -> Tensor:
    """A divergence of Eq. 18, KL(q(code) || N(0, I)) in nats averaged over the batch, in one
    of CODE_READINGS; a scalar.

    The conditional reading is infinite at gamma2 = 0, where the code is a point, and its
    gradient is not a number.
    """
    return kl_divergence(*code_moments(own, other, gamma1, gamma2, reading), reduction)
