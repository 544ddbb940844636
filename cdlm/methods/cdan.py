"""Conditional adversarial training: features that do not tell their domain, class by class.

Generated from book/src/78_neighbors.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.backbone import BackboneConfig, OnFeatures
from cdlm.methods.base import Now
from cdlm.methods.cdlm import full
from cdlm.methods.parts import conditioned
from cdlm.model.gradients import reversal_strength, reverse_gradient
from cdlm.model.losses import adversarial_loss
from cdlm.model.networks import Discriminator
from cdlm.settings import Count, Images, Number

__all__ = ["CDAN", "CDANConfig", "certainty_weights", "entropies", "weighted_adversarial_loss"]


# 78_neighbors: CDAN: features with their classes

@dataclass(frozen=True)
class CDANConfig(BackboneConfig):
    """Settings of CDAN; the authors' program is that for USPS and MNIST (Long et al., 2018).

    They train by SGD with rate 0.01, halved every few epochs, and begin to adapt after the
    first epoch.
    """

    # greatest strength of the reversal; theirs is 1 for the mean over both domains, which is
    # half of our sum of two means
    weight: Number = 0.5
    by_entropy: bool = True             # "+E", their better variant
    hidden: Count = 500                 # units of the discriminator, which has two such layers


def entropies(logits: Tensor) -> Tensor:
    """Entropy in nats of each prediction by its logits (B, classes): (B,)."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def certainty_weights(logits: Tensor, strength: float = 0.0) -> Tensor:
    """Weights (B,) of mean 1, larger for surer predictions by logits (B, classes).

    The gradient that comes back through the entropy is reversed, times ``strength``.
    """
    weights = 1 + torch.exp(-reverse_gradient(entropies(logits), strength))
    return weights / weights.mean().detach()


def weighted_adversarial_loss(logits_s: Tensor, logits_t: Tensor, w_s: Tensor,
                              w_t: Tensor) -> Tensor:
    """``adversarial_loss`` with a weight for each image; all are (B,)."""
    return (w_s * F.softplus(-logits_s)).mean() + (w_t * F.softplus(logits_t)).mean()


class CDAN(OnFeatures):
    """Features of which, together with their predicted classes, nobody can tell the domain."""

    def __init__(self, config: CDANConfig | None = None, images: Images | None = None) -> None:
        super().__init__(config or CDANConfig(), images)
        latent, classes = self.config.networks.latent, self.images.classes
        self.discriminator = Discriminator(latent * classes, self.config.hidden)

    def readers(self) -> dict[str, nn.Module]:
        """Classifier and discriminator."""
        return super().readers() | {"xi": self.discriminator}

    def losses(self, batch: DomainBatch, h_s: Tensor, h_t: Tensor,
               progress: float) -> dict[str, Tensor]:
        """The losses by name, from features (B, latent) of both domains."""
        g_s, g_t = self.classify(h_s, h_t)
        strength = reversal_strength(progress, self.config.weight)
        seen = torch.cat([conditioned(h_s, g_s), conditioned(h_t, g_t)])
        guesses = full(self.discriminator(reverse_gradient(seen, strength))).chunk(2)
        adv = adversarial_loss(*guesses)
        if self.config.by_entropy:
            adv = weighted_adversarial_loss(*guesses, certainty_weights(g_s, strength),
                                            certainty_weights(g_t, strength))
        return {"task": F.cross_entropy(g_s, batch.y_s), "adv": adv}

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """Task and adversarial loss, added; the reversal holds the weight."""
        found = self.losses(batch, *self.encode(batch.x_s, batch.x_t), now.progress)
        return sum(found.values()), found
