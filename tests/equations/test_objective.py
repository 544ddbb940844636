"""Eqs. 16-18 and 20-22: bounds in a model where all is known, four readings of a divergence, losses, updates."""

from __future__ import annotations

import copy
import functools
import math
import re
import sys
from collections.abc import Callable

import pytest
import sympy as sp
import torch
import torch.nn.functional as F
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from torch.distributions import Independent, Laplace, MultivariateNormal, Normal
from torch.distributions import kl_divergence as torch_kl

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import draw_noise
from cdlm.methods.cdlm import CDLM, CDLMConfig, cdlm_losses, fused_losses, literal_losses, objectives, reach_table
from cdlm.model import losses, moments
from cdlm.model.codes import cross_codes, generate
from cdlm.model.gradients import reversal_strength, set_gradients
from cdlm.model.losses import adversarial_loss, consistency_loss, kl_divergence, reconstruction_loss
from cdlm.model.modulation import modulate
from cdlm.model.networks import Encoded
from cdlm.theory import joint_bound as theory
from cdlm.theory import updates
from cdlm.theory.symbols import mu_st, mu_ts, sigma_st, sigma_ts
from cdlm.training.engine import Trainer

seeds = st.integers(0, 2**31)
X_S, X_T, W_S, W_T = sp.symbols("x_s x_t w_s w_t", real=True)
TAU_S, TAU_T = sp.symbols("tau_s tau_t", positive=True)
SYMBOLS = (X_S, X_T, mu_st, sigma_st, W_S, W_T, TAU_S, TAU_T)


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model_of(seed: int, batch: int = 3, n: int = 5, latent: int = 2) -> tuple[torch.Tensor, ...]:
    """x, mu, sigma, W, tau of a linear model."""
    return (double(batch, n, seed=seed), double(batch, latent, seed=seed + 1), (0.5 * double(batch, latent, seed=seed + 2)).exp(),
            double(n, latent, seed=seed + 3), (0.5 * double(n, seed=seed + 4)).exp())


def encoded(seed: int, batch: int = 6, latent: int = 3) -> Encoded:
    return Encoded(double(batch, latent, seed=seed), (0.4 * double(batch, latent, seed=seed + 1)).exp(),
                   double(batch, latent, seed=seed + 2).sigmoid())


def close(a, b, rtol: float = 1e-9, atol: float = 1e-9) -> None:
    torch.testing.assert_close(*(torch.as_tensor(value, dtype=torch.float64) for value in (a, b)), rtol=rtol, atol=atol)


@functools.cache
def compiled(expression: sp.Expr, symbols: tuple) -> Callable:
    return sp.lambdify(symbols, expression, "math")


def numbers(expression: sp.Expr, symbols: tuple, values: list[float]) -> float:
    return float(compiled(expression, symbols)(*values))


# Equations 16 and 17


@pytest.mark.equation(16, check="derivation")
def test_eq_16_is_the_printed_identity_and_its_terms_are_not_trivial() -> None:
    statement, terms = theory.eq_16(), theory.joint_terms()
    assert statement.lhs == theory.LOG_EVIDENCE - theory.GAP and statement.rhs == theory.LOG_LIKELIHOOD - theory.PRICE
    covariance = sp.Matrix([[W_S**2 + TAU_S**2, W_S * W_T], [W_S * W_T, W_T**2 + TAU_T**2]])
    x = sp.Matrix([X_S, X_T])
    by_covariance = -((x.T * covariance.inv() * x)[0] + sp.log(covariance.det())) / 2 - sp.log(2 * sp.pi)
    at = dict(zip(SYMBOLS, (0.3, -1.1, 0.4, 0.7, 1.3, -0.6, 0.8, 0.5)))
    assert float(terms[theory.LOG_EVIDENCE].subs(at)) == pytest.approx(float(by_covariance.subs(at)), rel=1e-12)
    for term in (theory.GAP, theory.PRICE):
        assert float(terms[term].subs(at)) > 0
    with pytest.raises(ArithmeticError, match="does not hold"):
        theory.proved(sp.Eq(theory.LOG_EVIDENCE + theory.GAP, theory.LOG_LIKELIHOOD - theory.PRICE), terms)


@pytest.mark.equation(16, 17, check="derivation")
def test_terms_of_the_linear_model_by_other_ways() -> None:
    """Evidence by the covariance, posterior by completing the square, divergences by numerical integration, all by hand."""
    terms, values = theory.joint_terms(), (0.3, -1.1, 0.4, 0.7, 1.3, -0.6, 0.8, 0.5)
    x_s, x_t, mu, sigma, w_s, w_t, tau_s, tau_t = values
    q, prior = norm(mu, sigma), norm(0, 1)

    def joint(z: float) -> float:
        return norm(w_s * z, tau_s).pdf(x_s) * norm(w_t * z, tau_t).pdf(x_t) * prior.pdf(z)
    evidence = quad(joint, -12, 12, epsabs=1e-14)[0]

    def mean(value: Callable) -> float:
        return quad(lambda z: q.pdf(z) * value(z), mu - 12 * sigma, mu + 12 * sigma, epsabs=1e-13)[0]
    expected = {theory.LOG_EVIDENCE: math.log(evidence), theory.PRICE: mean(lambda z: q.logpdf(z) - prior.logpdf(z)),
                theory.GAP: mean(lambda z: q.logpdf(z) - math.log(joint(z) / evidence)),
                theory.LOG_LIKELIHOOD: mean(lambda z: norm(w_s * z, tau_s).logpdf(x_s) + norm(w_t * z, tau_t).logpdf(x_t))}
    for name, value in expected.items():
        assert numbers(terms[name], SYMBOLS, list(values)) == pytest.approx(value, rel=1e-9), name


@pytest.mark.equation(16, 17, 18, check="derivation")
@pytest.mark.parametrize("false", [
    lambda: theory.log_of_joint_normal(sp.Matrix([X_S]), sp.Matrix([[W_S**2 + TAU_S**2]])) + 5, lambda: sp.Integer(0),
    lambda: sp.Symbol("junk")], ids=["off by five", "zero", "junk"])
def test_a_false_evidence_is_refused(monkeypatch, false) -> None:
    value = false()
    monkeypatch.setattr(theory, "log_of_joint_normal", lambda x, covariance: value)
    with pytest.raises(ArithmeticError, match="integrates to the evidence"):
        theory.linear_terms((X_S, W_S, TAU_S))


@pytest.mark.equation(16, 17, 18, check="derivation")
def test_what_does_not_vanish_is_seen() -> None:
    a, b = sp.symbols("a b", positive=True)
    assert theory.vanishes(sp.log(a / b + 1) - sp.log(a + b) + sp.log(b)) and theory.vanishes(1 / (a + b) - a / (a**2 + a * b))
    for false in (sp.log(a / b + 1) - sp.log(a + b) - sp.log(b), sp.log(2 * a) - sp.log(a), a - b, sp.Integer(1)):
        assert not theory.vanishes(false)
    with pytest.raises(ArithmeticError, match="it does not hold that pigs fly"):
        theory.demand(False, "pigs fly")
    with pytest.raises(ArithmeticError, match="does not hold"):
        theory.proved(sp.Eq(sp.Symbol("c"), a + b), {sp.Symbol("c"): a})
    theory.demand(True, "pigs walk")


