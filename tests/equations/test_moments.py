"""Equations 1-6: the modulated code, its exact moments, and the short forms with their errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import stats
from torch import Tensor
from torch.distributions import AffineTransform

from cdlm.model.codes import cross_codes
from cdlm.model.modulation import modulate
from cdlm.model.moments import (
    modulated_mean,
    modulated_sigma,
    modulated_variance,
    simplified_mean,
    simplified_mean_error,
    simplified_sigma,
    simplified_sigma_error,
)
from cdlm.model.networks import Encoded
from cdlm.theory import symbols as sy
from cdlm.theory.moments import eq_1, eq_2, eq_3, eq_4, eq_5, eq_6, expect_code, expect_two_moments

G1, G2 = 0.7, 0.3                                       # weights that are not the defaults
seeds, weights = st.integers(0, 10_000), st.floats(0.01, 3)
VARIANCE_4, MEAN_5 = eq_4().rhs, eq_5().rhs
ERROR_5 = eq_3().rhs - eq_5().rhs
ERROR_6 = sp.sqrt(eq_4().rhs) - eq_6().rhs


def draw(seed: int, *kinds: str, batch: int = 4, latent: int = 3) -> list[Tensor]:
    """Random (batch, latent) float64: "real", "positive" between about 0.1 and 8, or "unit" in (0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(len(kinds), batch, latent, generator=generator, dtype=torch.float64)
    forms = {"real": lambda x: x, "positive": lambda x: x.clamp(-2, 2).exp(), "unit": torch.sigmoid}
    return [forms[kind](x) for kind, x in zip(kinds, normal)]


def value(expression: sp.Expr, values: dict[sp.Symbol, Tensor | float]) -> Tensor:
    """A symbolic form, evaluated on tensors."""
    arrays = [np.asarray(v) for v in values.values()]
    found = sp.lambdify(list(values), expression, "numpy")(*arrays)
    return torch.from_numpy(np.broadcast_to(np.asarray(found, dtype=float), np.broadcast_shapes(*(a.shape for a in arrays))).copy())


def close(a: Tensor, b: Tensor, rtol: float = 1e-9, atol: float = 1e-9) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def gradients_agree(function: Callable[..., Tensor], expression: sp.Expr, values: dict[sp.Symbol, Tensor],
                    constants: dict[sp.Symbol, float]) -> None:
    """Automatic differentiation of ``function`` (of the values, in their order) against the symbolic derivatives."""
    inputs = [x.clone().requires_grad_() for x in values.values()]
    found = torch.autograd.grad(function(*inputs).sum(), inputs)
    for symbol, gradient in zip(values, found):
        close(gradient, value(sp.diff(expression, symbol), {**values, **constants}))


# Equation 1


@pytest.mark.equation(1, check="derivation")
def test_eq_1_is_what_the_paper_prints() -> None:
    printed = sy.mu_s + sy.sigma_s * (sy.gamma1 * sy.h_t + sy.gamma2 * sy.epsilon)
    assert eq_1().lhs == sy.z_st and sp.expand(eq_1().rhs - printed) == 0
    given_symbols = modulate(sy.mu_s, sy.sigma_s, sy.h_t, sy.epsilon, sy.gamma1, sy.gamma2)
    assert sp.expand(given_symbols - eq_1().rhs) == 0
    as_vae = eq_1().rhs.subs({sy.gamma1: 0, sy.gamma2: 1})
    assert as_vae == sy.mu_s + sy.sigma_s * sy.epsilon


@pytest.mark.equation(1, check="formula")
@given(seeds, weights, weights)
@settings(max_examples=20, deadline=None)
def test_modulate_computes_eq_1(seed: int, gamma1: float, gamma2: float) -> None:
    mu, sigma, h, eps = draw(seed, "real", "positive", "unit", "real")
    values = {sy.mu_s: mu, sy.sigma_s: sigma, sy.h_t: h, sy.epsilon: eps}
    close(modulate(mu, sigma, h, eps, gamma1, gamma2), value(eq_1().rhs, {**values, sy.gamma1: gamma1, sy.gamma2: gamma2}))
    close(modulate(mu, sigma, h, eps), value(eq_1().rhs, {**values, sy.gamma1: 1.0, sy.gamma2: 0.1}))


@pytest.mark.equation(1, check="gradient")
def test_gradients_of_eq_1() -> None:
    mu, sigma, h, eps = draw(1, "real", "positive", "unit", "real")
    values = {sy.mu_s: mu, sy.sigma_s: sigma, sy.h_t: h, sy.epsilon: eps}
    gradients_agree(lambda *v: modulate(*v, G1, G2), eq_1().rhs, values, {sy.gamma1: G1, sy.gamma2: G2})


@pytest.mark.equation(1, check="library")
def test_eq_1_against_the_affine_transform_of_torch() -> None:
    mu, sigma, h, eps = draw(2, "real", "positive", "unit", "real")
    close(modulate(mu, sigma, h, eps, G1, G2), AffineTransform(mu, sigma)(G1 * h + G2 * eps))


@pytest.mark.equation(1, 2, check="extremes")
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_codes_in_single_precision(scale: float) -> None:
    """At a tiny and at a huge deviation the single precision has the digits that it can have."""
    mu, sigma, h, eps = draw(3, "real", "positive", "unit", "real")
    exact = modulate(0 * mu, scale * sigma, h, eps, G1, G2)
    single = modulate(0 * mu.float(), (scale * sigma).float(), h.float(), eps.float(), G1, G2)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double() / scale, exact / scale, rtol=1e-5, atol=1e-6)


