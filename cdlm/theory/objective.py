"""Eqs. 16-18 and 20-22: from the joint bound to the losses and the updates.

Generated from book/src/53_objective.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import sympy as sp
import torch
from torch import Tensor

from cdlm.losses import reconstruction_loss
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
    "BETA1",
    "BETA2",
    "ETA1",
    "ETA2",
    "GAP",
    "GAP_S",
    "JOINT_BOUND",
    "LAMBDA1",
    "LAMBDA2",
    "LOG_EVIDENCE",
    "LOG_EVIDENCE_S",
    "LOG_LIKELIHOOD",
    "LOG_LIKELIHOOD_S",
    "LOSS_FUNCTIONS",
    "NOISE_VARIANCE",
    "PARAMETERS",
    "PHI",
    "PRICE",
    "PRICE_ST",
    "PRICE_TS",
    "TAU_S",
    "TAU_T",
    "THETA",
    "THETA_T",
    "UPDATE_OBJECTIVES",
    "W_S",
    "W_T",
    "XI",
    "X_HAT_ST",
    "X_HAT_TS",
    "X_S",
    "X_T",
    "X_TILDE_S",
    "X_TILDE_T",
    "alternating_updates",
    "demand",
    "descent_rule",
    "divergence_from",
    "divergence_of_q",
    "encoder_objective",
    "eq_16",
    "eq_17",
    "eq_18",
    "eq_20",
    "eq_20_as_printed",
    "eq_21",
    "eq_22",
    "for_both_domains",
    "gaussian_integral",
    "identity_for_three_codes",
    "joint_terms",
    "linear_bound",
    "linear_gap",
    "linear_log_evidence",
    "linear_log_likelihood",
    "linear_posterior",
    "linear_terms",
    "log_integral",
    "log_of_joint_normal",
    "log_of_normal",
    "log_ratio_at",
    "mean_under_q",
    "moment_under_q",
    "offered_edges",
    "order_of_updates",
    "proved",
    "simultaneous_updates",
    "slope_at",
    "source_objective",
    "source_terms",
    "vanishes",
]


# 53_objective: A model in which everything is known

def linear_posterior(x: Tensor, W: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (batch, latent) and precision (latent, latent) of p(z | x) for x = W z + tau * noise, z ~ N(0, I).

    ``x`` is (batch, n), both images of a pair in one row; ``W`` is (n, latent); ``tau`` > 0 is (n,).
    """
    scaled = W / tau[:, None]                                            # (n, latent)
    precision = torch.eye(W.shape[1], dtype=W.dtype, device=W.device) + scaled.T @ scaled
    return torch.linalg.solve(precision, scaled.T @ (x / tau).T).T, precision


def linear_log_evidence(x: Tensor, W: Tensor, tau: Tensor) -> Tensor:
    """log p(x) in nats, (batch,), of the model of ``linear_posterior``: the first term of Eq. 16."""
    mean, precision = linear_posterior(x, W, tau)
    fit = ((x - mean @ W.T) / tau).square().sum(1) + mean.square().sum(1)
    return -0.5 * (fit + torch.logdet(precision) + len(tau) * math.log(2 * math.pi)) - tau.log().sum()


def linear_log_likelihood(x: Tensor, mu: Tensor, sigma: Tensor, W: Tensor, tau: Tensor) -> Tensor:
    """E[log p(x | z)] in nats, (batch,), for z ~ N(mu, diag sigma^2): the reconstruction term of Eqs. 16-17.

    ``mu`` and ``sigma`` > 0 are (batch, latent), the rest as in ``linear_posterior``.
    """
    scaled = W / tau[:, None]                                            # (n, latent)
    misfit = (x / tau - mu @ scaled.T).square().sum(1) + (sigma**2 @ scaled.T**2).sum(1)
    return -0.5 * (misfit + len(tau) * math.log(2 * math.pi)) - tau.log().sum()


