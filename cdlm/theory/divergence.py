"""Eqs. 7-10: divergence between two codes, before and after modulation.

Generated from book/src/52_divergence.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import functools

import sympy as sp

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
    "integrated_moments",
    "with_short_moments",
]


# 52_divergence: Equation 7: the divergence in closed form

divergence_s_t = sp.Symbol(r"D_{\mathrm{KL}}(s\,\Vert\,t)")
divergence_st_ts = sp.Symbol(r"D_{\mathrm{KL}}(st\,\Vert\,ts)")


@equation(7, kind="identity", verdict="exact", api="cdlm.model.moments.gaussian_kl")
def eq_7() -> sp.Eq:
    """Divergence of two Gaussians.

    The log ratio of the two densities, integrated over the first; one coordinate.
    """
    log_ratio = (
        sp.log(normal_density(z, mu_s, sigma_s)) - sp.log(normal_density(z, mu_t, sigma_t)))
    log_ratio = sp.expand_log(log_ratio, force=True).subs(z, mu_s + sigma_s * epsilon)
    spread, gap = expect(log_ratio, epsilon, 0, 1).as_independent(mu_s, mu_t, as_Add=True)
    return sp.Eq(divergence_s_t, sp.logcombine(spread) + sp.factor(gap))


# 52_divergence: Equation 8: what equal deviations buy

@equation(8, kind="identity", verdict="exact under stated assumptions",
          api="cdlm.model.moments.equal_sigma_kl",
          note="It needs sigma_s = sigma_t in every coordinate and nothing else: "
          "that both are 1 is not used. For other deviations it is a lower bound on Eq. 7.")
def eq_8() -> sp.Eq:
    """Divergence of two Gaussians of equal deviation.

    Eq. 7 with sigma_s replaced by sigma_t; one coordinate.
    """
    return sp.Eq(divergence_s_t, eq_7().rhs.subs(sigma_s, sigma_t))


# 52_divergence: After modulation

@functools.cache
def integrated_moments() -> tuple[sp.Expr, sp.Expr]:
    """Mean and deviation of the code z_st, integrated over the noise and over h_t ~
    N(mu_ht, sigma_ht^2)."""
    # h_t standardized
    code = mu_s + sigma_s * (gamma1 * (mu_ht + sigma_ht * h_t) + gamma2 * epsilon)
    mean = expect(expect(code, epsilon, 0, 1), h_t, 0, 1)
    variance = expect(expect((code - mean) ** 2, epsilon, 0, 1), h_t, 0, 1)
    if sp.expand(mean - eq_3().rhs) != 0 or sp.expand(variance - eq_4().rhs) != 0:
        raise ArithmeticError("the integrated moments are not those of Eqs. 3 and 4")
    return mean, sp.sqrt(sp.factor(variance))


# 52_divergence: Equation 9: the short moments put in

def with_short_moments(deviation: sp.Expr) -> sp.Expr:
    """Eq. 7 for two codes with the means of Eq. 5 and one deviation; one coordinate."""
    mean_st = eq_5().rhs
    mean_ts = mean_st.subs({mu_s: mu_t, mu_t: mu_s}, simultaneous=True)
    codes = {mu_s: mean_st, mu_t: mean_ts, sigma_s: deviation, sigma_t: deviation}
    return sp.factor(eq_7().rhs.subs(codes, simultaneous=True))


@equation(9, kind="identity", verdict="exact under what the paper has assumed",
          api=("cdlm.model.moments.modulated_kl", "cdlm.model.moments.kl_after_modulation"),
          note="Under Eqs. 5 and 6 with sigma_s = 1, which the paper assumes before Eq. 5. "
          "For other deviations no form with a factor holds; "
          "to keep the sigma_s of Eq. 6 alone brings it no nearer to the exact moments.",
          slip="The last form has lost its sum over coordinates.")
def eq_9() -> sp.Eq:
    """Divergence of two modulated codes.

    Eq. 7 with Eqs. 5 and 6 at sigma_s = 1; one coordinate.
    """
    return sp.Eq(divergence_st_ts, with_short_moments(eq_6().rhs.subs(sigma_s, 1)))


# 52_divergence: Equation 10: the factor

@equation(10, kind="approximation", verdict="approximation with error",
          api=("cdlm.model.moments.reduction_factor", "cdlm.model.moments.smallest_gamma1"),
          note="Shown for mu_h = mu, sigma_h = sigma and a common deviation sigma. "
          "The printed factor is its value at sigma = 1, gamma_2 = 0; "
          "the condition gamma_1 > 1/2 becomes gamma_1 sigma > (1 - gamma_2^2)/2.")
def eq_10() -> sp.Eq:
    """What modulation does to the divergence of a pair.

    Exact moments, features like codes, a common deviation.
    """
    sigma, (mean, deviation) = sp.Symbol("sigma", positive=True), integrated_moments()
    own, other = {mu_s: mu_s, mu_ht: mu_t}, {mu_s: mu_t, mu_ht: mu_s}
    common = {sigma_s: sigma, sigma_t: sigma, sigma_ht: sigma}
    st, ts = ([part.subs(letters | common, simultaneous=True) for part in (mean, deviation)]
              for letters in (own, other))
    after = eq_7().rhs.subs({mu_s: st[0], sigma_s: st[1], mu_t: ts[0], sigma_t: ts[1]},
                            simultaneous=True)
    return sp.Eq(divergence_st_ts, sp.factor(after / eq_8().rhs.subs(common)) * divergence_s_t)