@pytest.mark.equation(17, check="derivation")
def test_eq_17_is_the_bound_and_tight_at_the_posterior() -> None:
    statement, inequality = sorted(theory.eq_17().args, key=lambda part: isinstance(part, sp.Le))
    assert statement == sp.Eq(theory.JOINT_BOUND, theory.LOG_LIKELIHOOD - theory.PRICE)
    assert inequality == sp.Le(theory.JOINT_BOUND, theory.LOG_EVIDENCE)
    precision = 1 + W_S**2 / TAU_S**2 + W_T**2 / TAU_T**2
    posterior = {mu_st: (W_S * X_S / TAU_S**2 + W_T * X_T / TAU_T**2) / precision, sigma_st: 1 / sp.sqrt(precision)}
    gap = theory.joint_terms()[theory.GAP].subs(posterior, simultaneous=True)
    values = (0.3, -1.1, 1.3, -0.6, 0.8, 0.5)
    assert numbers(gap, (X_S, X_T, W_S, W_T, TAU_S, TAU_T), values) == pytest.approx(0, abs=1e-12)


@pytest.mark.equation(16, 17, check="formula")
@given(seeds)
@settings(max_examples=10, deadline=None)
def test_tensors_compute_the_symbolic_terms(seed: int) -> None:
    x, mu, sigma, W, tau = model_of(seed, n=2, latent=1)
    terms = theory.joint_terms()
    at = [[*x[k].tolist(), mu[k].item(), sigma[k].item(), *W[:, 0].tolist(), *tau.tolist()] for k in range(3)]
    expected = {name: torch.tensor([numbers(terms[name], SYMBOLS, one) for one in at], dtype=torch.float64) for name in terms}
    close(theory.linear_log_evidence(x, W, tau), expected[theory.LOG_EVIDENCE])
    close(theory.linear_log_likelihood(x, mu, sigma, W, tau), expected[theory.LOG_LIKELIHOOD])
    close(theory.linear_gap(x, mu, sigma, W, tau), expected[theory.GAP])
    close(theory.divergence_from(mu, sigma, torch.zeros(3, 1).double(), torch.eye(1).double()), expected[theory.PRICE])
    close(theory.linear_bound(x, mu, sigma, W, tau), expected[theory.LOG_LIKELIHOOD] - expected[theory.PRICE])


@pytest.mark.equation(16, 17, check="library")
@given(seeds)
@settings(max_examples=20, deadline=None)
def test_terms_are_those_of_torch_distributions(seed: int) -> None:
    x, mu, sigma, W, tau = model_of(seed)
    evidence = MultivariateNormal(torch.zeros(5).double(), W @ W.T + torch.diag(tau**2)).log_prob(x)
    joint = MultivariateNormal(torch.zeros(7).double(), torch.cat([torch.cat([torch.eye(2).double(), W.T], 1), torch.cat(
        [W, W @ W.T + torch.diag(tau**2)], 1)]))
    covariance = joint.covariance_matrix
    gain = torch.linalg.solve(covariance[2:, 2:], covariance[2:, :2]).T                  # conditioning, without W
    posterior = MultivariateNormal(x @ gain.T, covariance[:2, :2] - gain @ covariance[2:, :2])
    q = MultivariateNormal(mu, torch.diag_embed(sigma**2))
    mean, precision = theory.linear_posterior(x, W, tau)
    close(mean, posterior.mean)
    close(precision, posterior.precision_matrix[0], rtol=1e-7, atol=1e-7)
    close(theory.linear_log_evidence(x, W, tau), evidence)
    close(theory.divergence_from(mu, sigma, mean, precision), torch_kl(q, posterior), rtol=1e-7, atol=1e-7)
    close(theory.linear_gap(x, mu, sigma, W, tau), torch_kl(q, posterior), rtol=1e-7, atol=1e-7)
    prior = Independent(Normal(torch.zeros(3, 2).double(), 1.0), 1)
    close(theory.linear_bound(x, mu, sigma, W, tau),
          theory.linear_log_likelihood(x, mu, sigma, W, tau) - torch_kl(Independent(Normal(mu, sigma), 1), prior))


@pytest.mark.equation(16, 17, check="simulation")
def test_terms_are_what_simulation_converges_to() -> None:
    (x, mu, sigma, W, tau), count = model_of(3, batch=1), 200_000
    z = mu + sigma * double(count, 2, seed=9)
    q, prior = Normal(mu, sigma).log_prob(z).sum(1), Normal(0.0, 1.0).log_prob(z).sum(1)
    drawn = Normal(z @ W.T, tau).log_prob(x).sum(1)
    for samples, exact in ((drawn, theory.linear_log_likelihood(x, mu, sigma, W, tau)),
                           (drawn + prior - q, theory.linear_bound(x, mu, sigma, W, tau)),
                           (q - prior - drawn + theory.linear_log_evidence(x, W, tau), theory.linear_gap(x, mu, sigma, W, tau))):
        assert abs(samples.mean() - exact.item()) < 4.5 * samples.std() / count**0.5


@pytest.mark.equation(16, 17, check="gradient")
def test_gradients_are_the_symbolic_derivatives() -> None:
    x, mu, sigma, W, tau = (value.requires_grad_() for value in model_of(5, batch=1, n=2, latent=1))
    at = [*x[0].tolist(), mu.item(), sigma.item(), *W[:, 0].tolist(), *tau.tolist()]
    terms, inputs = theory.joint_terms(), (x, mu, sigma, W, tau)
    price = theory.divergence_from(mu, sigma, torch.zeros(1, 1).double(), torch.eye(1).double())
    functions = {theory.LOG_EVIDENCE: theory.linear_log_evidence(x, W, tau), theory.PRICE: price,
                 theory.GAP: theory.linear_gap(*inputs), theory.LOG_LIKELIHOOD: theory.linear_log_likelihood(*inputs)}
    derivatives = {name: [numbers(terms[name].diff(symbol), SYMBOLS, at) for symbol in SYMBOLS] for name in functions}
    derivatives[None] = [a - b for a, b in zip(derivatives[theory.LOG_LIKELIHOOD], derivatives[theory.PRICE])]
    functions[None] = theory.linear_bound(*inputs)
    for name, value in functions.items():
        got = torch.autograd.grad(value.sum(), inputs, allow_unused=True)
        got = torch.cat([torch.zeros_like(i).flatten() if g is None else g.flatten() for g, i in zip(got, inputs)])
        close(got, torch.tensor(derivatives[name], dtype=torch.float64))


@pytest.mark.equation(16, 17, check="formula")
@given(seeds)
@settings(max_examples=20, deadline=None)
def test_bound_and_gap_add_up_and_the_gap_is_not_negative(seed: int) -> None:
    x, mu, sigma, W, tau = model_of(seed)
    gap, evidence = theory.linear_gap(x, mu, sigma, W, tau), theory.linear_log_evidence(x, W, tau)
    assert (gap >= -1e-12).all()
    close(theory.linear_bound(x, mu, sigma, W, tau) + gap, evidence, rtol=1e-8, atol=1e-8)
    W = torch.linalg.qr(W)[0] * tau[:, None]                 # posterior with independent coordinates: the bound is reached
    mean, precision = theory.linear_posterior(x, W, tau)
    tight = theory.linear_bound(x, mean, precision.diagonal().rsqrt().expand_as(mean), W, tau)
    close(tight, theory.linear_log_evidence(x, W, tau), rtol=1e-8, atol=1e-8)


