"""Eqs. 19 and 24: the adversarial term, its optimum, and its form on a sample."""

from __future__ import annotations

import math

import pytest
import sympy as sp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.spatial.distance import jensenshannon
from scipy.stats import norm
from sklearn.metrics import log_loss

from cdlm.model.discrepancy import jensen_shannon
from cdlm.model.losses import adversarial_loss
from cdlm.theory.alignment import (
    adversarial_optimum,
    adversarial_value,
    domain_cross_entropy,
    eq_19,
    eq_24,
    eq_24_with_reciprocals,
    feature,
    guess,
    kernel_expectation,
    optimal_discriminator,
    optimal_guess,
    p_s,
    p_t,
    xi,
)
from cdlm.theory.alignment import (
    density_s as p_s_of,
)
from cdlm.theory.alignment import (
    density_t as p_t_of,
)

LOGIT = sp.Symbol("l", real=True)
SIGMOID = 1 / (1 + sp.exp(-LOGIT))


def logits(seed: int, n_s: int = 7, n_t: int = 4, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits of source and target features, of unequal numbers, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(scale * torch.randn(n, generator=generator, dtype=torch.float64) for n in (n_s, n_t))


def integrand(density) -> sp.Expr:
    """What Eq. 19 averages over one domain, as a function of the logit."""
    (term,) = (term for term in eq_19().rhs.args if term.has(density))
    return term.function.coeff(density(feature)).subs(guess(feature), SIGMOID)


def by_sympy(expression: sp.Expr, values: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(sp.lambdify(LOGIT, expression, "numpy")(values.numpy()))


def close(a: torch.Tensor, b: torch.Tensor | float, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), rtol=tolerance, atol=tolerance)


def distributions(seed: int, k: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(3, k, generator=generator, dtype=torch.float64).softmax(1) for _ in "pq")


# Equation 19


@pytest.mark.equation(19, check="derivation")
def test_eq_19_is_what_the_paper_prints() -> None:
    """The paper's expectations, written as integrals over the densities of the features."""
    h = feature
    printed = sp.Integral(p_s_of(h) * sp.log(guess(h)), (h, -sp.oo, sp.oo))
    printed += sp.Integral(p_t_of(h) * sp.log(1 - guess(h)), (h, -sp.oo, sp.oo))
    assert sp.expand(eq_19().rhs - printed) == 0


@pytest.mark.equation(19, check="derivation")
def test_the_label_is_a_coin() -> None:
    """The exponential of what is averaged is the probability of the right label; both labels together have one."""
    assert sp.simplify(sp.exp(integrand(p_s_of)) + sp.exp(integrand(p_t_of))) == 1


@pytest.mark.equation(19, check="derivation")
def test_the_best_guess_is_a_maximum_and_the_only_one() -> None:
    value = p_s * sp.log(xi) + p_t * sp.log(1 - xi)
    best = optimal_guess().rhs
    assert sp.simplify(best - p_s / (p_s + p_t)) == 0
    assert sp.simplify(sp.diff(value, xi).subs(xi, best)) == 0
    share = sp.Symbol("c", positive=True)                       # xi = c / (1 + c) runs through (0, 1)
    assert sp.simplify(sp.diff(value, xi, 2).subs(xi, share / (1 + share))).is_negative


@pytest.mark.equation(19, check="derivation")
def test_value_at_the_best_guess() -> None:
    """Each density has mass one, so a remainder of -(p_s + p_t) log 2 integrates to -2 log 2."""
    assert sp.expand(adversarial_optimum().rhs + (p_s + p_t) * sp.log(2)) == 0
    for a, b in ((sp.Rational(1, 3), sp.Rational(1, 7)), (sp.Integer(2), sp.Rational(1, 5))):
        numbers = {p_s: a, p_t: b, sp.Symbol("m"): (a + b) / 2, sp.Symbol(r"\Xi^*"): a / (a + b)}
        assert abs(sp.N((adversarial_optimum().lhs - adversarial_optimum().rhs).subs(numbers))) < 1e-12


@pytest.mark.equation(19, check="formula")
@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_value_against_the_formula(seed: int) -> None:
    logits_s, logits_t = logits(seed)
    expected = by_sympy(integrand(p_s_of), logits_s).mean() + by_sympy(integrand(p_t_of), logits_t).mean()
    close(adversarial_value(logits_s, logits_t), expected)
    close(adversarial_loss(logits_s, logits_t), -expected)
    assert adversarial_value(logits_s, logits_t).shape == ()


@pytest.mark.equation(19, check="formula")
@given(st.floats(-8, 8), st.floats(-8, 8))
@settings(max_examples=50, deadline=None)
def test_best_discriminator_against_the_formula(log_p: float, log_q: float) -> None:
    expected = float(optimal_guess().rhs.subs({p_s: math.exp(log_p), p_t: math.exp(log_q)}))
    found = optimal_discriminator(torch.tensor(log_p, dtype=torch.float64), torch.tensor(log_q, dtype=torch.float64))
    close(found, expected)


@pytest.mark.equation(19, check="formula")
def test_divergence_against_its_definition() -> None:
    """Half of the divergence of each to the mixture, the sums written out."""
    p, q = distributions(0)
    m = (p + q) / 2
    expected = ((p * (p / m).log()).sum(1) + (q * (q / m).log()).sum(1)) / 2
    close(jensen_shannon(p, q), expected)


@pytest.mark.equation(19, check="gradient")
def test_gradients_of_the_value() -> None:
    logits_s, logits_t = (part.requires_grad_() for part in logits(1))
    for function, sign in ((adversarial_value, 1), (adversarial_loss, -1)):
        by_s, by_t = torch.autograd.grad(function(logits_s, logits_t), (logits_s, logits_t))
        close(by_s, sign * by_sympy(sp.diff(integrand(p_s_of), LOGIT), logits_s.detach()) / 7)
        close(by_t, sign * by_sympy(sp.diff(integrand(p_t_of), LOGIT), logits_t.detach()) / 4)


@pytest.mark.equation(19, check="gradient")
def test_gradients_of_the_best_discriminator_and_of_the_divergence() -> None:
    a, b = sp.symbols("a b", real=True)
    best = optimal_guess().rhs.subs({p_s: sp.exp(a), p_t: sp.exp(b)})
    logs = torch.tensor([0.3, -1.2], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(optimal_discriminator(logs[0], logs[1]), logs)
    close(found, [float(sp.diff(best, by).subs({a: 0.3, b: -1.2})) for by in (a, b)])
    p, q = (part[0].requires_grad_() for part in distributions(2))
    by_p, by_q = torch.autograd.grad(jensen_shannon(p, q), (p, q))
    close(by_p, (p / ((p + q) / 2)).log().detach() / 2)           # that of JSD, as derived by hand from its definition
    close(by_q, (q / ((p + q) / 2)).log().detach() / 2)


@pytest.mark.equation(19, check="gradient")
@pytest.mark.parametrize("objective, climbs, reversed_", [
    (lambda s, t: adversarial_value(s, t), 1, False), (lambda s, t: adversarial_loss(s, t), -1, True)])
def test_the_game_closes_the_gap_with_one_sign(objective, climbs: int, reversed_: bool) -> None:
    """Readings A and B of the chapter: one step of each player, against the derivative at a = 1/2, phi = 1, b = 0."""
    from cdlm.model.gradients import reverse_gradient

    u = torch.linspace(-2, 2, 41, dtype=torch.float64)
    phi, a = (torch.tensor(start, dtype=torch.float64, requires_grad=True) for start in (1.0, 0.5))
    h = [reverse_gradient(x, 1.0) if reversed_ else x for x in (u + phi, u - phi)]
    by_phi, by_a = torch.autograd.grad(objective(a * h[0], a * h[1]), (phi, a))
    h_s, h_t = u + 1, u - 1
    close(by_phi, (0.5 * torch.sigmoid(-h_s / 2)).mean() + (0.5 * torch.sigmoid(h_t / 2)).mean())       # > 0: phi falls
    close(climbs * by_a, (h_s * torch.sigmoid(-h_s / 2)).mean() - (h_t * torch.sigmoid(h_t / 2)).mean())


@pytest.mark.equation(19, check="simulation")
def test_value_on_finite_distributions_exactly() -> None:
    """Value k occurs n_k times. At the best logits it is -2 log 2 + 2 JSD, and no other logits do better."""
    n_s, n_t = torch.tensor([5, 3, 1, 7]), torch.tensor([2, 6, 7, 1])
    p, q = n_s.double() / 16, n_t.double() / 16
    best = (p / q).log()

    def value(logit: torch.Tensor) -> torch.Tensor:
        return adversarial_value(logit.repeat_interleave(n_s), logit.repeat_interleave(n_t))

    close(value(best), 2 * jensen_shannon(p, q) - 2 * math.log(2))
    close(torch.logit(optimal_discriminator(p.log(), q.log())), best)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        other = best + 0.3 * torch.randn(4, generator=generator, dtype=torch.float64)
        assert value(other) < value(best)


@pytest.mark.equation(19, check="simulation")
def test_value_on_two_gaussians() -> None:
    """Samples against the numerical integral of the definition at the best guess, and that against the divergence."""
    source, target = norm(-1, 1), norm(1.2, 0.7)

    def at_best(h: float) -> float:
        p, q = source.pdf(h), target.pdf(h)
        return p * math.log(p / (p + q)) + q * math.log(q / (p + q))

    def to_mixture(h: float) -> float:
        p, q = source.pdf(h), target.pdf(h)
        return (p * math.log(2 * p / (p + q)) + q * math.log(2 * q / (p + q))) / 2

    integral, jsd = (quad(function, -7, 6, epsabs=1e-10)[0] for function in (at_best, to_mixture))
    assert math.isclose(integral, -2 * math.log(2) + 2 * jsd, abs_tol=1e-7)
    generator, count = torch.Generator().manual_seed(0), 200_000
    h_s, h_t = (m + s * torch.randn(count, generator=generator, dtype=torch.float64) for m, s in ((-1, 1), (1.2, 0.7)))
    logit = [torch.from_numpy(source.logpdf(h) - target.logpdf(h)) for h in (h_s, h_t)]
    error = math.sqrt(F.logsigmoid(logit[0]).var() / count + F.logsigmoid(-logit[1]).var() / count)
    assert abs(adversarial_value(*logit).item() - integral) < 5 * error


@pytest.mark.equation(19, check="simulation")
def test_for_one_image_each_the_term_says_nothing() -> None:
    """The literal p(h | x): two different points, told apart for certain, however near they are."""
    p, q = torch.eye(2, dtype=torch.float64)
    close(2 * jensen_shannon(p, q) - 2 * math.log(2), 0.0)


@pytest.mark.equation(19, check="extremes")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_guesses_stay_finite(dtype: torch.dtype) -> None:
    right, wrong = torch.tensor([1e4, 1e4], dtype=dtype), torch.tensor([-1e4, -1e4], dtype=dtype)
    assert wrong.sigmoid().log().isinf().all()                                  # what is avoided
    for function, sign in ((adversarial_value, 1), (adversarial_loss, -1)):
        assert function(right, wrong).item() == 0
        assert function(wrong, right).item() == -sign * 2e4
        assert function(wrong, right).dtype == dtype
        logit = wrong.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(logit, right), logit)
        assert torch.equal(gradient, torch.full_like(wrong, sign * 0.5))
    close(optimal_discriminator(torch.tensor([-1e4, 0.0]), torch.tensor([0.0, -1e4])), torch.tensor([0.0, 1.0]))
    close(optimal_discriminator(torch.tensor(-1e4), torch.tensor(-1e4)), 0.5)   # both densities underflow


@pytest.mark.equation(19, check="extremes")
def test_single_against_double_precision() -> None:
    logits_s, logits_t = logits(3, 500, 300, scale=30)
    double = adversarial_value(logits_s, logits_t)
    torch.testing.assert_close(adversarial_value(logits_s.float(), logits_t.float()), double.float(), rtol=1e-5, atol=0)


@pytest.mark.equation(19, check="extremes")
def test_divergence_of_nearly_equal_distributions_keeps_its_digits_and_its_sign() -> None:
    """In single precision, against double: the entropy of the mixture less the mean entropy would be rounding."""
    generator = torch.Generator().manual_seed(7)
    logs, nudge = torch.randn(2, 2000, 10, generator=generator)
    for size in (1e-6, 1e-4, 1e-2):
        p, q = logs.softmax(1), (logs + size * nudge).softmax(1)
        found, exact = jensen_shannon(p, q), jensen_shannon(p.double(), q.double())
        assert found.dtype == torch.float32 and (found >= 0).all()
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=0)
        m = (p.double() + q.double()) / 2
        torch.testing.assert_close(exact, ((p.double() - q.double()) ** 2 / m).sum(1) / 8, rtol=max(1e-4, size), atol=0)
    assert (jensen_shannon(p, p) == 0).all()


