"""UNIT: two variational autoencoders with one space of codes.

Generated from book/src/78c_neighbors_codes.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Method, Now, Round
from cdlm.methods.coupled import (
    CoupledDiscriminator,
    CoupledEncoder,
    DrawingConfig,
    by_adam,
    coupled_decoder,
)
from cdlm.methods.generators import fooling_loss
from cdlm.model.losses import adversarial_loss, kl_divergence, reconstruction_loss
from cdlm.model.modulation import reparameterize
from cdlm.settings import Amount, Images

__all__ = ["Drawn", "UNIT", "UNITConfig", "draw_both", "drawing", "judging"]


# 78c_neighbors_codes: UNIT: one code for both

@dataclass(frozen=True)
class UNITConfig(DrawingConfig):
    """Settings of UNIT; the authors' program is that for SVHN and MNIST (Liu et al., 2017).

    They train for 200,000 iterations with a rate of 2e-4 that stays, the first moment of Adam
    at 0.5, and networks six times as wide, with batch normalization, dropout and the pixels'
    coordinates as further channels. Half of their digits are inverted.
    """

    adversarial: Amount = 1.0           # weight w of both games
    task: Amount = 10.0                 # w_T, of the source's classes
    # w_KL; theirs is 1e-4 times 2 sum(mu^2 + sigma^2 - log sigma^2), which is 4 KL and a
    # constant
    kl: Amount = 4e-4
    rec: Amount = 1e-3                  # w_rec, of the squared error, summed over pixels
    alike: Amount = 1e-4                # w_phi, of the discriminator's features
    weight_decay: Amount = 5e-4         # theirs


class Drawn(NamedTuple):
    """Images of the first domain, drawn in the hand of the second, (B, C, H, W) each."""

    ss: Tensor
    st: Tensor
    ts: Tensor
    tt: Tensor


class UNIT(Method):
    """Two VAEs with one space of codes, and a discriminator that also classifies."""

    def __init__(self, config: UNITConfig | None = None, images: Images | None = None) -> None:
        super().__init__()
        self.config, self.images = config or UNITConfig(), images or Images()
        c = self.config
        self.encoder = CoupledEncoder(c.latent, self.images, c.width)
        self.decoder = coupled_decoder(c.latent, self.images, c.width)
        self.discriminator = CoupledDiscriminator(self.images, c.width)
        self.noise = (2, c.latent)

    def learners(self) -> list[Learner]:
        """Discriminator, and encoder with decoder, by Adam."""
        c = self.config
        return by_adam(c.lr, c.weight_decay, xi=self.discriminator,
                       phi=nn.ModuleList([self.encoder, self.decoder]))

    def rounds(self) -> tuple[Round, ...]:
        """First the discriminator, then those who draw."""
        return Round("discriminator", ("xi",)), Round("drawing", ("phi",))

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """What the learner of a round descends."""
        step = judging if now.round == "discriminator" else drawing
        return step(self, batch, eps)

    def features(self, x: Tensor) -> Tensor:
        """Features (B, 128) of images (B, C, H, W), read as the target's are."""
        return self.discriminator(x, "target").h

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of target images (B, C, H, W) in [-1, 1]."""
        return self.discriminator(x, "target").classes

    def translate(self, x: Tensor) -> Tensor:
        """Target images (B, C, H, W), drawn in the hand of the source."""
        return self.decoder(self.encoder(x, "target")[0], "source")


def draw_both(method: UNIT, batch: DomainBatch, eps: Tensor) -> tuple[Drawn, Tensor]:
    """The four drawings of a batch, and the divergence of both codes, a scalar."""
    s, t = (method.encoder(x, domain)
            for x, domain in ((batch.x_s, "source"), (batch.x_t, "target")))
    z = torch.cat([reparameterize(*s, eps[0]), reparameterize(*t, eps[1])])
    (ss, ts), (st, tt) = (x.chunk(2) for x in method.decoder.both(z))
    return Drawn(ss, st, ts, tt), kl_divergence(*s) + kl_divergence(*t)


def judging(method: UNIT, batch: DomainBatch,
            eps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What UNIT's discriminator descends, and its losses by name."""
    c, judge = method.config, method.discriminator
    with torch.no_grad():
        drawn, _ = draw_both(method, batch, eps)
    real = {"source": judge(batch.x_s, "source"), "target": judge(batch.x_t, "target")}
    ss, ts = (judge(x, "source") for x in (drawn.ss, drawn.ts))
    st, tt = (judge(x, "target") for x in (drawn.st, drawn.tt))
    game = sum(adversarial_loss(real[domain].real, fake.real) / 2
               for domain, fakes in (("source", (ss, ts)), ("target", (st, tt)))
               for fake in fakes)
    task = F.cross_entropy(real["source"].classes, batch.y_s)
    alike = reconstruction_loss(st.h, ss.h) + reconstruction_loss(ts.h, tt.h)
    objective = c.adversarial * game + c.task * task + c.alike * alike
    return objective, {"task": task, "adv": game, "alike": alike}


def drawing(method: UNIT, batch: DomainBatch,
            eps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What UNIT's encoder and decoder descend, and their losses by name."""
    c, (drawn, kl) = method.config, draw_both(method, batch, eps)
    rec = reconstruction_loss(drawn.ss, batch.x_s) + reconstruction_loss(drawn.tt, batch.x_t)
    fooled = sum(fooling_loss(method.discriminator(x, domain).real)
                 for x, domain in zip(drawn, ("source", "target") * 2))
    return c.adversarial * fooled + c.kl * kl + c.rec * rec, {
        "fooled": fooled, "kl": kl, "rec": rec}
