"""CDLM with what its training lacks: statistics by domain, a conditional discriminator, sure predictions.

Generated from book/src/77_recipe.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Now
from cdlm.methods.cdlm import (
    CDLM,
    CDLMConfig,
    NetworkChoices,
    code_divergence,
    draw_all,
    encode_pair,
    full,
    image_consistency,
    images_to_read,
    objective,
    reach_table,
    reaching,
    reconstructions,
    transfer_codes,
)
from cdlm.methods.parts import (
    conditioned,
    follow,
    followers,
    prediction_entropy,
    ramp,
    second_view,
    self_training_loss,
)
from cdlm.model.codes import Generated
from cdlm.model.gradients import reverse_gradient
from cdlm.model.losses import adversarial_loss
from cdlm.model.networks import Discriminator, Encoder
from cdlm.model.normalization import facing, set_chunks
from cdlm.settings import Amount, Images, Momentum, Settings, Share

__all__ = [
    "Additions",
    "ImprovedCDLM",
    "ImprovedConfig",
    "domain_loss",
    "encoder_with",
    "improved_losses",
    "improved_table",
    "own_loss",
    "read_drawings",
    "taught",
    "teacher_of",
]


# 77_recipe: The model

@dataclass(frozen=True)
class Additions(Settings):
    """What is added to a training; each can be taken away alone."""

    domain_statistics: bool = True  # the encoder normalizes by each domain's own statistics
    standardize: bool = False           # the encoder sees images of mean 0 and deviation 1
    conditional: bool = True            # the discriminator compares domains class by class
    entropy: Amount = 0.1  # greatest weight of the entropy of predictions on the target
    self_training: Amount = 1.0  # and of own predictions as labels of images changed strongly
    confidence: Share = 0.95  # probability from which a prediction is taken for a label
    teacher: Momentum = 0.0  # share of itself that a teacher keeps at each step; 0: no teacher


@dataclass(frozen=True)
class ImprovedConfig(CDLMConfig):
    """Settings of CDLM with additions; without all of them CDLM is left.

    Raises ValueError for what CDLMConfig refuses, and for choices of who is reached that the
    additions do not have.
    """

    additions: Additions = Additions()
    draws_plain: bool = True  # source images are drawn, and read, as before augmentation

    def conflict(self) -> str:
        """What CDLM cannot be, or choices of who is reached that the additions do not have."""
        reached = len(reach_table(self)["task"]) == 3
        return super().conflict() or ("" if reached else "the additions are for a joint "
                                      "classifier that reads drawings, and whose loss reaches "
                                      "everybody")


def improved_table(config: ImprovedConfig, progress: float) -> dict[str, dict[str, float]]:
    """Who is reached by CDLM's losses, and by the two that are added, after a share of
    training."""
    c, everybody = config.additions, ("phi", "theta", "theta_T")
    return reach_table(config) | {
        "entropy": dict.fromkeys(everybody, c.entropy * ramp(progress)),
        "own": dict.fromkeys(everybody, c.self_training * ramp(progress))}


def read_drawings(model: ImprovedCDLM, batch: DomainBatch,
                  images: Generated) -> tuple[Tensor, Tensor, Tensor]:
    """The task loss, and the logits (B, classes) of the translated images of source and
    target, in one call."""
    reads = images_to_read(batch.x_s, images, model.config)
    set_chunks(model.classifier, len(reads) + 1)
    logits = full(model.classifier(torch.cat([*reads, images.x_tilde_t]))).chunk(
        len(reads) + 1)
    task = sum(F.cross_entropy(part, batch.y_s) for part in logits[:-1]) / len(reads)
    return task, logits[-2], logits[-1]


def domain_loss(model: ImprovedCDLM, h: Tensor, logits: Tensor, strength: float) -> Tensor:
    """The adversarial loss on features (2B, latent), the source's first, or on features with
    the classes read from them."""
    seen = conditioned(h, logits) if model.config.additions.conditional else h
    return adversarial_loss(
        *full(model.discriminator(reverse_gradient(seen, strength))).chunk(2))


def own_loss(model: ImprovedCDLM, batch: DomainBatch, logits_t: Tensor, eps: Tensor) -> Tensor:
    """The self-training loss on the translations of strongly changed target images; 0 if it
    has no weight."""
    c, weights = model.config.additions, model.config.weights
    if not c.self_training:
        return logits_t.new_zeros(())
    set_chunks(model, 1)
    with facing(model.encoder, "guest"):
        h = full(model.encoder(second_view(batch)).h)
    again = full(model.classifier(model.decoder(weights.gamma1 * h + weights.gamma2 * eps)))
    told = taught(model, batch.x_t, eps) if model.teacher else logits_t
    return self_training_loss(again, told, c.confidence)


@torch.no_grad()
def taught(model: ImprovedCDLM, x_t: Tensor, eps: Tensor) -> Tensor:
    """What the teacher reads from its translations of target images, as logits (B, classes),
    after it has followed the model by a step."""
    pupils, weights = (model.encoder, model.decoder, model.classifier), model.config.weights
    follow(model.teacher, pupils, model.config.additions.teacher)
    encoder, decoder, classifier = model.teacher
    with facing(encoder, "guest"):
        h = full(encoder(x_t).h)
    return full(classifier(decoder(weights.gamma1 * h + weights.gamma2 * eps)))


def improved_losses(model: ImprovedCDLM, batch: DomainBatch, eps: Tensor,
                    progress: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The objective, and the losses by name, as ``fused_losses`` gives them, with the
    additions."""
    c, table = model.config, improved_table(model.config, progress)
    with facing(model.encoder, "both"):
        s, t = encode_pair(model.encoder, batch)
    if c.draws_plain and batch.x_s_plain is not None:
        batch = replace(batch, x_s=batch.x_s_plain)
    codes = transfer_codes(s, t, eps, c.losses.modulation, c.weights.gamma1, c.weights.gamma2)
    views = draw_all(model.decoder, codes, every=True)
    task, logits_s, logits_t = read_drawings(model, batch, reaching(table["task"], *views))
    adv = domain_loss(model, torch.cat([s.h, t.h]), torch.cat([logits_s, logits_t]),
                      model.strength(progress))
    entropy, own = prediction_entropy(logits_t), own_loss(model, batch, logits_t, eps[-1])
    kl = code_divergence(s, t, c) + code_divergence(t, s, c)
    rec = reconstructions(batch.x_s, views, c)
    consistency = image_consistency(batch, reaching(table["consistency"], *views), c)
    losses = {"rec": rec, "kl": kl, "adv": adv, "consistency": consistency, "task": task,
              "entropy": entropy, "own": own}
    return objective(losses, table), losses | {"rec": rec["theta"]}