@pytest.mark.equation(19, check="library")
def test_against_scikit_learn_and_scipy() -> None:
    logits_s, logits_t = logits(4)
    expected = -log_loss([1] * 7, logits_s.sigmoid(), labels=[0, 1]) - log_loss([0] * 4, logits_t.sigmoid(), labels=[0, 1])
    close(adversarial_value(logits_s, logits_t), expected)
    p, q = distributions(5)
    close(jensen_shannon(p, q), jensenshannon(p, q, axis=1) ** 2)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_divergence_is_symmetric_bounded_and_zero_for_equals(seed: int) -> None:
    p, q = distributions(seed)
    close(jensen_shannon(p, q), jensen_shannon(q, p))
    assert (jensen_shannon(p, q) > 0).all() and (jensen_shannon(p, q) < math.log(2)).all()
    close(jensen_shannon(p, p), torch.zeros(3))


def test_divergence_with_zeros() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0, 0.0]), torch.tensor([0.0, 0.5, 0.5, 0.0])
    close(jensen_shannon(p.double(), q.double()), math.log(2) / 2)


# Equation 24


@pytest.mark.equation(24, check="derivation")
def test_eq_24_is_what_the_paper_prints() -> None:
    n, i = sp.Symbol("n", integer=True, positive=True), sp.Symbol("i", integer=True)
    d_s, d_t = sp.IndexedBase("d^s"), sp.IndexedBase("d^t")
    h_s, h_t = sp.IndexedBase("h^s", real=True), sp.IndexedBase("h^t", real=True)
    printed = -sp.Sum(d_s[i] * sp.log(guess(h_s[i])), (i, 1, n)) / n
    printed -= sp.Sum(d_t[i] * sp.log(1 - guess(h_t[i])), (i, 1, n)) / n
    assert sp.simplify(eq_24().rhs - printed) == 0