# Equation 2


@pytest.mark.equation(2, check="derivation")
def test_eq_2_is_what_the_paper_prints_and_eq_1_exchanged() -> None:
    printed = sy.mu_t + sy.sigma_t * (sy.gamma1 * sy.h_s + sy.gamma2 * sy.epsilon)
    assert eq_2().lhs == sy.z_ts and sp.expand(eq_2().rhs - printed) == 0
    back = {sy.z_ts: sy.z_st, sy.mu_t: sy.mu_s, sy.sigma_t: sy.sigma_s, sy.h_s: sy.h_t}
    assert eq_2().subs(back, simultaneous=True) == eq_1()


def encoded(seed: int) -> tuple[Encoded, Encoded]:
    values = draw(seed, *("real", "positive", "unit") * 2)
    return Encoded(*values[:3]), Encoded(*values[3:])


def four_noises(seed: int) -> list[Tensor]:
    """What ``cross_codes`` draws for its four codes, in their order."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(4)]


@pytest.mark.equation(1, 2, check="formula")
@pytest.mark.parametrize("weight", [(), (G1, G2)], ids=["defaults", "other weights"])
def test_cross_codes_computes_eqs_1_and_2(weight: tuple) -> None:
    (s, t), noise = encoded(4), four_noises(5)
    codes = cross_codes(s, t, torch.Generator().manual_seed(5), *weight)
    gamma1, gamma2 = weight or (1.0, 0.1)
    constants = {sy.gamma1: gamma1, sy.gamma2: gamma2}
    z_st = {sy.mu_s: s.mu, sy.sigma_s: s.sigma, sy.h_t: t.h, sy.epsilon: noise[0]}
    z_ts = {sy.mu_t: t.mu, sy.sigma_t: t.sigma, sy.h_s: s.h, sy.epsilon: noise[1]}
    close(codes.z_st, value(eq_1().rhs, {**z_st, **constants}))
    close(codes.z_ts, value(eq_2().rhs, {**z_ts, **constants}))
    for code, h, eps in ((codes.u_s, s.h, noise[2]), (codes.u_t, t.h, noise[3])):           # the prior's place, Eq. 1 at (0, 1)
        prior = {sy.mu_s: 0 * h, sy.sigma_s: 1 + 0 * h, sy.h_t: h, sy.epsilon: eps}
        close(code, value(eq_1().rhs, {**prior, **constants}))


@pytest.mark.equation(2, check="formula")
def test_modulate_computes_eq_2_with_its_defaults() -> None:
    mu, sigma, h, eps = draw(6, "real", "positive", "unit", "real")
    values = {sy.mu_t: mu, sy.sigma_t: sigma, sy.h_s: h, sy.epsilon: eps}
    close(modulate(mu, sigma, h, eps), value(eq_2().rhs, {**values, sy.gamma1: 1.0, sy.gamma2: 0.1}))
    close(modulate(mu, sigma, h, eps, G1, G2), value(eq_2().rhs, {**values, sy.gamma1: G1, sy.gamma2: G2}))


@pytest.mark.equation(2, check="gradient")
def test_gradients_of_eq_2_through_cross_codes() -> None:
    (s, t), noise = encoded(7), four_noises(8)
    values = {sy.mu_t: t.mu, sy.sigma_t: t.sigma, sy.h_s: s.h}

    def z_ts(mu: Tensor, sigma: Tensor, h: Tensor) -> Tensor:
        return cross_codes(s._replace(h=h), Encoded(mu, sigma, t.h), torch.Generator().manual_seed(8), G1, G2).z_ts

    gradients_agree(z_ts, eq_2().rhs, values, {sy.epsilon: noise[1], sy.gamma1: G1, sy.gamma2: G2})


# Equations 3 and 4


@pytest.mark.equation(3, 4, check="derivation")
def test_two_moments_give_what_the_paper_prints() -> None:
    mean = sy.mu_s + sy.gamma1 * sy.sigma_s * sy.mu_ht
    variance = sy.sigma_s**2 * (sy.gamma1**2 * sy.sigma_ht**2 + sy.gamma2**2)
    assert eq_3().lhs == sy.mu_st and sp.expand(eq_3().rhs - mean) == 0
    assert eq_4().lhs == sp.Function("Var")(sy.z_st) and sp.expand(eq_4().rhs - variance) == 0


@pytest.mark.equation(3, 4, check="derivation")
def test_integrating_over_a_normal_feature_gives_the_same() -> None:
    def normal(x: sp.Expr) -> sp.Expr:
        return sy.expect(sy.expect(x, sy.epsilon, 0, 1), sy.h_t, sy.mu_ht, sy.sigma_ht)
    mean = normal(eq_1().rhs)
    assert sp.expand(mean - eq_3().rhs) == 0
    assert sp.expand(normal((eq_1().rhs - mean) ** 2) - eq_4().rhs) == 0


@pytest.mark.equation(3, 4, check="derivation")
def test_a_skewed_feature_of_three_values_gives_the_same() -> None:
    """Counting, with no use of the two moments: the feature is 0, 1/4 or 1 with probabilities p, q and the rest."""
    p, q = sp.Rational(1, 2), sp.Rational(1, 3)
    points = {sp.Integer(0): p, sp.Rational(1, 4): q, sp.Integer(1): 1 - p - q}
    m = sum(w * h for h, w in points.items())
    d = sp.sqrt(sum(w * (h - m) ** 2 for h, w in points.items()))

    def counted(x: sp.Expr) -> sp.Expr:
        inner = sy.expect(x, sy.epsilon, 0, 1)
        return sp.expand(sum(w * inner.subs(sy.h_t, h) for h, w in points.items()))
    mean = counted(eq_1().rhs)
    moments = {sy.mu_ht: m, sy.sigma_ht: d}
    assert sp.expand(mean - eq_3().rhs.subs(moments)) == 0
    assert sp.expand(counted((eq_1().rhs - mean) ** 2) - eq_4().rhs.subs(moments)) == 0


@pytest.mark.equation(3, 4, check="derivation")
def test_two_moments_do_not_determine_a_third() -> None:
    with pytest.raises(ValueError, match="do not determine"):
        expect_code(sy.h_t**3)
    with pytest.raises(ValueError, match="two moments of h_t"):
        expect_two_moments(sy.h_t**3, sy.h_t, sy.mu_ht, sy.sigma_ht)
    assert expect_two_moments(sp.Integer(7), sy.h_t, sy.mu_ht, sy.sigma_ht) == 7


@pytest.mark.equation(3, 4, check="library")
def test_random_variables_of_sympy_agree() -> None:
    h, eps = stats.Normal("h", sy.mu_ht, sy.sigma_ht), stats.Normal("eps", 0, 1)
    code = eq_1().rhs.subs({sy.h_t: h, sy.epsilon: eps})
    assert sp.expand(stats.E(code) - eq_3().rhs) == 0
    assert sp.simplify(stats.variance(code) - eq_4().rhs) == 0


@pytest.mark.equation(3, check="formula")
@given(seeds, weights)
@settings(max_examples=20, deadline=None)
def test_modulated_mean_computes_eq_3(seed: int, gamma1: float) -> None:
    mu, sigma, mu_h = draw(seed, "real", "positive", "real")
    values = {sy.mu_s: mu, sy.sigma_s: sigma, sy.mu_ht: mu_h}
    close(modulated_mean(mu, sigma, mu_h, gamma1), value(eq_3().rhs, {**values, sy.gamma1: gamma1}))
    close(modulated_mean(mu, sigma, mu_h), value(eq_3().rhs, {**values, sy.gamma1: 1.0}))
    close(modulated_mean(mu, sigma, mu_h[0]), modulated_mean(mu, sigma, mu_h[:1].expand(4, 3)))      # (latent,) for all


@pytest.mark.equation(4, check="formula")
@given(seeds, weights, weights)
@settings(max_examples=20, deadline=None)
def test_modulated_variance_and_sigma_compute_eq_4(seed: int, gamma1: float, gamma2: float) -> None:
    sigma, sigma_h = draw(seed, "positive", "positive")
    values = {sy.sigma_s: sigma, sy.sigma_ht: sigma_h}
    for given_weights, (g1, g2) in (((gamma1, gamma2), (gamma1, gamma2)), ((), (1.0, 0.1))):
        expected = value(VARIANCE_4, {**values, sy.gamma1: g1, sy.gamma2: g2})
        close(modulated_variance(sigma, sigma_h, *given_weights), expected)
        close(modulated_sigma(sigma, sigma_h, *given_weights), expected.sqrt())
    close(modulated_sigma(sigma, sigma_h[0]), modulated_sigma(sigma, sigma_h[:1].expand(4, 3)))


@pytest.mark.equation(3, check="gradient")
def test_gradients_of_eq_3() -> None:
    mu, sigma, mu_h = draw(10, "real", "positive", "real")
    values = {sy.mu_s: mu, sy.sigma_s: sigma, sy.mu_ht: mu_h}
    gradients_agree(lambda *v: modulated_mean(*v, G1), eq_3().rhs, values, {sy.gamma1: G1})


@pytest.mark.equation(4, check="gradient")
def test_gradients_of_eq_4() -> None:
    sigma, sigma_h = draw(11, "positive", "positive")
    values, constants = {sy.sigma_s: sigma, sy.sigma_ht: sigma_h}, {sy.gamma1: G1, sy.gamma2: G2}
    gradients_agree(lambda *v: modulated_variance(*v, G1, G2), VARIANCE_4, values, constants)
    gradients_agree(lambda *v: modulated_sigma(*v, G1, G2), sp.sqrt(VARIANCE_4), values, constants)


def sigmoid_moments(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of sigmoid(a + b n), n standard normal, by Gauss-Hermite quadrature."""
    nodes, weight = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(80))
    h, w = torch.sigmoid(a[:, None] + b[:, None] * nodes), weight / weight.sum()
    mean = (w * h).sum(1)
    return mean, (w * (h - mean[:, None]) ** 2).sum(1).sqrt()


