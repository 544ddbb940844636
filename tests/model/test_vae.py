"""The variational autoencoder: its losses against algebra, its networks against their shapes, its gradients."""

from __future__ import annotations

import math

import pytest
import sympy as sp
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import MultivariateNormal, Normal
from torch.distributions import kl_divergence as torch_kl

from cdlm.methods.vae import VAE
from cdlm.model.losses import elbo, kl_divergence, reconstruction_loss
from cdlm.model.modulation import reparameterize
from cdlm.model.networks import ConvTrunk, Decoder, deconv_block

means = st.floats(-5, 5)
deviations = st.floats(0.02, 5)


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def integral():
    """The divergence of one dimension as a function of mean and deviation, integrated from the two densities."""
    z, mu = sp.symbols("z mu", real=True)
    sigma = sp.symbols("sigma", positive=True)
    q = sp.exp(-((z - mu) / sigma) ** 2 / 2) / (sigma * sp.sqrt(2 * sp.pi))
    p = sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
    log_ratio = sp.expand_log(sp.log(q) - sp.log(p), force=True)
    return sp.lambdify((mu, sigma), sp.simplify(sp.integrate(q * log_ratio, (z, -sp.oo, sp.oo))), "math")


@given(st.lists(st.tuples(means, deviations), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_divergence_is_the_integral_and_that_of_torch(integral, code):
    mu, sigma = torch.tensor(code, dtype=torch.float64).T[:, None]                       # (1, latent) each
    expected = math.fsum(integral(m, s) for m, s in code)
    assert math.isclose(kl_divergence(mu, sigma), expected, rel_tol=1e-9, abs_tol=1e-9)
    by_torch = torch_kl(Normal(mu, sigma), Normal(0.0, 1.0)).sum()
    assert torch.isclose(kl_divergence(mu, sigma), by_torch, rtol=1e-9, atol=1e-9)
    assert kl_divergence(mu, sigma) >= -1e-12
    assert torch.isclose(kl_divergence(mu, sigma, "mean") * len(code), kl_divergence(mu, sigma), rtol=1e-12, atol=1e-12)


def test_divergence_is_what_simulation_converges_to():
    mean, std, count = 1.5, 0.4, 1_000_000
    z = mean + std * double(count)
    terms = Normal(mean, std).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    standard_error = math.sqrt(((std**2 - 1) ** 2 / 2 + mean**2 * std**2) / count)
    closed = kl_divergence(torch.tensor([[mean]]).double(), torch.tensor([[std]]).double()).item()
    assert abs(terms.mean().item() - closed) < 4 * standard_error < 0.005
    assert math.isclose(terms.std().item(), standard_error * math.sqrt(count), rel_tol=0.01)


def test_divergence_gradient_and_its_only_minimum():
    mu, sigma = double(7, 4).requires_grad_(), (double(7, 4, seed=1).abs() + 0.1).requires_grad_()
    by_mu, by_sigma = torch.autograd.grad(kl_divergence(mu, sigma), (mu, sigma))
    torch.testing.assert_close(by_mu, mu.detach() / 7)
    torch.testing.assert_close(by_sigma, ((sigma - 1 / sigma) / 7).detach())
    assert kl_divergence(torch.zeros(2, 3), torch.ones(2, 3)) == 0


def test_divergence_of_no_deviation_is_infinite_and_of_a_negative_one_is_not_a_number():
    assert kl_divergence(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])) == math.inf
    assert kl_divergence(torch.zeros(1, 2), torch.tensor([[1.0, -1.0]])).isnan()


def test_losses_average_over_the_batch_and_only_over_the_batch():
    x, x_hat, mu, sigma = double(6, 3, 5, 4), double(6, 3, 5, 4, seed=1), double(6, 2), double(6, 2, seed=1).exp()
    for reduction in ("sum", "mean"):
        one_by_one = [reconstruction_loss(x_hat[i : i + 1], x[i : i + 1], reduction) for i in range(6)]
        torch.testing.assert_close(reconstruction_loss(x_hat, x, reduction), torch.stack(one_by_one).mean())
        one_by_one = [kl_divergence(mu[i : i + 1], sigma[i : i + 1], reduction) for i in range(6)]
        torch.testing.assert_close(kl_divergence(mu, sigma, reduction), torch.stack(one_by_one).mean())
    torch.testing.assert_close(reconstruction_loss(x_hat, x), 60 * reconstruction_loss(x_hat, x, "mean"))


