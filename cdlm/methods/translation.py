"""CDLM without a task: images of one domain drawn as images of the other.

Generated from book/src/84b_translating.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Method, Now, linear_decay
from cdlm.methods.cdlm import (
    CDLMConfig,
    code_divergence,
    draw_all,
    encode_pair,
    full,
    image_consistency,
    objective,
    reaching,
    reconstructions,
    transfer_codes,
)
from cdlm.model.gradients import reversal_strength, reverse_gradient
from cdlm.model.losses import adversarial_loss
from cdlm.model.maps import LocalContrast, MapDecoder, MapDiscriminator, MapEncoder
from cdlm.model.modulation import modulate
from cdlm.model.networks import Decoder, Discriminator, Encoder, conv_block
from cdlm.settings import Amount, Count, Images, Settings

__all__ = [
    "CodeChoices",
    "Translation",
    "TranslationConfig",
    "Translator",
    "as_channels",
    "code_length",
    "code_networks",
    "draw_beside",
    "patch_judge",
    "translation_losses",
    "translation_table",
]


# 84b_translating: The model

@dataclass(frozen=True)
class CodeChoices(Settings):
    """Whether codes have places, and what the encoder looks at."""

    code: Literal["map", "vector"] = "map"  # a vector has ``latent`` numbers
    side: Literal[8, 16] = 8            # places of a map in each direction
    depth: Count = 8                    # numbers at each place
    contrast: bool = False              # the encoder sees local contrast only
    drawn: Literal[1, 3] = 3            # channels of the source's images


@dataclass(frozen=True)
class TranslationConfig(CDLMConfig):
    """Settings of CDLM that translates: without task, with what is added.

    Without the additions, and with a vector, it is the paper's.
    """

    codes: CodeChoices = CodeChoices()
    consistency_phi: Amount = 0.0       # weight of L_c for the encoder
    sharpness: Amount = 0.0             # weight of an adversary on patches of drawings


def code_length(config: TranslationConfig) -> int:
    """Numbers of a code, of all its places together."""
    c = config.codes
    return config.networks.latent if c.code == "vector" else c.depth * c.side**2


def as_channels(x: Tensor, channels: int) -> Tensor:
    """Images (B, C, H, W) with ``channels``: a gray one repeated, or the first of three."""
    return x if x.shape[1] == channels else (
        x.expand(-1, channels, -1, -1) if x.shape[1] == 1 else x[:, :channels])


def code_networks(config: TranslationConfig, images: Images) -> tuple[
        nn.Module, nn.Module, nn.Module, nn.Module]:
    """What the encoder sees of an image, encoder, decoder and discriminator, with codes of the
    kind that a config asks for."""
    n, c = config.networks, config.codes
    look = {"width": n.width, "size": images.size, "normalization": n.normalization}
    seen = 1 if c.contrast else images.channels
    view = LocalContrast() if c.contrast else nn.Identity()
    if c.code == "vector":
        return (view, Encoder(n.latent, seen, **look), Decoder(n.latent, c.drawn, **look),
                Discriminator(n.latent))
    place = {"side": c.side} | look
    return (view, MapEncoder(c.depth, seen, **place), MapDecoder(c.depth, c.drawn, **place),
            MapDiscriminator(c.depth, c.side))


def translation_table(config: TranslationConfig) -> dict[str, dict[str, float]]:
    """Who is reached by which loss, with which weight: phi, theta, xi, and the judge of
    patches."""
    w = config.weights
    table = {"adv": {"phi": 1.0, "xi": 1.0}, "kl": {"phi": w.lambda1},
             "rec": {"phi": w.lambda2, "theta": 1.0},
             "consistency": {"theta": 1.0}}
    if config.consistency_phi:
        table["consistency"]["phi"] = config.consistency_phi
    return table | ({"sharp": {"theta": 1.0, "judge": 1.0}} if config.sharpness else {})


def translation_losses(model: Translation, batch: DomainBatch, eps: Tensor,
                       progress: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The objective, and the losses by name: one pass, as ``fused_losses``, without a task."""
    c, table = model.config, translation_table(model.config)
    x_s = as_channels(batch.x_s, c.codes.drawn)
    s, t = encode_pair(model.encoder, replace(batch, x_s=model.look(batch.x_s),
                                              x_t=model.look(batch.x_t)))
    codes = transfer_codes(s, t, eps, c.losses.modulation, c.weights.gamma1, c.weights.gamma2)
    views = draw_all(model.decoder, codes, every=True)
    reached = {who: image_consistency(batch, reaching((who,), *views), c)
               for who in table["consistency"]}
    strength = reversal_strength(progress, c.reach.reversal)
    adv = adversarial_loss(*full(model.discriminator(
        reverse_gradient(torch.cat([s.h, t.h]), strength))).chunk(2))
    kl = code_divergence(s, t, c) + code_divergence(t, s, c)
    losses = {"rec": reconstructions(x_s, views, c), "kl": kl, "adv": adv,
              "consistency": reached}
    if c.sharpness:
        fake = reverse_gradient(reaching(("theta",), *views).x_tilde_t, c.sharpness)
        losses["sharp"] = adversarial_loss(*full(model.judge(torch.cat([x_s, fake]))).chunk(2))
    told = {name: loss["theta"] if isinstance(loss, dict) else loss
            for name, loss in losses.items()}
    return objective(losses, table), told


