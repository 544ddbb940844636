"""Encoder and classifier without a decoder: bounds, baseline and control of the experiments.

Generated from book/src/77_recipe.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Method, Now, linear_decay
from cdlm.methods.cdlm import NetworkChoices, fit_components, full, objective
from cdlm.methods.improved import Additions, encoder_with, teacher_of
from cdlm.methods.parts import (
    conditioned,
    follow,
    prediction_entropy,
    ramp,
    second_view,
    self_training_loss,
)
from cdlm.model.gradients import reversal_strength, reverse_gradient
from cdlm.model.losses import adversarial_loss
from cdlm.model.networks import Discriminator, Encoder, ungrouped
from cdlm.model.normalization import facing, set_chunks
from cdlm.settings import Amount, Images, Momentum, Number, Settings

__all__ = ["Plain", "PlainConfig", "plain_networks", "plain_table"]


# 77_recipe: Without a decoder, and who has what

@dataclass(frozen=True)
class PlainConfig(Settings):
    """Settings of an encoder and a classifier without any decoder: bounds, baseline and
    control, by what is switched on."""

    additions: Additions = Additions(domain_statistics=False, conditional=False, entropy=0.0,
                                     self_training=0.0)
    # greatest strength of the gradient reversal; 0 is training on the source alone
    reversal: Number = 0.0
    networks: NetworkChoices = NetworkChoices()
    lr_phi: Amount = 0.05               # of the encoder, by SGD with momentum
    lr_theta: Amount = 1e-3             # of classifier and discriminator, by Adam
    momentum: Momentum = 0.9

    def conflict(self) -> str:
        """A width that cannot be normalized in groups."""
        c = self.networks
        grouped = c.normalization == "group" and not self.additions.domain_statistics
        return ungrouped(c.width, 3) if grouped else ""


def plain_table(config: PlainConfig, progress: float) -> dict[str, dict[str, float]]:
    """Who is reached by the losses of a method without a decoder, with which weight, after a
    share of training."""
    c = config.additions
    return {"task": {"phi": 1.0, "theta_T": 1.0}, "adv": {"phi": 1.0, "xi": 1.0},
            "entropy": dict.fromkeys(("phi", "theta_T"), c.entropy * ramp(progress)),
            "own": dict.fromkeys(("phi", "theta_T"), c.self_training * ramp(progress))}


def plain_networks(config: PlainConfig, images: Images) -> tuple[
        Encoder, nn.Sequential, Discriminator, nn.ModuleList]:
    """Encoder, classifier, discriminator and teacher of a method without a decoder; what makes
    codes of features is never trained."""
    added, latent = config.additions, config.networks.latent
    encoder = encoder_with(added, config.networks, images)
    for head in (encoder.mu, encoder.log_sigma):
        head.requires_grad_(False)  # codes are for a decoder
    classifier = nn.Sequential(nn.Linear(latent, 128), nn.ReLU(),
                               nn.Linear(128, images.classes))
    compared = latent * (images.classes if added.conditional else 1)
    return encoder, classifier, Discriminator(compared), teacher_of(added, encoder, classifier)


class Plain(Method):
    """CDLM's encoder up to the features h, a classifier that reads them, and a discriminator
    that may tell domains apart."""

    @classmethod
    def needs_second_view(cls, config: PlainConfig) -> bool:
        """Whether, by these settings, each target image has to come twice, once changed
        strongly."""
        return config.additions.self_training > 0

    def __init__(self, config: PlainConfig | None = None,
                 images: Images | None = None) -> None:
        super().__init__()
        self.config, self.images = config or PlainConfig(), images or Images()
        self.encoder, self.classifier, self.discriminator, self.teacher = plain_networks(
            self.config, self.images)

    def learners(self) -> list[Learner]:
        """As those of CDLM: SGD for the encoder, Adam for the rest, rates that fall linearly
        to 0."""
        c = self.config
        encoder = tuple(p for p in self.encoder.parameters() if p.requires_grad)
        return [Learner("phi", encoder, c.lr_phi, "sgd", c.momentum, linear_decay), *(
            Learner(name, tuple(part.parameters()), c.lr_theta, schedule=linear_decay)
            for name, part in (("theta_T", self.classifier), ("xi", self.discriminator)))]

    def prepare(self, source_images: Tensor, target_images: Tensor) -> None:
        """Fit the principal components, if h is made from them; both are bytes (N, C,
        H, W)."""
        fit_components(self, source_images, target_images)

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """One objective for everybody, and the losses by name; see ``plain_losses``."""
        return plain_losses(self, batch, now.progress)

    def features(self, x: Tensor) -> Tensor:
        """Features h (B, latent) of images (B, C, H, W) in [-1, 1]."""
        return self.encoder(x).h

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) in [-1, 1]."""
        return self.classifier(self.features(x))


@torch.no_grad()
def plain_taught(method: Plain, x_t: Tensor) -> Tensor:
    """What the teacher says of target images, as logits (B, classes), after it has followed
    the method by a step."""
    pupils, keep = (method.encoder, method.classifier), method.config.additions.teacher
    follow(method.teacher, pupils, keep)
    encoder, classifier = method.teacher
    with facing(encoder, "guest"):
        return full(classifier(full(encoder(x_t).h)))


def plain_losses(method: Plain, batch: DomainBatch,
                 progress: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Task, adversarial loss, entropy and self-training; the discriminator learns even where
    the reversal is 0."""
    c = method.config.additions
    set_chunks(method.encoder, 2)
    with facing(method.encoder, "both"):
        h = full(method.encoder(torch.cat([batch.x_s, batch.x_t])).h)
    logits = full(method.classifier(h))
    logits_s, logits_t = logits.chunk(2)
    seen = conditioned(h, logits) if c.conditional else h
    strength = reversal_strength(progress, method.config.reversal)
    adv = adversarial_loss(
        *full(method.discriminator(reverse_gradient(seen, strength))).chunk(2))
    task, entropy, own = (F.cross_entropy(logits_s, batch.y_s), prediction_entropy(logits_t),
                          logits.new_zeros(()))
    if c.self_training:
        set_chunks(method.encoder, 1)
        told = plain_taught(method, batch.x_t) if method.teacher else logits_t
        with facing(method.encoder, "guest"):
            own = self_training_loss(full(method.logits(second_view(batch))), told,
                                     c.confidence)
    losses = {"task": task, "adv": adv, "entropy": entropy, "own": own}
    return objective(losses, plain_table(method.config, progress)), losses