@pytest.mark.equation(3, 4, check="simulation")
@pytest.mark.parametrize("kind", ["normal", "sigmoid of normal"])
def test_codes_drawn_by_modulate_have_these_moments(kind: str) -> None:
    """Within five standard errors in each of three coordinates, for a normal feature and for one as in the model."""
    count, generator = 200_000, torch.Generator().manual_seed(12)
    a, b = torch.tensor([[0.3, -1.0, 2.0], [0.5, 2.0, 1.0]], dtype=torch.float64)
    mu, sigma = torch.tensor([[1.0, -2.0, 0.0], [0.4, 1.5, 3.0]], dtype=torch.float64)
    h = a + b * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    mu_h, sigma_h = a, b
    if kind != "normal":
        h, (mu_h, sigma_h) = h.sigmoid(), sigmoid_moments(a, b)
    z = modulate(mu, sigma, h, torch.randn(count, 3, generator=generator, dtype=torch.float64), G1, G2)
    squares = (z - z.mean(0)) ** 2
    assert ((z.mean(0) - modulated_mean(mu, sigma, mu_h, G1)).abs() < 5 * z.std(0) / count**0.5).all()
    errors = 5 * squares.std(0) / count**0.5
    assert ((squares.mean(0) - modulated_variance(sigma, sigma_h, G1, G2)).abs() < errors).all()
    assert ((squares.mean(0) - modulated_sigma(sigma, sigma_h, G1, G2) ** 2).abs() < errors).all()


