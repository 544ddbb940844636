"""E-CDRD: codes of images, of which one part is the class.

Generated from book/src/78c_neighbors_codes.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Now, Round
from cdlm.methods.cdrd import CDRD, CDRDConfig, one_hot
from cdlm.methods.coupled import CoupledEncoder, by_adam
from cdlm.model.losses import kl_divergence, reconstruction_loss
from cdlm.model.modulation import reparameterize
from cdlm.model.networks import ungrouped
from cdlm.settings import Amount, Images

__all__ = ["ECDRD", "ECDRDConfig", "half_codes", "vae_losses"]


# 78c_neighbors_codes: CDRD: a code with a name

@dataclass(frozen=True)
class ECDRDConfig(CDRDConfig):
    """Settings of E-CDRD. The weights of its VAE were not told; these are UNIT's."""

    # of the squared error, summed over pixels; theirs is between features of a network that
    # was trained on other images
    rec: Amount = 1e-3
    kl: Amount = 4e-4                   # of the divergence

    def conflict(self) -> str:
        """A width that cannot be normalized in groups."""
        return ungrouped(self.width, 3)


class ECDRD(CDRD):
    """CDRD whose codes are those of images: it translates."""

    def __init__(self, config: ECDRDConfig | None = None,
                 images: Images | None = None) -> None:
        super().__init__(config or ECDRDConfig(), images)
        c = self.config
        self.encoder = CoupledEncoder(c.latent, self.images, c.width)
        self.noise = (2, c.latent)

    def learners(self) -> list[Learner]:
        """Those of CDRD, and the encoder."""
        return [*super().learners(), *by_adam(self.config.lr, phi=self.encoder)]

    def rounds(self) -> tuple[Round, ...]:
        """First the discriminator, then the generator together with the encoder."""
        return Round("discriminator", ("xi",)), Round("generator", ("theta", "phi"))

    def codes(self, batch: DomainBatch, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Codes, half of source and half of target images, and labels of others."""
        return half_codes(self.encoder, batch, eps), batch.y_s.roll(1)

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """As CDRD, with the loss of two VAEs beside that of the generator."""
        objective, found = super().forward(batch, eps, now)
        if now.round == "discriminator":
            return objective, found
        vae = vae_losses(self, batch, eps)
        added = self.config.rec * vae["rec"] + self.config.kl * vae["kl"]
        return objective + added, found | vae

    def translate(self, x: Tensor) -> Tensor:
        """Target images (B, C, H, W), drawn in the hand of the source, as of the class that
        they are read as."""
        z = torch.cat([self.encoder(x, "target")[0], self.logits(x).softmax(1)], 1)
        return self.decoder(z, "source")


@torch.no_grad()
def half_codes(encoder: CoupledEncoder, batch: DomainBatch, eps: Tensor) -> Tensor:
    """Codes (B, latent) of the first half of source images and of the second half of target
    images, through which no gradient goes."""
    half = len(batch.x_s) // 2
    z_s = reparameterize(*encoder(batch.x_s[:half], "source"), eps[0, :half])
    z_t = reparameterize(*encoder(batch.x_t[half:], "target"), eps[1, half:])
    return torch.cat([z_s, z_t])


def vae_losses(method: ECDRD, batch: DomainBatch, eps: Tensor) -> dict[str, Tensor]:
    """Squared error "rec" and divergence "kl" of both domains' VAEs, scalars. An image is
    drawn again from its code and its class: the label of the source, the prediction for the
    target."""
    s, t = method.encoder(batch.x_s, "source"), method.encoder(batch.x_t, "target")
    names = one_hot(batch.y_s, batch.x_s, method.images.classes)
    z_s = torch.cat([reparameterize(*s, eps[0]), names], 1)
    guess = method.logits(batch.x_t).detach().softmax(1)
    z_t = torch.cat([reparameterize(*t, eps[1]), guess], 1)
    x_ss, x_tt = method.decoder(z_s, "source"), method.decoder(z_t, "target")
    return {"rec": reconstruction_loss(x_ss, batch.x_s) + reconstruction_loss(x_tt, batch.x_t),
            "kl": kl_divergence(*s) + kl_divergence(*t)}
