"""From divergences to what can be measured: the A-distance, its proxy, and lower bounds for other class shares."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from cdlm.evaluation.distances import proxy_a_distance
from cdlm.model.discrepancy import a_distance, js_distance, total_variation
from cdlm.theory.bound import best_domain_error, h_divergence, joint_error_lower_bound

seeds = st.integers(0, 10_000)


def distributions(seed: int, *shape: int) -> torch.Tensor:
    """Random distributions over the last dimension, some of whose values are zero."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.rand(shape, generator=generator, dtype=torch.float64) - 0.2
    raw = raw.clamp(min=0) + 1e-3 * torch.eye(shape[-1], dtype=torch.float64)[0]
    return raw / raw.sum(-1, keepdim=True)


def normal(count: int, shift: float = 0.0, seed: int = 0, features: int = 3) -> torch.Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed)) + shift


# The A-distance of a class of rules


def test_a_distance_at_its_ends():
    assert (a_distance(0.5), a_distance(0.0), a_distance(0.25), a_distance(1.0)) == (0, 2, 1, -2)
    assert torch.equal(a_distance(torch.tensor([0.5, 0.0])), torch.tensor([0.0, 2.0]))


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_a_distance_of_the_best_rule_is_the_divergence(seed):
    """Against the errors of every rule and its opposite, counted point by point."""
    rules = torch.randint(2, (4, 5), generator=torch.Generator().manual_seed(seed))
    p_s, p_t = distributions(seed, 2, 3, 5)
    best = best_domain_error(rules, p_s, p_t)
    assert best.shape == (3,)
    for place, (s, t) in enumerate(zip(p_s, p_t)):
        both = torch.cat([rules, 1 - rules])
        errors = [sum(float(s[x] if not rule[x] else t[x]) for x in range(5)) / 2 for rule in both]
        assert abs(min(errors) - best[place].item()) < 1e-12
    torch.testing.assert_close(a_distance(best), h_divergence(rules, p_s, p_t), rtol=0, atol=1e-12)
    torch.testing.assert_close(best_domain_error(rules, p_s[0], p_t[0]), best[0], rtol=0, atol=1e-12)
    many = best_domain_error(rules, p_s.expand(2, 3, 5), p_t.expand(2, 3, 5))
    torch.testing.assert_close(many, best.expand(2, 3), rtol=0, atol=1e-12)


def test_best_domain_error_asks_for_two_classes():
    with pytest.raises(ValueError, match="two classes"):
        best_domain_error(torch.tensor([[0, 2]]), torch.ones(2) / 2, torch.ones(2) / 2)


# The proxy


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_proxy_at_its_ends(kernel):
    assert proxy_a_distance(normal(60), normal(60, 20.0, seed=1), kernel) == 2
    assert abs(proxy_a_distance(normal(200), normal(200, seed=1), kernel)) < 0.6


def test_proxy_of_overlapping_normals_is_near_the_exact_value():
    """N(0, 1) and N(2, 1): the best error is Phi(-1)."""
    exact = 2 * (1 - math.erfc(1 / math.sqrt(2)))
    value = proxy_a_distance(normal(1000, features=1), normal(1000, 2.0, seed=1, features=1))
    assert abs(value - exact) < 5 * 4 * math.sqrt(0.16 * 0.84 / 2000)


def test_proxy_is_an_error_count_over_all_samples():
    """For 30 + 30 samples the value is a multiple of 4 / 60."""
    value = proxy_a_distance(normal(30), normal(30, 1.0, seed=1))
    assert abs(value * 15 - round(value * 15)) < 1e-9


def test_a_kernel_can_see_what_a_line_cannot():
    generator = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * torch.rand(2, 150, generator=generator)
    inner, outer = (radius * torch.stack([a.cos(), a.sin()], 1) for radius, a in zip((1, 2), angle))
    assert proxy_a_distance(inner, outer, "rbf") > 1.9
    assert proxy_a_distance(inner, outer) < 0.7
    assert proxy_a_distance(inner, outer) == proxy_a_distance(inner, outer, "linear")


def test_proxy_does_not_depend_on_scale_or_shape():
    s, t = normal(40, features=4), normal(40, 0.7, seed=1, features=4)
    scale = torch.tensor([1.0, 1000.0, 1e-3, 7.0])
    assert abs(proxy_a_distance(s * scale, t * scale) - proxy_a_distance(s, t)) < 0.11
    assert proxy_a_distance(s.reshape(40, 1, 2, 2), t.reshape(40, 1, 2, 2)) == proxy_a_distance(s, t)
    assert proxy_a_distance(s.requires_grad_(), t) == proxy_a_distance(s.detach(), t)