@pytest.mark.equation(3, 4, check="simulation")
def test_every_case_of_a_small_world() -> None:
    """Five equally likely features and a noise of two values, both enumerated: no sampling error at all."""
    mu, sigma = torch.tensor(0.7, dtype=torch.float64), torch.tensor(1.3, dtype=torch.float64)
    h = torch.tensor([0.0, 0.1, 0.15, 0.8, 0.9], dtype=torch.float64)
    z = modulate(mu, sigma, h[:, None], torch.tensor([-1.0, 1.0], dtype=torch.float64), G1, G2)      # (5, 2)
    close(z.mean(), modulated_mean(mu, sigma, h.mean(), G1))
    close(z.var(correction=0), modulated_variance(sigma, h.std(correction=0), G1, G2))


@pytest.mark.equation(4, check="simulation")
def test_a_noise_that_knows_the_feature_breaks_eq_4() -> None:
    h = torch.tensor([0.0, 1.0], dtype=torch.float64)
    z = modulate(0.0, 1.0, h, 2 * h - 1, 1.0, 0.5)
    assert z.var(correction=0) > modulated_variance(torch.tensor(1.0), h.std(correction=0), 1.0, 0.5) + 0.4


@pytest.mark.equation(4, check="extremes")
def test_the_deviation_does_not_square_what_it_cannot_square() -> None:
    tiny = torch.tensor([1e-30, 1e30], dtype=torch.float32)
    assert torch.equal(modulated_sigma(torch.ones(2), tiny, 1.0, 0.0), tiny)
    for dtype, digits in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        sigma_h = torch.tensor([1e-25, 3e-5, 4.0, 1e25], dtype=dtype)
        exact = torch.tensor([0.1, 0.1 * (1 + 4.5e-8), 4.0012498, 1e25], dtype=torch.float64)
        found = modulated_sigma(torch.ones(4, dtype=dtype), sigma_h).double()
        assert ((found / exact - 1).abs() < max(digits, 2e-8)).all()