@pytest.mark.equation(17, check="derivation")
def test_minimizing_the_gap_is_maximizing_the_bound_for_the_encoder_only() -> None:
    x, mu, sigma, W, tau = model_of(8)
    inputs = [value.requires_grad_() for value in (mu, sigma, W)]
    rise = torch.autograd.grad(theory.linear_bound(x, *inputs, tau).sum(), inputs)
    fall = torch.autograd.grad(-theory.linear_gap(x, *inputs, tau).sum(), inputs)
    evidence, = torch.autograd.grad(theory.linear_log_evidence(x, W, tau).sum(), W)
    close(rise[0], fall[0])
    close(rise[1], fall[1])
    close(rise[2], fall[2] + evidence)
    assert evidence.abs().max() > 0.1


@pytest.mark.equation(16, 17, check="extremes")
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3])
def test_single_precision_agrees_with_double_at_extreme_deviations(scale: float) -> None:
    x, mu, sigma, W, tau = model_of(2)
    sigma, narrow = scale * sigma, 1e-2 * tau
    for function in (theory.linear_bound, theory.linear_gap, theory.linear_log_likelihood):
        exact, single = (function(*(v.to(kind) for v in (x, mu, sigma, W, tau))) for kind in (torch.float64, torch.float32))
        assert single.dtype == torch.float32 and single.isfinite().all()
        close(single.double(), exact, rtol=1e-4, atol=1e-3)
    single = theory.linear_log_evidence(x.float(), W.float(), narrow.float())
    close(single.double(), theory.linear_log_evidence(x, W, narrow), rtol=1e-3, atol=1e-2)


@pytest.mark.equation(16, 17, check="extremes")
def test_determinants_beyond_the_range_of_single_precision() -> None:
    """Forty codes seen through little noise: the determinant of the precision has eighty digits, its logarithm three."""
    x, mu, sigma, W, tau = (value.float() for value in model_of(11, batch=2, n=60, latent=40))
    tau = 0.05 * tau
    mean, precision = theory.linear_posterior(x, W, tau)
    assert torch.det(precision).isinf()
    doubles = [value.double() for value in (x, mu, sigma, W, tau)]
    for single, exact in ((theory.linear_log_evidence(x, W, tau), theory.linear_log_evidence(doubles[0], *doubles[3:])),
                          (theory.divergence_from(mu, sigma, mean, precision), theory.linear_gap(*doubles))):
        assert single.isfinite().all()
        close(single.double(), exact, rtol=1e-2, atol=0)


# Equation 18


@pytest.mark.equation(18, check="derivation")
def test_terms_of_eq_18_against_the_marginal_density_of_the_source() -> None:
    """log p(x_s) is that of N(0, w^2 + tau^2); the gap is the divergence from the posterior, by numerical integration."""
    terms = theory.source_terms()
    x, w, tau, mu, sigma = 0.7, -1.4, 0.6, 0.3, 0.5
    at = {X_S: x, W_S: w, TAU_S: tau, mu_st: mu, sigma_st: sigma, mu_ts: -0.2, sigma_ts: 1.7}
    marginal = norm(0, math.sqrt(w**2 + tau**2))
    assert sp.simplify(sp.exp(terms[theory.LOG_EVIDENCE_S]) * sp.sqrt(2 * sp.pi * (W_S**2 + TAU_S**2))
                       - sp.exp(-X_S**2 / (2 * (W_S**2 + TAU_S**2)))) == 0
    q = norm(mu, sigma)

    def log_posterior(z: float) -> float:
        return norm(w * z, tau).logpdf(x) + norm(0, 1).logpdf(z) - marginal.logpdf(x)
    gap = quad(lambda z: q.pdf(z) * (q.logpdf(z) - log_posterior(z)), -6, 6, epsabs=1e-13)[0]
    drawn = quad(lambda z: q.pdf(z) * norm(w * z, tau).logpdf(x), -6, 6, epsabs=1e-13)[0]
    prices = [(m**2 + d**2 - 1) / 2 - math.log(d) for m, d in ((mu, sigma), (-0.2, 1.7))]
    expected = {theory.LOG_EVIDENCE_S: marginal.logpdf(x), theory.GAP_S: gap, theory.LOG_LIKELIHOOD_S: drawn,
                theory.PRICE_ST: prices[0], theory.PRICE_TS: prices[1]}
    for name, value in expected.items():
        assert float(terms[name].subs(at)) == pytest.approx(value, rel=1e-9), name


@pytest.mark.equation(18, check="derivation")
def test_eq_18_bounds_the_evidence_of_the_source_and_not_of_the_pair() -> None:
    statement, inequality = sorted(theory.eq_18().args, key=lambda part: isinstance(part, sp.Le))
    expected = theory.LOG_LIKELIHOOD_S - theory.PRICE_ST - theory.PRICE_TS
    assert statement == sp.Eq(theory.JOINT_BOUND, expected)
    assert inequality == sp.Le(theory.JOINT_BOUND, theory.LOG_EVIDENCE_S)
    terms = theory.source_terms()
    assert terms[theory.PRICE_TS].free_symbols == {mu_ts, sigma_ts} and X_T not in expected.subs(terms).free_symbols
    # at the best codes it is the evidence of x_s, which lies above that of the pair for an x_t far off
    precision = 1 + W_S**2 / TAU_S**2
    best = {mu_ts: 0, sigma_ts: 1, mu_st: W_S * X_S / TAU_S**2 / precision, sigma_st: 1 / sp.sqrt(precision)}
    at = {X_S: 1.2, X_T: -0.5, W_S: 1, W_T: 0.5, TAU_S: 0.5, TAU_T: 0.2}
    value = float(expected.subs(terms).subs(best).subs(at))
    assert value == pytest.approx(float(Normal(0.0, math.sqrt(1.25)).log_prob(torch.tensor(1.2))), abs=1e-6)
    assert value > float(theory.joint_terms()[theory.LOG_EVIDENCE].subs(at)) + 1
    assert value < float(theory.joint_terms()[theory.LOG_EVIDENCE].subs(at | {X_T: 0.5}))


def symbolic_kl(reading: str) -> tuple[sp.Expr, tuple]:
    """The price of one code of one coordinate, the moments of a reading put into the integrated form."""
    mu, mu_o, h = sp.symbols("mu mu_o h", real=True)
    sigma, sigma_o, g1, g2 = sp.symbols("sigma sigma_o g1 g2", positive=True)
    moments = {"base": (mu, sigma), "conditional": (mu + g1 * sigma * h, g2 * sigma),
               "simplified": (mu + g1 * mu_o, g1 * sigma * sigma_o)}[reading]
    price = theory.source_terms()[theory.PRICE_ST].subs(dict(zip((mu_st, sigma_st), moments)), simultaneous=True)
    return price, (mu, sigma, mu_o, sigma_o, h, g1, g2)


