"""Eqs. 19 and 24: the adversarial term, its optimum, and what it measures.

Generated from book/src/55_alignment.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import functools

import sympy as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from cdlm.theory.equations import equation
from cdlm.theory.symbols import normal_density, symbols

__all__ = [
    "adversarial_optimum",
    "adversarial_value",
    "density_s",
    "density_t",
    "domain_cross_entropy",
    "eq_19",
    "eq_24",
    "eq_24_with_reciprocals",
    "feature",
    "guess",
    "kernel_expectation",
    "optimal_discriminator",
    "optimal_guess",
    "p_s",
    "p_t",
    "xi",
]


# 55_alignment: Check it: Gaussians in closed form

@functools.cache
def kernel_expectation() -> sp.Eq:
    """Expectation of a Gaussian kernel of width w over u ~ N(m, s^2).

    Integrated over the real line.
    """
    u, m = sp.symbols("u m", real=True)
    s, w = sp.symbols("s w", positive=True)
    integral = sp.integrate(sp.exp(-(u**2) / (2 * w**2)) * normal_density(u, m, s),
                            (u, -sp.oo, sp.oo))
    closed = sp.powsimp(sp.simplify(integral)).replace(sp.exp,
                                                       lambda power: sp.exp(sp.factor(power)))
    return sp.Eq(sp.Function("E")(sp.exp(-(u**2) / (2 * w**2))), closed)


# 55_alignment: Equation 19: the adversarial term

feature, density_s, density_t = (sp.Symbol("h", real=True), sp.Function("p_s"),
                                 sp.Function("p_t"))
guess = sp.Function(r"\Xi")


@equation(19, kind="definition", verdict="exact under stated assumptions", api=(
    "cdlm.theory.alignment.adversarial_value", "cdlm.model.losses.adversarial_loss",
    "cdlm.theory.alignment.optimal_discriminator", "cdlm.model.discrepancy.jensen_shannon"),
          note="The expectations have to run over the images too, "
          "which the printed p(h|x) leaves out; "
          "the discriminator maximizes it and the encoder minimizes it, which is not said.")
def eq_19() -> sp.Eq:
    """Adversarial term.

    Log-likelihood of a Bernoulli label for the domain, averaged over each domain.
    """
    d = sp.Symbol("d")
    log_likelihood = sp.expand_log(
        sp.log(guess(feature) ** d * (1 - guess(feature)) ** (1 - d)), force=True)
    means = [
        sp.Integral(density(feature) * log_likelihood.subs(d, truth), (feature, -sp.oo, sp.oo))
        for density, truth in ((density_s, 1), (density_t, 0))]
    return sp.Eq(sp.Symbol("L_{adv}"), sum(means))


def adversarial_value(logits_s: Tensor, logits_t: Tensor) -> Tensor:
    """Eq. 19 as printed, for a discriminator sigmoid(logits); a scalar, at most 0.

    The logits, (n,) and (m,), are those of source and of target features, positive where it
    guesses "source".
    """
    return F.logsigmoid(logits_s).mean() + F.logsigmoid(-logits_t).mean()


# 55_alignment: The best discriminator

# the densities and the guess at one point
p_s, p_t, xi = symbols(r"p_s p_t \Xi", positive=True)


@functools.cache
def optimal_guess() -> sp.Eq:
    """The guess that maximizes the integrand of Eq. 19 at a point.

    Its derivative is set to zero and solved.
    """
    integrand = p_s * sp.log(xi) + p_t * sp.log(1 - xi)
    (best,) = sp.solve(sp.diff(integrand, xi), xi)
    return sp.Eq(sp.Symbol(r"\Xi^*"), best)


def optimal_discriminator(log_p_s: Tensor, log_p_t: Tensor) -> Tensor:
    """The discriminator that maximizes Eq. 19, p_s / (p_s + p_t), from log densities of any
    one shape; in [0, 1].

    The argument of its sigmoid, ``log_p_s - log_p_t``, is the optimal logit.
    """
    return torch.sigmoid(log_p_s - log_p_t)


# 55_alignment: What it is worth

@functools.cache
def adversarial_optimum() -> sp.Eq:
    """The integrand of Eq. 19 at the best guess, less the integrands of KL(p_s || m) and
    KL(p_t || m). Simplified."""
    best, m = optimal_guess().rhs, (p_s + p_t) / 2
    reached = p_s * sp.log(best) + p_t * sp.log(1 - best)
    divergences = p_s * sp.log(p_s / m) + p_t * sp.log(p_t / m)
    remainder = sp.factor(
        sp.simplify(sp.expand_log(sp.together(reached) - divergences, force=True)))
    symbol = p_s * sp.log(sp.Symbol(r"\Xi^*")) + p_t * sp.log(1 - sp.Symbol(r"\Xi^*"))
    shown = p_s * sp.log(p_s / sp.Symbol("m")) + p_t * sp.log(p_t / sp.Symbol("m"))
    return sp.Eq(symbol - shown, remainder)


# 55_alignment: Equation 24: the same, from a sample

@equation(24, kind="definition", verdict="exact under stated assumptions",
          api="cdlm.theory.alignment.domain_cross_entropy", note="As printed, the sample form "
          "of minus Eq. 19 with n images of each domain, where all indicators are 1; "
          "to maximize it is the encoder's part only. Likelier, the reciprocals in the "
          "logarithms of DANN's loss were lost in print: with log(1/Xi) and log(1/(1 - Xi)) "
          "it is Eq. 19 itself, which the discriminator maximizes.")
def eq_24() -> sp.Eq:
    """Domain cross-entropy.

    Minus Eq. 19 for samples: each density is replaced by spikes at the sample's points.
    """
    n, i, place = (sp.Symbol("n", integer=True, positive=True), sp.Symbol("i", integer=True),
                   sp.Symbol("a", real=True))
    total = 0
    for domain, density in (("s", density_s), ("t", density_t)):
        indicator, points = (sp.IndexedBase(f"d^{domain}"),
                             sp.IndexedBase(f"h^{domain}", real=True))
        (value,) = (term.function.coeff(density(feature))
                    for term in eq_19().rhs.args if term.has(density))
        at_spike = sp.integrate(sp.DiracDelta(feature - place) * value,
                                (feature, -sp.oo, sp.oo))
        total -= sp.Sum(indicator[i] * at_spike.subs(place, points[i]), (i, 1, n)) / n
    return sp.Eq(sp.Symbol("L_{adv}^{+}"), total)


@functools.cache
def eq_24_with_reciprocals() -> sp.Eq:
    """Eq. 24 with 1 / Xi and 1 / (1 - Xi) in its logarithms: minus the means of
    DANN's loss."""
    return eq_24().replace(sp.log, lambda inside: sp.log(1 / inside))


def domain_cross_entropy(logits: Tensor, is_source: Tensor, pooled: bool = False) -> Tensor:
    """Eq. 24 for one batch with images of both domains: logits (n,) and indicators d^s (n,) of
    type bool; a scalar >= 0.

    Each sum is divided by the number of images of its domain, or, if ``pooled``, by the number
    of all: then it is the usual binary cross-entropy. Raises ValueError if a domain is missing
    or the shapes differ.
    """
    if logits.shape != is_source.shape or not is_source.any() or is_source.all():
        raise ValueError(f"logits {tuple(logits.shape)}, indicators {tuple(is_source.shape)}: "
                         "both domains must be present")
    d_s, d_t = is_source.to(logits.dtype), (~is_source).to(logits.dtype)
    n_s, n_t = (len(logits), len(logits)) if pooled else (d_s.sum(), d_t.sum())
    return (
        -(d_s * F.logsigmoid(logits)).sum() / n_s - (d_t * F.logsigmoid(-logits)).sum() / n_t)