@pytest.mark.equation(3, check="extremes")
def test_the_mean_in_single_precision() -> None:
    mu, sigma, mu_h = draw(13, "real", "positive", "unit")
    for scale in (1e-20, 1e20):
        single = modulated_mean((scale * mu).float(), (scale * sigma).float(), mu_h.float(), G1)
        torch.testing.assert_close(single.double() / scale, modulated_mean(mu, sigma, mu_h, G1), rtol=1e-5, atol=1e-6)


# Equation 5


@pytest.mark.equation(5, check="derivation")
def test_eq_5_is_eq_3_with_two_substitutions_and_what_the_paper_prints() -> None:
    assert eq_5().lhs == sy.mu_st and sp.expand(eq_5().rhs - (sy.mu_s + sy.gamma1 * sy.mu_t)) == 0
    assert sp.expand(eq_3().rhs.subs({sy.sigma_s: 1, sy.mu_ht: sy.mu_t}) - eq_5().rhs) == 0
    other = eq_5().rhs.subs({sy.mu_s: sy.mu_t, sy.mu_t: sy.mu_s}, simultaneous=True)
    assert sp.expand(eq_5().rhs - other - (1 - sy.gamma1) * (sy.mu_s - sy.mu_t)) == 0


@pytest.mark.equation(5, check="formula")
@given(seeds, weights)
@settings(max_examples=20, deadline=None)
def test_simplified_mean_computes_eq_5(seed: int, gamma1: float) -> None:
    mu_s, mu_t, sigma_s = draw(seed, "real", "real", "positive")
    values = {sy.mu_s: mu_s, sy.mu_t: mu_t}
    close(simplified_mean(mu_s, mu_t, gamma1), value(MEAN_5, {**values, sy.gamma1: gamma1}))
    close(simplified_mean(mu_s, mu_t), value(MEAN_5, {**values, sy.gamma1: 1.0}))
    kept = value(eq_3().rhs, {sy.mu_s: mu_s, sy.mu_ht: mu_t, sy.sigma_s: sigma_s, sy.gamma1: gamma1})
    close(simplified_mean(mu_s, mu_t, gamma1, sigma_s), kept)                      # the reading that drops no sigma


