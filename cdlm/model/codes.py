"""The codes of a pair of images, plain and crossed, and the images that are drawn from them.

Generated from book/src/40_cdlm.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cdlm.model.modulation import modulate
from cdlm.model.networks import Encoded

__all__ = ["Codes", "Generated", "cross_codes", "generate", "noise_like"]


# 40_cdlm: Codes and generations

class Codes(NamedTuple):
    """The four codes of a pair of batches, (batch, latent) each."""

    z_st: Tensor
    z_ts: Tensor
    u_s: Tensor
    u_t: Tensor


def cross_codes(s: Encoded, t: Encoded, generator: torch.Generator,
                gamma1: float = 1.0, gamma2: float = 0.1) -> Codes:
    """Lines 4-5 of Algorithm 1: modulate each domain's code by the other's features; each code
    has its own noise."""
    return Codes(
        # Eq. 1
        z_st=modulate(s.mu, s.sigma, t.h, noise_like(s.mu, generator), gamma1, gamma2),
        # Eq. 2
        z_ts=modulate(t.mu, t.sigma, s.h, noise_like(t.mu, generator), gamma1, gamma2),
        u_s=gamma1 * s.h + gamma2 * noise_like(s.h, generator),
        u_t=gamma1 * t.h + gamma2 * noise_like(t.h, generator),
    )


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape, type and device of ``x``."""
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


class Generated(NamedTuple):
    """The four generations, (batch, channels, 28, 28) each, in [-1, 1]."""

    x_hat_st: Tensor
    x_hat_ts: Tensor
    x_tilde_s: Tensor
    x_tilde_t: Tensor


def generate(decoder: Callable[[Tensor], Tensor], codes: Codes) -> Generated:
    """Line 6 of Algorithm 1: the one decoder draws an image from each of the four codes."""
    return Generated(*(decoder(z) for z in codes))
