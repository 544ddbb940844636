"""Generate to Adapt: features of both domains from which source images can be drawn.

Generated from book/src/78b_neighbors_pixels.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.backbone import BackboneConfig, OnFeatures
from cdlm.methods.base import Now, Round
from cdlm.methods.cdlm import full
from cdlm.methods.generators import Painter, fooling_loss
from cdlm.model.losses import adversarial_loss
from cdlm.model.networks import conv_block
from cdlm.settings import Amount, Count, Images

__all__ = ["GtA", "GtAConfig", "TwoAnswers", "gta_step"]


# 78b_neighbors_pixels: GtA: features from which the source can be drawn

@dataclass(frozen=True)
class GtAConfig(BackboneConfig):
    """Settings of Generate to Adapt (Sankaranarayanan et al., 2018); the authors' program is
    that for SVHN and MNIST.

    They train all networks by Adam with rate 5e-4 and momentum 0.8, those but the generator
    with a rate that falls as 1 / (1 + 1e-4 step), in batches of 100, for 100 epochs.
    """

    adversarial: Amount = 0.1           # alpha, their "adv_weight"
    confusion: Amount = 0.3             # beta, their "alpha": of the target's part in it
    noise_length: Count = 512           # of z


class TwoAnswers(nn.Module):
    """Images (B, C, S, S) to a score (B,), high for real, and class logits (B, classes)."""

    def __init__(self, trunk: nn.Module, numbers: int, classes: int = 10) -> None:
        """``trunk`` makes vectors of so many ``numbers`` from images."""
        super().__init__()
        self.trunk = trunk
        self.real, self.classes = (nn.Linear(numbers, n) for n in (1, classes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.trunk(x)
        return full(self.real(found)).squeeze(1), full(self.classes(found))


class GtA(OnFeatures):
    """A classifier on features from which source images can be drawn, whatever the domain."""

    def __init__(self, config: GtAConfig | None = None, images: Images | None = None) -> None:
        super().__init__(config or GtAConfig(), images)
        c, n, x = self.config, self.config.networks, self.images
        w, kind, told = n.width, n.normalization, n.latent + x.classes + 1 + c.noise_length
        self.generator = Painter(told, x.channels, w, x.size, kind)
        trunk = nn.Sequential(
            nn.PixelUnshuffle(4), conv_block(16 * x.channels, 2 * w, 3, 1, 1, kind),
            conv_block(2 * w, 4 * w, 3, 2, 1, kind), nn.Flatten())
        numbers = 4 * w * math.ceil(x.size / 8) ** 2
        self.discriminator = TwoAnswers(trunk, numbers, x.classes)
        self.noise = (2, c.noise_length)

    def readers(self) -> dict[str, nn.Module]:
        """Classifier, generator and discriminator."""
        return super().readers() | {"theta_G": self.generator, "xi": self.discriminator}

    def rounds(self) -> tuple[Round, ...]:
        """Discriminator, generator, and then encoder and classifier, who share a pass."""
        return (Round("judge", ("xi",)), Round("draw", ("theta_G",)),
                Round("read", ("phi", "theta_T")))

    def draw(self, h: Tensor, labels: Tensor, z: Tensor) -> Tensor:
        """Images drawn from features (B, latent), labels (B,), of which K is "target", and
        noise (B, length)."""
        told = F.one_hot(labels, self.images.classes + 1).to(h.dtype)
        return self.generator(torch.cat([h, told, z], 1))

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """What the learners of a round descend; see ``gta_step``."""
        return gta_step(self, batch, eps, now.round)


def gta_step(method: GtA, batch: DomainBatch, eps: Tensor,
             step: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Objective and losses of the round "judge", "draw" or "read"."""
    c, y, judge = method.config, batch.y_s, method.discriminator
    unknown = torch.full_like(y, method.images.classes)
    seen = (batch.x_s,) if step == "draw" else (batch.x_s, batch.x_t)
    with torch.set_grad_enabled(step == "read"):
        h_s, *h_t = method.encode(*seen)
    with torch.set_grad_enabled(step != "judge"):
        drawn_s = method.draw(h_s, y, eps[0])
        drawn_t = [method.draw(h, unknown, eps[1]) for h in h_t]
    score, named = judge(drawn_s)
    if step == "draw":
        found = {"fooling": fooling_loss(score), "drawn class": F.cross_entropy(named, y)}
        return sum(found.values()), found
    if step == "judge":
        real, known = judge(batch.x_s)
        found = {"real class": F.cross_entropy(known, y),
                 "domain": adversarial_loss(real, score)
                 + F.softplus(judge(*drawn_t)[0]).mean()}
        return sum(found.values()), found
    found = {"task": F.cross_entropy(method.classify(h_s)[0], y),
             "source part": F.cross_entropy(named, y),
             "target part": fooling_loss(judge(*drawn_t)[0])}
    opinion = found["source part"] + c.confusion * found["target part"]
    return found["task"] + c.adversarial * opinion, found