@pytest.mark.parametrize("loss", [reconstruction_loss, kl_divergence])
def test_losses_refuse_what_would_broadcast_and_unknown_reductions(loss):
    with pytest.raises(ValueError, match=r"\(4, 1, 8, 8\), \(4, 8, 8\)"):
        loss(torch.ones(4, 1, 8, 8), torch.ones(4, 8, 8))
    with pytest.raises(ValueError, match="'none'"):
        loss(torch.ones(4, 2), torch.ones(4, 2), reduction="none")


@given(variance=st.floats(0.05, 20))
@settings(max_examples=50, deadline=None)
def test_bound_without_a_code_is_the_log_likelihood(variance):
    x, x_hat = double(3, 2, 4, 4), double(3, 2, 4, 4, seed=1)
    expected = Normal(x_hat, math.sqrt(variance)).log_prob(x).sum((1, 2, 3)).mean()
    free = torch.zeros(3, 5, dtype=torch.float64), torch.ones(3, 5, dtype=torch.float64)
    torch.testing.assert_close(elbo(x_hat, x, *free, variance), expected)


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0.1, 3)), min_size=3, max_size=3), st.floats(0.1, 5))
@settings(max_examples=50, deadline=None)
def test_bound_plus_divergence_from_the_posterior_is_the_evidence(code, variance):
    """A linear decoder with orthogonal columns has a diagonal normal posterior; all terms are then known exactly."""
    weight = torch.linalg.qr(double(16, 3))[0] * torch.tensor([3.0, 2.0, 0.5], dtype=torch.float64)
    x, scale = double(1, 16, seed=1), weight.square().sum(0)
    covariance = weight @ weight.T + variance * torch.eye(16, dtype=torch.float64)
    evidence = MultivariateNormal(torch.zeros(16).double(), covariance).log_prob(x)
    posterior = Normal(x @ weight / (scale + variance), (variance / (scale + variance)).sqrt())
    mu, sigma = torch.tensor(code, dtype=torch.float64).T[:, None]
    axes = math.sqrt(3) * torch.eye(3, dtype=torch.float64)
    eps = torch.cat([axes, -axes])                       # means over these six equal expectations of quadratic functions

    def bound(mu, sigma):
        mu, sigma = mu.expand(6, 3), sigma.expand(6, 3)
        x_hat = reparameterize(mu, sigma, eps) @ weight.T
        return elbo(x_hat.view(6, 1, 4, 4), x.expand(6, 16).reshape(6, 1, 4, 4), mu, sigma, variance)

    gap = torch_kl(Normal(mu, sigma), posterior).sum()
    torch.testing.assert_close(bound(mu, sigma) + gap, evidence[0], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(bound(posterior.mean, posterior.stddev), evidence[0], rtol=1e-8, atol=1e-8)


def test_reparameterize_has_the_right_distribution_and_gradients():
    mu, sigma = torch.tensor([[0.7, -2.0]]).double().requires_grad_(), torch.tensor([[0.3, 1.5]]).double().requires_grad_()
    eps = double(200_000, 2)
    z = reparameterize(mu, sigma, eps)
    standardized = (z - mu) / sigma
    assert (standardized.mean(0).abs() < 4 / math.sqrt(200_000)).all()
    assert ((standardized.var(0) - 1).abs() < 4 * math.sqrt(2 / 200_000)).all()
    by_mu, by_sigma = torch.autograd.grad(z.sum(), (mu, sigma))
    torch.testing.assert_close(by_mu, torch.full((1, 2), 200_000.0).double())
    torch.testing.assert_close(by_sigma, eps.sum(0, keepdim=True))
    assert torch.equal(reparameterize(mu, sigma, torch.zeros(1, 2).double()), mu)


def test_pathwise_gradient_of_an_expectation():
    """E[z^2] = mu^2 + sigma^2, whose gradient is (2 mu, 2 sigma); antithetic noise of variance 1 makes it exact."""
    mu, sigma = (torch.tensor([[value]], dtype=torch.float64, requires_grad=True) for value in (1.2, 0.4))
    z = reparameterize(mu, sigma, torch.tensor([[1.0], [-1.0]]).double())
    by_mu, by_sigma = torch.autograd.grad(z.square().mean(), (mu, sigma))
    assert math.isclose(by_mu, 2.4) and math.isclose(by_sigma, 0.8)


@pytest.mark.parametrize("channels, width, latent", [(1, 16, 32), (3, 8, 2)])
def test_networks_have_their_shapes(channels, width, latent):
    trunk, decoder = ConvTrunk(channels, width), Decoder(latent, channels, width)
    h = trunk(torch.rand(5, channels, 28, 28) * 2 - 1)
    assert h.shape == (5, trunk.features) == (5, 8 * width)
    images = decoder(10 * torch.randn(5, latent))
    assert images.shape == (5, channels, 28, 28) and images.abs().max() <= 1
    sides = [block(torch.zeros(1, block[0].in_channels, n, n)).shape[-1] for block, n in zip(list(decoder)[1:4], (1, 7, 14))]
    assert sides == [7, 14, 28]


@given(side=st.integers(1, 9), kernel=st.integers(2, 7), stride=st.integers(1, 3), padding=st.integers(0, 1))
@settings(max_examples=50, deadline=None)
def test_deconv_block_has_the_side_its_docstring_says(side, kernel, stride, padding):
    expected = (side - 1) * stride - 2 * padding + kernel
    assume(expected >= 1)
    block = deconv_block(3, 8, kernel, stride, padding)
    assert block(torch.zeros(2, 3, side, side)).shape == (2, 8, expected, expected)
    assert isinstance(block[0], nn.ConvTranspose2d) and block[2].negative_slope == 0.01


def test_code_and_image_do_not_depend_on_their_neighbors():
    torch.manual_seed(0)
    model, x = VAE(latent=4, width=8).double(), double(6, 1, 28, 28).tanh()
    mu, _ = model.encode(x)
    torch.testing.assert_close(mu[2:3], model.encode(x[2:3])[0])
    torch.testing.assert_close(model.decode(mu)[2:3], model.decode(mu[2:3]))


def test_deviations_start_alike_and_stay_in_their_range():
    torch.manual_seed(0)
    model = VAE(latent=4, width=8)
    _, sigma = model.encode(torch.rand(6, 1, 28, 28) * 2 - 1)
    assert (sigma == sigma[0]).all()
    for bias, expected in ((1000.0, math.exp(3)), (-1000.0, math.exp(-6))):
        nn.init.constant_(model.log_sigma.bias, bias)
        _, sigma = model.encode(torch.zeros(1, 1, 28, 28))
        torch.testing.assert_close(sigma, torch.full((1, 4), expected))
        assert kl_divergence(torch.zeros_like(sigma), sigma).isfinite()


def test_loss_is_made_of_its_terms_and_reproducible():
    torch.manual_seed(0)
    model, x = VAE(latent=4, width=8), torch.rand(6, 1, 28, 28) * 2 - 1
    loss = model.loss(x, torch.Generator().manual_seed(3), beta=2.5)
    again = model.loss(x, torch.Generator().manual_seed(3), beta=2.5)
    other = model.loss(x, torch.Generator().manual_seed(4), beta=2.5)
    x_hat, mu, sigma = model(x, torch.Generator().manual_seed(3))
    torch.testing.assert_close(loss["rec"], reconstruction_loss(x_hat, x))
    torch.testing.assert_close(loss["kl"], kl_divergence(mu, sigma))
    torch.testing.assert_close(loss["loss"], loss["rec"] + 2.5 * loss["kl"])
    assert loss["loss"] == again["loss"] and loss["rec"] != other["rec"] and loss["kl"] == other["kl"]
    parameters = list(model.parameters())
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(loss["rec"], parameters, retain_graph=True))