def test_negative_values_stay_unless_clipped():
    values = {seed: proxy_a_distance(normal(20, seed=seed), normal(20, seed=100 + seed)) for seed in range(8)}
    below = [seed for seed, value in values.items() if value < 0]
    above = [seed for seed, value in values.items() if value > 0]
    assert below and above
    for seed in (below[0], above[0]):
        clipped = proxy_a_distance(normal(20, seed=seed), normal(20, seed=100 + seed), clip=True)
        assert clipped == max(values[seed], 0)


def test_seed_deals_the_folds():
    s, t = normal(40), normal(40, 0.5, seed=1)
    values = [proxy_a_distance(s, t, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert values[0] == values[1] and len(set(values)) > 1
    assert proxy_a_distance(s, t) == values[0] == proxy_a_distance(s, t, folds=5)
    assert proxy_a_distance(s, t, folds=2) != values[0]


def test_proxy_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="different shapes"):
        proxy_a_distance(normal(20), normal(21))
    with pytest.raises(ValueError):
        proxy_a_distance(normal(3), normal(3), folds=5)
    with pytest.raises(ValueError, match="kernel"):
        proxy_a_distance(normal(20), normal(20), kernel="gaussian")


# Other shares of the classes


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_distances_of_distributions(seed):
    """Against scipy, and Lin's inequality: the squared distance in bits is at most the total variation."""
    p, q = distributions(seed, 2, 4, 6)
    computed = js_distance(p, q)
    expected = torch.tensor([jensenshannon(a, b, base=2) for a, b in zip(p.numpy(), q.numpy())]).double()
    torch.testing.assert_close(computed, expected, rtol=0, atol=1e-7)
    tv = total_variation(p, q)
    expected = (p - q).clamp(min=0).sum(-1)
    torch.testing.assert_close(tv, expected, rtol=0, atol=1e-12)
    assert (computed.square() <= tv + 1e-12).all()
    torch.testing.assert_close(computed, js_distance(q, p))


def test_distances_at_their_ends():
    p, q = torch.tensor([[0.3, 0.7, 0, 0], [0, 0, 0.9, 0.1]]).double()
    assert total_variation(p, p) == js_distance(p, p) == 0
    torch.testing.assert_close(total_variation(p, q).item(), 1.0)
    torch.testing.assert_close(js_distance(p, q).item(), 1.0)
    almost = torch.tensor([0.3 + 1e-16, 0.7 - 1e-16, 0, 0]).double()
    assert js_distance(p, almost).isfinite() and js_distance(p.float(), p.float()) == 0


def test_distance_of_nearly_equal_distributions_is_a_number():
    """Rounding can make the divergence negative; its root must not become nan."""
    p = distributions(0, 2000, 10).float()
    q = (p * (1 + 1e-7 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))).float()
    assert js_distance(p, q).isfinite().all()


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_no_reader_of_the_features_beats_the_lower_bounds(seed):
    """Three classes, four feature values, and all 81 ways to read a class from a feature."""
    tables = distributions(seed, 2, 12).reshape(2, 3, 4)
    readers = torch.tensor(list(product(range(3), repeat=4)))
    wrong = (torch.arange(3)[:, None] != readers[:, None]).double()
    least = torch.einsum("dyz,ryz->r", tables, wrong).min()
    (y_s, y_t), (z_s, z_t) = tables.sum(2), tables.sum(1)
    tv, js = (joint_error_lower_bound(y_s, y_t, z_s, z_t, distance) for distance in ("tv", "js"))
    assert least >= tv - 1e-12 and least >= js - 1e-12
    assert tv == joint_error_lower_bound(y_s, y_t, z_s, z_t)
    expected = max(float(total_variation(y_s, y_t) - total_variation(z_s, z_t)), 0.0)
    torch.testing.assert_close(tv.item(), expected)
    expected = max(float(js_distance(y_s, y_t) - js_distance(z_s, z_t)), 0.0) ** 2 / 2
    torch.testing.assert_close(js.item(), expected)


def test_lower_bound_of_aligned_features():
    """One feature value for all: the best reader errs as often as the bound says, if no class grows and shrinks."""
    y_s, y_t, same = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1]), torch.ones(1)
    torch.testing.assert_close(joint_error_lower_bound(y_s, y_t, same, same).item(), 0.4)
    js = joint_error_lower_bound(y_s, y_t, same, same, "js")
    torch.testing.assert_close(js, js_distance(y_s, y_t) ** 2 / 2)
    assert 0 < 2 * js <= 0.4
    assert joint_error_lower_bound(y_s, y_s, y_s, y_t) == joint_error_lower_bound(y_s, y_s, y_s, y_t, "js") == 0


def test_unknown_distance_is_refused():
    half = torch.ones(2) / 2
    with pytest.raises(ValueError, match='"tv" or "js"'):
        joint_error_lower_bound(half, half, half, half, "kl")