@pytest.mark.equation(24, check="derivation")
def test_eq_24_is_minus_eq_19_on_a_sample_and_the_indicators_are_redundant() -> None:
    """With three points each, all indicators one: integrated against two sums of three spikes."""
    points = {domain: sp.symbols(f"{domain}1:4", real=True) for domain in "st"}
    spikes = {domain: sum(sp.DiracDelta(feature - x) for x in points[domain]) / 3 for domain in "st"}
    values = {"s": sp.log(guess(feature)), "t": sp.log(1 - guess(feature))}
    minus_19 = -sum(sp.integrate(sp.expand(spikes[d] * values[d]), (feature, -sp.oo, sp.oo)) for d in "st")
    sums = eq_24().rhs.subs(sp.Symbol("n", integer=True, positive=True), 3).doit()
    for domain in "st":
        indicator, place = sp.IndexedBase(f"d^{domain}"), sp.IndexedBase(f"h^{domain}", real=True)
        sums = sums.subs({indicator[k]: 1 for k in (1, 2, 3)}).subs({place[k]: points[domain][k - 1] for k in (1, 2, 3)})
    assert sp.expand(sums - minus_19) == 0


@pytest.mark.equation(24, check="derivation")
def test_with_the_reciprocals_of_danns_loss_eq_24_is_eq_19_on_a_sample() -> None:
    """Written out for one image of a domain: d log(1/Xi) + (1 - d) log(1/(1 - Xi)), minus its sum over n images of each."""
    n, i = sp.Symbol("n", integer=True, positive=True), sp.Symbol("i", integer=True)
    d_s, d_t = sp.IndexedBase("d^s"), sp.IndexedBase("d^t")
    h_s, h_t = sp.IndexedBase("h^s", real=True), sp.IndexedBase("h^t", real=True)
    danns = -sp.Sum(d_s[i] * sp.log(1 / guess(h_s[i])), (i, 1, n)) / n
    danns -= sp.Sum(d_t[i] * sp.log(1 / (1 - guess(h_t[i]))), (i, 1, n)) / n
    found = eq_24_with_reciprocals()
    assert found.lhs == eq_24().lhs and sp.expand(found.rhs - danns) == 0
    at = {n: 2, **{d[k]: 1 for d in (d_s, d_t) for k in (1, 2)}}
    places = {h_s[1]: 0.3, h_s[2]: -1.2, h_t[1]: 0.8, h_t[2]: 2.1}
    values = [form.rhs.subs(n, 2).doit().subs(at).subs(places).replace(guess, lambda x: 1 / (1 + sp.exp(-x)))
              for form in (found, eq_24())]
    logit = torch.tensor([0.3, -1.2, 0.8, 2.1], dtype=torch.float64)
    assert float(values[0]) == pytest.approx(adversarial_value(logit[:2], logit[2:]).item(), rel=1e-12)
    assert float(values[1]) == pytest.approx(-float(values[0]), rel=1e-12)


