"""The symbols that all derivations share, normal densities and expectations by integration.

Generated from book/src/92_ledger.md by `make sync`: edit there, not here.
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
    "z",
    "z_st",
    "z_ts",
]


# 92_ledger: Symbols, once

mu_s, mu_t = sp.Symbol("mu_s", real=True), sp.Symbol("mu_t", real=True)
sigma_s, sigma_t = sp.Symbol("sigma_s", positive=True), sp.Symbol("sigma_t", positive=True)
h_s, h_t = sp.Symbol("h_s", real=True), sp.Symbol("h_t", real=True)
mu_hs, mu_ht = sp.Symbol(r"\mu_{h_s}", real=True), sp.Symbol(r"\mu_{h_t}", real=True)
sigma_hs, sigma_ht = sp.Symbol(r"\sigma_{h_s}", positive=True), sp.Symbol(r"\sigma_{h_t}", positive=True)
epsilon, z = sp.Symbol("epsilon", real=True), sp.Symbol("z", real=True)
gamma1, gamma2 = sp.Symbol("gamma_1", nonnegative=True), sp.Symbol("gamma_2", nonnegative=True)
z_st, z_ts = sp.Symbol(r"\ddot{z}_{st}", real=True), sp.Symbol(r"\ddot{z}_{ts}", real=True)
mu_st, mu_ts = sp.Symbol("mu_st", real=True), sp.Symbol("mu_ts", real=True)
sigma_st, sigma_ts = sp.Symbol("sigma_st", positive=True), sp.Symbol("sigma_ts", positive=True)


# 92_ledger: Symbols, once

def normal_density(x: sp.Expr, mean: sp.Expr, deviation: sp.Expr) -> sp.Expr:
    """Density of N(mean, deviation^2) at ``x``; ``deviation`` must be known to SymPy as positive."""
    return sp.exp(-((x - mean) ** 2) / (2 * deviation**2)) / (sp.sqrt(2 * sp.pi) * deviation)


def expect(value: sp.Expr, x: sp.Symbol, mean: sp.Expr, deviation: sp.Expr) -> sp.Expr:
    """Expectation of ``value`` over x ~ N(mean, deviation^2), by integration over the real line."""
    integral = sp.integrate(sp.expand(value) * normal_density(x, mean, deviation), (x, -sp.oo, sp.oo))
    return sp.expand(sp.simplify(integral))
