"""Cross-domain latent modulation: networks, objectives and who they reach.

Generated from book/src/40_cdlm.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.gradients import reversal_strength, reverse_gradient, set_gradients
from cdlm.losses import adversarial_loss, consistency_loss, kl_divergence, reconstruction_loss
from cdlm.modulation import modulate
from cdlm.nets import Decoder, Discriminator, Encoded, Encoder, TaskClassifier

__all__ = [
    "CDLM",
    "CDLMConfig",
    "Codes",
    "Generated",
    "cdlm_losses",
    "cross_codes",
    "generate",
    "noise_like",
    "objectives",
]


# 40_cdlm: Codes and generations

class Codes(NamedTuple):
    """The four codes of a pair of batches, (batch, latent) each."""

    z_st: Tensor
    z_ts: Tensor
    u_s: Tensor
    u_t: Tensor


def cross_codes(s: Encoded, t: Encoded, generator: torch.Generator,
                gamma1: float = 1.0, gamma2: float = 0.1) -> Codes:
    """Lines 4-5 of Algorithm 1: modulate each domain's code by the other's features; each code has its own noise."""
    return Codes(
        z_st=modulate(s.mu, s.sigma, t.h, noise_like(s.mu, generator), gamma1, gamma2),       # Eq. 1
        z_ts=modulate(t.mu, t.sigma, s.h, noise_like(t.mu, generator), gamma1, gamma2),       # Eq. 2
        u_s=gamma1 * s.h + gamma2 * noise_like(s.h, generator),
        u_t=gamma1 * t.h + gamma2 * noise_like(t.h, generator),
    )


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape, type and device of ``x``."""
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


# 40_cdlm: Codes and generations

class Generated(NamedTuple):
    """The four generations, (batch, channels, 28, 28) each, in [-1, 1]."""

    x_hat_st: Tensor
    x_hat_ts: Tensor
    x_tilde_s: Tensor
    x_tilde_t: Tensor


def generate(decoder: Callable[[Tensor], Tensor], codes: Codes) -> Generated:
    """Line 6 of Algorithm 1: the one decoder draws an image from each of the four codes."""
    return Generated(*(decoder(z) for z in codes))


# 40_cdlm: The model

@dataclass(frozen=True)
class CDLMConfig:
    """Settings of CDLM. The first group is the paper's (Section 4); the second it leaves open."""

    gamma1: float = 1.0                 # weight of the other domain's features, Eqs. 1-2
    gamma2: float = 0.1                 # weight of the noise, Eqs. 1-2
    lambda1: float = 1e-4               # weight of L_KL for phi, Eq. 21
    lambda2: float = 1e-4               # weight of L_Rec for phi, Eq. 21
    beta1: float = 0.1                  # source consistency, Eq. 20
    beta2: float = 0.01                 # target consistency, Eq. 20

    channels: int = 1
    width: int = 16                     # channels of the first convolution
    latent: int = 32                    # dimension of mu, sigma and h
    reduction: str = "sum"              # of losses over pixels and latents: "sum" or "mean"
    reversal: float = 0.15              # greatest strength of the gradient reversal
    task_reaches_encoder: bool = True   # whether L_task is a part of phi's objective
    lr_phi: float = 0.05                # SGD with momentum for phi
    momentum: float = 0.9
    lr_theta: float = 1e-3              # Adam for theta, theta_T and Xi


# 40_cdlm: The model

def cdlm_losses(model: CDLM, batch: DomainBatch, s: Encoded, t: Encoded, images: Generated,
                strength: float) -> dict[str, Tensor]:
    """Line 7 of Algorithm 1: each loss as a scalar, before the weights lambda (those of Eq. 20 are part of L_c)."""
    c, reads = model.config, (batch.x_s, images.x_hat_st, images.x_tilde_s)
    guess_s, guess_t = (model.discriminator(reverse_gradient(h, strength)) for h in (s.h, t.h))
    return {
        "rec": reconstruction_loss(images.x_hat_st, batch.x_s, c.reduction),
        "kl": kl_divergence(s.mu, s.sigma, c.reduction) + kl_divergence(t.mu, t.sigma, c.reduction),
        "adv": adversarial_loss(guess_s, guess_t),
        "consistency": consistency_loss(images.x_hat_st, images.x_tilde_s, images.x_hat_ts, images.x_tilde_t,
                                        c.beta1, c.beta2, c.reduction),
        "task": sum(F.cross_entropy(model.classifier(x), batch.y_s) for x in reads) / len(reads),
    }


# 40_cdlm: The model

def objectives(loss: dict[str, Tensor], config: CDLMConfig) -> tuple[Tensor, Tensor]:
    """What phi descends (Eq. 21) and what theta descends (Eq. 22), each with the task loss of the joint classifier."""
    phi = loss["adv"] + config.lambda1 * loss["kl"] + config.lambda2 * loss["rec"]
    theta = loss["rec"] + loss["consistency"] + loss["task"]
    return (phi + loss["task"] if config.task_reaches_encoder else phi), theta


# 40_cdlm: The model

class CDLM(nn.Module):
    """Encoder (phi), decoder (theta), task classifier (theta_T) and discriminator (Xi), and how they learn."""

    def __init__(self, config: CDLMConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or CDLMConfig()
        self.encoder = Encoder(c.latent, c.channels, c.width)
        self.decoder = Decoder(c.latent, c.channels, c.width)
        self.classifier = TaskClassifier(c.channels, c.width)
        self.discriminator = Discriminator(c.latent)

    def configure(self, steps: int) -> None:
        """Get ready for ``steps`` updates: SGD with momentum for phi, Adam for the rest, rates falling linearly to 0."""
        c, self.steps, self.done = self.config, steps, 0
        self.phi, self.xi = list(self.encoder.parameters()), list(self.discriminator.parameters())
        self.theta = [*self.decoder.parameters(), *self.classifier.parameters()]
        self.optimizers = [torch.optim.SGD(self.phi, c.lr_phi, momentum=c.momentum),
                           torch.optim.Adam([*self.theta, *self.xi], c.lr_theta)]
        self.schedules = [torch.optim.lr_scheduler.LinearLR(o, 1.0, 1e-3, steps) for o in self.optimizers]

    def step(self, batch: DomainBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One iteration of Algorithm 1; returns its losses, detached. Call ``configure`` once before."""
        c, s, t = self.config, self.encoder(batch.x_s), self.encoder(batch.x_t)
        images = generate(self.decoder, cross_codes(s, t, generator, c.gamma1, c.gamma2))
        loss = cdlm_losses(self, batch, s, t, images, reversal_strength(self.done / self.steps, c.reversal))
        objective_phi, objective_theta = objectives(loss, c)
        set_gradients(objective_phi, [*self.phi, *self.xi], retain_graph=True)
        set_gradients(objective_theta, self.theta)
        for part in (*self.optimizers, *self.schedules):
            part.step()
        self.done += 1
        return {name: value.detach() for name, value in loss.items()}

    def translate(self, x: Tensor) -> Tensor:
        """Source-like images x_tilde of ``x``, (batch, C, 28, 28), drawn with a noise that is the same at every call."""
        h, generator = self.encoder(x).h, torch.Generator(x.device).manual_seed(0)
        return self.decoder(self.config.gamma1 * h + self.config.gamma2 * noise_like(h, generator))

    def logits(self, x: Tensor) -> Tensor:
        """Test mode: class logits (batch, classes) of target images, read from their translations."""
        return self.classifier(self.translate(x))