@pytest.mark.equation(18, check="formula")
@pytest.mark.parametrize("reading", ["base", "conditional", "simplified"])
def test_divergences_are_the_symbolic_ones(reading: str) -> None:
    own, other = encoded(0), encoded(10)
    price, symbols = symbolic_kl(reading)
    function = sp.lambdify(symbols, price, "math")
    values = [[function(*(float(v[i, j]) for v in (own.mu, own.sigma, other.mu, other.sigma, other.h)), 0.8, 0.3)
               for j in range(3)] for i in range(6)]
    expected = torch.tensor(values, dtype=torch.float64)
    close(moments.code_kl(own, other, 0.8, 0.3, reading), expected.sum(1).mean())
    close(moments.code_kl(own, other, 0.8, 0.3, reading, "mean"), expected.mean())


@pytest.mark.equation(18, check="gradient")
@pytest.mark.parametrize("reading", ["base", "conditional", "simplified"])
def test_gradients_of_the_divergences_and_whom_they_reach(reading: str) -> None:
    own, other = (Encoded(*(value.requires_grad_() for value in encoded(seed, 1, 1))) for seed in (20, 30))
    price, symbols = symbolic_kl(reading)
    inputs = (own.mu, own.sigma, other.mu, other.sigma, other.h)
    got = torch.autograd.grad(moments.code_kl(own, other, 0.8, 0.3, reading), inputs, allow_unused=True)
    for symbol, gradient in zip(symbols, got):
        derivative = price.diff(symbol)
        assert (gradient is None) == (derivative == 0)
        if gradient is not None:
            close(gradient.item(), numbers(derivative, symbols, [*(v.item() for v in inputs), 0.8, 0.3]))


@pytest.mark.equation(18, check="gradient")
def test_marginal_divergence_reaches_h_through_mean_and_variance() -> None:
    own, other = encoded(40), encoded(50)
    h = other.h.clone().requires_grad_()
    got, = torch.autograd.grad(moments.code_kl(own, other._replace(h=h), 0.8, 0.3, "marginal"), h)
    mean, deviation = moments.code_moments(own, other, 0.8, 0.3, "marginal")
    by_mean = (mean * 0.8 * own.sigma).mean(0) / 6
    by_variance = (0.64 * own.sigma**2 * (1 - 1 / deviation**2) / 2).mean(0) * 2 * (other.h - other.h.mean(0)) / 6
    close(got, by_mean + by_variance)


@pytest.mark.equation(18, check="library")
@given(seeds)
@settings(max_examples=20, deadline=None)
def test_divergences_are_those_of_torch_distributions(seed: int) -> None:
    own, other = encoded(seed), encoded(seed + 7)
    for reading in moments.CODE_READINGS:
        mean, deviation = moments.code_moments(own, other, 0.9, 0.2, reading)
        by_torch = torch_kl(Normal(mean, deviation), Normal(0.0, 1.0)).sum(1).mean()
        close(moments.code_kl(own, other, 0.9, 0.2, reading), by_torch)
        close(kl_divergence(mean, deviation), by_torch)


@pytest.mark.equation(18, check="simulation")
def test_moments_are_those_of_modulated_codes() -> None:
    own, other, count = encoded(1, 1, 2), encoded(4, 50, 2), 100_000
    pick = torch.randint(50, (count,), generator=torch.Generator().manual_seed(0))
    for reading, h in (("conditional", other.h[:1]), ("marginal", other.h[pick])):
        z = modulate(own.mu, own.sigma, h, double(count, 2, seed=6), 0.8, 0.3)
        given_other = other._replace(h=other.h[:1]) if reading == "conditional" else other
        mean, deviation = moments.code_moments(own, given_other, 0.8, 0.3, reading)
        assert ((z.mean(0) - mean[0]).abs() < 4.5 * deviation[0] / count**0.5).all()
        assert ((z.std(0) / deviation[0] - 1).abs() < 4.5 / (2 * count) ** 0.5).all()


@pytest.mark.equation(18, check="formula")
def test_defaults_and_readings() -> None:
    own, other = encoded(60), encoded(70)
    expected = {"base": (own.mu, own.sigma), "conditional": (own.mu + own.sigma * other.h, 0.1 * own.sigma),
                "marginal": (own.mu + own.sigma * other.h.mean(0),
                             own.sigma * (other.h.std(0, correction=0) ** 2 + 0.01).sqrt()),
                "simplified": (own.mu + other.mu, own.sigma * other.sigma)}
    assert moments.CODE_READINGS == tuple(expected)
    for reading, (mean, deviation) in expected.items():
        got = moments.code_moments(own, other, reading=reading)
        close(got[0], mean)
        close(got[1], deviation)
        close(moments.code_kl(own, other, reading=reading), torch_kl(Normal(mean, deviation), Normal(0.0, 1.0)).sum(1).mean())
    close(moments.code_moments(own, other)[1], own.sigma)
    assert torch.equal(moments.code_kl(own, other), kl_divergence(own.mu, own.sigma))
    with pytest.raises(ValueError, match="'aggregate'"):
        moments.code_moments(own, other, reading="aggregate")
    with pytest.raises(ValueError, match="'none'"):
        moments.code_kl(own, other, reduction="none")


@pytest.mark.equation(18, check="derivation")
@given(seeds, st.floats(0.05, 2), st.floats(0.05, 2))
@settings(max_examples=20, deadline=None)
def test_conditional_exceeds_marginal_by_the_capacity(seed: int, g1: float, g2: float) -> None:
    own, other = encoded(seed), encoded(seed + 5)
    rolled = [Encoded(*(value.roll(k, 0) for value in other)) for k in range(6)]
    conditional = sum(moments.code_kl(own, one, g1, g2, "conditional") for one in rolled) / 6
    capacity = 0.5 * torch.log1p(g1**2 * other.h.var(0, correction=0) / g2**2).sum()
    close(conditional - moments.code_kl(own, other, g1, g2, "marginal"), capacity, rtol=1e-8, atol=1e-8)


@pytest.mark.equation(18, check="extremes")
def test_no_noise_and_extreme_deviations() -> None:
    own, other = encoded(80), encoded(90)
    finite = {reading: bool(moments.code_kl(own, other, 1.0, 0.0, reading).isfinite()) for reading in moments.CODE_READINGS}
    assert finite == {"base": True, "conditional": False, "marginal": True, "simplified": True}
    assert moments.code_kl(own, other, 1.0, 0.0, "conditional") == math.inf
    for scale in (math.exp(-6), math.exp(3)):
        for reading in moments.CODE_READINGS:
            wide = own._replace(sigma=scale * own.sigma)
            single = moments.code_kl(*(Encoded(*(v.float() for v in one)) for one in (wide, other)), reading=reading)
            close(single.double(), moments.code_kl(wide, other, reading=reading), rtol=1e-5, atol=1e-5)
            inputs = wide.sigma.clone().requires_grad_()
            gradient, = torch.autograd.grad(moments.code_kl(wide._replace(sigma=inputs), other, reading=reading), inputs)
            assert gradient.isfinite().all()