@pytest.mark.equation(5, check="gradient")
def test_gradients_of_eq_5_and_its_error() -> None:
    mu_s, mu_t, sigma_s, mu_h = draw(14, "real", "real", "positive", "real")
    constants = {sy.gamma1: G1}
    gradients_agree(lambda *v: simplified_mean(*v, G1), MEAN_5, {sy.mu_s: mu_s, sy.mu_t: mu_t}, constants)
    values = {sy.mu_t: mu_t, sy.sigma_s: sigma_s, sy.mu_ht: mu_h}
    gradients_agree(lambda *v: simplified_mean_error(*v, G1), sp.expand(ERROR_5), values, constants)


@pytest.mark.equation(5, check="error")
@given(seeds, weights)
@settings(max_examples=20, deadline=None)
def test_error_of_eq_5(seed: int, gamma1: float) -> None:
    mu_s, mu_t, sigma_s, mu_h = draw(seed, "real", "real", "positive", "real")
    values = {sy.mu_t: mu_t, sy.sigma_s: sigma_s, sy.mu_ht: mu_h}
    for weight, g1 in (((gamma1,), gamma1), ((), 1.0)):
        error = simplified_mean_error(mu_t, sigma_s, mu_h, *weight)
        close(error, value(sp.expand(ERROR_5), {**values, sy.gamma1: g1}))
        close(error, modulated_mean(mu_s, sigma_s, mu_h, g1) - simplified_mean(mu_s, mu_t, g1))
    assert not simplified_mean_error(mu_t, torch.ones_like(mu_t), mu_t, gamma1).any()


@pytest.mark.equation(5, check="error")
def test_the_error_of_eq_5_has_two_causes() -> None:
    by_feature = sy.gamma1 * sy.sigma_s * (sy.mu_ht - sy.mu_t)
    by_factor = sy.gamma1 * (sy.sigma_s - 1) * sy.mu_t
    assert sp.expand(ERROR_5 - by_feature - by_factor) == 0


@pytest.mark.equation(5, check="extremes")
def test_the_error_of_eq_5_does_not_cancel_its_two_causes() -> None:
    """A wide code and a weak feature: the two causes are huge and nearly opposite, their sum is not."""
    for sigma, mu_h, mu_t in ((1e8, 1e-8, 0.5), (3e7, -2e-8, 1.5), (1e30, 1e-30, 0.25), (1e-30, 1e30, -0.25)):
        single = simplified_mean_error(*(torch.tensor([v]) for v in (mu_t, sigma, mu_h)), G1)
        assert single.dtype == torch.float32 and single.item() == pytest.approx(G1 * (sigma * mu_h - mu_t), rel=1e-5)


# Equation 6


@pytest.mark.equation(6, check="derivation")
def test_eq_6_is_the_root_of_eq_4_and_what_the_paper_prints() -> None:
    assert eq_6().lhs == sy.sigma_st and eq_6().rhs == sy.gamma1 * sy.sigma_s * sy.sigma_t
    assert sp.expand(eq_6().rhs**2 - eq_4().rhs.subs({sy.sigma_ht: sy.sigma_t, sy.gamma2: 0})) == 0


@pytest.mark.equation(6, check="formula")
@given(seeds, weights)
@settings(max_examples=20, deadline=None)
def test_simplified_sigma_computes_eq_6(seed: int, gamma1: float) -> None:
    sigma_s, sigma_t = draw(seed, "positive", "positive")
    values = {sy.sigma_s: sigma_s, sy.sigma_t: sigma_t}
    close(simplified_sigma(sigma_s, sigma_t, gamma1), value(eq_6().rhs, {**values, sy.gamma1: gamma1}))
    close(simplified_sigma(sigma_s, sigma_t), value(eq_6().rhs, {**values, sy.gamma1: 1.0}))
    close(simplified_sigma(1.0, sigma_t, gamma1), gamma1 * sigma_t)                # the reading that drops sigma_s


@pytest.mark.equation(6, check="gradient")
def test_gradients_of_eq_6_and_its_error() -> None:
    sigma_s, sigma_t, sigma_h = draw(15, "positive", "positive", "positive")
    constants = {sy.gamma1: G1, sy.gamma2: G2}
    gradients_agree(lambda *v: simplified_sigma(*v, G1), eq_6().rhs, {sy.sigma_s: sigma_s, sy.sigma_t: sigma_t}, constants)
    values = {sy.sigma_s: sigma_s, sy.sigma_t: sigma_t, sy.sigma_ht: sigma_h}
    gradients_agree(lambda *v: simplified_sigma_error(*v, G1, G2), ERROR_6, values, constants)


