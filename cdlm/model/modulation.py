"""Maps into the transfer latent space: how one domain's code is modulated by the other's features.

Generated from book/src/20_vae.md, book/src/30_transfer_latent_space.md, book/src/53_partial.md
by `make sync`: edit there, not here.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["modulate", "modulate_pm1", "modulate_pm2", "reparameterize"]


# 20_vae: The trick, as a function

def reparameterize(mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    """Code z = mu + sigma * eps, distributed as N(mu, diag sigma^2) for standard normal noise
    ``eps``.

    All are (batch, latent), ``sigma`` > 0. The gradient reaches ``mu`` and ``sigma``.
    """
    return mu + sigma * eps


# 30_transfer_latent_space: The map G: a modulated reparameterization

def modulate(mu: Tensor, sigma: Tensor, h_other: Tensor, eps: Tensor,
             gamma1: float = 1.0, gamma2: float = 0.1) -> Tensor:
    """Transfer latent code of Eqs. 1-2 for given standard normal noise ``eps``.

    All are (batch, latent): ``mu``, ``sigma`` > 0 of the own domain, ``h_other`` in (0, 1) of
    the other one.
    """
    return mu + sigma * (gamma1 * h_other + gamma2 * eps)


# 53_partial: Equation 11: PM1, the average of two spreads

def modulate_pm1(mu: Tensor, sigma: Tensor, sigma_other: Tensor, eps: Tensor) -> Tensor:
    """Code of Eq. 11 (PM1): own mean, average of both spreads, for given standard normal noise
    ``eps``.

    All are (batch, latent): ``mu``, ``sigma`` > 0 of the own domain, ``sigma_other`` > 0 of
    the other one.
    """
    return mu + (sigma + sigma_other) / 2 * eps


# 53_partial: Equation 15: PM2, the exchange

def modulate_pm2(mu: Tensor, sigma_other: Tensor, eps: Tensor) -> Tensor:
    """Code of Eq. 15 (PM2): own mean, the other's spread, for given standard normal noise
    ``eps``.

    All are (batch, latent): ``mu`` of the own domain, ``sigma_other`` > 0 of the other one.
    """
    return mu + sigma_other * eps