def test_to_average_is_to_set_beta_to_pixels_over_dimensions():
    torch.manual_seed(0)
    model, x, latent = VAE(latent=4, width=8).double(), double(6, 1, 28, 28).tanh(), 4
    averaged = model.loss(x, torch.Generator().manual_seed(0), reduction="mean")["loss"]
    summed = model.loss(x, torch.Generator().manual_seed(0), beta=784 / latent)["loss"]
    for a, b in zip(*(torch.autograd.grad(loss, list(model.parameters())) for loss in (784 * averaged, summed))):
        torch.testing.assert_close(a, b)


def test_training_draws_images_that_only_a_code_can_tell_apart():
    """Sixteen random images: without a code the best squared error is that of their mean."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(16, 1, 7, 7, generator=generator) > 0).float().mul(2).sub(1)
    x = nn.functional.interpolate(x, scale_factor=4)                                     # (16, 1, 28, 28)
    without_code = reconstruction_loss(x.mean(0, keepdim=True).expand_as(x), x)
    model = VAE(latent=8, width=8)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(150):
        loss = model.loss(x, generator)
        optimizer.zero_grad()
        loss["loss"].backward()
        optimizer.step()
    assert loss["rec"] < 0.5 * without_code
    assert math.log(16) < loss["kl"]                     # to tell sixteen images apart takes log 16 nats