@pytest.mark.equation(6, check="error")
@given(seeds, weights, weights)
@settings(max_examples=20, deadline=None)
def test_error_of_eq_6(seed: int, gamma1: float, gamma2: float) -> None:
    sigma_s, sigma_t, sigma_h = draw(seed, "positive", "positive", "positive")
    values = {sy.sigma_s: sigma_s, sy.sigma_t: sigma_t, sy.sigma_ht: sigma_h}
    for weight, (g1, g2) in (((gamma1, gamma2), (gamma1, gamma2)), ((), (1.0, 0.1))):
        error = simplified_sigma_error(sigma_s, sigma_t, sigma_h, *weight)
        close(error, value(ERROR_6, {**values, sy.gamma1: g1, sy.gamma2: g2}), rtol=1e-8)
        close(error, modulated_sigma(sigma_s, sigma_h, g1, g2) - simplified_sigma(sigma_s, sigma_t, g1), rtol=1e-8)
    noise_only = simplified_sigma_error(sigma_s, sigma_t, sigma_t, gamma1, gamma2)
    slack = 1 + 1e-12
    assert (noise_only > 0).all() and (noise_only <= slack * gamma2 * sigma_s).all()
    assert (noise_only <= slack * gamma2**2 * sigma_s / (2 * gamma1 * sigma_t)).all()
    assert not simplified_sigma_error(sigma_s, sigma_t, sigma_t, gamma1, 0.0).any()


@pytest.mark.equation(6, check="error")
def test_a_sigmoid_cannot_have_the_deviation_that_eqs_6_and_8_ask_for() -> None:
    """sigma_h <= 1/2, so that at sigma_t = 1 Eq. 6 is at least 1.9 times too large at the paper's weights."""
    m = sp.Symbol("m", real=True)
    assert sp.factor(sp.Rational(1, 4) - (m - m**2)) == (2 * m - 1) ** 2 / 4
    one, most = torch.ones(1, dtype=torch.float64), torch.full((1,), 0.5, dtype=torch.float64)
    assert simplified_sigma(one, one) / modulated_sigma(one, most) > 1.9


@pytest.mark.equation(6, check="extremes")
def test_the_error_of_eq_6_keeps_its_digits() -> None:
    """Where the plain difference is zero in single precision, and at deviations of both extremes."""
    one = torch.ones(1)
    plain = modulated_sigma(one, one, 1.0, 1e-4) - simplified_sigma(one, one, 1.0)
    error = simplified_sigma_error(one, one, one, 1.0, 1e-4)
    assert plain.item() == 0 and abs(error.item() / 5e-9 - 1) < 1e-6
    for scale in (1e-12, 1e12):
        s, a, b = draw(16, "positive", "positive", "positive")
        single = simplified_sigma_error(s.float(), (scale * a).float(), (scale * b).float(), G1, 0.0)
        torch.testing.assert_close(single.double() / scale, G1 * s * (b - a), rtol=1e-4, atol=1e-6)


@pytest.mark.equation(6, check="extremes")
def test_the_error_of_eq_6_where_squares_overflow_or_vanish() -> None:
    """Deviations of 1e-25 and 1e25, of which the squares do not exist in single precision; and nearly equal ones."""
    one = torch.ones(1)
    for scale in (1e-25, 1e25):
        assert (scale * one).square().item() in (0, math.inf)
        wide = simplified_sigma_error(one, scale * one, 3 * scale * one, G1, 0.0)
        assert wide.item() == pytest.approx(2 * G1 * scale, rel=1e-5, abs=0)
        noise = simplified_sigma_error(one, scale * one, scale * one, 1.0, scale)
        assert noise.item() == pytest.approx((math.sqrt(2) - 1) * scale, rel=1e-5, abs=0)
    assert simplified_sigma_error(one, 1e-25 * one, 1e-25 * one).item() == pytest.approx(0.1, rel=1e-5)
    near = torch.nextafter(1.7 * one, 2 * one)
    found = simplified_sigma_error(one, 1.7 * one, near, 1.0, 0.0)
    assert found.item() == pytest.approx((near.double() - (1.7 * one).double()).item(), rel=1e-5, abs=0)
