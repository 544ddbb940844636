"""Encoder and classifier without a decoder: bounds, baseline and control of the experiments.

Generated from book/src/75_recipe.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.gradients import reversal_strength, reverse_gradient
from cdlm.losses import adversarial_loss
from cdlm.methods.base import Learner, Method, linear_decay
from cdlm.methods.cdlm import full
from cdlm.methods.improved import conditioned, prediction_entropy, ramp, second_view, self_training_loss
from cdlm.nets import Discriminator, Encoder, facing, set_chunks

__all__ = ["Plain", "PlainConfig", "plain_losses"]


# 75_recipe: Without a decoder, and who has what

@dataclass(frozen=True)
class PlainConfig:
    """Settings of an encoder and a classifier without any decoder: bounds, baseline and control, by what is switched on."""

    reversal: float = 0.0               # greatest strength of the gradient reversal; 0 is training on the source alone
    domain_statistics: bool = False     # the four additions, as ImprovedConfig has them
    standardize: bool = False
    conditional: bool = False
    entropy: float = 0.0                # greatest weight of the entropy of predictions on x_t
    self_training: float = 0.0          # greatest weight of own predictions as labels
    confidence: float = 0.95
    normalization: str = "group"        # where there are no statistics by domain
    lr_phi: float = 0.05                # of the encoder, by SGD with momentum
    lr_theta: float = 1e-3              # of classifier and discriminator, by Adam
    momentum: float = 0.9
    channels: int = 1
    size: int = 28
    classes: int = 10
    width: int = 16
    latent: int = 32


# 75_recipe: Without a decoder, and who has what

class Plain(Method):
    """CDLM's encoder up to the features h, a classifier that reads them, and a discriminator that may tell domains apart."""

    def __init__(self, config: PlainConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PlainConfig()
        self.encoder = Encoder(c.latent, c.channels, c.width, c.size, "domain" if c.domain_statistics else c.normalization,
                               standardize=c.standardize)
        self.classifier = nn.Sequential(nn.Linear(c.latent, 128), nn.ReLU(), nn.Linear(128, c.classes))
        self.discriminator = Discriminator(c.latent * (c.classes if c.conditional else 1))
        for head in (self.encoder.mu, self.encoder.log_sigma):
            head.requires_grad_(False)                                  # codes are for a decoder

    def learners(self) -> list[Learner]:
        """As those of CDLM: SGD for the encoder, Adam for the rest, rates that fall linearly to 0."""
        c = self.config
        encoder = tuple(p for p in self.encoder.parameters() if p.requires_grad)
        return [Learner("phi", encoder, c.lr_phi, "sgd", c.momentum, linear_decay),
                *(Learner(name, tuple(part.parameters()), c.lr_theta, schedule=linear_decay)
                  for name, part in (("theta_T", self.classifier), ("xi", self.discriminator)))]

    def forward(self, batch: DomainBatch, eps: Tensor, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """One objective for everybody, and the losses by name; see ``plain_losses``."""
        return plain_losses(self, batch, progress)

    def features(self, x: Tensor) -> Tensor:
        """Features h (B, latent) of images (B, C, H, W) in [-1, 1]."""
        return self.encoder(x).h

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) in [-1, 1]."""
        return self.classifier(self.features(x))


# 75_recipe: Without a decoder, and who has what

def plain_losses(method: Plain, batch: DomainBatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Task, adversarial loss, entropy and self-training; the discriminator learns even where the reversal is 0."""
    c = method.config
    set_chunks(method.encoder, 2)
    with facing(method.encoder, "both"):
        h = full(method.encoder(torch.cat([batch.x_s, batch.x_t])).h)
    logits = full(method.classifier(h))
    logits_s, logits_t = logits.chunk(2)
    seen = conditioned(h, logits) if c.conditional else h
    strength = reversal_strength(progress, c.reversal)
    adv = adversarial_loss(*full(method.discriminator(reverse_gradient(seen, strength))).chunk(2))
    task, entropy, own = F.cross_entropy(logits_s, batch.y_s), prediction_entropy(logits_t), logits.new_zeros(())
    if c.self_training:
        set_chunks(method.encoder, 1)
        with facing(method.encoder, "guest"):
            own = self_training_loss(full(method.logits(second_view(batch))), logits_t, c.confidence)
    return (task + adv + c.entropy * ramp(progress) * entropy + c.self_training * ramp(progress) * own,
            {"task": task, "adv": adv, "entropy": entropy, "own": own})
