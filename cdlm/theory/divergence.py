"""Eqs. 7-10: divergence between two codes, before and after modulation.

Generated from book/src/51_divergence.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import functools

import sympy as sp
import torch
from torch import Tensor

from cdlm.losses import check_same_shape
from cdlm.moments import modulated_mean, modulated_sigma
from cdlm.theory.equations import equation
from cdlm.theory.moments import eq_3, eq_4, eq_5, eq_6
from cdlm.theory.symbols import (
    epsilon,
    expect,
    gamma1,
    gamma2,
    h_t,
    mu_ht,
    mu_s,
    mu_t,
    normal_density,
    sigma_ht,
    sigma_s,
    sigma_t,
    z,
)

__all__ = [
    "divergence_s_t",
    "divergence_st_ts",
    "eq_10",
    "eq_7",
    "eq_8",
    "eq_9",
    "equal_sigma_kl",
    "gaussian_kl",
    "integrated_moments",
    "kl_after_modulation",
    "modulated_kl",
    "reduction_factor",
    "smallest_gamma1",
    "with_short_moments",
]


# 51_divergence: Equation 7: the divergence in closed form

divergence_s_t = sp.Symbol(r"D_{\mathrm{KL}}(s\,\Vert\,t)")
divergence_st_ts = sp.Symbol(r"D_{\mathrm{KL}}(st\,\Vert\,ts)")


@equation(7, kind="identity", verdict="exact", api="cdlm.theory.divergence.gaussian_kl")
def eq_7() -> sp.Eq:
    """Divergence of two Gaussians. The log ratio of the two densities, integrated over the first; one coordinate."""
    log_ratio = sp.log(normal_density(z, mu_s, sigma_s)) - sp.log(normal_density(z, mu_t, sigma_t))
    log_ratio = sp.expand_log(log_ratio, force=True).subs(z, mu_s + sigma_s * epsilon)
    spread, gap = expect(log_ratio, epsilon, 0, 1).as_independent(mu_s, mu_t, as_Add=True)
    return sp.Eq(divergence_s_t, sp.logcombine(spread) + sp.factor(gap))


def gaussian_kl(mu_s: Tensor, sigma_s: Tensor, mu_t: Tensor, sigma_t: Tensor) -> Tensor:
    """Eq. 7: KL(N(mu_s, diag sigma_s^2) || N(mu_t, diag sigma_t^2)) in nats, one for each pair of images.

    All are (..., latent) of one shape, deviations > 0; the result is (...), summed over the latents and not averaged
    over anything. Raises ValueError where shapes differ.
    """
    check_same_shape(mu_s, sigma_s, mu_t, sigma_t)
    log_ratio = sigma_s.log() - sigma_t.log()
    return 0.5 * (((mu_s - mu_t) / sigma_t) ** 2 + torch.expm1(2 * log_ratio) - 2 * log_ratio).sum(-1)


# 51_divergence: Equation 8: what equal deviations buy

@equation(8, kind="identity", verdict="exact under stated assumptions", api="cdlm.theory.divergence.equal_sigma_kl",
          note="It needs sigma_s = sigma_t in every coordinate and nothing else: that both are 1 is not used. "
               "For other deviations it is a lower bound on Eq. 7.")
def eq_8() -> sp.Eq:
    """Divergence of two Gaussians of equal deviation. Eq. 7 with sigma_s replaced by sigma_t; one coordinate."""
    return sp.Eq(divergence_s_t, eq_7().rhs.subs(sigma_s, sigma_t))


def equal_sigma_kl(mu_s: Tensor, mu_t: Tensor, sigma: Tensor) -> Tensor:
    """Eq. 8: the divergence of Eq. 7 in nats where both images have the deviations ``sigma`` > 0.

    All are (..., latent) of one shape; the result is (...). Raises ValueError where shapes differ.
    """
    check_same_shape(mu_s, mu_t, sigma)
    return 0.5 * (((mu_s - mu_t) / sigma) ** 2).sum(-1)


# 51_divergence: After modulation

@functools.cache
def integrated_moments() -> tuple[sp.Expr, sp.Expr]:
    """Mean and deviation of the code z_st, integrated over the noise and over h_t ~ N(mu_ht, sigma_ht^2)."""
    code = mu_s + sigma_s * (gamma1 * (mu_ht + sigma_ht * h_t) + gamma2 * epsilon)      # h_t standardized
    mean = expect(expect(code, epsilon, 0, 1), h_t, 0, 1)
    variance = expect(expect((code - mean) ** 2, epsilon, 0, 1), h_t, 0, 1)
    if sp.expand(mean - eq_3().rhs) != 0 or sp.expand(variance - eq_4().rhs) != 0:
        raise ArithmeticError("the integrated moments are not those of Eqs. 3 and 4")
    return mean, sp.sqrt(sp.factor(variance))


# 51_divergence: Equation 9: the short moments put in

def with_short_moments(deviation: sp.Expr) -> sp.Expr:
    """Eq. 7 for two codes with the means of Eq. 5 and one deviation; one coordinate."""
    mean_st = eq_5().rhs
    mean_ts = mean_st.subs({mu_s: mu_t, mu_t: mu_s}, simultaneous=True)
    codes = {mu_s: mean_st, mu_t: mean_ts, sigma_s: deviation, sigma_t: deviation}
    return sp.factor(eq_7().rhs.subs(codes, simultaneous=True))


@equation(9, kind="identity", verdict="exact under what the paper has assumed",
          api=("cdlm.theory.divergence.modulated_kl", "cdlm.theory.divergence.kl_after_modulation"),
          note="Under Eqs. 5 and 6 with sigma_s = 1, which the paper assumes before Eq. 5. For other "
               "deviations no form with a factor holds; to keep the sigma_s of Eq. 6 alone brings it "
               "no nearer to the exact moments.",
          slip="The last form has lost its sum over coordinates.")
def eq_9() -> sp.Eq:
    """Divergence of two modulated codes. Eq. 7 with Eqs. 5 and 6 at sigma_s = 1; one coordinate."""
    return sp.Eq(divergence_st_ts, with_short_moments(eq_6().rhs.subs(sigma_s, 1)))


def modulated_kl(mu_s: Tensor, sigma_s: Tensor, mu_t: Tensor, sigma_t: Tensor, gamma1: float,
                 keep_sigma: bool = False) -> Tensor:
    """Eq. 9: divergence in nats of two codes with the short moments of Eqs. 5 and 6.

    All are (..., latent) of one shape, deviations > 0, ``gamma1`` > 0; the result is (...). With
    ``keep_sigma`` the denominator has the sigma_s of Eq. 6, too. Raises ValueError where shapes differ
    or gamma1 is not positive.
    """
    check_same_shape(mu_s, sigma_s, mu_t, sigma_t)
    if gamma1 <= 0:
        raise ValueError(f"gamma1 is {gamma1}; at zero both codes are points, and below it is no deviation")
    gap = (1 - gamma1) / gamma1 * (mu_s - mu_t) / sigma_t
    return 0.5 * ((gap / sigma_s if keep_sigma else gap) ** 2).sum(-1)


def kl_after_modulation(mu_s: Tensor, sigma_s: Tensor, mu_t: Tensor, sigma_t: Tensor, gamma1: float = 1.0,
                        gamma2: float = 0.1, features: tuple[Tensor, Tensor, Tensor, Tensor] | None = None) -> Tensor:
    """Divergence in nats of two Gaussians with the exact moments of z_st and z_ts, Eqs. 3-4; (...).

    All are (..., latent) of one shape, deviations > 0. ``features`` are mu_hs, sigma_hs, mu_ht, sigma_ht, with
    deviations >= 0; without them the paper's assumption holds, that h has the moments of the code of its own image.
    Each code needs some deviation: gamma2 > 0, or gamma1 sigma_h > 0. Raises ValueError where shapes differ.
    """
    mu_hs, sigma_hs, mu_ht, sigma_ht = features or (mu_s, sigma_s, mu_t, sigma_t)
    check_same_shape(mu_s, sigma_s, mu_t, sigma_t, mu_hs, sigma_hs, mu_ht, sigma_ht)
    return gaussian_kl(modulated_mean(mu_s, sigma_s, mu_ht, gamma1), modulated_sigma(sigma_s, sigma_ht, gamma1, gamma2),
                       modulated_mean(mu_t, sigma_t, mu_hs, gamma1), modulated_sigma(sigma_t, sigma_hs, gamma1, gamma2))


# 51_divergence: Equation 10: the factor

@equation(10, kind="approximation", verdict="approximation with error",
          api=("cdlm.theory.divergence.reduction_factor", "cdlm.theory.divergence.smallest_gamma1"),
          note="Shown for mu_h = mu, sigma_h = sigma and a common deviation sigma. The printed factor is its value at sigma = 1, "
               "gamma_2 = 0; the condition gamma_1 > 1/2 becomes gamma_1 sigma > (1 - gamma_2^2)/2.")
def eq_10() -> sp.Eq:
    """What modulation does to the divergence of a pair. Exact moments, features like codes, a common deviation."""
    sigma, (mean, deviation) = sp.Symbol("sigma", positive=True), integrated_moments()
    own, other = {mu_s: mu_s, mu_ht: mu_t}, {mu_s: mu_t, mu_ht: mu_s}
    common = {sigma_s: sigma, sigma_t: sigma, sigma_ht: sigma}
    st, ts = ([part.subs(letters | common, simultaneous=True) for part in (mean, deviation)] for letters in (own, other))
    after = eq_7().rhs.subs({mu_s: st[0], sigma_s: st[1], mu_t: ts[0], sigma_t: ts[1]}, simultaneous=True)
    return sp.Eq(divergence_st_ts, sp.factor(after / eq_8().rhs.subs(common)) * divergence_s_t)


def reduction_factor(gamma1: Tensor | float, sigma: Tensor | float = 1.0, gamma2: Tensor | float = 0.0) -> Tensor:
    """Factor of Eq. 10 with its exact dependence on ``sigma`` > 0 and ``gamma2`` >= 0; the defaults give the paper's.

    The arguments broadcast. It is below 1 where modulation brings a pair closer, and infinite at gamma1 = gamma2 = 0.
    It supposes that h has the moments of the code of its own image, and one deviation ``sigma`` for both images.
    """
    shift = torch.as_tensor(gamma1 * sigma)
    return ((1 - shift) / torch.hypot(shift, torch.as_tensor(gamma2, dtype=shift.dtype))) ** 2


def smallest_gamma1(sigma: Tensor | float = 1.0, gamma2: Tensor | float = 0.0) -> Tensor:
    """The gamma1 above which the factor of Eq. 10 is below 1; the paper's 1/2 for the default arguments."""
    return torch.as_tensor((1 - gamma2**2) / (2 * sigma)).clamp(min=0)
