"""CDRD: codes of which one part is the class.

Generated from book/src/78c_neighbors_codes.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Method, Now, Round
from cdlm.methods.coupled import CoupledDiscriminator, DrawingConfig, by_adam, coupled_decoder
from cdlm.methods.generators import fooling_loss
from cdlm.model.losses import adversarial_loss
from cdlm.model.networks import ungrouped
from cdlm.settings import Amount, Images, Length

__all__ = ["CDRD", "CDRDConfig", "named_losses", "one_hot"]


# 78c_neighbors_codes: CDRD: a code with a name

@dataclass(frozen=True)
class CDRDConfig(DrawingConfig):
    """Settings of CDRD; the authors' program is that for digits (Liu et al., 2018).

    They train for 10,000 epochs of 2,000 images in batches of 32 with a rate of 8e-5 that
    stays, the first moment of Adam at 0.5, networks without normalization, and a generator
    that begins with 1024 channels.
    """

    latent: Length = 100                # of the part of a code that has no name; theirs
    attribute: Amount = 1.0             # lambda, weight of L_dis; theirs

    def conflict(self) -> str:
        """A width that cannot be normalized in groups, where there is no encoder."""
        return ungrouped(self.width, 2)


class CDRD(Method):
    """A generator of pairs of images that show the same, of a class that is asked for, and a
    discriminator that also classifies."""

    def __init__(self, config: CDRDConfig | None = None, images: Images | None = None) -> None:
        super().__init__()
        self.config, self.images = config or CDRDConfig(), images or Images()
        c, classes = self.config, self.images.classes
        self.decoder = coupled_decoder(c.latent + classes, self.images, c.width)
        self.discriminator = CoupledDiscriminator(self.images, c.width)
        self.noise = (1, c.latent)

    def learners(self) -> list[Learner]:
        """Discriminator and generator, by Adam."""
        return by_adam(self.config.lr, xi=self.discriminator, theta=self.decoder)

    def rounds(self) -> tuple[Round, ...]:
        """First the discriminator, then the generator."""
        return Round("discriminator", ("xi",)), Round("generator", ("theta",))

    def codes(self, batch: DomainBatch, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Codes without a name (N, latent), and labels (N,): noise, and those of the source's
        images, which are as random."""
        return eps[0], batch.y_s

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """What the learner of a round descends; see ``named_losses``."""
        return named_losses(self, batch, eps, now.round == "discriminator")

    def features(self, x: Tensor) -> Tensor:
        """Features (B, 128) of images (B, C, H, W), read as the target's are."""
        return self.discriminator(x, "target").h

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of target images (B, C, H, W) in [-1, 1]."""
        return self.discriminator(x, "target").classes


def one_hot(labels: Tensor, like: Tensor, classes: int) -> Tensor:
    """Labels (N,) as shares of classes (N, classes), of the type of another tensor."""
    return F.one_hot(labels, classes).to(like.dtype)


def named_losses(method: CDRD, batch: DomainBatch, eps: Tensor,
                 judging: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """What the discriminator descends if it is ``judging``, or else the generator, and the
    losses by name."""
    c, judge = method.config, method.discriminator
    with torch.set_grad_enabled(not judging):
        z, labels = method.codes(batch, eps)
        names = one_hot(labels, z, method.images.classes)
        drawn = method.decoder.both(torch.cat([z, names], 1))
    fakes = [judge(x, domain) for x, domain in zip(drawn, ("source", "target"))]
    named = sum(F.cross_entropy(fake.classes, labels) for fake in fakes)
    if not judging:
        fooled = sum(fooling_loss(fake.real) for fake in fakes)
        return fooled + c.attribute * named, {"fooled": fooled, "drawn": named}
    s, t = judge(batch.x_s, "source"), judge(batch.x_t, "target")
    game = sum(adversarial_loss(real.real, fake.real)
               for real, fake in zip((s, t), fakes)) / 2
    task = F.cross_entropy(s.classes, batch.y_s)
    return game + c.attribute * (task + named), {"task": task, "adv": game, "named": named}
