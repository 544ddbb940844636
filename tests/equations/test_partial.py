"""Eqs. 11-15: partial modulation PM1 and PM2, and what they do to the divergence between two codes."""

import math

import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as torch_kl

from cdlm.model.modulation import modulate, modulate_pm1, modulate_pm2, reparameterize
from cdlm.theory import partial
from cdlm.theory.symbols import epsilon, expect, h_s, h_t, mu_s, mu_t, sigma_s, sigma_t, z_st, z_ts

FOUR = (mu_s, sigma_s, mu_t, sigma_t)
DIVERGENCES = {
    partial.pm1_kl: lambda: partial.eq_12()[0].rhs,
    partial.symmetric_kl: lambda: partial.eq_13()[0].rhs,
    partial.symmetric_kl_bound: lambda: partial.symmetric_by_gap()[0] * (mu_s - mu_t) ** 2,
    partial.pm1_reduction: lambda: partial.eq_14().rhs - partial.eq_14().lhs,
    partial.pm2_kl: lambda: partial.kl_from_densities()(mu_s, sigma_t, mu_t, sigma_s),
}
NUMBERS = {
    partial.pm1_kl: 12,
    partial.symmetric_kl: 13,
    partial.symmetric_kl_bound: 13,
    partial.pm1_reduction: 14,
    partial.pm2_kl: 15,
}
seeds = st.integers(0, 10_000)


def for_equation(number: int, check: str):
    """Parametrize over the divergences of one equation, and mark the test."""

    def mark(test):
        functions = [function for function, of in NUMBERS.items() if of == number]
        test = pytest.mark.parametrize("function", functions, ids=lambda function: function.__name__)(test)
        return pytest.mark.equation(number, check=check)(test)

    return mark