def divergence_from(mu: Tensor, sigma: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    """KL(N(mu, diag sigma^2) || N(mean, precision^-1)) in nats, (batch,).

    ``mu``, ``sigma`` > 0 and ``mean`` are (batch, latent), ``precision`` is (latent, latent), positive definite.
    """
    away = mu - mean
    spread = (sigma**2 * precision.diagonal()).sum(1) + (away @ precision * away).sum(1)
    return 0.5 * (spread - mu.shape[1] - torch.logdet(precision)) - sigma.log().sum(1)


# 53_objective: Equation 16: one identity, four terms

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
    letters = {log: sp.Dummy() for log in apart.atoms(sp.log)}          # each logarithm an unknown
    return sp.cancel(sp.together(apart.subs(letters))) == 0


def demand(holds: bool, claim: str) -> None:
    """Raise ArithmeticError if a step of a derivation does not hold."""
    if not holds:
        raise ArithmeticError(f"it does not hold that {claim}")


@functools.cache
def divergence_of_q() -> sp.Lambda:
    """KL(q || N(m, d^2)) as a function of (m, d), q = N(mu_st, sigma_st^2): Eq. 7, and a mean log ratio."""
    m, d = sp.Symbol("m", real=True), sp.Symbol("d", positive=True)
    codes = {mu_s: mu_st, sigma_s: sigma_st, mu_t: m, sigma_t: d}
    divergence = eq_7().rhs.subs(codes, simultaneous=True)
    log_q, log_p = log_of_normal(z, mu_st, sigma_st), log_of_normal(z, m, d)
    demand(vanishes(log_integral(log_p)), "a normal density has a total mass of one")
    mean_log_ratio = mean_under_q(log_q - log_p)
    demand(vanishes(divergence - mean_log_ratio), "the divergence is the mean log ratio under q")
    return sp.Lambda((m, d), divergence)


def linear_terms(*observed: tuple[sp.Symbol, sp.Symbol, sp.Symbol]) -> tuple[sp.Expr, ...]:
    """Evidence, mean log-likelihood, gap and price in the linear model; a triple (x, w, tau) per number."""
    x, w, noise = (sp.Matrix(column) for column in zip(*observed))
    draw = sum(log_of_normal(a, b * z, c) for a, b, c in observed)      # log p(x | z)
    evidence = log_of_joint_normal(x, w * w.T + sp.diag(*(c**2 for c in noise)))
    precision = 1 + sum(b**2 / c**2 for _, b, c in observed)
    mean = sum(a * b / c**2 for a, b, c in observed) / precision
    deviation = 1 / sp.sqrt(precision)
    posterior, prior = log_of_normal(z, mean, deviation), log_of_normal(z, 0, 1)
    joint = draw + prior
    demand(vanishes(log_integral(joint) - evidence), "the joint density integrates to the evidence")
    demand(vanishes(posterior + evidence - joint), "posterior times evidence is the joint density")
    kl = divergence_of_q()
    return evidence, mean_under_q(draw), kl(mean, deviation), kl(0, 1)


X_S, X_T, W_S, W_T = symbols("x_s x_t w_s w_t", real=True)
TAU_S, TAU_T = symbols("tau_s tau_t", positive=True)


@functools.cache
def joint_terms() -> dict[sp.Symbol, sp.Expr]:
    """Closed forms of the terms of Eqs. 16-17 in the linear model, where one code draws both images."""
    terms = linear_terms((X_S, W_S, TAU_S), (X_T, W_T, TAU_T))
    return dict(zip((LOG_EVIDENCE, LOG_LIKELIHOOD, GAP, PRICE), terms))


def proved(statement: sp.Eq, terms: dict[sp.Symbol, sp.Expr]) -> sp.Eq:
    """The statement, if its sides agree when closed forms take the place of its symbols; raises ArithmeticError."""
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


@equation(16, kind="identity", verdict="exact", api=(
    "cdlm.theory.objective.linear_log_evidence", "cdlm.theory.objective.linear_log_likelihood",
    "cdlm.theory.objective.divergence_from"))
def eq_16() -> sp.Eq:
    """Evidence less gap is reconstruction less price. For any three codes, and in the linear model."""
    identity_for_three_codes()
    return proved(sp.Eq(LOG_EVIDENCE - GAP, LOG_LIKELIHOOD - PRICE), joint_terms())


# 53_objective: Equation 17: the bound, and what "minimizing is maximizing" needs

def linear_bound(x: Tensor, mu: Tensor, sigma: Tensor, W: Tensor, tau: Tensor) -> Tensor:
    """The bound of Eq. 17 in nats, (batch,), in the model of ``linear_posterior``: reconstruction less price."""
    prior = torch.eye(mu.shape[1], dtype=mu.dtype, device=mu.device)
    return linear_log_likelihood(x, mu, sigma, W, tau) - divergence_from(mu, sigma, torch.zeros_like(mu), prior)


def linear_gap(x: Tensor, mu: Tensor, sigma: Tensor, W: Tensor, tau: Tensor) -> Tensor:
    """KL(q || posterior) in nats, (batch,): by how much the bound of Eq. 17 falls short of the evidence."""
    return divergence_from(mu, sigma, *linear_posterior(x, W, tau))


@equation(17, kind="inequality", verdict="exact under stated assumptions", note=(
    "As a bound it is exact. That minimizing the gap is the same as maximizing the bound holds for the encoder only; and "
    "L_Rec and L_KL, which Eqs. 21-22 descend, are minus the first term and plus the divergence."),
    api=("cdlm.theory.objective.linear_bound", "cdlm.theory.objective.linear_gap"))
def eq_17() -> sp.Basic:
    """The joint bound. Evidence less bound is a divergence, and no divergence is negative."""
    bound = LOG_LIKELIHOOD - PRICE
    proved(sp.Eq(LOG_EVIDENCE - bound, GAP), joint_terms())
    u = sp.Symbol("u", positive=True)                   # p / q at a code; its mean under q is 1
    slack = u - 1 - sp.log(u)                           # so its mean under q is the divergence
    demand(sp.solve(slack.diff(u), u) == [1] and slack.subs(u, 1) == 0, "the slack is stationary at 1 only, and 0 there")
    demand(slack.diff(u).diff(u).is_positive, "the slack is convex")
    return sp.And(sp.Eq(JOINT_BOUND, bound), sp.Le(JOINT_BOUND, LOG_EVIDENCE))


# 53_objective: Equation 18: a bound on what?

LOG_EVIDENCE_S = sp.Symbol(r"\log p{(x_s)}")
LOG_LIKELIHOOD_S = sp.Symbol(r"\mathbb{E}_{q}\left[\log p(x_s \mid \ddot z_{st})\right]")
GAP_S = sp.Symbol(r"{}D_{\mathrm{KL}}\left(q(\ddot z_{st})\,\|\,p(z \mid x_s)\right)")
PRICE_ST = sp.Symbol(r"{}D_{\mathrm{KL}}\left(q(\ddot z_{st})\,\|\,p(z)\right)")
PRICE_TS = sp.Symbol(r"{}D_{\mathrm{KL}}\left(q(\ddot z_{ts})\,\|\,p(z)\right)")


@functools.cache
def source_terms() -> dict[sp.Symbol, sp.Expr]:
    """Closed forms of the terms of Eq. 18 in the linear model: two codes, of which one draws x_s and none x_t."""
    evidence, likelihood, gap, price = linear_terms((X_S, W_S, TAU_S))
    other = price.subs({mu_st: mu_ts, sigma_st: sigma_ts}, simultaneous=True)
    return {LOG_EVIDENCE_S: evidence, LOG_LIKELIHOOD_S: likelihood, GAP_S: gap,
            PRICE_ST: price, PRICE_TS: other}


@equation(18, kind="definition", verdict="misprint, corrected", note=(
    "The log inside the divergences is a slip; with one q throughout, the expression bounds log p(x_s), not log p(x_s, x_t). "
    "Of its four readings cdlm takes the divergence of N(mu, sigma^2) and decodes the modulated code, which is no bound."),
    api=("cdlm.theory.objective.source_objective", "cdlm.moments.code_kl",
         "cdlm.moments.code_moments",
         "cdlm.losses.reconstruction_loss", "cdlm.losses.kl_divergence"))
def eq_18() -> sp.Basic:
    """Reconstruct the source, pay for both codes. It falls short of log p(x_s) by two divergences."""
    objective = LOG_LIKELIHOOD_S - PRICE_ST - PRICE_TS
    proved(sp.Eq(LOG_EVIDENCE_S - objective, GAP_S + PRICE_TS), source_terms())
    return sp.And(sp.Eq(JOINT_BOUND, objective), sp.Le(JOINT_BOUND, LOG_EVIDENCE_S))


def source_objective(x_s: Tensor, x_hat_st: Tensor, kl_st: Tensor, kl_ts: Tensor, variance: float = 0.5) -> Tensor:
    """Eq. 18 in nats per image, from one sample of the code; a scalar, to be maximized.

    Images are (batch, C, H, W), x_hat_st the mean of the decoder's Gaussian of this ``variance``; the divergences are
    scalars. With the default it is minus L_Rec, minus L_KL, and a constant.
    """
    log_normalizer = 0.5 * x_s[0].numel() * math.log(2 * math.pi * variance)
    return -reconstruction_loss(x_hat_st, x_s) / (2 * variance) - log_normalizer - kl_st - kl_ts


# 53_objective: Equation 20: two images, or two likelihoods?

X_HAT_ST, X_TILDE_S = symbols(r"\hat{x}_{st} \tilde{x}_{s}", real=True)
X_HAT_TS, X_TILDE_T = symbols(r"\hat{x}_{ts} \tilde{x}_{t}", real=True)
BETA1, BETA2, NOISE_VARIANCE = symbols("beta_1 beta_2 v", positive=True)    # v: variance of the decoder's Gaussian


def log_ratio_at(x: sp.Expr, first: sp.Expr, second: sp.Expr) -> sp.Expr:
    """log N(x; first, v) - log N(x; second, v), for one pixel."""
    deviation = sp.sqrt(NOISE_VARIANCE)
    return sp.expand(log_of_normal(x, first, deviation) - log_of_normal(x, second, deviation))


def for_both_domains(one: sp.Expr) -> sp.Expr:
    """beta1 times an expression of the source's pixels plus beta2 times the same of the target's."""
    other = {X_HAT_ST: X_HAT_TS, X_TILDE_S: X_TILDE_T, X_S: X_T}
    return BETA1 * one + BETA2 * one.subs(other, simultaneous=True)


@equation(20, kind="definition", verdict="misprint, corrected", note=(
    "Printed is a squared difference of two log-likelihoods, which is zero for different images with equal errors; the text says "
    "squared error between two images, which is the divergence between the two Gaussians that the decoder draws."),
    api=("cdlm.losses.consistency_loss", "cdlm.losses.consistency_l1",
         "cdlm.losses.consistency_as_printed"))
def eq_20() -> sp.Eq:
    """Consistency of two generations. The divergence between the decoder's two Gaussians, by integration over a pixel."""
    x = sp.Symbol("x", real=True)
    divergence = expect(log_ratio_at(x, X_HAT_ST, X_TILDE_S), x, X_HAT_ST, sp.sqrt(NOISE_VARIANCE))
    distance = sp.factor(divergence.subs(NOISE_VARIANCE, sp.Rational(1, 2)))       # variance 1/2, as in Eq. 18
    demand(sp.expand(distance - (X_HAT_ST - X_TILDE_S) ** 2) == 0, "the divergence is the squared distance")
    return sp.Eq(sp.Symbol("L_c"), for_both_domains(distance))


@functools.cache
def eq_20_as_printed() -> sp.Eq:
    """Eq. 20 with its difference of log-likelihoods squared, the observed image put into both, for one pixel."""
    difference = sp.factor(log_ratio_at(X_S, X_HAT_ST, X_TILDE_S))
    return sp.Eq(sp.Symbol("L_c"), for_both_domains(difference**2))


# 53_objective: Equation 21: what the encoder descends

PHI, THETA, THETA_T, XI = symbols(r"\phi \theta \theta_{T} \Xi", real=True)
LOSS_FUNCTIONS = {
    "adv": sp.Function("L_{adv}")(PHI, XI),
    "kl": sp.Function("L_{KL}")(PHI),
    "rec": sp.Function("L_{Rec}")(PHI, THETA),
    "consistency": sp.Function("L_c")(PHI, THETA),
    "task": sp.Function("L_{task}")(PHI, THETA, THETA_T),
}
LAMBDA1, LAMBDA2, ETA1, ETA2 = symbols("lambda_1 lambda_2 eta_1 eta_2", positive=True)
UPDATE_OBJECTIVES = {
    PHI: LOSS_FUNCTIONS["adv"] + LAMBDA1 * LOSS_FUNCTIONS["kl"] + LAMBDA2 * LOSS_FUNCTIONS["rec"],        # in Eq. 21
    THETA: LOSS_FUNCTIONS["rec"] + LOSS_FUNCTIONS["consistency"],                                        # in Eq. 22
}


def descent_rule(parameter: sp.Symbol, rate: sp.Symbol) -> sp.Eq:
    """The update of a parameter, checked to lower its own objective to first order in the rate."""
    objective = UPDATE_OBJECTIVES[parameter]
    slope = sp.diff(objective, parameter)
    after = parameter - rate * slope
    change = objective.subs(parameter, after).diff(rate).subs(rate, 0).doit()
    demand(sp.expand(change + slope**2) == 0, "the objective falls by rate times the squared slope")
    return sp.Eq(sp.Symbol(sp.latex(parameter) + r"^{\text{new}}"), after)


@equation(21, kind="algorithm", verdict="exact under stated assumptions", note=(
    "The gradient is with respect to phi, and L_KL and L_Rec are costs. The lambdas multiply KL and reconstruction, though the "
    "text says discriminator loss and reconstruction; the task loss, which the text asks for, is "
    "added. In cdlm the gradient of L_adv arrives through a reversal layer and with its strength, at "
    "most 0.15 by default, where Eq. 21 has the weight 1."),
    api=("cdlm.methods.cdlm.objectives", "cdlm.gradients.set_gradients", "cdlm.methods.cdlm.fused_losses",
         "cdlm.theory.objective.encoder_objective"))
def eq_21() -> sp.Eq:
    """Update of the encoder. To first order it lowers the encoder's own objective by the rate times the squared slope."""
    return descent_rule(PHI, ETA1)


@equation(22, kind="algorithm", verdict="exact under stated assumptions", note=(
    "The gradient is with respect to theta, and L_Rec is a cost. The task loss, which the text asks for, is added."),
    api=("cdlm.methods.cdlm.objectives", "cdlm.gradients.set_gradients", "cdlm.methods.cdlm.fused_losses"))
def eq_22() -> sp.Eq:
    """Update of the decoder. To first order it lowers the decoder's own objective by the rate times the squared slope."""
    return descent_rule(THETA, ETA2)


# 53_objective: Equation 22: what the decoder descends

PARAMETERS = {"xi": XI, "phi": PHI, "theta": THETA, "theta_T": THETA_T}         # of whom, by the name of the learner


def offered_edges() -> list[tuple[str, str]]:
    """Each loss with each learner whose parameters it depends on."""
    return [(name, learner) for name, loss in LOSS_FUNCTIONS.items()
            for learner, parameter in PARAMETERS.items() if loss.has(parameter)]


# 53_objective: The weights, by the formula and by the text

def encoder_objective(adv: Tensor, kl: Tensor, rec: Tensor, lambda1: float = 1e-4, lambda2: float = 1e-4,
                      reading: str = "formula") -> Tensor:
    """What phi descends in Eq. 21, without the task loss: weights where the formula has them, or where the "text" says.

    ``adv``, ``kl`` and ``rec`` are costs, scalars. Raises ValueError for another reading.
    """
    if reading == "formula":
        return adv + lambda1 * kl + lambda2 * rec
    if reading == "text":
        return lambda1 * adv + kl + lambda2 * rec
    raise ValueError(f'reading is {reading!r}; it must be "formula" or "text"')


# 53_objective: In which order

def slope_at(objective: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Gradient of a scalar function at a tensor."""
    at = at.detach().requires_grad_()
    return torch.autograd.grad(objective(at), at)[0]


def simultaneous_updates(phi: Tensor, theta: Tensor, for_phi: Callable[[Tensor, Tensor], Tensor],
                         for_theta: Callable[[Tensor, Tensor], Tensor], eta1: float, eta2: float) -> tuple[Tensor, Tensor]:
    """Eqs. 21 and 22 at once, both from the old parameters. The objectives are scalar functions of (phi, theta)."""
    return (phi - eta1 * slope_at(lambda value: for_phi(value, theta), phi),
            theta - eta2 * slope_at(lambda value: for_theta(phi, value), theta))


def alternating_updates(phi: Tensor, theta: Tensor, for_phi: Callable[[Tensor, Tensor], Tensor],
                        for_theta: Callable[[Tensor, Tensor], Tensor], eta1: float, eta2: float,
                        n_phi: int = 1, n_theta: int = 1) -> tuple[Tensor, Tensor]:
    """The two inner loops of Algorithm 1: ``n_phi`` times Eq. 21, then ``n_theta`` times Eq. 22, losses always new."""
    for _ in range(n_phi):
        phi = phi - eta1 * slope_at(lambda value: for_phi(value, theta), phi)
    for _ in range(n_theta):
        theta = theta - eta2 * slope_at(lambda value, phi=phi: for_theta(phi, value), theta)
    return phi, theta


@functools.cache
def order_of_updates() -> sp.Eq:
    """Leading term of theta after alternating less theta after simultaneous updates, one of each."""
    new_phi, old_slope = eq_21().rhs, sp.diff(UPDATE_OBJECTIVES[THETA], THETA)
    change = -ETA2 * (old_slope.subs(PHI, new_phi) - old_slope)
    demand(change.subs(ETA1, 0).doit() == 0, "without a step of the encoder there is no difference")
    leading = ETA1 * change.diff(ETA1).subs(ETA1, 0).doit()
    product = ETA1 * ETA2 * sp.diff(UPDATE_OBJECTIVES[THETA], THETA, PHI) * sp.diff(UPDATE_OBJECTIVES[PHI], PHI)
    demand(sp.expand(leading - product) == 0, "the difference is a mixed derivative times a slope")
    return sp.Eq(sp.Symbol(r"\theta^{\text{alt}} - \theta^{\text{sim}}"), product)
