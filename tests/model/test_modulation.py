"""The map G of Eqs. 1-2 and the encoder f of Definition 1."""

import inspect
import math

import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import stats
from torch.autograd.functional import jacobian

from cdlm.model.modulation import modulate, reparameterize
from cdlm.model.networks import Encoder

weights = st.floats(0, 3)


def terms(seed: int, batch: int = 6, latent: int = 5) -> tuple[torch.Tensor, ...]:
    """Random mu, sigma in (0, e^2), h in (0, 1) and eps, (batch, latent) each, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    mu, log_sigma, h, eps = torch.randn(4, batch, latent, generator=generator, dtype=torch.float64)
    return mu, log_sigma.clamp(-2, 2).exp(), h.sigmoid(), eps


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_limits(seed):
    mu, sigma, h, eps = terms(seed)
    assert torch.equal(modulate(mu, sigma, h, eps, 0.0, 1.0), reparameterize(mu, sigma, eps))
    assert torch.equal(modulate(mu, sigma, h, eps, 0.0, 0.0), mu)
    assert torch.equal(modulate(mu, sigma, h, eps, 1.0, 0.0), modulate(mu, sigma, h, eps + 7, 1.0, 0.0))


@given(st.integers(0, 10_000), weights, weights, st.floats(-2, 2))
@settings(max_examples=60, deadline=None)
def test_affine_in_each_message(seed, gamma1, gamma2, share):
    mu, sigma, h, eps = terms(seed)
    other, fresh = h.flip(0), eps.flip(1)
    mixed = modulate(mu, sigma, share * h + (1 - share) * other, share * eps + (1 - share) * fresh, gamma1, gamma2)
    ends = [modulate(mu, sigma, h, eps, gamma1, gamma2), modulate(mu, sigma, other, fresh, gamma1, gamma2)]
    torch.testing.assert_close(mixed, share * ends[0] + (1 - share) * ends[1], rtol=1e-11, atol=1e-11)


@given(st.integers(0, 10_000), st.floats(0.01, 3))
@settings(max_examples=30, deadline=None)
def test_shift_is_positive_and_bounded(seed, gamma1):
    mu, sigma, h, eps = terms(seed)
    shift = modulate(torch.zeros_like(mu), sigma, h, eps, gamma1, 0.0)
    assert (shift > 0).all() and (shift < gamma1 * sigma).all()


def test_defaults_are_the_papers():
    parameters = inspect.signature(modulate).parameters
    assert (parameters["gamma1"].default, parameters["gamma2"].default) == (1.0, 0.1)


def test_agrees_with_eq_1_written_in_sympy():
    names = sp.symbols("mu sigma h eps gamma1 gamma2")
    mu, sigma, h, eps, gamma1, gamma2 = names
    eq_1 = sp.lambdify(names, mu + sigma * (gamma1 * h + gamma2 * eps), "numpy")
    values = terms(0)
    expected = torch.from_numpy(eq_1(*(value.numpy() for value in values), 0.7, 0.3))
    torch.testing.assert_close(modulate(*values, 0.7, 0.3), expected)


def test_jacobians_against_the_formula():
    mu, sigma, h, eps = (value[0] for value in terms(1))
    by_mu, by_sigma, by_h, by_eps = jacobian(lambda *v: modulate(*v, gamma1=0.8, gamma2=0.2), (mu, sigma, h, eps))
    torch.testing.assert_close(by_mu, torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(by_sigma, torch.diag(0.8 * h + 0.2 * eps))
    torch.testing.assert_close(by_h, torch.diag(0.8 * sigma))
    torch.testing.assert_close(by_eps, torch.diag(0.2 * sigma))


def test_given_the_feature_the_code_is_gaussian():
    """Mean, variance, skewness and kurtosis within five standard errors of N(mu + gamma1 sigma h, (gamma2 sigma)^2)."""
    mu, sigma, h, _ = (value[0] for value in terms(2))
    count = 400_000
    eps = torch.randn(count, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    z = (modulate(mu, sigma, h, eps, 0.9, 0.4) - (mu + 0.9 * sigma * h)) / (0.4 * sigma)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert ((z**power).mean(0) - moment).abs().max() < 5 * math.sqrt(variance / count), f"moment {power}"


def test_conditional_moments_symbolically():
    mu, h, gamma1 = sp.symbols("mu h gamma1", real=True)
    sigma, gamma2 = sp.symbols("sigma gamma2", positive=True)
    z = mu + sigma * (gamma1 * h + gamma2 * stats.Normal("epsilon", 0, 1))
    assert sp.simplify(stats.E(z) - (mu + gamma1 * sigma * h)) == 0
    assert sp.simplify(stats.variance(z) - gamma2**2 * sigma**2) == 0


def test_both_directions_are_one_function():
    """Exchanging the letters s and t in Eq. 1 gives Eq. 2, and the two codes are not the same."""
    (mu_s, sigma_s, h_s, eps), (mu_t, sigma_t, h_t, _) = terms(4), terms(5)
    z_st, z_ts = modulate(mu_s, sigma_s, h_t, eps), modulate(mu_t, sigma_t, h_s, eps)
    torch.testing.assert_close(z_st, mu_s + sigma_s * (h_t + 0.1 * eps))
    torch.testing.assert_close(z_ts, mu_t + sigma_t * (h_s + 0.1 * eps))
    assert not torch.allclose(z_st, z_ts)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1


def small_encoder(**settings) -> Encoder:
    torch.manual_seed(0)
    return Encoder(latent=7, width=4, **settings)


@pytest.mark.parametrize("channels", [1, 3])
def test_encoder_shapes_and_ranges(images, channels):
    mu, sigma, h = small_encoder(channels=channels)(images.expand(-1, channels, -1, -1))
    assert mu.shape == sigma.shape == h.shape == (6, 7)
    assert (sigma > 0).all() and (h > 0).all() and (h < 1).all()


def test_untrained_sigma_is_the_same_for_all_images_but_mu_and_h_are_not(images):
    mu, sigma, h = small_encoder()(images)
    assert torch.equal(sigma, sigma[:1].expand(6, -1))
    assert (mu.std(0) > 0).all() and (h.std(0) > 0).all()


@pytest.mark.parametrize("bias, bound", [(-50.0, -6), (50.0, 3)])
def test_sigma_is_clamped(images, bias, bound):
    encoder = small_encoder()
    torch.nn.init.constant_(encoder.log_sigma.bias, bias)
    torch.testing.assert_close(encoder(images).sigma, torch.full((6, 7), math.exp(bound)))


def test_heads_read_the_trunk_as_in_the_formula(images):
    encoder = small_encoder()
    torch.nn.init.normal_(encoder.log_sigma.weight, std=0.1)
    features = encoder.trunk(images)
    mu, sigma, h = encoder(images)
    torch.testing.assert_close(mu, features @ encoder.mu.weight.T + encoder.mu.bias)
    torch.testing.assert_close(sigma.log(), features @ encoder.log_sigma.weight.T + encoder.log_sigma.bias)
    torch.testing.assert_close(torch.logit(h), features @ encoder.h.weight.T + encoder.h.bias, rtol=1e-4, atol=1e-5)


def test_a_code_does_not_depend_on_its_neighbors(images):
    encoder = small_encoder()
    together, alone = encoder(images), encoder(images[2:3])
    for batch, single in zip(together, alone):
        torch.testing.assert_close(batch[2:3], single, rtol=1e-4, atol=1e-5)


def test_modulated_code_reaches_both_images(images):
    """The gradient of z_st with respect to the other image flows through h alone, and stops where sigma is zero."""
    encoder = small_encoder()
    x_s, x_t = images[:1].clone().requires_grad_(), images[1:2].clone().requires_grad_()
    s, t, eps = encoder(x_s), encoder(x_t), torch.zeros(1, 7)
    by_s, by_t = torch.autograd.grad(modulate(s.mu, s.sigma, t.h, eps).sum(), (x_s, x_t), retain_graph=True)
    assert by_s.abs().sum() > 0 and by_t.abs().sum() > 0
    (silenced,) = torch.autograd.grad(modulate(s.mu, 0 * s.sigma, t.h, eps).sum(), x_t)
    assert not silenced.any()


def test_wrong_number_of_channels_is_refused(images):
    with pytest.raises(RuntimeError, match="channels"):
        small_encoder(channels=3)(images)
