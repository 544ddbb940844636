"""Eqs. 16-18: the joint bound, and what it bounds.

Generated from book/src/54_objective.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import functools
import math

import sympy as sp
import torch
from torch import Tensor

from cdlm.model.losses import reconstruction_loss
from cdlm.theory.divergence import eq_7
from cdlm.theory.equations import equation
from cdlm.theory.symbols import (
    expect,
    mu_s,
    mu_st,
    mu_t,
    mu_ts,
    normal_density,
    sigma_s,
    sigma_st,
    sigma_t,
    sigma_ts,
    symbols,
    z,
)

__all__ = [
    "GAP",
    "GAP_S",
    "JOINT_BOUND",
    "LOG_EVIDENCE",
    "LOG_EVIDENCE_S",
    "LOG_LIKELIHOOD",
    "LOG_LIKELIHOOD_S",
    "PRICE",
    "PRICE_ST",
    "PRICE_TS",
    "TAU_S",
    "TAU_T",
    "W_S",
    "W_T",
    "X_S",
    "X_T",
    "demand",
    "divergence_from",
    "eq_16",
    "eq_17",
    "eq_18",
    "gaussian_integral",
    "joint_terms",
    "linear_bound",
    "linear_gap",
    "linear_log_evidence",
    "linear_log_likelihood",
    "linear_posterior",
    "linear_terms",
    "log_of_joint_normal",
    "log_of_normal",
    "proved",
    "source_objective",
    "source_terms",
    "vanishes",
]


# 54_objective: A model in which everything is known

def linear_posterior(x: Tensor, W: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (batch, latent) and precision (latent, latent) of p(z | x) for x = W z + tau *
    noise, z ~ N(0, I).

    ``x`` is (batch, n), both images of a pair in one row; ``W`` is (n, latent); ``tau`` > 0 is
    (n,).
    """
    scaled = W / tau[:, None]                                            # (n, latent)
    precision = torch.eye(W.shape[1], dtype=W.dtype, device=W.device) + scaled.T @ scaled
    return torch.linalg.solve(precision, scaled.T @ (x / tau).T).T, precision


def linear_log_evidence(x: Tensor, W: Tensor, tau: Tensor) -> Tensor:
    """log p(x) in nats, (batch,), of the model of ``linear_posterior``: the first term of
    Eq. 16."""
    mean, precision = linear_posterior(x, W, tau)
    fit = ((x - mean @ W.T) / tau).square().sum(1) + mean.square().sum(1)
    return (-0.5 * (fit + torch.logdet(precision) + len(tau) * math.log(2 * math.pi))
            - tau.log().sum())


def linear_log_likelihood(x: Tensor, mu: Tensor, sigma: Tensor, W: Tensor,
                          tau: Tensor) -> Tensor:
    """E[log p(x | z)] in nats, (batch,), for z ~ N(mu, diag sigma^2): the reconstruction term
    of Eqs. 16-17.

    ``mu`` and ``sigma`` > 0 are (batch, latent), the rest as in ``linear_posterior``.
    """
    scaled = W / tau[:, None]                                            # (n, latent)
    misfit = (x / tau - mu @ scaled.T).square().sum(1) + (sigma**2 @ scaled.T**2).sum(1)
    return -0.5 * (misfit + len(tau) * math.log(2 * math.pi)) - tau.log().sum()


