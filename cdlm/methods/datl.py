"""DATL: decoders that exchange their halves.

Generated from book/src/78c_neighbors_codes.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Method, Now, Round
from cdlm.methods.coupled import CoupledEncoder, DrawingConfig, by_adam
from cdlm.methods.generators import Redrawer, fooling_loss
from cdlm.methods.pixelda import pairwise_error
from cdlm.model.losses import adversarial_loss, kl_divergence, reconstruction_loss
from cdlm.model.modulation import reparameterize
from cdlm.model.networks import Decoder, TaskClassifier
from cdlm.settings import Amount, Images, Width

__all__ = [
    "DATL",
    "DATLConfig",
    "DATLNetworks",
    "TRANSITIONS",
    "codes_of",
    "cut_decoder",
    "datl_losses",
    "transition_game",
    "transitions",
]


# 78c_neighbors_codes: DATL: halves of decoders, exchanged

@dataclass(frozen=True)
class DATLConfig(DrawingConfig):
    """Settings of DATL (Hou et al., 2020). Weights are ours: those of UNIT where it has the
    same loss."""

    # channels of what draws; half of the other methods', for what six networks cost.
    # Discriminators and classifier, which only read, have twice as many
    width: Width = 8
    # layers of the decoder in its low half. Theirs are one of six where backgrounds differ,
    # and four of six where shapes do; ours has four layers
    low: Literal[1, 2, 3] = 3
    adversarial: Amount = 1.0           # lambda_0
    rec: Amount = 1e-3                  # lambda_1, of the squared error, summed over pixels
    kl: Amount = 4e-4                   # lambda_2
    content: Amount = 0.1               # lambda_3


TRANSITIONS = {"st": ("source", "target"), "ts": ("target", "source")}


def cut_decoder(latent: int, images: Images, width: int, low: int) -> nn.ModuleList:
    """The high half of a decoder, and the low one, of so many convolutions."""
    layers = list(Decoder(latent, images.channels, width, images.size))
    cut = len(layers) - 1 - low         # what comes last is no convolution
    return nn.ModuleList([nn.Sequential(*layers[:cut]), nn.Sequential(*layers[cut:])])


class DATLNetworks(Method):
    """The networks of DATL, and what they draw and answer."""

    def __init__(self, config: DATLConfig | None = None, images: Images | None = None) -> None:
        super().__init__()
        self.config, self.images = config or DATLConfig(), images or Images()
        c, x = self.config, self.images
        self.encoder = CoupledEncoder(c.latent, x, c.width)
        self.decoders = nn.ModuleDict({domain: cut_decoder(c.latent, x, c.width, c.low)
                                       for domain in ("source", "target")})
        self.redraw = nn.ModuleDict({name: Redrawer(x.channels, c.width)
                                     for name in TRANSITIONS})
        self.discriminators = nn.ModuleDict({
            name: TaskClassifier(x.channels, 2 * c.width, 1, x.size) for name in TRANSITIONS})
        self.classifier = TaskClassifier(x.channels, 2 * c.width, x.classes, x.size)
        self.noise = (2, c.latent)

    def graft(self, z: Tensor, high: str, low: str) -> Tensor:
        """Images (B, C, H, W) by codes z (B, latent), drawn by halves of two domains."""
        return self.decoders[low][1](self.decoders[high][0](z))

    def translate(self, x: Tensor) -> Tensor:
        """Target images (B, C, H, W), drawn in the transition st as the source's are."""
        return self.redraw["st"](self.graft(self.features(x), *TRANSITIONS["st"]))

    def features(self, x: Tensor) -> Tensor:
        """Mean codes (B, latent) of images (B, C, H, W), read as the target's are."""
        return self.encoder(x, "target")[0]

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of target images (B, C, H, W), by their translations."""
        return self.classifier(self.translate(x))


class DATL(DATLNetworks):
    """Coupled encoders, decoders that exchange halves, and GANs that bring target drawings to
    the source's."""

    def learners(self) -> list[Learner]:
        """Discriminators and all others, by Adam."""
        others = nn.ModuleList([self.encoder, self.decoders, self.redraw, self.classifier])
        return by_adam(self.config.lr, xi=self.discriminators, others=others)

    def rounds(self) -> tuple[Round, ...]:
        """First the discriminators, then all others."""
        return Round("discriminator", ("xi",)), Round("drawing", ("others",))

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """What the learners of a round descend."""
        if now.round == "discriminator":
            with torch.no_grad():
                pairs = transitions(self, *codes_of(self, batch, eps)[0])
            game = transition_game(self, pairs)
            return self.config.adversarial * game, {"adv": game}
        return datl_losses(self, batch, eps)


def codes_of(method: DATL, batch: DomainBatch,
             eps: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The codes of both domains, (B, latent) each, and their divergence, a scalar."""
    s, t = method.encoder(batch.x_s, "source"), method.encoder(batch.x_t, "target")
    z = reparameterize(*s, eps[0]), reparameterize(*t, eps[1])
    return z, kl_divergence(*s) + kl_divergence(*t)


def transitions(method: DATL, z_s: Tensor, z_t: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """In each transition, what was drawn of the source, and of the target and redrawn."""
    return {name: (method.graft(z_s, *halves), method.redraw[name](method.graft(z_t, *halves)))
            for name, halves in TRANSITIONS.items()}


def transition_game(method: DATL, pairs: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    """What DATL's discriminators descend, a scalar."""
    return sum(adversarial_loss(*(method.discriminators[name](x).squeeze(1) for x in pair))
               for name, pair in pairs.items())


def datl_losses(method: DATL, batch: DomainBatch,
                eps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What all but the discriminators descend, and the losses by name."""
    c, ((z_s, z_t), kl) = method.config, codes_of(method, batch, eps)
    rec = (reconstruction_loss(method.graft(z_s, "source", "source"), batch.x_s)
           + reconstruction_loss(method.graft(z_t, "target", "target"), batch.x_t))
    pairs = transitions(method, z_s, z_t)
    fooled = sum(fooling_loss(method.discriminators[name](redrawn).squeeze(1))
                 for name, (_, redrawn) in pairs.items())
    content = sum(pairwise_error(*pair) for pair in pairs.values())
    task = sum(F.cross_entropy(method.classifier(x), batch.y_s) for x, _ in pairs.values())
    objective = (task + c.adversarial * fooled + c.rec * rec + c.kl * kl
                 + c.content * content)
    return objective, {"task": task, "fooled": fooled, "rec": rec, "kl": kl,
                       "content": content}
