"""Encoder with its three heads, decoder, discriminator, task classifier.

Generated from book/src/10_domain_shift.md, book/src/20_vae.md, book/src/30_transfer_latent_space.md,
book/src/40_cdlm.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

__all__ = [
    "ConvTrunk",
    "Decoder",
    "Discriminator",
    "Encoded",
    "Encoder",
    "TaskClassifier",
    "conv_block",
    "deconv_block",
    "norm",
]


# 10_domain_shift: The network

def norm(channels: int) -> nn.GroupNorm:
    """Normalization over groups of sixteen channels of one image: what it becomes does not depend on its batch."""
    return nn.GroupNorm(max(1, channels // 16), channels)


def conv_block(c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    """Convolution, normalization, LeakyReLU with slope 0.01: (B, c_in, H, W) to (B, c_out, H', W')."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, stride, padding), norm(c_out), nn.LeakyReLU(0.01))


# 10_domain_shift: The network

class TaskClassifier(nn.Module):
    """Images (B, channels, 28, 28) in [-1, 1] to class logits (B, classes)."""

    def __init__(self, channels: int = 1, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_block(channels, width, 5, stride=2, padding=2),            # (B, width, 14, 14)
            conv_block(width, 2 * width, 5, stride=2, padding=2),           # (B, 2 width, 7, 7)
            nn.Flatten(), nn.Linear(98 * width, 128), nn.ReLU(), nn.Linear(128, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


# 20_vae: The networks

class ConvTrunk(nn.Sequential):
    """Convolutions that turn images (N, channels, 28, 28) in [-1, 1] into features h' (N, ``features``)."""

    def __init__(self, channels: int = 1, width: int = 16) -> None:
        super().__init__(
            conv_block(channels, width, 5, stride=2, padding=2),          # (N, w, 14, 14)
            conv_block(width, 2 * width, 5, stride=2, padding=2),         # (N, 2w, 7, 7)
            conv_block(2 * width, 4 * width, 7),                          # (N, 4w, 1, 1)
            conv_block(4 * width, 8 * width, 1),                          # (N, 8w, 1, 1)
            nn.Flatten(),                                                 # (N, 8w)
        )
        self.features = 8 * width


# 20_vae: The networks

def deconv_block(c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    """Transposed convolution, normalization, LeakyReLU: (N, c_in, H, W) to (N, c_out, H', W').

    H' = (H - 1) * stride - 2 * padding + kernel, and W' likewise.
    """
    return nn.Sequential(nn.ConvTranspose2d(c_in, c_out, kernel, stride, padding), norm(c_out), nn.LeakyReLU(0.01))


class Decoder(nn.Sequential):
    """Codes z (N, latent) to images (N, channels, 28, 28) in [-1, 1]."""

    def __init__(self, latent: int = 32, channels: int = 1, width: int = 16) -> None:
        super().__init__(
            nn.Unflatten(1, (latent, 1, 1)),                              # (N, latent, 1, 1)
            deconv_block(latent, 4 * width, 7),                           # (N, 4w, 7, 7)
            deconv_block(4 * width, 2 * width, 4, stride=2, padding=1),   # (N, 2w, 14, 14)
            deconv_block(2 * width, width, 4, stride=2, padding=1),       # (N, w, 28, 28)
            nn.Conv2d(width, channels, 1),                                # (N, C, 28, 28)
            nn.Tanh(),
        )


# 30_transfer_latent_space: The map f: an encoder with three heads

class Encoded(NamedTuple):
    """What the encoder says of a batch of images, each (batch, latent)."""

    mu: Tensor       # mean of the code
    sigma: Tensor    # its standard deviation, > 0
    h: Tensor        # deep feature in (0, 1) that modulates the other domain


class Encoder(nn.Module):
    """The map f of Definition 1: images to the parameters of their code and a feature."""

    def __init__(self, latent: int = 32, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        self.trunk = ConvTrunk(channels, width)
        size = self.trunk.features
        self.mu, self.log_sigma, self.h = (nn.Linear(size, latent) for _ in range(3))
        nn.init.zeros_(self.log_sigma.weight)

    def forward(self, x: Tensor) -> Encoded:
        """Encode images ``x`` (batch, channels, 28, 28) in [-1, 1]."""
        features = self.trunk(x)                            # h', (batch, 8 * width)
        log_sigma = self.log_sigma(features).clamp(-6, 3)
        return Encoded(self.mu(features), log_sigma.exp(), self.h(features).sigmoid())


# 40_cdlm: The discriminator, and how to learn against it

class Discriminator(nn.Module):
    """Two-layer perceptron $\\Xi$: features (batch, latent) to one logit each, (batch,); positive means source."""

    def __init__(self, latent: int = 32, hidden: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, h: Tensor) -> Tensor:
        return self.layers(h).squeeze(1)
