"""Reconstruction, Kullback-Leibler, adversarial and consistency losses, with their reductions explicit.

Generated from book/src/20_vae.md, book/src/35_adversary.md, book/src/40_cdlm.md,
book/src/54_objective.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "adversarial_loss",
    "check_same_shape",
    "consistency_as_printed",
    "consistency_l1",
    "consistency_loss",
    "elbo",
    "kl_divergence",
    "reconstruction_loss",
]


# 20_vae: The price of a code, in closed form

def kl_divergence(mu: Tensor, sigma: Tensor, reduction: str = "sum") -> Tensor:
    """KL(N(mu, diag sigma^2) || N(0, I)) in nats, averaged over the batch; a scalar.

    ``mu`` and ``sigma`` > 0 are (batch, latent). Over the latent dimensions ``reduction`` is
    "sum" (the divergence itself) or "mean". Raises ValueError for another reduction or for
    shapes that differ.
    """
    check_same_shape(mu, sigma)
    return _reduce(0.5 * (mu**2 + sigma**2 - 1) - sigma.log(), reduction)


def check_same_shape(*tensors: Tensor) -> None:
    """Raise ValueError where shapes differ, so that nothing broadcasts unseen."""
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise ValueError(f"shapes differ, {sorted(shapes)}: they would broadcast silently")


def _reduce(terms: Tensor, reduction: str) -> Tensor:
    """Sum or mean of ``terms`` (batch, ...) over all but the first dimension, then the mean
    over the batch."""
    if reduction not in ("sum", "mean"):
        raise ValueError(f'reduction is {reduction!r}; it must be "sum" or "mean"')
    return getattr(terms.flatten(1), reduction)(1).mean()


# 20_vae: A normal likelihood is a squared error

def reconstruction_loss(x_hat: Tensor, x: Tensor, reduction: str = "sum") -> Tensor:
    """Squared error between images, averaged over the batch; a scalar.

    ``x_hat`` and ``x`` are (batch, C, H, W), of one shape. Over channels and pixels
    ``reduction`` is "sum" or "mean". Raises ValueError for another reduction or for shapes
    that differ.
    """
    check_same_shape(x_hat, x)
    return _reduce((x_hat - x) ** 2, reduction)


def elbo(x_hat: Tensor, x: Tensor, mu: Tensor, sigma: Tensor, variance: float = 0.5) -> Tensor:
    """Lower bound on log p(x) in nats per image, estimated with one sample of each code; a
    scalar.

    The likelihood is N(x_hat, variance * I): with the default 1/2, minus the bound is the
    summed squared error plus the divergence plus a constant. Images are (batch, C, H, W),
    ``mu`` and ``sigma`` > 0 are (batch, latent).
    """
    log_normalizer = 0.5 * x[0].numel() * math.log(2 * math.pi * variance)
    return (-reconstruction_loss(x_hat, x) / (2 * variance) - log_normalizer
            - kl_divergence(mu, sigma))


# 35_adversary: Two clouds and a guesser

def adversarial_loss(logits_s: Tensor, logits_t: Tensor) -> Tensor:
    """Cross-entropy of the domain guess: the negative of Eq. 19, and Eq. 24 without its
    redundant indicators.

    The logits, (batch,) each, are positive where the discriminator says "source". A guess at
    random costs 2 log 2.
    """
    return F.softplus(-logits_s).mean() + F.softplus(logits_t).mean()


# 40_cdlm: The losses

def consistency_loss(x_hat_st: Tensor, x_tilde_s: Tensor, x_hat_ts: Tensor, x_tilde_t: Tensor,
                     beta1: float = 0.1, beta2: float = 0.01,
                     reduction: str = "sum") -> Tensor:
    """Eq. 20 as squared error between images, (batch, C, H, W) each; ``reduction`` over
    pixels, "sum" or "mean"."""
    return (beta1 * reconstruction_loss(x_hat_st, x_tilde_s, reduction)
            + beta2 * reconstruction_loss(x_hat_ts, x_tilde_t, reduction))


# 54_objective: Equation 20: two images, or two likelihoods?

def consistency_as_printed(x_s: Tensor, x_hat_st: Tensor, x_tilde_s: Tensor, x_t: Tensor,
                           x_hat_ts: Tensor, x_tilde_t: Tensor, beta1: float = 0.1,
                           beta2: float = 0.01, variance: float = 0.5) -> Tensor:
    """Eq. 20 as printed: squared differences of log-likelihoods of the observed images,
    averaged over the batch; a scalar.

    Images are (batch, C, H, W); generations are means of Gaussians of this ``variance``. Not
    the loss that is trained. Raises ValueError where the shapes of one domain differ.
    """
    def squared(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        check_same_shape(x, first, second)
        product = (first - second) * (2 * x - first - second)
        difference = product.flatten(1).sum(1) / (2 * variance)         # (batch,)
        return difference.square().mean()

    at_source, at_target = squared(x_s, x_hat_st, x_tilde_s), squared(x_t, x_hat_ts, x_tilde_t)
    return beta1 * at_source + beta2 * at_target


def consistency_l1(x_hat_st: Tensor, x_tilde_s: Tensor, x_hat_ts: Tensor, x_tilde_t: Tensor,
                   beta1: float = 0.1, beta2: float = 0.01, reduction: str = "sum") -> Tensor:
    """The L1 variant of Eq. 20: absolute error, ``reduction`` over pixels, mean over the
    batch; a scalar.

    Images are (batch, C, H, W). Raises ValueError for a reduction other than "sum" and "mean",
    and where the shapes of one domain differ.
    """
    if reduction not in ("sum", "mean"):
        raise ValueError(f'reduction is {reduction!r}; it must be "sum" or "mean"')

    def error(a: Tensor, b: Tensor) -> Tensor:
        check_same_shape(a, b)
        return getattr((a - b).abs().flatten(1), reduction)(1).mean()

    return beta1 * error(x_hat_st, x_tilde_s) + beta2 * error(x_hat_ts, x_tilde_t)