def encoder_with(added: Additions, networks: NetworkChoices, images: Images) -> Encoder:
    """An encoder by its settings, with what is added to it."""
    n, x = networks, images
    normalization = "domain" if added.domain_statistics else n.normalization
    return Encoder(n.latent, x.channels, n.width, x.size, normalization, n.tap, n.features,
                   n.activation, added.standardize, n.trunk)


def teacher_of(added: Additions, *pupils: nn.Module) -> nn.ModuleList:
    """Copies that follow networks and label for them; none where nobody asks for labels."""
    return followers(*pupils if added.self_training and added.teacher else ())


class ImprovedCDLM(CDLM):
    """CDLM with statistics by domain, a conditional discriminator, and sure predictions on
    translated images."""

    @classmethod
    def needs_second_view(cls, config: ImprovedConfig) -> bool:
        """Whether, by these settings, each target image has to come twice, once changed
        strongly."""
        return config.additions.self_training > 0

    def __init__(self, config: ImprovedConfig | None = None,
                 images: Images | None = None) -> None:
        super().__init__(config or ImprovedConfig(), images)
        c, networks, x = self.config.additions, self.config.networks, self.images
        self.encoder = encoder_with(c, networks, x)
        self.discriminator = Discriminator(
            networks.latent * (x.classes if c.conditional else 1))
        self.teacher = teacher_of(c, self.encoder, self.decoder, self.classifier)

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """One objective for everybody, and the losses by name; see ``improved_losses``."""
        return improved_losses(self, batch, eps, now.progress)
