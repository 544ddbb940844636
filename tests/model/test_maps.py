"""Codes with places: what they share with vectors, what a place may depend on, and who is reached."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cdlm.model.losses import kl_divergence
from cdlm.model.maps import LocalContrast, MapDecoder, MapDiscriminator, MapEncoder, doublings, map_widths
from cdlm.model.modulation import modulate
from cdlm.model.networks import Encoded


def images(count: int = 2, channels: int = 3, size: int = 32) -> torch.Tensor:
    return 2 * torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0)) - 1


def test_a_map_of_one_place_is_a_vector() -> None:
    """The head is the linear layer of the encoder of vectors."""
    torch.manual_seed(0)
    encoder, x = MapEncoder(depth=5, width=4, size=32, side=1), images()
    head = nn.Linear(encoder.mu.in_channels, 5)
    head.load_state_dict({"weight": encoder.mu.weight.detach().flatten(1), "bias": encoder.mu.bias.detach()})
    found = encoder(x)
    torch.testing.assert_close(found.mu, head(encoder.trunk(x).flatten(1)))
    assert found.mu.shape == found.sigma.shape == found.h.shape == (2, 5)


def test_divergence_of_a_map_is_the_sum_over_places() -> None:
    mu, sigma = torch.randn(3, 2, 4, 4), torch.rand(3, 2, 4, 4) + 0.1
    places = [(mu[:, :, i, j], sigma[:, :, i, j]) for i in range(4) for j in range(4)]
    whole = kl_divergence(mu.flatten(1), sigma.flatten(1))
    torch.testing.assert_close(whole, sum(kl_divergence(*place) for place in places))


def test_a_place_is_modulated_by_its_own_place_alone() -> None:
    own = Encoded(*(torch.rand(1, 2 * 16) + 0.1 for _ in range(3)))
    h = torch.rand(1, 2, 4, 4)
    other = h.clone()
    other[0, :, 1, 3] += 1
    codes = [modulate(own.mu, own.sigma, x.flatten(1), torch.zeros(1, 32)).view(2, 4, 4) for x in (h, other)]
    assert (codes[0] != codes[1]).any(0).nonzero().tolist() == [[1, 3]]


@pytest.mark.parametrize(("size", "side"), [(64, 8), (64, 16), (32, 8), (28, 7)])
def test_shapes_and_ranges(size: int, side: int) -> None:
    x = images(size=size)
    found = MapEncoder(3, 3, 4, size, side)(x)
    assert found.mu.shape == (2, 3 * side**2)
    assert (found.sigma > 0).all() and ((0 < found.h) & (found.h < 1)).all()
    drawn = MapDecoder(3, 1, 4, size, side)(found.mu)
    assert drawn.shape == (2, 1, size, size) and drawn.abs().max() <= 1
    assert MapDiscriminator(3, side)(found.h).shape == (2, side**2)


@pytest.mark.parametrize(("size", "side"), [(64, 24), (64, 64), (28, 8), (32, 64)])
def test_a_side_that_does_not_double_is_refused(size: int, side: int) -> None:
    with pytest.raises(ValueError, match="does not double"):
        doublings(size, side)


def test_widths_stop_at_four_times_the_first() -> None:
    assert map_widths(4, 64, 4) == [4, 8, 16, 16]


def test_every_parameter_is_reached() -> None:
    encoder, decoder = MapEncoder(2, 3, 4, 32, 8), MapDecoder(2, 3, 4, 32, 8)
    nn.init.normal_(encoder.log_sigma.weight)
    found = encoder(images())
    decoder(modulate(found.mu, found.sigma, found.h, torch.ones_like(found.mu))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for part in (encoder, decoder) for p in part.parameters())


def test_local_contrast_drops_brightness_color_and_scale() -> None:
    look, x = LocalContrast(), images()
    assert look(x).shape == (2, 1, 32, 32)
    gray = x.mean(1, keepdim=True)
    torch.testing.assert_close(look(x), look(gray.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(look(0.5 * gray + 0.3), look(0.5 * gray), atol=1e-3, rtol=1e-3)
    flat = torch.full((1, 3, 16, 16), 0.7)
    torch.testing.assert_close(look(flat), torch.zeros(1, 1, 16, 16), atol=1e-3, rtol=0)
