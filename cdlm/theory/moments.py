"""Eqs. 1-6: the modulated code and its moments.

Generated from book/src/51_moments.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import sympy as sp

from cdlm.model.modulation import reparameterize
from cdlm.theory.equations import equation
from cdlm.theory.symbols import (
    epsilon,
    expect,
    gamma1,
    gamma2,
    h_s,
    h_t,
    mu_ht,
    mu_s,
    mu_st,
    mu_t,
    sigma_ht,
    sigma_s,
    sigma_st,
    sigma_t,
    z_st,
    z_ts,
)

__all__ = ["eq_1", "eq_2", "eq_3", "eq_4", "eq_5", "eq_6", "expect_code", "expect_two_moments"]


# 51_moments: Equation 1: the code of the source

@equation(1, kind="definition", verdict="exact", api="cdlm.model.modulation.modulate")
def eq_1() -> sp.Eq:
    """The modulated code of the source.

    A VAE's code whose noise gives way to a sum of feature and noise.
    """
    noise = sp.Symbol("noise", real=True)
    code = reparameterize(mu_s, sigma_s, noise)
    return sp.Eq(z_st, code.subs(noise, gamma1 * h_t + gamma2 * epsilon))


# 51_moments: Equation 2: the code of the target

@equation(2, kind="definition", verdict="exact",
          api=("cdlm.model.modulation.modulate", "cdlm.model.codes.cross_codes"))
def eq_2() -> sp.Eq:
    """The modulated code of the target. Equation 1 with source and target exchanged."""
    exchanged = {z_st: z_ts, mu_s: mu_t, sigma_s: sigma_t, h_t: h_s}
    return eq_1().subs(exchanged, simultaneous=True)


# 51_moments: Equation 3: the mean

def expect_two_moments(value: sp.Expr, x: sp.Symbol, mean: sp.Expr,
                       deviation: sp.Expr) -> sp.Expr:
    """Expectation of a polynomial in ``x``, of which only mean and deviation are known; by
    linearity.

    Raises ValueError for a third or higher power: two moments do not determine its
    expectation.
    """
    coefficients = sp.Poly(value, x).all_coeffs()[::-1]                 # of 1, x, x^2
    if len(coefficients) > 3:
        raise ValueError(f"two moments of {x} do not determine the expectation of {value}")
    return sp.expand(sum(c * m
                         for c, m in zip(coefficients, (1, mean, mean**2 + deviation**2))))


def expect_code(value: sp.Expr) -> sp.Expr:
    """Expectation over standard normal noise and over any feature h_t with two moments,
    independent of it."""
    return expect_two_moments(expect(value, epsilon, 0, 1), h_t, mu_ht, sigma_ht)


@equation(3, kind="identity", verdict="exact under stated assumptions",
          api="cdlm.model.moments.modulated_mean", note="The feature h_t has a mean, and the "
          "noise has mean zero. That h_t be normal, as the paper assumes, is not needed.",
          slip="The middle line has lost the factor sigma_s before gamma_2 E[epsilon], "
          "which is zero.")
def eq_3() -> sp.Eq:
    """The mean of a modulated code.

    By linearity of the expectation, for a feature of any distribution.
    """
    return sp.Eq(mu_st, expect_code(eq_1().rhs))


# 51_moments: Equation 4: the variance

@equation(4, kind="identity", verdict="exact under stated assumptions",
          api=("cdlm.model.moments.modulated_variance", "cdlm.model.moments.modulated_sigma"),
          note="The feature h_t has two moments and is independent of the noise. "
          "That h_t be normal, as the paper assumes, is not needed.")
def eq_4() -> sp.Eq:
    """The variance of a modulated code. The expected squared distance from the mean of Eq. 3.
    """
    distance = eq_1().rhs - eq_3().rhs
    return sp.Eq(sp.Function("Var")(z_st), sp.factor(expect_code(distance**2)))


# 51_moments: Equation 5: the short mean

@equation(5, kind="approximation", verdict="approximation with error", api=(
    "cdlm.model.moments.simplified_mean", "cdlm.model.moments.simplified_mean_error"),
          note="Puts the mean mu_t of one target image for the mean feature of all, "
          "and drops the factor sigma_s, which Eq. 6 keeps. "
          "The exact mean is larger by gamma_1 (sigma_s mu_ht - mu_t).")
def eq_5() -> sp.Eq:
    """The short mean of a modulated code. Equation 3 with mu_ht = mu_t and sigma_s = 1."""
    return sp.Eq(mu_st, eq_3().rhs.subs({mu_ht: mu_t, sigma_s: 1}))


# 51_moments: Equation 6: the short deviation

@equation(6, kind="approximation", verdict="approximation with error", api=(
    "cdlm.model.moments.simplified_sigma", "cdlm.model.moments.simplified_sigma_error"),
          note="The root of Eq. 4 with sigma_ht = sigma_t and gamma_2 = 0. "
          "With gamma_2 kept the exact deviation is larger, by at most gamma_2 sigma_s; "
          "not gamma_1 alone but gamma_1 sigma_t has to be large against gamma_2.")
def eq_6() -> sp.Eq:
    """The short deviation of a modulated code.

    The root of Equation 4, sigma_ht = sigma_t and no noise.
    """
    variance = eq_4().rhs.subs({sigma_ht: sigma_t, gamma2: 0})
    return sp.Eq(sigma_st, sp.sqrt(variance))
