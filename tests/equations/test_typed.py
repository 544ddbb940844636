"""Displayed formulas of the theory chapters that no derivation returns: each is asserted, or the ledger's page says why not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import sympy as sp
import torch
from conftest import ROOT
from scipy.integrate import quad

from cdlm.model import discrepancy
from cdlm.model import moments as moments_module
from cdlm.theory import alignment, bound, divergence, joint_bound, moments, partial, updates
from cdlm.theory.symbols import expect, gamma1, gamma2, mu_hs, mu_ht, mu_s, mu_t, sigma_ht, sigma_s, sigma_t

PAGE = (ROOT / "book/ledger.md").read_text(encoding="utf-8")
CHAPTERS = [text for text in sorted((ROOT / "book/src").glob("*.md"))
            if re.search(r"export:theory\.(?!equations|symbols|ledger)", text.read_text(encoding="utf-8"))]
CHECKS: dict[str, Callable[[], None]] = {}


def typed(label: str) -> Callable:
    """Enter a function as the assertion behind a displayed formula."""
    def enter(check: Callable[[], None]) -> Callable[[], None]:
        assert label not in CHECKS
        CHECKS[label] = check
        return check
    return enter


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(*(torch.as_tensor(x, dtype=torch.float64) for x in (a, b)), rtol=tolerance, atol=tolerance)


# Moments and divergence


@typed("eq-moments-error6")
def _() -> None:
    left = sp.sqrt(moments.eq_4().rhs) - moments.eq_6().rhs
    root = sp.sqrt(gamma1**2 * sigma_ht**2 + gamma2**2)
    right = sigma_s * (gamma1**2 * (sigma_ht**2 - sigma_t**2) + gamma2**2) / (root + gamma1 * sigma_t)
    at = {gamma1: 0.8, gamma2: 0.3, sigma_s: 1.7, sigma_t: 0.4, sigma_ht: 0.9}
    assert float((left - right).subs(at)) == pytest.approx(0, abs=1e-14) and abs(float(left.subs(at))) > 0.1


@typed("eq-div-seven")
def _() -> None:
    m_s, m_t, log_s, log_t = numbers(4, 3, 5)
    d_s, d_t = log_s.exp(), log_t.exp()
    bracket = 2 * (d_t / d_s).log() + ((m_s - m_t) / d_t) ** 2 + (d_s / d_t) ** 2 - 1
    close(moments_module.gaussian_kl(m_s, d_s, m_t, d_t), bracket.sum(1) / 2)


@typed("eq-div-origin")
def _() -> None:
    st = moments.eq_3().rhs
    ts = st.subs({mu_s: mu_t, sigma_s: sigma_t, mu_ht: mu_hs}, simultaneous=True)
    gap = (st - ts).subs({mu_ht: mu_t, mu_hs: mu_s})
    assert sp.expand(gap - (mu_s - mu_t) - gamma1 * (sigma_s * mu_t - sigma_t * mu_s)) == 0


@typed("eq-div-factor")
def _() -> None:
    x, sigma = sp.Symbol("x", positive=True), sp.Symbol("sigma", positive=True)
    factor = (divergence.eq_10().rhs / divergence.divergence_s_t).subs(gamma1, x / sigma)
    noise = sp.Symbol("g", positive=True)
    factor = sp.factor(factor.subs(gamma2, noise))
    assert sp.simplify(factor - (1 - x) ** 2 / (x**2 + noise**2)) == 0
    assert sp.limit(factor, x, 0) == 1 / noise**2 and factor.subs(x, 1) == 0 and sp.limit(factor, x, sp.oo) == 1
    assert sp.expand(sp.simplify((1 - factor) * (x**2 + noise**2)) - 2 * (x - (1 - noise**2) / 2)) == 0
    assert float(factor.subs({x: 1e6, noise: 0.5})) < 1


@typed("eq-div-ceiling")
def _() -> None:
    """Codes with four values: a distribution for each of six pairs of images, and all classifiers of three classes."""
    share = numbers(6).softmax(0)
    code = numbers(6, 4, seed=1).softmax(1)
    y_s, y_t = torch.randint(3, (2, 6), generator=torch.Generator().manual_seed(2))
    ceiling = (1 + share[y_s == y_t].sum()) / 2
    found = []
    for answers in product(range(3), repeat=4):
        c = torch.tensor(answers)
        right = [(share * (code * (c == y[:, None])).sum(1)).sum() for y in (y_s, y_t)]
        found.append(sum(right) / 2)
    assert max(found) <= ceiling + 1e-12 and len(found) == 81


# Partial modulation


@typed("eq-partial-chain")
def _() -> None:
    first, second, third, fourth = partial.spread_chain()
    assert sp.factor((second - first) / (sigma_s - sigma_t) ** 2).is_positive
    assert sp.factor((third - second) / (sigma_s - sigma_t) ** 2).is_positive
    assert sp.simplify(third - fourth) == 0


@typed("eq-partial-reduction")
def _() -> None:
    square, rest = partial.pm1_reduction_by_gap()
    total, product_ = sigma_s + sigma_t, sigma_s * sigma_t
    shown = (sigma_s - sigma_t) ** 2 / (2 * product_**2) * (
        (mu_s - mu_t) ** 2 * (sigma_s**2 + 4 * product_ + sigma_t**2) / total**2 + total**2)
    assert sp.simplify(square * (mu_s - mu_t) ** 2 + rest - shown) == 0


@typed("eq-partial-region")
def _() -> None:
    rho, delta = (x.flatten() for x in torch.meshgrid(torch.linspace(0.3, 5, 60).double(), torch.linspace(0.05, 5, 80).double(),
                                                       indexing="ij"))
    pair = [x[:, None] for x in (0 * rho, 1 + 0 * rho, delta, rho)]
    grows = partial.pm1_kl(*pair) > moments_module.gaussian_kl(*pair)
    border = 2 * rho**2 * (1 + rho) ** 2 / ((rho - 1) * (3 * rho + 1)) * (rho.log() + 1 / (2 * rho**2) - 0.5)
    assert torch.equal(grows, (rho > 1) & (delta**2 > border)) and 0.1 < grows.double().mean() < 0.9


@typed("eq-partial-cloud")
def _() -> None:
    """Over the images, mu ~ N(m, v), and over the noise: integrated."""
    mu, m, eps = sp.symbols("mu m eps", real=True)
    root, tau = sp.symbols("r tau", positive=True)                  # v = r^2
    code = mu + tau * eps
    mean = expect(expect(code, eps, 0, 1), mu, m, root)
    assert mean == m
    assert sp.expand(expect(expect((code - mean) ** 2, eps, 0, 1), mu, m, root) - root**2 - tau**2) == 0


@typed("eq-partial-error")
def _() -> None:
    x, W, mu, tau = numbers(3), numbers(3, 2, seed=1), numbers(2, seed=2), numbers(2, seed=3).exp()
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=2))).double()         # a noise of mean 0 and variance 1, enumerated
    mean = torch.stack([(x - W @ (mu + tau * eps)).square().sum() for eps in signs]).mean()
    close(mean, (x - W @ mu).square().sum() + (W.square().sum(0) * tau**2).sum())


# The objective


@typed("eq-obj-evidence")
def _() -> None:
    x, W, tau = numbers(4, 5), numbers(5, 2, seed=1), (0.5 * numbers(5, seed=2)).exp()
    P = torch.eye(2).double() + W.T @ torch.diag(tau**-2) @ W
    m = x @ torch.diag(tau**-2) @ W @ torch.linalg.inv(P)
    shown = -0.5 * (((x - m @ W.T) / tau).square().sum(1) + m.square().sum(1) + torch.logdet(P) + 5 * math.log(2 * math.pi))
    exact = torch.distributions.MultivariateNormal(torch.zeros(5).double(), W @ W.T + torch.diag(tau**2)).log_prob(x)
    close(shown - tau.log().sum(), exact)
    mean, precision = joint_bound.linear_posterior(x, W, tau)
    close(mean, m)
    close(precision, P)


@typed("eq-obj-two-codes")
def _() -> None:
    x, W, tau = numbers(50, 2), numbers(2, 1, seed=1), numbers(2, seed=2).exp()
    mu, sigma = numbers(2, 50, 1, seed=3), numbers(2, 50, 1, seed=4).exp()
    for k in (0, 1):
        one = x[:, k : k + 1], W[k : k + 1], tau[k : k + 1]
        below = joint_bound.linear_bound(one[0], mu[k], sigma[k], *one[1:])
        assert (below <= joint_bound.linear_log_evidence(*one)).all()


@typed("eq-obj-printed")
def _() -> None:
    x, first, second = sp.symbols("x a b", real=True)
    shown = (first - second) * (2 * x - first - second) / (2 * updates.NOISE_VARIANCE)
    assert sp.expand(updates.log_ratio_at(x, first, second) - shown) == 0


# Distances


def two_samples() -> tuple[torch.Tensor, torch.Tensor]:
    return numbers(7, 3), 0.5 * numbers(5, 3, seed=1) + 1


@typed("eq-align-mean")
def _() -> None:
    x, y = two_samples()
    close(discrepancy.mean_distance(x, y), sum(float(a - b) ** 2 for a, b in zip(x.mean(0), y.mean(0))))


@typed("eq-align-coral")
def _() -> None:
    x, y = two_samples()
    covariances = [np.cov(sample.numpy(), rowvar=False) for sample in (x, y)]
    close(discrepancy.coral_distance(x, y), ((covariances[0] - covariances[1]) ** 2).sum() / (4 * 3**2))


@typed("eq-align-kernel")
def _() -> None:
    x, y = two_samples()
    found = discrepancy.gaussian_kernel(x, y, 1.3)
    for i, j in product(range(7), range(5)):
        close(found[i, j], math.exp(-float((x[i] - y[j]).norm()) ** 2 / (2 * 1.3**2)))


@typed("eq-align-mmd")
def _() -> None:
    """Against three integrals over two normal densities, of one coordinate."""
    def average(mean: float, variance: float) -> float:
        def integrand(u: float) -> float:
            return math.exp(-u * u / (2 * 0.8**2) - (u - mean) ** 2 / (2 * variance)) / math.sqrt(2 * math.pi * variance)
        return quad(integrand, -15, 15, epsabs=1e-12)[0]
    m, s = (0.4, -0.7), (0.9, 0.5)
    shown = average(0, 2 * s[0] ** 2) + average(0, 2 * s[1] ** 2) - 2 * average(m[0] - m[1], s[0] ** 2 + s[1] ** 2)
    tensors = [torch.tensor([v], dtype=torch.float64) for v in (m[0], s[0], m[1], s[1])]
    close(discrepancy.gaussian_mmd_squared(*tensors, 0.8), shown)


@typed("eq-align-jsd")
def _() -> None:
    counts = torch.tensor([5, 3, 1, 7]), torch.tensor([2, 6, 7, 1])
    p, q = (count.double() / 16 for count in counts)
    logits = [(p / q).log().repeat_interleave(count) for count in counts]
    jsd = discrepancy.jensen_shannon(p, q)
    close(alignment.adversarial_value(*logits), -2 * math.log(2) + 2 * jsd)
    assert 0 < jsd < math.log(2)


# The bound


@typed("eq-bound-triangle")
def _() -> None:
    f, g, y = torch.randint(4, (3, 200, 6), generator=torch.Generator().manual_seed(0))
    p = numbers(200, 6).softmax(1)
    over = bound.disagreement(f, g, p) + bound.disagreement(g, y, p) - bound.disagreement(f, y, p)
    assert (over >= -1e-12).all() and (over.abs() < 1e-12).any()


def small_world() -> tuple[torch.Tensor, ...]:
    rules, (y_s, y_t) = (torch.randint(2, shape, generator=torch.Generator().manual_seed(k)) for k, shape in
                         enumerate(((4, 5), (2, 5))))
    return rules, y_s, y_t, *numbers(2, 5).softmax(1)


@typed("eq-bound-h")
def _() -> None:
    rules, _, _, p_s, p_t = small_world()
    close(bound.h_divergence(rules, p_s, p_t), 2 * max(abs(float(p_s[h == 1].sum() - p_t[h == 1].sum())) for h in rules))


@typed("eq-bound-hdh")
def _() -> None:
    rules, _, _, p_s, p_t = small_world()
    close(bound.hdh_divergence(rules, p_s, p_t),
          2 * max(abs(float(p_s[a != b].sum() - p_t[a != b].sum())) for a, b in product(rules, rules)))


@typed("eq-bound-lambda")
def _() -> None:
    rules, y_s, y_t, p_s, p_t = small_world()
    close(bound.ideal_joint_error(rules, y_s, y_t, p_s, p_t), min(float(p_s[h != y_s].sum() + p_t[h != y_t].sum()) for h in rules))


@typed("eq-bound-arc")
def _() -> None:
    """The arc of a half plane in direction phi: the difference of the two densities of directions, integrated over it."""
    for u, phi in ((0.3, 0.4), (0.8, 1.9), (0.05, 0.0)):
        wide = math.acos(u)
        difference = quad(lambda t: (max(math.cos(2 * t), 0) - max(-math.cos(2 * t), 0)) / 2, phi - wide, phi + wide, limit=200)[0]
        K = quad(lambda t: math.cos(2 * t), -wide, wide)[0]
        assert difference == pytest.approx(math.cos(2 * phi) * K / 2, abs=1e-7)
    window = quad(lambda u: quad(lambda t: math.cos(2 * t), -math.acos(u), math.acos(u))[0] / u, 1e-9, 1)[0]
    assert window / 2 == pytest.approx(math.pi / 4, abs=1e-6)       # so that d_H, twice this over L, is at most pi / (2 L)


@typed("eq-bound-tv")
def _() -> None:
    lower_bound_holds("tv")


@typed("eq-bound-js")
def _() -> None:
    lower_bound_holds("js")


def lower_bound_holds(distance: str) -> None:
    """Random joint distributions of three classes and four features in both domains, the best of all readers."""
    joint = (2 * numbers(2, 300, 12)).softmax(2).view(2, 300, 3, 4)
    readers = torch.tensor(list(product(range(3), repeat=4)))                                       # (81, 4)
    wrong = (torch.arange(3)[:, None] != readers[:, None]).double()                                 # (81, 3, 4)
    least = torch.einsum("dnyz,ryz->nr", joint, wrong).amin(1)
    shares, features = joint.sum(3), joint.sum(2)
    below = bound.joint_error_lower_bound(*shares, *features, distance)
    assert (least >= below - 1e-12).all() and (below > 0).any()


@pytest.mark.parametrize("label", sorted(CHECKS))
def test_a_typed_formula_holds(label: str) -> None:
    CHECKS[label]()


# The list


def listed(beginning: str) -> list[str]:
    """Labels in the line of the ledger's page that begins so."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"- {beginning}"))
    return re.findall(r"\{eq\}`([\w-]+)`", line)


def test_the_page_lists_every_displayed_formula_of_the_theory_once() -> None:
    texts = [text.read_text(encoding="utf-8") for text in CHAPTERS]
    shown = [label for text in texts for label in re.findall(r"^\$\$ \(([\w-]+)\)$", text, flags=re.M)]
    asserted, definitions, quoted = (listed(words) for words in ("An assertion", "These are definitions", "This one is quoted"))
    assert len(CHAPTERS) >= 6
    assert sorted([*asserted, *definitions, *quoted]) == sorted(shown)
    assert sorted(asserted) == sorted(CHECKS)


def test_formulas_without_a_label_stand_in_solutions_or_are_quoted() -> None:
    """What no label names cannot be listed: it is printed as the paper's, or solves an exercise."""
    for text in CHAPTERS:
        main = text.read_text(encoding="utf-8").partition("\n## Exercises\n")[0]
        for before in re.findall(r"([^\n]*)\n\n\$\$\n[^$]+\$\$\n(?!\n?\$)", main):
            assert "The paper prints" in before, f"{text.stem}: the formula after {before[:60]!r} has no label"