def printed_form(logit: torch.Tensor, d: torch.Tensor, n_s: int, n_t: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sums of Eq. 24 over one batch with its indicators, from the symbolic form, and their derivatives."""
    total, gradient = torch.zeros((), dtype=torch.float64), torch.zeros_like(logit)
    for sum_, mark, n in zip(eq_24().rhs.args, ("t", "s"), (n_t, n_s)):
        sum_ = next(s for s in eq_24().rhs.atoms(sp.Sum) if s.has(sp.IndexedBase(f"d^{mark}")))
        indicator, place, i = sp.IndexedBase(f"d^{mark}"), sp.IndexedBase(f"h^{mark}", real=True), sum_.limits[0][0]
        cost = -sum_.function.coeff(indicator[i]).subs(guess(place[i]), SIGMOID)
        weight = (d if mark == "s" else 1 - d) / n
        total = total + (weight * by_sympy(cost, logit)).sum()
        gradient = gradient + weight * by_sympy(sp.diff(cost, LOGIT), logit)
    return total, gradient


def mixed(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A shuffled batch of 7 source and 4 target images."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(11, generator=generator)
    return torch.cat(logits(seed))[order], (torch.arange(11) < 7)[order]


@pytest.mark.equation(24, check="formula")
@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_cross_entropy_against_the_formula(seed: int) -> None:
    logit, is_source = mixed(seed)
    close(domain_cross_entropy(logit, is_source), printed_form(logit, is_source.double(), 7, 4)[0])
    close(domain_cross_entropy(logit, is_source, pooled=True), printed_form(logit, is_source.double(), 11, 11)[0])
    close(domain_cross_entropy(logit, is_source), -adversarial_value(logit[is_source], logit[~is_source]))


@pytest.mark.equation(24, check="gradient")
@pytest.mark.parametrize("pooled, counts", [(False, (7, 4)), (True, (11, 11))])
def test_gradient_of_the_cross_entropy(pooled: bool, counts: tuple[int, int]) -> None:
    logit, is_source = mixed(1)
    expected = printed_form(logit, is_source.double(), *counts)[1]
    (found,) = torch.autograd.grad(domain_cross_entropy(logit.requires_grad_(), is_source, pooled), logit)
    close(found, expected)


@pytest.mark.equation(24, check="simulation")
def test_a_sample_approaches_the_expectation() -> None:
    """Features N(1/2, 1) and N(-1/2, 1) with their best logit, which is h itself: against numerical integration."""
    expected = -2 * quad(lambda h: norm(0.5, 1).pdf(h) * -math.log1p(math.exp(-h)), -9, 10)[0]
    generator, count = torch.Generator().manual_seed(2), 200_000
    h = torch.randn(2 * count, generator=generator, dtype=torch.float64)
    is_source = torch.arange(2 * count) % 2 == 0
    h = h + is_source.double() - 0.5
    error = math.sqrt(2 * F.softplus(-h[is_source]).var() / count)
    assert abs(domain_cross_entropy(h, is_source).item() - expected) < 5 * error


@pytest.mark.equation(24, check="extremes")
def test_cross_entropy_of_certain_guesses() -> None:
    logit, is_source = torch.tensor([1e4, -1e4, 1e4]), torch.tensor([True, False, False])
    assert domain_cross_entropy(logit, is_source).item() == 5e3
    assert domain_cross_entropy(logit, is_source, pooled=True).item() == pytest.approx(1e4 / 3)
    assert domain_cross_entropy(logit, ~is_source).item() == 1e4 + 5e3
    assert domain_cross_entropy(logit, is_source).dtype == torch.float32


@pytest.mark.equation(24, check="library")
def test_cross_entropy_against_torch_and_scikit_learn() -> None:
    logit, is_source = mixed(6)
    truth = is_source.double()
    close(domain_cross_entropy(logit, is_source, pooled=True), F.binary_cross_entropy_with_logits(logit, truth))
    close(domain_cross_entropy(logit, is_source, pooled=True), log_loss(is_source, logit.sigmoid()))
    weights = truth / 7 + (1 - truth) / 4
    expected = F.binary_cross_entropy_with_logits(logit, truth, weight=weights, reduction="sum")
    close(domain_cross_entropy(logit, is_source), expected)


def test_cross_entropy_refuses_batches_without_a_domain() -> None:
    logit = torch.zeros(3)
    for is_source in (torch.tensor([True] * 3), torch.tensor([False] * 3), torch.tensor([True, False])):
        with pytest.raises(ValueError, match="both domains"):
            domain_cross_entropy(logit, is_source)


# The kernel's expectation


@pytest.mark.parametrize("m, s, w", [(0.75, 1.25, 0.5), (-2.0, 0.5, 3.0), (0.0, 2.0, 1.0)])
def test_kernel_expectation_against_numerical_integration(m: float, s: float, w: float) -> None:
    integral = quad(lambda x: math.exp(-(x**2) / (2 * w**2)) * norm(m, s).pdf(x), -20, 20, epsabs=1e-12, points=[0, m])[0]
    u, mean, (deviation, width) = sp.Symbol("u", real=True), sp.Symbol("m", real=True), sp.symbols("s w", positive=True)
    assert float(kernel_expectation().rhs.subs({mean: m, deviation: s, width: w})) == pytest.approx(integral, abs=1e-9)
    assert kernel_expectation().lhs.args[0] == sp.exp(-(u**2) / (2 * width**2))