@pytest.mark.equation(18, check="library")
@pytest.mark.parametrize("variance", [0.5, 1.7])
def test_source_objective_is_a_log_likelihood_less_two_prices(variance: float) -> None:
    x, x_hat = double(4, 2, 3, 3), double(4, 2, 3, 3, seed=1)
    expected = Normal(x_hat, math.sqrt(variance)).log_prob(x).sum((1, 2, 3)).mean() - 1.25 - 0.5
    close(theory.source_objective(x, x_hat, torch.tensor(1.25), torch.tensor(0.5), variance), expected)
    if variance == 0.5:
        close(theory.source_objective(x, x_hat, torch.tensor(1.25), torch.tensor(0.5)), expected)
        close(expected, -reconstruction_loss(x_hat, x) - 1.75 - 9 * math.log(math.pi))


@pytest.mark.equation(18, check="formula")
def test_squared_error_and_its_gradient() -> None:
    x_hat, x = double(4, 2, 3, 5).requires_grad_(), double(4, 2, 3, 5, seed=1)
    loss = reconstruction_loss(x_hat, x)
    close(loss, torch.cdist(x_hat.flatten(1)[:, None], x.flatten(1)[:, None]).square().mean())
    close(reconstruction_loss(x_hat, x, "mean"), F.mse_loss(x_hat, x))
    close(torch.autograd.grad(loss, x_hat)[0], 2 * (x_hat - x).detach() / 4)


@pytest.mark.equation(18, check="formula")
@pytest.mark.parametrize("loss", [reconstruction_loss, kl_divergence])
def test_losses_refuse_what_would_broadcast(loss) -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        loss(torch.ones(4, 3), torch.ones(4, 1))
    with pytest.raises(ValueError, match="'none'"):
        loss(torch.ones(4, 2), torch.ones(4, 2), reduction="none")
    mu, sigma = double(5, 4), double(5, 4, seed=1).exp()
    close(kl_divergence(mu, sigma, "mean") * 4, kl_divergence(mu, sigma))


@pytest.mark.equation(18, check="simulation")
def test_with_one_q_it_bounds_the_evidence_and_with_the_base_price_it_does_not() -> None:
    W, tau, x = torch.tensor([[1.0]]).double(), torch.tensor([0.5]).double(), torch.tensor([[1.2]]).double()
    evidence = theory.linear_log_evidence(x, W, tau).item()
    own, other = (Encoded(*(torch.tensor([[v]]).double() for v in one)) for one in ((0.45, 1.0, 0.5), (0.0, 1.0, 0.5)))
    values = {}
    for paid in moments.CODE_READINGS:
        for decoded in moments.CODE_READINGS[:2]:
            drawn = theory.linear_log_likelihood(x, *moments.code_moments(own, other, reading=decoded), W, tau)
            values[paid, decoded] = drawn.item() - moments.code_kl(own, other, reading=paid).item()
    assert values["base", "base"] < evidence and values["conditional", "conditional"] < evidence
    assert values["base", "conditional"] > evidence + 1


# Equation 20

IMAGES = tuple(sp.symbols(r"\hat{x}_{st} \tilde{x}_{s} x_s \hat{x}_{ts} \tilde{x}_{t} x_t", real=True))
B1, B2, V = sp.symbols("beta_1 beta_2 v", positive=True)


def five_images(seed: int, *shape: int) -> list[torch.Tensor]:
    """x_hat_st, x_tilde_s, x_s, x_hat_ts, x_tilde_t, x_t."""
    return [double(*shape, seed=seed + k) for k in range(6)]


@pytest.mark.equation(20, check="derivation")
def test_eq_20_is_the_text_and_the_printed_form_is_another() -> None:
    hat, tilde, x, hat_o, tilde_o, x_o = IMAGES
    assert sp.expand(updates.eq_20().rhs - B1 * (hat - tilde) ** 2 - B2 * (hat_o - tilde_o) ** 2) == 0
    printed = updates.eq_20_as_printed().rhs
    for_one = sum(b * ((((x_ - t) ** 2) - (x_ - h) ** 2) / (2 * V)) ** 2
                  for b, h, t, x_ in ((B1, hat, tilde, x), (B2, hat_o, tilde_o, x_o)))
    assert sp.expand(printed - for_one) == 0
    assert printed.subs({hat: x + 1, tilde: x - 1, hat_o: tilde_o}) == 0                        # equally wrong
    assert updates.eq_20().rhs.subs({hat: x + 1, tilde: x - 1, hat_o: tilde_o}) == 4 * B1
    own = updates.log_ratio_at(hat, hat, hat)                                # an image judged by its own Gaussian
    assert own == 0 and not theory.log_of_normal(hat, hat, sp.sqrt(V)).has(hat)


@pytest.mark.equation(20, check="formula")
@given(seeds)
@settings(max_examples=20, deadline=None)
def test_consistency_losses_are_the_symbolic_ones(seed: int) -> None:
    images = five_images(seed % 10_000, 4, 1, 1, 1)
    hat, tilde, x, hat_o, tilde_o, x_o = images
    at = [[float(i[k, 0, 0, 0]) for i in images] for k in range(4)]
    text = sum(numbers(updates.eq_20().rhs, (*IMAGES, B1, B2), [*one, 0.3, 0.7]) for one in at) / 4
    close(consistency_loss(hat, tilde, hat_o, tilde_o, 0.3, 0.7), text)
    printed = sum(numbers(updates.eq_20_as_printed().rhs, (*IMAGES, B1, B2, V), [*one, 0.3, 0.7, 1.4]) for one in at) / 4
    close(losses.consistency_as_printed(x, hat, tilde, x_o, hat_o, tilde_o, 0.3, 0.7, 1.4), printed)