def divergence_from(mu: Tensor, sigma: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    """KL(N(mu, diag sigma^2) || N(mean, precision^-1)) in nats, (batch,).

    ``mu``, ``sigma`` > 0 and ``mean`` are (batch, latent), ``precision`` is (latent, latent),
    positive definite.
    """
    away = mu - mean
    spread = (sigma**2 * precision.diagonal()).sum(1) + (away @ precision * away).sum(1)
    return 0.5 * (spread - mu.shape[1] - torch.logdet(precision)) - sigma.log().sum(1)


# 54_objective: Equation 16: one identity, four terms

JOINT_BOUND = sp.Symbol(r"{\mathcal{L}}")
LOG_EVIDENCE = sp.Symbol(r"\log p{(x_s, x_t)}")
LOG_LIKELIHOOD = sp.Symbol(r"\mathbb{E}_{q}\left[\log p(x_s, x_t \mid \ddot z)\right]")
GAP = sp.Symbol(r"{}D_{\mathrm{KL}}\left(q(\ddot z)\,\|\,p(\ddot z \mid x_s, x_t)\right)")
PRICE = sp.Symbol(r"{}D_{\mathrm{KL}}\left(q(\ddot z)\,\|\,p(\ddot z)\right)")


def log_of_normal(x: sp.Expr, mean: sp.Expr, deviation: sp.Expr) -> sp.Expr:
    """Logarithm of the normal density at ``x``, written out."""
    return sp.expand(sp.expand_log(sp.log(normal_density(x, mean, deviation)), force=True))


@functools.cache
def gaussian_integral(a: sp.Symbol, b: sp.Symbol) -> sp.Expr:
    """Integral of exp(b z - a z^2 / 2) over the real line, for ``a`` > 0 and real ``b``."""
    return sp.simplify(sp.integrate(sp.exp(b * z - a * z**2 / 2), (z, -sp.oo, sp.oo)))


def log_integral(exponent: sp.Expr) -> sp.Expr:
    """Logarithm of the integral over z of exp(``exponent``), a quadratic polynomial of z."""
    a, b = sp.Symbol("a", positive=True), sp.Symbol("b", real=True)
    square, slope, constant = sp.Poly(exponent, z).all_coeffs()
    log_value = sp.expand_log(sp.log(gaussian_integral(a, b)), force=True)
    return log_value.subs({a: -2 * square, b: slope}) + constant


@functools.cache
def moment_under_q(order: int) -> sp.Expr:
    """E[z^order] for z ~ N(mu_st, sigma_st^2), by integration."""
    return expect(z**order, z, mu_st, sigma_st)


def mean_under_q(value: sp.Expr) -> sp.Expr:
    """Mean of a polynomial of z under q = N(mu_st, sigma_st^2)."""
    powers = sp.Poly(sp.expand(value), z).terms()
    return sum(coefficient * moment_under_q(order) for (order,), coefficient in powers)


def log_of_joint_normal(x: sp.Matrix, covariance: sp.Matrix) -> sp.Expr:
    """Logarithm of the density of N(0, covariance) at ``x``, a column of numbers."""
    square = (x.T * covariance.inv() * x)[0]
    return -(square + sp.log(covariance.det()) + len(x) * sp.log(2 * sp.pi)) / 2


def vanishes(value: sp.Expr) -> bool:
    """Whether a sum of fractions and logarithms of positive fractions is zero."""
    factored = value.replace(sp.log, lambda inside: sp.log(sp.factor(inside)))
    apart = sp.expand_log(factored, force=True)
    letters = {log: sp.Dummy() for log in apart.atoms(sp.log)}  # each logarithm an unknown
    return sp.cancel(sp.together(apart.subs(letters))) == 0


def demand(holds: bool, claim: str) -> None:
    """Raise ArithmeticError if a step of a derivation does not hold."""
    if not holds:
        raise ArithmeticError(f"it does not hold that {claim}")


@functools.cache
def divergence_of_q() -> sp.Lambda:
    """KL(q || N(m, d^2)) as a function of (m, d), q = N(mu_st, sigma_st^2): Eq. 7, and a mean
    log ratio."""
    m, d = sp.Symbol("m", real=True), sp.Symbol("d", positive=True)
    codes = {mu_s: mu_st, sigma_s: sigma_st, mu_t: m, sigma_t: d}
    divergence = eq_7().rhs.subs(codes, simultaneous=True)
    log_q, log_p = log_of_normal(z, mu_st, sigma_st), log_of_normal(z, m, d)
    demand(vanishes(log_integral(log_p)), "a normal density has a total mass of one")
    mean_log_ratio = mean_under_q(log_q - log_p)
    demand(vanishes(divergence - mean_log_ratio),
           "the divergence is the mean log ratio under q")
    return sp.Lambda((m, d), divergence)


def linear_terms(*observed: tuple[sp.Symbol, sp.Symbol, sp.Symbol]) -> tuple[sp.Expr, ...]:
    """Evidence, mean log-likelihood, gap and price in the linear model; a triple (x, w, tau)
    per number."""
    x, w, noise = (sp.Matrix(column) for column in zip(*observed))
    draw = sum(log_of_normal(a, b * z, c) for a, b, c in observed)      # log p(x | z)
    evidence = log_of_joint_normal(x, w * w.T + sp.diag(*(c**2 for c in noise)))
    precision = 1 + sum(b**2 / c**2 for _, b, c in observed)
    mean = sum(a * b / c**2 for a, b, c in observed) / precision
    deviation = 1 / sp.sqrt(precision)
    posterior, prior = log_of_normal(z, mean, deviation), log_of_normal(z, 0, 1)
    joint = draw + prior
    demand(vanishes(log_integral(joint) - evidence),
           "the joint density integrates to the evidence")
    demand(vanishes(posterior + evidence - joint),
           "posterior times evidence is the joint density")
    kl = divergence_of_q()
    return evidence, mean_under_q(draw), kl(mean, deviation), kl(0, 1)


X_S, X_T, W_S, W_T = symbols("x_s x_t w_s w_t", real=True)
TAU_S, TAU_T = symbols("tau_s tau_t", positive=True)


@functools.cache
def joint_terms() -> dict[sp.Symbol, sp.Expr]:
    """Closed forms of the terms of Eqs. 16-17 in the linear model, where one code draws both
    images."""
    terms = linear_terms((X_S, W_S, TAU_S), (X_T, W_T, TAU_T))
    return dict(zip((LOG_EVIDENCE, LOG_LIKELIHOOD, GAP, PRICE), terms))


def proved(statement: sp.Eq, terms: dict[sp.Symbol, sp.Expr]) -> sp.Eq:
    """The statement, if its sides agree when closed forms take the place of its symbols;
    raises ArithmeticError."""
    difference = (statement.lhs - statement.rhs).subs(terms)
    demand(vanishes(difference), f"{statement.lhs} is {statement.rhs}")
    return statement


def identity_for_three_codes() -> None:
    """Demand Eq. 16 of any q, prior and likelihood on three codes; the evidence is a sum."""
    q, likelihood, prior = (symbols(f"{x}_1 {x}_2 {x}_3", positive=True) for x in "qlp")
    evidence = sum(a * b for a, b in zip(likelihood, prior))
    posterior = [a * b / evidence for a, b in zip(likelihood, prior)]
    demand(sp.simplify(sum(posterior)) == 1, "the posterior sums to one")
    left = sp.log(evidence) - sum(a * sp.log(a / b) for a, b in zip(q, posterior))
    right = sum(a * (sp.log(b) - sp.log(a / c)) for a, b, c in zip(q, likelihood, prior))
    difference = sp.expand(sp.expand_log(left - right))
    difference = sp.expand(difference.subs(q[2], 1 - q[0] - q[1]))
    demand(difference == 0, "evidence less gap is likelihood less price")


@equation(16, kind="identity", verdict="exact",
          api=("cdlm.theory.joint_bound.linear_log_evidence",
               "cdlm.theory.joint_bound.linear_log_likelihood",
               "cdlm.theory.joint_bound.divergence_from"))
def eq_16() -> sp.Eq:
    """Evidence less gap is reconstruction less price.

    For any three codes, and in the linear model.
    """
    identity_for_three_codes()
    return proved(sp.Eq(LOG_EVIDENCE - GAP, LOG_LIKELIHOOD - PRICE), joint_terms())


# 54_objective: Equation 17: the bound, and what "minimizing is maximizing" needs

def linear_bound(x: Tensor, mu: Tensor, sigma: Tensor, W: Tensor, tau: Tensor) -> Tensor:
    """The bound of Eq. 17 in nats, (batch,), in the model of ``linear_posterior``:
    reconstruction less price."""
    prior = torch.eye(mu.shape[1], dtype=mu.dtype, device=mu.device)
    return (linear_log_likelihood(x, mu, sigma, W, tau)
            - divergence_from(mu, sigma, torch.zeros_like(mu), prior))


def linear_gap(x: Tensor, mu: Tensor, sigma: Tensor, W: Tensor, tau: Tensor) -> Tensor:
    """KL(q || posterior) in nats, (batch,): by how much the bound of Eq. 17 falls short of the
    evidence."""
    return divergence_from(mu, sigma, *linear_posterior(x, W, tau))


@equation(17, kind="inequality", verdict="exact under stated assumptions",
          note=("As a bound it is exact. That minimizing the gap is the same as maximizing "
                "the bound holds for the encoder only; and L_Rec and L_KL, "
                "which Eqs. 21-22 descend, are minus the first term and plus the divergence."),
          api=("cdlm.theory.joint_bound.linear_bound", "cdlm.theory.joint_bound.linear_gap"))
def eq_17() -> sp.Basic:
    """The joint bound. Evidence less bound is a divergence, and no divergence is negative."""
    bound = LOG_LIKELIHOOD - PRICE
    proved(sp.Eq(LOG_EVIDENCE - bound, GAP), joint_terms())
    u = sp.Symbol("u", positive=True)               # p / q at a code; its mean under q is 1
    slack = u - 1 - sp.log(u)                       # so its mean under q is the divergence
    demand(sp.solve(slack.diff(u), u) == [1] and slack.subs(u, 1) == 0,
           "the slack is stationary at 1 only, and 0 there")
    demand(slack.diff(u).diff(u).is_positive, "the slack is convex")
    return sp.And(sp.Eq(JOINT_BOUND, bound), sp.Le(JOINT_BOUND, LOG_EVIDENCE))


# 54_objective: Equation 18: a bound on what?

LOG_EVIDENCE_S = sp.Symbol(r"\log p{(x_s)}")
LOG_LIKELIHOOD_S = sp.Symbol(r"\mathbb{E}_{q}\left[\log p(x_s \mid \ddot z_{st})\right]")
GAP_S = sp.Symbol(r"{}D_{\mathrm{KL}}\left(q(\ddot z_{st})\,\|\,p(z \mid x_s)\right)")
PRICE_ST = sp.Symbol(r"{}D_{\mathrm{KL}}\left(q(\ddot z_{st})\,\|\,p(z)\right)")
PRICE_TS = sp.Symbol(r"{}D_{\mathrm{KL}}\left(q(\ddot z_{ts})\,\|\,p(z)\right)")


@functools.cache
def source_terms() -> dict[sp.Symbol, sp.Expr]:
    """Closed forms of the terms of Eq. 18 in the linear model: two codes, of which one draws
    x_s and none x_t."""
    evidence, likelihood, gap, price = linear_terms((X_S, W_S, TAU_S))
    other = price.subs({mu_st: mu_ts, sigma_st: sigma_ts}, simultaneous=True)
    return {LOG_EVIDENCE_S: evidence, LOG_LIKELIHOOD_S: likelihood, GAP_S: gap,
            PRICE_ST: price, PRICE_TS: other}


@equation(18, kind="definition", verdict="misprint, corrected", note=(
    "The log inside the divergences is a slip; with one q throughout, "
    "the expression bounds log p(x_s), not log p(x_s, x_t). "
    "Of its four readings cdlm takes the divergence of N(mu, "
    "sigma^2) and decodes the modulated code, which is no bound."),
          api=("cdlm.theory.joint_bound.source_objective", "cdlm.model.moments.code_kl",
               "cdlm.model.moments.code_moments",
               "cdlm.model.losses.reconstruction_loss", "cdlm.model.losses.kl_divergence"))
def eq_18() -> sp.Basic:
    """Reconstruct the source, pay for both codes.

    It falls short of log p(x_s) by two divergences.
    """
    objective = LOG_LIKELIHOOD_S - PRICE_ST - PRICE_TS
    proved(sp.Eq(LOG_EVIDENCE_S - objective, GAP_S + PRICE_TS), source_terms())
    return sp.And(sp.Eq(JOINT_BOUND, objective), sp.Le(JOINT_BOUND, LOG_EVIDENCE_S))


def source_objective(x_s: Tensor, x_hat_st: Tensor, kl_st: Tensor, kl_ts: Tensor,
                     variance: float = 0.5) -> Tensor:
    """Eq. 18 in nats per image, from one sample of the code; a scalar, to be maximized.

    Images are (batch, C, H, W), x_hat_st the mean of the decoder's Gaussian of this
    ``variance``; the divergences are scalars. With the default it is minus L_Rec, minus L_KL,
    and a constant.
    """
    log_normalizer = 0.5 * x_s[0].numel() * math.log(2 * math.pi * variance)
    return (
        -reconstruction_loss(x_hat_st, x_s) / (2 * variance) - log_normalizer - kl_st - kl_ts)
