"""The variational autoencoder: one domain, no transfer.

Generated from book/src/20_vae.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cdlm.model.losses import kl_divergence, reconstruction_loss
from cdlm.model.modulation import reparameterize
from cdlm.model.networks import ConvTrunk, Decoder

__all__ = ["VAE"]


# 20_vae: The model

class VAE(nn.Module):
    """Variational autoencoder for images (batch, channels, 28, 28) in [-1, 1]."""

    def __init__(self, latent: int = 32, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        self.trunk = ConvTrunk(channels, width)
        self.mu, self.log_sigma = (nn.Linear(self.trunk.features, latent) for _ in range(2))
        nn.init.zeros_(self.log_sigma.weight)
        self.decoder = Decoder(latent, channels, width)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z|x), (batch, latent) each."""
        features = self.trunk(x)  # h', (batch, 8 * width)
        return self.mu(features), self.log_sigma(features).clamp(-6, 3).exp()

    def decode(self, z: Tensor) -> Tensor:
        """Mean of p(x|z): codes (batch, latent) to images (batch, channels, 28, 28) in
        [-1, 1]."""
        return self.decoder(z)

    def forward(self, x: Tensor,
                generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction of ``x`` from one sample of its code, with ``mu`` and ``sigma`` of
        that code."""
        mu, sigma = self.encode(x)
        eps = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
        return self.decode(reparameterize(mu, sigma, eps)), mu, sigma

    def loss(self, x: Tensor, generator: torch.Generator | None = None, beta: float = 1.0,
             reduction: str = "sum") -> dict[str, Tensor]:
        """Reconstruction loss "rec", divergence "kl", and "loss" = rec + beta * kl: scalars,
        averaged over the batch."""
        x_hat, mu, sigma = self(x, generator)
        rec, kl = reconstruction_loss(x_hat, x, reduction), kl_divergence(mu, sigma, reduction)
        return {"loss": rec + beta * kl, "rec": rec, "kl": kl}
