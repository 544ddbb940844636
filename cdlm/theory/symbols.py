"""The symbols that all derivations share, normal densities and expectations by integration.

Generated from book/src/50_equations.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import sympy as sp

__all__ = [
    "epsilon",
    "expect",
    "gamma1",
    "gamma2",
    "h_s",
    "h_t",
    "mu_hs",
    "mu_ht",
    "mu_s",
    "mu_st",
    "mu_t",
    "mu_ts",
    "normal_density",
    "sigma_hs",
    "sigma_ht",
    "sigma_s",
    "sigma_st",
    "sigma_t",
    "sigma_ts",
    "symbols",
    "z",
    "z_st",
    "z_ts",
]


# 50_equations: Symbols, once

def symbols(names: str, **assumptions: bool) -> list[sp.Symbol]:
    """Symbols of these names, separated by blanks; names are LaTeX where they have braces."""
    return [sp.Symbol(name, **assumptions) for name in names.split()]


mu_s, mu_t, mu_hs, mu_ht = symbols(r"mu_s mu_t \mu_{h_s} \mu_{h_t}", real=True)
sigma_s, sigma_t, sigma_hs, sigma_ht = symbols(r"sigma_s sigma_t \sigma_{h_s} \sigma_{h_t}",
                                               positive=True)
h_s, h_t, epsilon, z = symbols("h_s h_t epsilon z", real=True)
gamma1, gamma2 = symbols("gamma_1 gamma_2", nonnegative=True)
z_st, z_ts, mu_st, mu_ts = symbols(r"\ddot{z}_{st} \ddot{z}_{ts} \mu_{st} \mu_{ts}", real=True)
sigma_st, sigma_ts = symbols(r"\sigma_{st} \sigma_{ts}", positive=True)


def normal_density(x: sp.Expr, mean: sp.Expr, deviation: sp.Expr) -> sp.Expr:
    """Density of N(mean, deviation^2) at ``x``; ``deviation`` must be known to SymPy as
    positive."""
    return sp.exp(-((x - mean) ** 2) / (2 * deviation**2)) / (sp.sqrt(2 * sp.pi) * deviation)


def expect(value: sp.Expr, x: sp.Symbol, mean: sp.Expr, deviation: sp.Expr) -> sp.Expr:
    """Expectation of ``value`` over x ~ N(mean, deviation^2), by integration over the real
    line."""
    integral = sp.integrate(sp.expand(value) * normal_density(x, mean, deviation),
                            (x, -sp.oo, sp.oo))
    return sp.expand(sp.simplify(integral))
