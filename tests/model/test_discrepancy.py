"""Distances between two samples: moments, CORAL, maximum mean discrepancy, and the permutation test."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import rbf_kernel

from cdlm.model.discrepancy import (
    coral_distance,
    covariance,
    expected_kernel,
    gaussian_kernel,
    gaussian_mmd_squared,
    mean_distance,
    mean_over_pairs,
    median_width,
    mmd_squared,
    permutation_p_value,
)
from cdlm.theory.alignment import kernel_expectation

seeds = st.integers(0, 10_000)


def samples(seed: int, n: int = 7, m: int = 5, d: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(k, d, generator=generator, dtype=torch.float64) for k in (n, m))
    return x, 0.7 * y + 0.4


def close(a: torch.Tensor, b: torch.Tensor | float) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), rtol=1e-10, atol=1e-12)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_moments_against_torch(seed: int) -> None:
    x, y = samples(seed)
    close(mean_distance(x, y), sum((x[:, k].mean() - y[:, k].mean()) ** 2 for k in range(3)))
    close(covariance(x), torch.cov(x.T))
    close(coral_distance(x, y), torch.linalg.matrix_norm(torch.cov(x.T) - torch.cov(y.T)) ** 2 / (4 * 9))


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_what_each_moment_does_not_see(seed: int) -> None:
    """CORAL no move, means no stretch around the mean, none of the three a change of order."""
    x, y = samples(seed)
    shift = torch.tensor([1.0, -2, 3], dtype=torch.float64)
    close(coral_distance(x + shift, y), coral_distance(x, y))
    close(mean_distance(3 * (x - x.mean(0)) + x.mean(0), y), mean_distance(x, y))
    for distance in (mean_distance, coral_distance, lambda a, b: mmd_squared(a, b, 1.0)):
        close(distance(x.flip(0), y), distance(x, y))
        close(distance(x, y), distance(y, x))
        close(distance(x, x.flip(0)), 0.0)
        assert distance(x, y) > 0


def test_one_point_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="two at least"):
        covariance(torch.zeros(1, 3))
    assert covariance(torch.tensor([[0.0], [2.0]])).item() == 2


@given(seeds, st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_kernel_against_scikit_learn(seed: int, width: float) -> None:
    x, y = samples(seed)
    close(gaussian_kernel(x, y, width), torch.from_numpy(rbf_kernel(x, y, gamma=1 / (2 * width**2))))
    close(gaussian_kernel(x, y, torch.tensor(width, dtype=torch.float64)), gaussian_kernel(x, y, width))


@given(seeds, st.floats(0.2, 5))
@settings(max_examples=20, deadline=None)
def test_estimators_as_sums_over_pairs(seed: int, width: float) -> None:
    x, y = samples(seed)

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return math.exp(-float(((a - b) ** 2).sum()) / (2 * width**2))

    across = sum(k(a, b) for a in x for b in y) / 35
    biased = sum(k(a, b) for a in x for b in x) / 49 + sum(k(a, b) for a in y for b in y) / 25
    distinct = sum(k(a, b) for a, b in combinations(x, 2)) / 21 + sum(k(a, b) for a, b in combinations(y, 2)) / 10
    close(mmd_squared(x, y, width), biased - 2 * across)
    close(mmd_squared(x, y, width, unbiased=True), distinct - 2 * across)
    assert 0 <= mmd_squared(x, y, width) <= 2


def test_mean_over_pairs() -> None:
    k = torch.tensor([[1.0, 2.0, 3.0], [2.0, 1.0, 6.0], [3.0, 6.0, 1.0]])
    close(mean_over_pairs(k, distinct=True), 22 / 6)
    close(mean_over_pairs(k, distinct=False), 25 / 9)


def test_wide_kernel_compares_means_and_narrow_one_only_points() -> None:
    x, y = samples(1)
    torch.testing.assert_close(1e6 * mmd_squared(x, y, 1e3), mean_distance(x, y), rtol=1e-4, atol=0)
    close(mmd_squared(x, y, 1e-3), 1 / 7 + 1 / 5)
    assert mmd_squared(x, y, 1e-3, unbiased=True) == 0


def test_extremes_and_gradients() -> None:
    x, y = samples(2)
    assert mmd_squared(1e20 * x.float(), y.float(), 1.0).isfinite()
    close(mmd_squared(x.float(), y.float(), 1.0).double().round(decimals=5), mmd_squared(x, y, 1.0).round(decimals=5))
    x.requires_grad_()
    for distance in (mean_distance, coral_distance, lambda a, b: mmd_squared(a, b, 0.9)):
        assert torch.autograd.gradcheck(lambda a, distance=distance: distance(a, y), x)


def test_median_width() -> None:
    x, y = torch.tensor([[0.0], [1.0]], requires_grad=True), torch.tensor([[3.0]])
    assert median_width(x, y).item() == 2                                   # of 1, 2, 3
    assert not median_width(x, y).requires_grad
    same = torch.ones(4, 2)
    assert median_width(same, same).item() == pytest.approx(1e-6)
    assert mmd_squared(same, same, median_width(same, same)) == 0           # not 0 / 0


# Closed forms


@pytest.mark.parametrize("mean, deviation, width", [(0.7, 1.3, 0.5), (-2.0, 0.4, 1.0), (0.0, 0.8, 3.0)])
def test_expected_kernel_against_the_integral(mean: float, deviation: float, width: float) -> None:
    symbols = {s.name: s for s in kernel_expectation().rhs.free_symbols}
    exact = kernel_expectation().rhs.subs({symbols["m"]: mean, symbols["s"]: deviation, symbols["w"]: width})
    variance = torch.tensor([deviation**2], dtype=torch.float64)
    found = expected_kernel(torch.tensor([mean], dtype=torch.float64), variance, width)
    close(found, float(exact))


def parameters(seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    mu_x, mu_y, log_x, log_y = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    return mu_x, (0.4 * log_x).exp(), mu_y, (0.4 * log_y).exp()


@given(seeds, st.floats(0.3, 4))
@settings(max_examples=30, deadline=None)
def test_closed_form_is_a_distance_of_products_over_coordinates(seed: int, width: float) -> None:
    mu_x, sigma_x, mu_y, sigma_y = parameters(seed)
    value = gaussian_mmd_squared(mu_x, sigma_x, mu_y, sigma_y, width)
    assert value.shape == (2,) and bool((value > 0).all()) and bool((value < 2).all())
    close(value, gaussian_mmd_squared(mu_y, sigma_y, mu_x, sigma_x, width))
    close(gaussian_mmd_squared(mu_x, sigma_x, mu_x, sigma_x, width), torch.zeros(2))
    alone = [expected_kernel(mu_x[:, [k]], sigma_x[:, [k]], width) for k in range(3)]
    close(expected_kernel(mu_x, sigma_x, width), alone[0] * alone[1] * alone[2])


def test_closed_form_against_samples() -> None:
    """The unbiased estimate is right on average: many small samples, five standard errors; the biased one is above."""
    mu_x, sigma_x, mu_y, sigma_y = (part[0] for part in parameters(3))
    generator = torch.Generator().manual_seed(0)
    unbiased, biased = [], []
    for _ in range(2000):
        x = mu_x + sigma_x * torch.randn(12, 3, generator=generator, dtype=torch.float64)
        y = mu_y + sigma_y * torch.randn(8, 3, generator=generator, dtype=torch.float64)
        unbiased.append(mmd_squared(x, y, 1.2, unbiased=True))
        biased.append(mmd_squared(x, y, 1.2))
    exact, error = gaussian_mmd_squared(mu_x, sigma_x, mu_y, sigma_y, 1.2), torch.stack(unbiased).std() / math.sqrt(2000)
    assert abs(torch.stack(unbiased).mean() - exact) < 5 * error
    assert torch.stack(biased).mean() - exact > 5 * error


# The permutation test


def test_p_value_against_all_relabelings() -> None:
    """With four points against three there are 35 relabelings: the share that reaches the distance, by enumeration."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 2, generator=generator).double(), torch.randn(3, 2, generator=generator).double() + 0.8
    points, found = torch.cat([x, y]), mean_distance(x, y)
    splits = [(list(c), [k for k in range(7) if k not in c]) for c in combinations(range(7), 4)]
    share = sum(bool(mean_distance(points[a], points[b]) >= found - 1e-12) for a, b in splits) / len(splits)
    p = permutation_p_value(lambda a, b: mean_distance(a, b).round(decimals=12), x, y, 4000, generator)
    assert 0 < share < 0.7 and abs(p - share) < 5 * math.sqrt(share * (1 - share) / 4000)


def test_p_value_of_certain_cases() -> None:
    x, generator = torch.arange(12.0)[:, None], torch.Generator().manual_seed(0)
    assert permutation_p_value(mean_distance, x, x + 100, 99, generator) == 1 / 100
    assert permutation_p_value(lambda a, b: torch.tensor(1.0), x, x, 9, generator) == 1
    sizes = set()
    permutation_p_value(lambda a, b: sizes.add((len(a), len(b))) or torch.tensor(1.0), x, x[:5], 3, generator)
    assert sizes == {(12, 5)}


def test_the_same_generator_gives_the_same_p_value() -> None:
    x, y = samples(6)
    first, again = (permutation_p_value(mean_distance, x, y, 50, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first == again
