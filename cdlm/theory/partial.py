"""Eqs. 11-15: partial modulations, and what they do to the divergence.

Generated from book/src/53_partial.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import functools

import sympy as sp
import torch
from torch import Tensor

from cdlm.model.moments import gaussian_kl
from cdlm.theory.divergence import eq_7
from cdlm.theory.equations import equation
from cdlm.theory.symbols import epsilon, mu_s, mu_t, sigma_s, sigma_t, z_st, z_ts

__all__ = [
    "by_gap",
    "eq_11",
    "eq_12",
    "eq_13",
    "eq_14",
    "eq_15",
    "kl_from_densities",
    "pair_symbol",
    "pm1_kl",
    "pm1_reduction",
    "pm1_reduction_by_gap",
    "pm2_kl",
    "printed_eq_13",
    "proved_nonnegative",
    "spread_chain",
    "symmetric_by_gap",
    "symmetric_kl",
    "symmetric_kl_bound",
]


# 53_partial: Equation 11: PM1, the average of two spreads

@equation(11, kind="definition", verdict="exact", api="cdlm.model.modulation.modulate_pm1")
def eq_11() -> sp.Tuple:
    """PM1: both codes take the average of the two spreads. A definition; one coordinate."""
    spread = (sigma_s + sigma_t) / 2
    return sp.Tuple(sp.Eq(z_st, mu_s + spread * epsilon), sp.Eq(z_ts, mu_t + spread * epsilon))


# 53_partial: What PM1 does to the divergence

@functools.cache
def kl_from_densities() -> sp.Lambda:
    """KL(N(m, a^2) || N(n, b^2)) of one coordinate as a function of (m, a, n, b): Eq. 7,
    integrated from the densities."""
    return sp.Lambda((mu_s, sigma_s, mu_t, sigma_t),
                     sp.expand(sp.expand_log(eq_7().rhs, force=True)))


def pair_symbol(p: str, q: str) -> sp.Symbol:
    """Name of the divergence from code ``p`` to code ``q``, such as "st" and "ts"."""
    return sp.Symbol(rf"D_{{\mathrm{{KL}}}}({p} \Vert {q})", real=True)


# 53_partial: Equation 12: under PM1 both directions agree

@equation(12, kind="identity", verdict="exact", api="cdlm.theory.partial.pm1_kl")
def eq_12() -> sp.Tuple:
    """Divergence between the two PM1 codes, the same in both directions.

    Integrated; one coordinate.
    """
    kl, spread = kl_from_densities(), (sigma_s + sigma_t) / 2
    forward, backward = kl(mu_s, spread, mu_t, spread), kl(mu_t, spread, mu_s, spread)
    return sp.Tuple(sp.Eq(pair_symbol("st", "ts"), sp.factor(sp.expand(forward))),
                    sp.Eq(pair_symbol("ts", "st"), sp.factor(sp.expand(backward))))


def pm1_kl(mu_s: Tensor, sigma_s: Tensor, mu_t: Tensor, sigma_t: Tensor) -> Tensor:
    """KL(st || ts) = KL(ts || st) of the codes of each pair under PM1 (Eq. 12), in nats;
    (batch,).

    All are (batch, latent) or broadcast to it, both deviations > 0.
    """
    return 2 * ((mu_s - mu_t) / (sigma_s + sigma_t)).square().sum(-1)


def proved_nonnegative(difference: sp.Expr) -> sp.Expr:
    """``difference`` in factors that show that it is never negative.

    Raises ValueError if they do not.
    """
    factored = sp.factor(difference)
    if not factored.is_nonnegative:
        raise ValueError(f"its factors do not show that it is never negative: {factored}")
    return factored


def spread_chain() -> tuple[sp.Expr, ...]:
    """The four terms that the paper puts in order after Eq. 12, from the smallest on."""
    product = sigma_s * sigma_t
    return (4 / (sigma_s + sigma_t) ** 2,
            1 / product,
            (sigma_s**2 + sigma_t**2) / (2 * product**2),
            (1 / sigma_s**2 + 1 / sigma_t**2) / 2)


# 53_partial: Equation 13: both directions together

def by_gap(divergence: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """Coefficients A and B of a divergence that equals A (mu_s - mu_t)^2 + B.

    Raises ValueError if it does not.
    """
    gap = sp.Symbol("Delta", real=True)
    at_origin = sp.expand(divergence.subs({mu_s: gap, mu_t: 0}))
    square, rest = at_origin.coeff(gap, 2), at_origin.coeff(gap, 0)
    if sp.simplify(sp.expand(divergence - square * (mu_s - mu_t) ** 2 - rest)) != 0:
        raise ValueError(f"not a multiple of the squared gap plus a constant: {divergence}")
    return square, rest


def symmetric_by_gap() -> tuple[sp.Expr, sp.Expr]:
    """A and B, never negative, in A (mu_s - mu_t)^2 + B: the symmetrized divergence of two
    codes."""
    kl = kl_from_densities()
    square, rest = by_gap(kl(mu_s, sigma_s, mu_t, sigma_t) + kl(mu_t, sigma_t, mu_s, sigma_s))
    return proved_nonnegative(square), proved_nonnegative(rest)


@equation(13, kind="inequality", verdict="exact",
          api=("cdlm.theory.partial.symmetric_kl", "cdlm.theory.partial.symmetric_kl_bound"),
          slip="All sums over coordinates are lost. Each logarithm has the factor 1, "
          "where 1/2 is printed; they cancel.")
def eq_13() -> sp.Tuple:
    """Symmetrized divergence, and the square that the bound drops. Integrated; one coordinate.
    """
    square, rest = symmetric_by_gap()
    # of either sign
    root = sp.expand(sp.sqrt(2 * rest).replace(sp.Abs, lambda inside: inside))
    both = pair_symbol("s", "t") + pair_symbol("t", "s")
    return sp.Tuple(sp.Eq(both, square * (mu_s - mu_t) ** 2 + root**2 / 2),
                    sp.Ge(root**2 / 2, 0, evaluate=False))


def printed_eq_13() -> sp.Expr:
    """Right-hand side of Eq. 13 with the equals sign, as the paper prints it; one coordinate.
    """
    logs = (sp.log(sigma_t / sigma_s) + sp.log(sigma_s / sigma_t)) / 2
    means = (mu_s - mu_t) ** 2 * (1 / sigma_s**2 + 1 / sigma_t**2) / 2
    return logs + means + ((sigma_s / sigma_t) ** 2 + (sigma_t / sigma_s) ** 2 - 2) / 2


def symmetric_kl_bound(mu_s: Tensor, sigma_s: Tensor, mu_t: Tensor, sigma_t: Tensor) -> Tensor:
    """Lower bound of Eq. 13 on the symmetrized divergence of each pair, in nats; (batch,).

    All are (batch, latent) or broadcast to it, both deviations > 0. Attained where the
    deviations are equal.
    """
    gap = mu_s - mu_t
    return ((gap / sigma_s).square() + (gap / sigma_t).square()).sum(-1) / 2


def symmetric_kl(mu_s: Tensor, sigma_s: Tensor, mu_t: Tensor, sigma_t: Tensor) -> Tensor:
    """KL(s || t) + KL(t || s) of the codes of each pair (Eq. 13), in nats; (batch,).

    Arguments as for the bound.
    """
    # sigma_s / sigma_t - sigma_t / sigma_s
    difference = (sigma_s - sigma_t) / sigma_t * (1 + sigma_t / sigma_s)
    return symmetric_kl_bound(mu_s, sigma_s, mu_t, sigma_t) + difference.square().sum(-1) / 2


# 53_partial: Equation 14: PM1 does not raise the symmetrized divergence

def pm1_reduction_by_gap() -> tuple[sp.Expr, sp.Expr]:
    """A and B, never negative, in A (mu_s - mu_t)^2 + B: what PM1 takes off the symmetrized
    divergence."""
    after = by_gap(sum(statement.rhs for statement in eq_12()))
    square, rest = (before - less for before, less in zip(symmetric_by_gap(), after))
    return proved_nonnegative(square), proved_nonnegative(rest)


@equation(14, kind="inequality", verdict="exact", api="cdlm.theory.partial.pm1_reduction")
def eq_14() -> sp.Le:
    """PM1 never raises the symmetrized divergence, and lowers it unless the spreads are equal.

    Proved by squares.
    """
    square, rest = pm1_reduction_by_gap()
    after = eq_12()[0].rhs + eq_12()[1].rhs
    return sp.Le(after, after + square * (mu_s - mu_t) ** 2 + rest, evaluate=False)


def pm1_reduction(mu_s: Tensor, sigma_s: Tensor, mu_t: Tensor, sigma_t: Tensor) -> Tensor:
    """What PM1 takes off the symmetrized divergence of each pair (Eq. 14), in nats, never
    negative; (batch,).

    All are (batch, latent) or broadcast to it, both deviations > 0. Zero if and only if the
    deviations are equal.
    """
    total, gap = sigma_s + sigma_t, mu_s - mu_t
    smaller, larger = torch.minimum(sigma_s, sigma_t), torch.maximum(sigma_s, sigma_t)
    scale = (sigma_s - sigma_t) / larger / smaller          # in this order nothing overflows
    share = 1 + 2 * (sigma_s / total) * (sigma_t / total)   # what multiplies the squared gap
    return (share * (scale * gap).square() + (scale * total).square()).sum(-1) / 2


# 53_partial: Equation 15: PM2, the exchange

@equation(15, kind="definition", verdict="exact under stated assumptions",
          api=("cdlm.model.modulation.modulate_pm2", "cdlm.theory.partial.pm2_kl"),
          note="'Preserves the gap' holds for the symmetrized divergence. "
          "The two directed divergences change places.")
def eq_15() -> sp.Tuple:
    """PM2: each code takes the other's spread, and the two divergences change places.

    Differences integrated.
    """
    kl = kl_from_densities()
    forward = kl(mu_s, sigma_t, mu_t, sigma_s) - kl(mu_t, sigma_t, mu_s, sigma_s)
    backward = kl(mu_t, sigma_s, mu_s, sigma_t) - kl(mu_s, sigma_s, mu_t, sigma_t)
    return sp.Tuple(
        sp.Eq(z_st, mu_s + sigma_t * epsilon), sp.Eq(z_ts, mu_t + sigma_s * epsilon),
        sp.Eq(pair_symbol("st", "ts") - pair_symbol("t", "s"), sp.expand(forward)),
        sp.Eq(pair_symbol("ts", "st") - pair_symbol("s", "t"), sp.expand(backward)))


def pm2_kl(mu_s: Tensor, sigma_s: Tensor, mu_t: Tensor, sigma_t: Tensor) -> Tensor:
    """KL(st || ts) = KL(t || s) of the codes of each pair under PM2 (after Eq. 15), in nats;
    (batch,).

    All are (batch, latent) or broadcast to it, both deviations > 0. KL(ts || st) is had by
    exchanging s and t.
    """
    return gaussian_kl(*torch.broadcast_tensors(mu_s, sigma_t, mu_t, sigma_s))