def patch_judge(channels: int, width: int) -> nn.Sequential:
    """Images (B, channels, H, W) to a logit for each of their patches; positive means real."""
    return nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2),
                         conv_block(width, 2 * width, 4, 2, 1),
                         nn.Conv2d(2 * width, 1, 3, padding=1))


class Translator(Method):
    """A method that draws, and has no classifier."""

    varies = False          # whether noise, and who stands beside, change what it draws

    def draw(self, x: Tensor, eps: Tensor) -> Tensor:
        """Source-like drawings of images (B, C, H, W) in [-1, 1], by normal noise ``eps``
        (B, length) if it uses any."""
        raise NotImplementedError

    def translate(self, x: Tensor) -> Tensor:
        """Source-like drawings of images (B, C, H, W), without noise."""
        return self.draw(x, x.new_zeros(len(x), self.noise[1]))


class Translation(Translator):
    """CDLM without a task: encoder, decoder and discriminator, and what they draw."""

    varies = True

    def __init__(self, config: TranslationConfig | None = None, images: Images | None = None):
        super().__init__()
        c, self.images = config or TranslationConfig(), images or Images(3, 64, 1)
        self.look, self.encoder, self.decoder, self.discriminator = code_networks(
            c, self.images)
        self.judge = patch_judge(c.codes.drawn, c.networks.width) if c.sharpness else None
        self.config, self.noise = c, (4, code_length(c))

    def learners(self) -> list[Learner]:
        """Encoder, decoder, discriminator and judge, with rates that fall linearly to 0."""
        u = self.config.updates
        parts = {"phi": (self.encoder, u.optimizer_phi, u.lr_phi)} | {
            name: (part, u.optimizer_theta, u.lr_theta) for name, part in (
                ("theta", self.decoder), ("xi", self.discriminator), ("judge", self.judge))
            if part is not None}
        return [Learner(name, tuple(part.parameters()), lr, optimizer, u.momentum,
                        linear_decay) for name, (part, optimizer, lr) in parts.items()]

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """One objective for all, and the losses by name; see ``translation_losses``."""
        return translation_losses(self, batch, eps, now.progress)

    def features(self, x: Tensor) -> Tensor:
        """Features h (B, length) of images (B, C, H, W) in [-1, 1]."""
        return self.encoder(self.look(as_channels(x, self.images.channels))).h

    def draw(self, x: Tensor, eps: Tensor) -> Tensor:
        """x_tilde: drawings from the features of images, by noise (B, length)."""
        w = self.config.weights
        return self.decoder(w.gamma1 * self.features(x) + w.gamma2 * eps)


def draw_beside(model: Translation, x: Tensor, other: Tensor, eps: Tensor) -> Tensor:
    """x_hat_ts: drawings of images (B, C, H, W) from their own code, modulated by the features
    of ``other`` images of the source, by noise (B, length)."""
    w, channels = model.config.weights, model.images.channels
    own = model.encoder(model.look(as_channels(x, channels)))
    return model.decoder(modulate(own.mu, own.sigma, model.features(other), eps, w.gamma1,
                                  w.gamma2))