@pytest.mark.equation(20, check="library")
def test_consistency_losses_are_log_likelihoods_of_torch() -> None:
    hat, tilde, x, hat_o, tilde_o, x_o = five_images(3, 4, 2, 3, 3)

    def log_p(x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        return Normal(mean, math.sqrt(0.5)).log_prob(x).sum((1, 2, 3))
    expected = (0.1 * (log_p(x, hat) - log_p(x, tilde)).square().mean()
                + 0.01 * (log_p(x_o, hat_o) - log_p(x_o, tilde_o)).square().mean())
    close(losses.consistency_as_printed(x, hat, tilde, x_o, hat_o, tilde_o), expected)
    kl_s, kl_t = (torch_kl(Normal(a, math.sqrt(0.5)), Normal(b, math.sqrt(0.5))).sum((1, 2, 3)).mean()
                  for a, b in ((hat, tilde), (hat_o, tilde_o)))
    close(consistency_loss(hat, tilde, hat_o, tilde_o), 0.1 * kl_s + 0.01 * kl_t)
    close(consistency_loss(hat, tilde, hat_o, tilde_o, reduction="mean") * 18, 0.1 * kl_s + 0.01 * kl_t)
    laplace = [(Laplace(a, 1.0).log_prob(a) - Laplace(a, 1.0).log_prob(b)).sum((1, 2, 3)).mean()
               for a, b in ((hat, tilde), (hat_o, tilde_o))]
    close(losses.consistency_l1(hat, tilde, hat_o, tilde_o), 0.1 * laplace[0] + 0.01 * laplace[1])
    close(losses.consistency_l1(hat, tilde, hat_o, tilde_o, 0.3, 0.7), 0.3 * laplace[0] + 0.7 * laplace[1])
    close(losses.consistency_l1(hat, tilde, hat_o, tilde_o, reduction="mean") * 18, 0.1 * laplace[0] + 0.01 * laplace[1])


@pytest.mark.equation(20, check="gradient")
def test_gradients_of_the_consistency_losses() -> None:
    images = [value.requires_grad_() for value in five_images(7, 1, 1, 1, 1)]
    hat, tilde, x, hat_o, tilde_o, x_o = images
    at = [value.item() for value in images]
    for loss, expression in ((consistency_loss(hat, tilde, hat_o, tilde_o), updates.eq_20().rhs),
                             (losses.consistency_as_printed(x, hat, tilde, x_o, hat_o, tilde_o), updates.eq_20_as_printed().rhs)):
        got = torch.autograd.grad(loss, images, allow_unused=True)
        for symbol, gradient in zip(IMAGES, got):
            expected = numbers(expression.diff(symbol), (*IMAGES, B1, B2, V), [*at, 0.1, 0.01, 0.5])
            close(0.0 if gradient is None else gradient.item(), expected)
    got = torch.autograd.grad(losses.consistency_l1(hat, tilde, hat_o, tilde_o), (hat, tilde, hat_o, tilde_o))
    ways = (hat - tilde).sign(), (hat_o - tilde_o).sign()
    signs = [0.1 * ways[0], -0.1 * ways[0], 0.01 * ways[1], -0.01 * ways[1]]
    for gradient, sign in zip(got, signs):
        close(gradient, sign.detach())


@pytest.mark.equation(20, check="derivation")
def test_images_with_equal_errors_are_consistent_as_printed() -> None:
    x, error = double(2, 1, 4, 4), double(2, 1, 4, 4, seed=1)
    turned = error.flip(2)                                   # as long, elsewhere
    same = torch.zeros_like(x)
    close(losses.consistency_as_printed(x, x + error, x + turned, same, same, same), 0.0)
    assert consistency_loss(x + error, x + turned, same, same) > 1
    assert losses.consistency_as_printed(x, x + error, x + 2 * turned, same, same, same) > 1


@pytest.mark.equation(20, check="formula")
def test_consistency_refuses_other_reductions() -> None:
    images = five_images(1, 2, 1, 2, 2)[:4]
    for loss in (consistency_loss, losses.consistency_l1):
        with pytest.raises(ValueError, match="'none'"):
            loss(*images, reduction="none")


@pytest.mark.equation(20, check="formula")
@pytest.mark.parametrize("odd", range(6))
def test_consistency_refuses_batches_that_would_broadcast(odd: int) -> None:
    images = five_images(1, 2, 1, 2, 2)
    images[odd] = images[odd][:1]
    hat, tilde, x, hat_o, tilde_o, x_o = images
    with pytest.raises(ValueError, match="shapes differ"):
        losses.consistency_as_printed(x, hat, tilde, x_o, hat_o, tilde_o)
    if odd not in (2, 5):
        for loss in (consistency_loss, losses.consistency_l1):
            with pytest.raises(ValueError, match="shapes differ"):
                loss(hat, tilde, hat_o, tilde_o)


# Equations 21 and 22

SMALL = CDLMConfig.of(latent=3, width=8)
PARTS = {"phi": "encoder", "theta": "decoder", "theta_T": "classifier", "xi": "discriminator"}


@pytest.fixture
def model() -> CDLM:
    torch.manual_seed(0)
    return CDLM(SMALL).double()


@pytest.fixture
def batch() -> DomainBatch:
    x_s, x_t = double(2, 5, 1, 28, 28).tanh()
    return DomainBatch(x_s, torch.arange(5), x_t)


def losses_of(model: CDLM, batch: DomainBatch, strength: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    s, t = model.encoder(batch.x_s), model.encoder(batch.x_t)
    c = model.config.weights
    images = generate(model.decoder, cross_codes(s, t, generator, c.gamma1, c.gamma2))
    return cdlm_losses(model, batch, s, t, images, strength)


def gradients(value: torch.Tensor, part: torch.nn.Module) -> torch.Tensor:
    weights = list(part.parameters())
    found = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
    return torch.cat([torch.zeros_like(w).flatten() if g is None else g.flatten() for w, g in zip(weights, found)])


@pytest.mark.equation(21, 22, check="derivation")
def test_updates_are_the_printed_ones_and_descend() -> None:
    phi, theta, loss = updates.PHI, updates.THETA, updates.LOSS_FUNCTIONS
    for update, parameter, rate, objective in (
        (updates.eq_21(), phi, updates.ETA1, loss["adv"] + updates.LAMBDA1 * loss["kl"] + updates.LAMBDA2 * loss["rec"]),
        (updates.eq_22(), theta, updates.ETA2, loss["rec"] + loss["consistency"]),
    ):
        assert sp.expand(update.rhs - (parameter - rate * sp.diff(objective, parameter))) == 0
    with pytest.raises(ArithmeticError):
        theory.demand(False, "pigs fly")


TINY = {"adv": lambda p, t, x: (p - x) ** 2 + p**3 / 5, "kl": lambda p, t, x: p**2 / 2 - p, "rec": lambda p, t, x: (t * p - 1) ** 2,
        "consistency": lambda p, t, x: 0.1 * (t * p - t / 2) ** 2 + 0.03 * t**3, "task": lambda p, t, x: (t**2 * p - x) ** 2}


def tiny_update(update: sp.Eq, values: dict) -> float:
    """A symbolic update with the polynomials of TINY in place of the losses."""
    p, t, x = updates.PHI, updates.THETA, updates.XI
    expression = update.rhs
    for name, function in updates.LOSS_FUNCTIONS.items():
        expression = expression.subs(function, TINY[name](p, t, x))
    return float(expression.doit().subs(values))


@pytest.mark.equation(21, 22, check="formula")
@pytest.mark.parametrize("task", [True, False])
@pytest.mark.parametrize("lambdas", [(1e-4, 1e-4), (0.3, 0.8)])
def test_sgd_on_the_objectives_is_the_symbolic_update_of_a_tiny_model(lambdas: tuple, task: bool) -> None:
    p, t, xi = (torch.nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (0.7, 1.3, 0.4))
    loss = {name: f(p, t, xi) for name, f in TINY.items()}
    config = CDLMConfig.of(lambda1=lambdas[0], lambda2=lambdas[1], task_reaches_encoder=task)
    for_phi, for_theta = objectives(loss, config)
    set_gradients(for_phi, [p], retain_graph=True)
    set_gradients(for_theta, [t])
    at = {updates.PHI: 0.7, updates.THETA: 1.3, updates.XI: 0.4, updates.LAMBDA1: lambdas[0], updates.LAMBDA2: lambdas[1],
          updates.ETA1: 0.05, updates.ETA2: 0.02}
    expected = [tiny_update(updates.eq_21(), at), tiny_update(updates.eq_22(), at)]
    for k, (parameter, rate) in enumerate(((updates.PHI, 0.05), (updates.THETA, 0.02))):       # the book adds the task loss
        if task or parameter is updates.THETA:
            task_slope = sp.diff(TINY["task"](updates.PHI, updates.THETA, updates.XI), parameter).subs(at)
            expected[k] -= rate * float(task_slope)
    torch.optim.SGD([p], lr=0.05).step()
    torch.optim.SGD([t], lr=0.02).step()
    close(p.item(), expected[0])
    close(t.item(), expected[1])
    assert xi.grad is None                                   # asked for phi and theta only
    if not task:
        close(for_phi, updates.encoder_objective(loss["adv"], loss["kl"], loss["rec"], *lambdas))


@pytest.mark.equation(21, 22, check="formula")
def test_gradients_are_put_where_asked_and_replaced() -> None:
    a, b = (torch.nn.Parameter(torch.tensor(v)) for v in (2.0, 3.0))
    value = a**2 * b
    set_gradients(value, [a], retain_graph=True)
    assert a.grad == 12 and b.grad is None
    set_gradients(value, [a], retain_graph=True)
    assert a.grad == 12                                      # replaced, not added
    set_gradients(value, [a, b])
    assert (a.grad, b.grad) == (12, 4)
    with pytest.raises(RuntimeError, match="second time|freed"):
        set_gradients(value, [b])                            # by default the graph is gone


@pytest.mark.equation(21, check="formula")
def test_encoder_objective_weighs_by_formula_or_by_text() -> None:
    adv, kl, rec = (torch.tensor(v, dtype=torch.float64) for v in (1.3, 20.0, 300.0))
    close(updates.encoder_objective(adv, kl, rec), 1.3 + 0.002 + 0.03)
    close(updates.encoder_objective(adv, kl, rec, 0.5, 0.25), 1.3 + 10 + 75)
    close(updates.encoder_objective(adv, kl, rec, reading="text"), 1.3e-4 + 20 + 0.03)
    close(updates.encoder_objective(adv, kl, rec, 0.5, 0.25, "text"), 0.65 + 20 + 75)
    with pytest.raises(ValueError, match="'words'"):
        updates.encoder_objective(adv, kl, rec, reading="words")


@pytest.mark.equation(21, 22, check="gradient")
@pytest.mark.parametrize("task", [True, False])
def test_drawn_edges_are_the_gradients_that_are_offered_and_taken(batch: DomainBatch, task: bool) -> None:
    torch.manual_seed(0)
    config = CDLMConfig.of(latent=3, width=8, lambda1=0.02, lambda2=0.03, task_reaches_encoder=task)
    model, strength = CDLM(config).double(), 0.6
    loss = losses_of(model, batch, strength, torch.Generator().manual_seed(0))
    parts = {name: getattr(model, attribute) for name, attribute in PARTS.items()}
    offered = {(name, part): gradients(value, parts[part]) for name, value in loss.items() for part in parts}
    assert {edge for edge, gradient in offered.items() if gradient.any()} == set(updates.offered_edges())
    s, t = model.encoder(batch.x_s), model.encoder(batch.x_t)
    plain = gradients(adversarial_loss(model.discriminator(s.h), model.discriminator(t.h)), model.encoder)
    offered["adv", "phi"] = plain                            # without the reversal layer: its factor is the edge's weight
    table = reach_table(config)
    taken = {(name, part): weight for name, row in table.items() for part, weight in row.items()}
    assert taken == {("adv", "xi"): 1, ("adv", "phi"): 1, ("kl", "phi"): 0.02, ("rec", "phi"): 0.03, ("rec", "theta"): 1,
                     ("consistency", "theta"): 1, ("task", "theta"): 1, ("task", "theta_T"): 1} | (
                         {("task", "phi"): 1} if task else {})
    taken["adv", "phi"] *= -strength                         # by the reversal layer
    model.zero_grad()
    for_phi, for_theta = objectives(loss, config)
    set_gradients(for_phi, [*model.encoder.parameters(), *model.discriminator.parameters()], retain_graph=True)
    set_gradients(for_theta, [*model.decoder.parameters(), *model.classifier.parameters()])
    for part, network in parts.items():
        expected = sum(weight * offered[edge] for edge, weight in taken.items() if edge[1] == part)
        close(torch.cat([p.grad.flatten() for p in network.parameters()]), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.equation(21, 22, check="gradient")
@pytest.mark.parametrize("switches", [
    {}, {"consistency_reaches_encoder": True}, {"task_reaches_decoder": False}, {"task_reaches_encoder": False},
    {"task_reaches_encoder": False, "task_reaches_decoder": False}], ids=str)
def test_switches_add_terms_or_take_them_away(batch: DomainBatch, switches: dict) -> None:
    """Both sums by hand, from losses made one by one; and the one objective of the fused pass, whose gradient is theirs."""
    torch.manual_seed(0)
    model = CDLM(CDLMConfig.of(latent=3, width=8, lambda1=0.02, lambda2=0.03, **switches)).double()
    eps = draw_noise(model, 5, torch.Generator().manual_seed(1), torch.float64)

    def on(name: str, default: bool) -> bool:
        return switches.get(name, default)

    loss = literal_losses(model, batch, eps, 0.6)
    phi, theta = loss["adv"] + 0.02 * loss["kl"] + 0.03 * loss["rec"], loss["rec"] + loss["consistency"]
    phi = phi + loss["task"] if on("task_reaches_encoder", True) else phi
    phi = phi + loss["consistency"] if on("consistency_reaches_encoder", False) else phi
    theta = theta + loss["task"] if on("task_reaches_decoder", True) else theta
    for made, by_hand in zip(objectives(loss, model.config), (phi, theta)):
        close(made.detach(), by_hand.detach())
    expected = {model.encoder: phi, model.discriminator: phi, model.decoder: theta, model.classifier: loss["task"]}
    expected = {part: gradients(value, part) for part, value in expected.items()}
    model.zero_grad()
    objective, fused = fused_losses(model, batch, eps, 0.6)
    objective.backward()
    for part, gradient in expected.items():
        close(torch.cat([p.grad.flatten() for p in part.parameters()]), gradient, rtol=1e-9, atol=1e-10)
    assert {name: value.item() for name, value in fused.items()} == pytest.approx(
        {name: value.item() for name, value in loss.items()}, rel=1e-10)


@pytest.mark.equation(21, 22, check="derivation")
def test_edges_are_the_arguments_of_the_symbolic_losses() -> None:
    names = {"phi": updates.PHI, "theta": updates.THETA, "theta_T": updates.THETA_T, "xi": updates.XI}
    losses = updates.LOSS_FUNCTIONS
    by_symbols = {(loss, part) for loss in losses for part, symbol in names.items() if losses[loss].diff(symbol) != 0}
    assert by_symbols == set(updates.offered_edges()) and len(updates.offered_edges()) == len(by_symbols) == 10
    taken = {(loss, part) for loss, row in reach_table(CDLMConfig()).items() for part in row}
    assert by_symbols - taken == {("consistency", "phi")} and taken < by_symbols


def test_drawing_has_every_edge() -> None:
    """The script draws from the same table: as many arrows as edges, dotted where none is taken."""
    sys.path.insert(0, str(ROOT / "figures"))
    try:
        import gradient_flow
    finally:
        sys.path.pop(0)
    from matplotlib import pyplot as plt
    from matplotlib.patches import FancyArrowPatch

    figure = gradient_flow.draw()
    arrows = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]
    plt.close(figure)
    table, edges = reach_table(CDLMConfig()), updates.offered_edges()
    assert len(arrows) == len(edges)
    assert [a.get_linestyle() in ("-", "solid") for a in arrows] == [part in table[loss] for loss, part in edges]
    svg = (ROOT / "figures/gradient_flow.svg").read_text(encoding="utf-8")
    assert len(re.findall("stroke-dasharray", svg)) >= 1
    weighted = {(loss, part) for loss, row in table.items() for part, weight in row.items() if weight != 1}
    assert set(gradient_flow.WEIGHTS) == weighted | {("adv", "phi")}


@pytest.mark.equation(21, 22, check="simulation")
def test_a_step_is_the_two_updates_by_hand(batch: DomainBatch) -> None:
    """Two steps of Algorithm 1 against SGD with momentum and Adam written out, on a model with unequal settings."""
    torch.manual_seed(1)
    config = CDLMConfig.of(latent=3, width=8, gamma1=0.8, gamma2=0.3, lambda1=0.01, lambda2=0.002, beta1=0.2, beta2=0.05,
                        reversal=0.7, lr_phi=0.02, momentum=0.8, lr_theta=0.002)
    model = CDLM(config).double()
    hand = copy.deepcopy(model)
    trainer = Trainer(model, 4)
    generator, again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    phi, rest = list(hand.encoder.parameters()), [*hand.decoder.parameters(), *hand.classifier.parameters(),
                                                  *hand.discriminator.parameters()]
    speed, first, second = [0.0] * len(phi), [0.0] * len(rest), [0.0] * len(rest)
    for k in range(2):
        reported = trainer.step(batch, generator)
        eps = draw_noise(hand, len(batch.x_s), again, torch.float64)
        loss = literal_losses(hand, batch, eps, reversal_strength(k / 4, 0.7))
        assert {name: value.item() for name, value in reported.items()} == pytest.approx(
            {name: value.item() for name, value in loss.items()}, rel=1e-9)
        assert not any(value.requires_grad for value in reported.values())
        for_phi = loss["adv"] + 0.01 * loss["kl"] + 0.002 * loss["rec"] + loss["task"]
        for_theta = loss["rec"] + loss["consistency"] + loss["task"]
        by_phi = torch.autograd.grad(for_phi, phi, retain_graph=True)
        by_rest = [*torch.autograd.grad(for_theta, rest[: -4], retain_graph=True), *torch.autograd.grad(for_phi, rest[-4:])]
        fall = 1 + k / 4 * (1e-3 - 1)                        # rates fall linearly to a thousandth
        with torch.no_grad():
            for i, (weight, g) in enumerate(zip(phi, by_phi)):
                speed[i] = 0.8 * speed[i] + g
                weight -= 0.02 * fall * speed[i]
            for i, (weight, g) in enumerate(zip(rest, by_rest)):
                first[i], second[i] = 0.9 * first[i] + 0.1 * g, 0.999 * second[i] + 0.001 * g**2
                scaled = first[i] / (1 - 0.9 ** (k + 1)) / ((second[i] / (1 - 0.999 ** (k + 1))).sqrt() + 1e-8)
                weight -= 0.002 * fall * scaled
        for a, b in zip((*model.encoder.parameters(), *model.decoder.parameters(), *model.classifier.parameters(),
                         *model.discriminator.parameters()), (*phi, *rest)):
            close(a.detach(), b.detach(), rtol=1e-6, atol=1e-9)
    assert trainer.done == 2


@pytest.mark.equation(18, 21, check="formula")
def test_the_costs_of_the_model_are_the_terms_of_equation_18(model: CDLM, batch: DomainBatch) -> None:
    s, t = model.encoder(batch.x_s), model.encoder(batch.x_t)
    images = generate(model.decoder, cross_codes(s, t, torch.Generator().manual_seed(0)))
    loss = cdlm_losses(model, batch, s, t, images, 1.0)
    objective = theory.source_objective(batch.x_s, images.x_hat_st, moments.code_kl(s, t), moments.code_kl(t, s))
    close(objective, -loss["rec"] - loss["kl"] - 392 * math.log(math.pi))


@pytest.mark.equation(21, check="formula")
def test_a_mean_is_a_sum_with_other_weights(batch: DomainBatch) -> None:
    torch.manual_seed(0)
    averaged = CDLM(CDLMConfig.of(latent=3, width=8, reduction="mean")).double()
    summed = CDLM(CDLMConfig.of(latent=3, width=8, lambda1=1e-4 / 3, lambda2=1e-4 / 784)).double()
    summed.load_state_dict(averaged.state_dict())
    found = []
    for model in (averaged, summed):
        for_phi, _ = objectives(losses_of(model, batch, 1.0, torch.Generator().manual_seed(0)), model.config)
        found.append(gradients(for_phi, model.encoder))
    close(*found)


def tiny_objectives() -> tuple:
    def for_phi(p, t):
        return TINY["adv"](p, t, 0.4) + 0.3 * TINY["kl"](p, t, 0) + 0.8 * TINY["rec"](p, t, 0)

    def for_theta(p, t):
        return TINY["rec"](p, t, 0) + TINY["consistency"](p, t, 0)
    return for_phi, for_theta


def test_simultaneous_and_alternating_updates_of_the_tiny_model() -> None:
    at = {updates.PHI: 0.7, updates.THETA: 1.3, updates.XI: 0.4, updates.LAMBDA1: 0.3, updates.LAMBDA2: 0.8, updates.ETA1: 0.05,
          updates.ETA2: 0.02}
    start = torch.tensor(0.7, dtype=torch.float64), torch.tensor(1.3, dtype=torch.float64)
    phi, theta = updates.simultaneous_updates(*start, *tiny_objectives(), 0.05, 0.02)
    close(phi.item(), tiny_update(updates.eq_21(), at))
    close(theta.item(), tiny_update(updates.eq_22(), at))
    phi, theta = updates.alternating_updates(*start, *tiny_objectives(), 0.05, 0.02)
    close(phi.item(), tiny_update(updates.eq_21(), at))
    close(theta.item(), tiny_update(updates.eq_22(), at | {updates.PHI: phi.item()}))
    phi, theta = updates.alternating_updates(*start, *tiny_objectives(), 0.05, 0.02, n_phi=2, n_theta=3)
    p, t = 0.7, 1.3
    for _ in range(2):
        p = tiny_update(updates.eq_21(), at | {updates.PHI: p})
    for _ in range(3):
        t = tiny_update(updates.eq_22(), at | {updates.PHI: p, updates.THETA: t})
    close(phi.item(), p)
    close(theta.item(), t)


def test_order_of_updates_is_a_product_of_the_rates() -> None:
    start = torch.tensor(0.7, dtype=torch.float64), torch.tensor(1.3, dtype=torch.float64)
    at = {updates.PHI: 0.7, updates.THETA: 1.3, updates.XI: 0.4, updates.LAMBDA1: 0.3, updates.LAMBDA2: 0.8, updates.ETA1: 2e-5,
          updates.ETA2: 1e-5}
    apart = updates.alternating_updates(*start, *tiny_objectives(), 2e-5, 1e-5)[1]
    at_once = updates.simultaneous_updates(*start, *tiny_objectives(), 2e-5, 1e-5)[1]
    assert (apart - at_once).item() == pytest.approx(tiny_update(updates.order_of_updates(), at), rel=1e-3)