def codes(seed: int, batch: int = 7, latent: int = 3) -> tuple[torch.Tensor, ...]:
    """Random mu_s, sigma_s, mu_t, sigma_t, (batch, latent) each, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    m_s, m_t, log_s, log_t = torch.randn(4, batch, latent, generator=generator, dtype=torch.float64)
    return m_s, log_s.exp(), m_t, log_t.exp()


def plain(m_s, d_s, m_t, d_t) -> torch.Tensor:
    """KL(s || t) by PyTorch, (batch,)."""
    return torch_kl(Independent(Normal(m_s, d_s), 1), Independent(Normal(m_t, d_t), 1))


def by_sympy(expression: sp.Expr, *values: torch.Tensor, names=FOUR) -> torch.Tensor:
    return torch.as_tensor(sp.lambdify(names, expression, "numpy")(*(value.numpy() for value in values)))


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# The integral that all derivations use


@pytest.mark.equation(12, 13, 14, 15, check="derivation")
def test_the_divergence_is_integrated_and_not_quoted():
    """Nonnegative, zero for equal arguments, invariant under a shift and a scaling, and of the known value at one point."""
    kl = partial.kl_from_densities()
    shift, scale = sp.Symbol("shift", real=True), sp.Symbol("scale", positive=True)
    assert kl(mu_s, sigma_s, mu_s, sigma_s) == 0
    moved = kl(shift + scale * mu_s, scale * sigma_s, shift + scale * mu_t, scale * sigma_t)
    assert sp.simplify(sp.expand_log(sp.expand(moved - kl(*FOUR)))) == 0
    assert kl(0, 1, 3, 2) == sp.log(2) + sp.Rational(9 + 1, 8) - sp.Rational(1, 2)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_the_divergence_against_pytorch(seed):
    values = codes(seed)
    close(by_sympy(partial.kl_from_densities()(*FOUR), *values).sum(1), plain(*values))


# Equations 11 and 15: the maps


@pytest.mark.equation(11, check="derivation")
def test_pm1_moments_by_integration():
    for statement, code, mean in zip(partial.eq_11(), (z_st, z_ts), (mu_s, mu_t)):
        assert statement.lhs == code
        assert expect(statement.rhs, epsilon, 0, 1) == mean
        variance = expect((statement.rhs - mean) ** 2, epsilon, 0, 1)
        assert sp.expand(variance - (sigma_s + sigma_t) ** 2 / 4) == 0
        assert not statement.rhs.free_symbols & {h_s, h_t}  # the printed argument that is not used


@pytest.mark.equation(15, check="derivation")
def test_pm2_moments_by_integration():
    for statement, code, mean, spread in zip(partial.eq_15(), (z_st, z_ts), (mu_s, mu_t), (sigma_t, sigma_s)):
        assert statement.lhs == code
        assert expect(statement.rhs, epsilon, 0, 1) == mean
        assert expect((statement.rhs - mean) ** 2, epsilon, 0, 1) == spread**2


@pytest.mark.equation(11, 15, check="derivation")
def test_pm1_is_half_way_between_the_plain_code_and_pm2():
    for pm1, pm2, vae in zip(partial.eq_11(), partial.eq_15(), (mu_s + sigma_s * epsilon, mu_t + sigma_t * epsilon)):
        assert sp.expand(pm1.rhs - (vae + pm2.rhs) / 2) == 0


@pytest.mark.equation(11, 15, check="formula")
def test_maps_against_sympy():
    m_s, d_s, m_t, d_t = values = codes(0)
    eps = torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    names = (*FOUR, epsilon)
    st_1, ts_1 = (by_sympy(eq.rhs, *values, eps, names=names) for eq in partial.eq_11())
    st_2, ts_2 = (by_sympy(eq.rhs, *values, eps, names=names) for eq in partial.eq_15()[:2])
    close(modulate_pm1(m_s, d_s, d_t, eps), st_1)
    close(modulate_pm1(m_t, d_t, d_s, eps), ts_1)
    close(modulate_pm2(m_s, d_t, eps), st_2)
    close(modulate_pm2(m_t, d_s, eps), ts_2)


@pytest.mark.equation(11, 15, check="gradient")
def test_gradients_of_the_maps():
    values = [value.requires_grad_() for value in codes(2)]
    m_s, d_s, _, d_t = values
    eps = torch.randn(7, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    names = (*FOUR, epsilon)
    maps = ((modulate_pm1(m_s, d_s, d_t, eps), partial.eq_11()[0]), (modulate_pm2(m_s, d_t, eps), partial.eq_15()[0]))
    for code, statement in maps:
        found = torch.autograd.grad(code.sum(), values, materialize_grads=True, allow_unused=True)
        for name, gradient in zip(FOUR, found):
            slope = by_sympy(sp.diff(statement.rhs, name), *(value.detach() for value in values), eps, names=names)
            close(gradient, slope.to(gradient).expand_as(gradient))


@pytest.mark.equation(11, 15, check="simulation")
def test_codes_have_the_distribution_that_the_divergences_are_of():
    """Mean, variance and fourth moment within five standard errors."""
    m_s, d_s, _, d_t = (value[0] for value in codes(4))
    eps = torch.randn(400_000, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for code, spread in ((modulate_pm1(m_s, d_s, d_t, eps), (d_s + d_t) / 2), (modulate_pm2(m_s, d_t, eps), d_t)):
        for power, moment, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
            standard = ((code - m_s) / spread) ** power
            assert ((standard.mean(0) - moment).abs() < 5 * math.sqrt(variance / len(eps))).all()


@pytest.mark.equation(11, 15, check="extremes")
@pytest.mark.parametrize("spread", [1e-30, 1e-6, 1e6, 1e30])
def test_maps_in_single_precision(spread):
    m_s, d_s, _, d_t = codes(6)
    eps = torch.randn(7, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    for rule, four in ((modulate_pm1, (m_s, spread * d_s, d_t / spread, eps)), (modulate_pm2, (m_s, spread * d_t, eps))):
        single = rule(*(value.float() for value in four))
        torch.testing.assert_close(single, rule(*four).float(), rtol=1e-5, atol=1e-5)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_equal_spreads_make_both_maps_the_plain_vae(seed):
    """What Eq. 8 assumes. Full modulation without its message is the same code again."""
    m_s, d_s, eps, _ = codes(seed)
    vae = reparameterize(m_s, d_s, eps)
    close(modulate_pm1(m_s, d_s, d_s, eps), vae)
    assert torch.equal(modulate_pm2(m_s, d_s, eps), vae)
    close(modulate(m_s, d_s, torch.zeros_like(eps), eps, gamma2=1.0), vae)


# Equation 12 and its chain


@pytest.mark.equation(12, check="derivation")
def test_eq_12_is_what_the_paper_prints_in_both_directions():
    printed = sp.Rational(1, 2) * 4 * ((mu_s - mu_t) / (sigma_s + sigma_t)) ** 2
    for statement in partial.eq_12():
        assert sp.simplify(statement.rhs - printed) == 0
    assert [statement.lhs for statement in partial.eq_12()] == [partial.pair_symbol(*pair) for pair in (("st", "ts"), ("ts", "st"))]


@pytest.mark.equation(12, check="derivation")
def test_chain_of_inequalities_is_a_chain_of_squares():
    """Each difference is (sigma_s - sigma_t)^2 times something positive, and the last one is zero."""
    terms = partial.spread_chain()
    root = sigma_s * sigma_t
    printed = (4 / (sigma_s + sigma_t) ** 2, 1 / root, (sigma_s**2 + sigma_t**2) / (2 * root**2))
    assert all(sp.simplify(term - expected) == 0 for term, expected in zip(terms, printed))
    assert sp.simplify(terms[3] - (1 / sigma_s**2 + 1 / sigma_t**2) / 2) == 0
    for smaller, larger in zip(terms[:2], terms[1:3]):
        factor = sp.cancel(partial.proved_nonnegative(larger - smaller) / (sigma_s - sigma_t) ** 2)
        assert sp.factor(factor).is_positive
    assert partial.proved_nonnegative(terms[3] - terms[2]) == 0


@pytest.mark.equation(12, 13, 14, check="derivation")
@pytest.mark.parametrize("false", [-((sigma_s - sigma_t) ** 2), sigma_s - sigma_t, sigma_s**2 - sigma_s * sigma_t + mu_s])
def test_what_is_not_proved_is_refused(false):
    with pytest.raises(ValueError, match="do not show"):
        partial.proved_nonnegative(false)


@pytest.mark.equation(13, 14, check="derivation")
@pytest.mark.parametrize("other", [mu_s - mu_t, mu_s**2, (mu_s - mu_t) ** 4, mu_s * mu_t])
def test_what_does_not_depend_on_the_squared_gap_is_refused(other):
    with pytest.raises(ValueError, match="squared gap"):
        partial.by_gap(other + sigma_s)
    assert partial.by_gap(3 * (mu_s - mu_t) ** 2 + sigma_t) == (3, sigma_t)


# Equation 13


@pytest.mark.equation(13, check="derivation")
def test_eq_13_against_the_printed_form():
    """The printed logarithms have half the factor that is derived, and cancel."""
    kl, (identity, dropped) = partial.kl_from_densities(), partial.eq_13()
    assert kl(*FOUR).coeff(sp.log(sigma_t)) == 1 and kl(mu_t, sigma_t, mu_s, sigma_s).coeff(sp.log(sigma_t)) == -1
    printed_log = sp.log(sigma_t / sigma_s) / 2
    for ratio in (sigma_t / sigma_s, sigma_s / sigma_t):
        assert sp.expand(partial.printed_eq_13(), log=False).coeff(sp.log(ratio)) == sp.Rational(1, 2)
    assert identity.lhs == partial.pair_symbol("s", "t") + partial.pair_symbol("t", "s")
    assert sp.expand_log(printed_log).coeff(sp.log(sigma_t)) == sp.Rational(1, 2)
    both = kl(*FOUR) + kl(mu_t, sigma_t, mu_s, sigma_s)
    for form in (partial.printed_eq_13(), identity.rhs):
        assert sp.simplify(sp.expand_log(sp.expand(both - form))) == 0
    assert isinstance(dropped, sp.Ge) and dropped.rhs == 0
    printed_bound = (mu_s - mu_t) ** 2 * (1 / sigma_s**2 + 1 / sigma_t**2) / 2
    assert sp.simplify(identity.rhs - dropped.lhs - printed_bound) == 0


@pytest.mark.equation(13, check="derivation")
def test_bound_of_eq_13_is_attained_where_spreads_are_equal_and_nowhere_else():
    dropped = partial.proved_nonnegative(partial.eq_13()[1].lhs)
    assert sp.simplify(dropped - (sigma_s / sigma_t - sigma_t / sigma_s) ** 2 / 2) == 0
    assert sp.factor(sp.cancel(dropped / (sigma_s - sigma_t) ** 2)).is_positive


# Equation 14


@pytest.mark.equation(14, check="derivation")
def test_eq_14_compares_the_sums_of_eq_12_and_eq_13():
    kl, statement = partial.kl_from_densities(), partial.eq_14()
    assert isinstance(statement, sp.Le)
    before = kl(*FOUR) + kl(mu_t, sigma_t, mu_s, sigma_s)
    assert sp.simplify(sp.expand_log(sp.expand(statement.rhs - before))) == 0
    assert sp.simplify(statement.lhs - sum(eq.rhs for eq in partial.eq_12())) == 0


@pytest.mark.equation(14, check="derivation")
def test_eq_14_is_strict_unless_spreads_are_equal():
    """Both coefficients have (sigma_s - sigma_t)^2 as a factor and are positive without it, for any means."""
    for coefficient in partial.pm1_reduction_by_gap():
        assert sp.factor(sp.cancel(coefficient / (sigma_s - sigma_t) ** 2)).is_positive
    assert partial.eq_14().rhs.subs(sigma_t, sigma_s) == partial.eq_14().lhs.subs(sigma_t, sigma_s)
    at_equal_means = (partial.eq_14().rhs - partial.eq_14().lhs).subs(mu_t, mu_s)
    assert sp.simplify(at_equal_means - (sigma_s / sigma_t - sigma_t / sigma_s) ** 2 / 2) == 0


@pytest.mark.equation(14, check="simulation")
def test_a_single_direction_can_grow_but_less_than_fourfold():
    four = [torch.tensor([[value]], dtype=torch.float64) for value in (0, 1, 3, 2)]
    assert plain(*four).item() == pytest.approx(1.4431, abs=1e-4) and partial.pm1_kl(*four).item() == pytest.approx(2)
    values = codes(8, batch=100_000, latent=1)
    growth = partial.pm1_kl(*values) / plain(*values)
    assert 1 < growth.max() < 4 and ((partial.pm1_kl(*values) < plain(*values)) | (values[3] > values[1]).squeeze()).all()
    far = [torch.tensor([[value]], dtype=torch.float64) for value in (0, 1, 1e9, 1e4)]
    assert 3.999 < partial.pm1_kl(*far) / plain(*far) < 4


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_not_both_directions_grow(seed):
    values = codes(seed)
    after = partial.pm1_kl(*values)
    assert ((after < plain(*values)) | (after < plain(*values[2:], *values[:2]))).all()


# Equation 15


@pytest.mark.equation(15, check="derivation")
def test_pm2_exchanges_the_two_divergences_and_preserves_only_their_sum():
    kl = partial.kl_from_densities()
    after, before = kl(mu_s, sigma_t, mu_t, sigma_s), kl(*FOUR)
    assert [statement.rhs for statement in partial.eq_15()[2:]] == [0, 0]
    assert partial.eq_15()[2].lhs == partial.pair_symbol("st", "ts") - partial.pair_symbol("t", "s")
    assert partial.eq_15()[3].lhs == partial.pair_symbol("ts", "st") - partial.pair_symbol("s", "t")
    assert sp.expand(after - kl(mu_t, sigma_t, mu_s, sigma_s)) == 0
    assert sp.simplify(after - before) != 0
    total = after + kl(mu_t, sigma_s, mu_s, sigma_t)
    assert sp.simplify(sp.expand_log(sp.expand(total - partial.eq_13()[0].rhs))) == 0


@pytest.mark.equation(15, check="library")
@given(seeds)
@settings(max_examples=20, deadline=None)
def test_pm2_against_pytorch(seed):
    m_s, d_s, m_t, d_t = codes(seed)
    close(partial.pm2_kl(m_s, d_s, m_t, d_t), plain(m_s, d_t, m_t, d_s))
    close(partial.pm2_kl(m_s, d_s, m_t, d_t), plain(m_t, d_t, m_s, d_s))
    close(partial.pm2_kl(m_t, d_t, m_s, d_s), plain(m_s, d_s, m_t, d_t))


@pytest.mark.equation(15, check="simulation")
def test_pm2_divergence_by_drawing_codes():
    m_s, d_s, m_t, d_t = (value[:1] for value in codes(9))
    eps = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(10), dtype=torch.float64)
    code = modulate_pm2(m_s, d_t, eps)
    ratios = (Normal(m_s, d_t).log_prob(code) - Normal(m_t, d_s).log_prob(code)).sum(1)
    assert (ratios.mean() - partial.pm2_kl(m_s, d_s, m_t, d_t)).abs() < 5 * ratios.std() / math.sqrt(len(eps))


# What the divergences have in common, equation by equation


def agrees_with_sympy(function) -> None:
    values = codes(11)
    close(function(*values), by_sympy(DIVERGENCES[function](), *values).sum(1))
    single = [value[:, :1] for value in values]
    close(function(*single), by_sympy(DIVERGENCES[function](), *single).squeeze(1))


def gradients_agree(function) -> None:
    values = [value.requires_grad_() for value in codes(12)]
    found = torch.autograd.grad(function(*values).sum(), values)
    for name, gradient in zip(FOUR, found):
        close(gradient, by_sympy(sp.diff(DIVERGENCES[function](), name), *(value.detach() for value in values)), 1e-8)


def single_precision_agrees(function) -> None:
    """Spreads from 1e-6 to 1e6, nearly equal ones, and very unequal ones."""
    m_s, d_s, m_t, d_t = codes(13)
    for a, b in ((1e-6, 1e-6), (1e6, 1e6), (1e-4, 1e4), (1e4, 1e-4)):
        exact = function(*(four := (m_s, a * d_s, m_t, b * d_t)))
        single = function(*(value.float() for value in four))
        torch.testing.assert_close(single, exact.float(), rtol=2e-5, atol=2e-6)


@for_equation(12, "formula")
def test_eq_12_in_code(function):
    agrees_with_sympy(function)


@for_equation(13, "formula")
def test_eq_13_in_code(function):
    agrees_with_sympy(function)


@for_equation(14, "formula")
def test_eq_14_in_code(function):
    agrees_with_sympy(function)


@for_equation(15, "formula")
def test_eq_15_in_code(function):
    agrees_with_sympy(function)


@for_equation(12, "gradient")
def test_gradients_of_eq_12(function):
    gradients_agree(function)


@for_equation(13, "gradient")
def test_gradients_of_eq_13(function):
    gradients_agree(function)


@for_equation(14, "gradient")
def test_gradients_of_eq_14(function):
    gradients_agree(function)


@for_equation(15, "gradient")
def test_gradients_of_eq_15(function):
    gradients_agree(function)


@for_equation(12, "extremes")
def test_extremes_of_eq_12(function):
    single_precision_agrees(function)


@for_equation(13, "extremes")
def test_extremes_of_eq_13(function):
    single_precision_agrees(function)


@for_equation(14, "extremes")
def test_extremes_of_eq_14(function):
    single_precision_agrees(function)


@for_equation(15, "extremes")
def test_extremes_of_eq_15(function):
    single_precision_agrees(function)


@pytest.mark.equation(13, 14, check="extremes")
@pytest.mark.parametrize("spread", [1.0, 1.7, 0.3, 7.1])
def test_nearly_equal_spreads_keep_their_digits(spread):
    """The difference of two ratios near one would be rounding; the product is not. Spreads a few millionths apart."""
    one = torch.full((1, 1), spread)
    for share in (2.0**-20, 5e-7, 3e-6):
        near = one * (1 + share)
        a, b = one.double().item(), near.double().item()
        exact = ((a - b) * (a + b) / (a * b)) ** 2 / 2                      # in double precision, of the numbers as rounded
        for function in (partial.symmetric_kl, partial.pm1_reduction):
            assert function(0 * one, one, 0 * one, near).item() == pytest.approx(exact, rel=1e-5, abs=0)
            assert function(0 * one, one, 0 * one, one).item() == 0


@pytest.mark.equation(12, 13, 14, check="extremes")
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_means_and_spreads_whose_squares_do_not_exist(scale):
    """A stretch of the axis changes no divergence, however large it is; in single precision."""
    unit = [torch.tensor([[value]]) for value in (0.0, 1.0, 3.0, 2.0)]
    for function in (partial.pm1_kl, partial.symmetric_kl, partial.symmetric_kl_bound, partial.pm1_reduction):
        found = function(*(scale * value for value in unit))
        torch.testing.assert_close(found, function(*unit), rtol=1e-5, atol=0)


@pytest.mark.equation(14, check="extremes")
def test_what_pm1_takes_off_is_never_undefined():
    """Spreads of opposite extremes: infinite where the divergence is, and no number minus or times infinity."""
    zero, tiny, huge = torch.zeros(1, 1), torch.full((1, 1), 1e-20), torch.full((1, 1), 1e20)
    assert partial.pm1_reduction(zero, tiny, zero, huge).item() == math.inf
    found = partial.pm1_reduction(zero, torch.full((1, 1), 1e-15), zero, torch.ones(1, 1)).item()
    assert found == pytest.approx(1e30 / 2, rel=1e-5)


@pytest.mark.equation(12, 13, 14, check="library")
@given(seeds)
@settings(max_examples=20, deadline=None)
def test_sums_of_both_directions_against_pytorch(seed):
    m_s, d_s, m_t, d_t = values = codes(seed)
    average = (d_s + d_t) / 2
    before = plain(*values) + plain(m_t, d_t, m_s, d_s)
    after = plain(m_s, average, m_t, average)
    close(partial.pm1_kl(*values), after)
    close(partial.pm1_kl(m_t, d_t, m_s, d_s), after)
    close(partial.symmetric_kl(*values), before)
    close(partial.pm1_reduction(*values), before - 2 * after, 1e-8)
    assert (partial.symmetric_kl_bound(*values) <= before).all()
    assert (partial.pm1_reduction(*values) > 0).all()


@pytest.mark.equation(12, check="simulation")
def test_pm1_divergence_by_drawing_codes():
    m_s, d_s, m_t, d_t = (value[:1] for value in codes(14))
    eps = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(15), dtype=torch.float64)
    code, average = modulate_pm1(m_s, d_s, d_t, eps), (d_s + d_t) / 2
    ratios = (Normal(m_s, average).log_prob(code) - Normal(m_t, average).log_prob(code)).sum(1)
    assert (ratios.mean() - partial.pm1_kl(m_s, d_s, m_t, d_t)).abs() < 5 * ratios.std() / math.sqrt(len(eps))


@pytest.mark.parametrize("function", NUMBERS, ids=lambda function: function.__name__)
def test_every_image_of_one_domain_against_every_image_of_the_other(function):
    """The functions broadcast: (n, 1, latent) against (1, m, latent) gives (n, m)."""
    m_s, d_s, m_t, d_t = codes(16)
    table = function(m_s[:, None], d_s[:, None], m_t[None], d_t[None])
    assert table.shape == (7, 7)
    close(table.diagonal(), function(m_s, d_s, m_t, d_t))
    assert table.dtype == torch.float64 and function(*(value.float() for value in codes(16))).dtype == torch.float32


def test_partial_modulation_moves_no_mean():
    """With every noise and its negative, the mean of the codes of a domain is that of its means, for any pairing."""
    m_s, d_s, _, d_t = codes(17, batch=50)
    eps = codes(18, batch=50)[0]
    for rule in (lambda e: modulate_pm1(m_s, d_s, d_t.flip(0), e), lambda e: modulate_pm2(m_s, d_t.flip(0), e)):
        close((rule(eps) + rule(-eps)).mean(0) / 2, m_s.mean(0))


@pytest.mark.equation(12, 13, 14, 15, check="formula")
@pytest.mark.parametrize("name", ["pm1_kl", "symmetric_kl", "symmetric_kl_bound", "pm1_reduction", "pm2_kl"])
def test_sums_run_over_the_last_dimension_whatever_stands_before_it(name):
    function = getattr(partial, name)
    generator = torch.Generator().manual_seed(12)
    mu_s, mu_t, log_s, log_t = torch.randn(4, 2, 3, 5, generator=generator, dtype=torch.float64)
    whole = function(mu_s, log_s.exp(), mu_t, log_t.exp())
    assert whole.shape == (2, 3)
    flat = function(*(value.flatten(0, 1) for value in (mu_s, log_s.exp(), mu_t, log_t.exp())))
    torch.testing.assert_close(whole.flatten(), flat)
