"""Cross-domain latent modulation: networks, objectives and who they reach.

Generated from book/src/40_cdlm.md, book/src/71_losses.md, book/src/72_algorithm.md by `make sync`: edit there, not
here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cdlm.data.batches import DomainBatch, normalize
from cdlm.gradients import reversal_strength, reverse_gradient, seam, set_gradients
from cdlm.losses import adversarial_loss, consistency_loss, kl_divergence, reconstruction_loss
from cdlm.methods.base import Learner, Method, linear_decay
from cdlm.modulation import modulate, modulate_pm1, modulate_pm2, reparameterize
from cdlm.nets import Decoder, Discriminator, Encoded, Encoder, TaskClassifier, set_chunks
from cdlm.theory.objective import code_kl, consistency_as_printed, consistency_l1

__all__ = [
    "CDLM",
    "CDLMConfig",
    "CHOICES",
    "Codes",
    "Generated",
    "LossChoices",
    "NetworkChoices",
    "ReachChoices",
    "UpdateChoices",
    "Weights",
    "cdlm_losses",
    "code_divergence",
    "cross_codes",
    "draw_all",
    "encode_pair",
    "full",
    "fused_losses",
    "fused_task",
    "generate",
    "image_consistency",
    "images_to_read",
    "literal_gradients",
    "literal_losses",
    "noise_like",
    "objectives",
    "transfer_code",
    "transfer_codes",
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


# 71_losses: Every choice is a field

@dataclass(frozen=True)
class Weights:
    """Weights of the codes and of the losses, with the paper's values (Section 4)."""

    gamma1: float = 1.0                 # weight of the other domain's features, Eqs. 1-2
    gamma2: float = 0.1                 # weight of the noise, Eqs. 1-2
    lambda1: float = 1e-4               # weight of L_KL for phi, Eq. 21
    lambda2: float = 1e-4               # weight of L_Rec for phi, Eq. 21
    beta1: float = 0.1                  # source consistency, Eq. 20
    beta2: float = 0.01                 # target consistency, Eq. 20


# 71_losses: Every choice is a field

@dataclass(frozen=True)
class LossChoices:
    """How codes are made, and how losses are read."""

    modulation: str = "full"            # "full" (Eqs. 1-2), "pm1" (Eq. 11), "pm2" (Eq. 15) or "none" (a plain VAE)
    kl: str = "base"                    # whose divergence Eq. 18 has: "base", "conditional", "marginal" or "simplified"
    consistency: str = "l2"             # Eq. 20 between images, "l2" or "l1", or between likelihoods, "printed"
    reduction: str = "sum"              # of losses over pixels and latents: "sum" or "mean"
    shared_noise: bool = False          # one noise for all four codes of a pair


# 71_losses: Every choice is a field

@dataclass(frozen=True)
class ReachChoices:
    """Which loss reaches which network, and how strongly."""

    reversal: float = 0.15              # greatest strength of the gradient reversal
    warm_up: bool = True                # whether the reversal grows from 0
    classifier: str = "joint"           # "joint", or "decoupled": then its loss trains nobody but itself
    reads: str = "all"                  # what it learns from: "real" (x_s), "drawn" (x_hat_st and x_tilde_s) or "all"
    task_reaches_encoder: bool = True   # whether L_task is a part of phi's objective
    task_reaches_decoder: bool = True   # and of theta's
    consistency_reaches_encoder: bool = False


# 71_losses: Every choice is a field

@dataclass(frozen=True)
class UpdateChoices:
    """In which order the networks learn, and by which optimizers."""

    updates: str = "simultaneous"       # or "alternating": phi, then theta with codes and images made anew
    inner_phi: int = 1                  # updates of phi in one iteration, if alternating
    inner_theta: int = 1                # updates of theta
    optimizer_phi: str = "sgd"          # "sgd" with momentum, or "adam"
    optimizer_theta: str = "adam"       # also for theta_T and Xi
    lr_phi: float = 0.05
    lr_theta: float = 1e-3
    momentum: float = 0.9


# 71_losses: Every choice is a field

@dataclass(frozen=True)
class NetworkChoices:
    """Sizes and kinds of the networks, and what the features h are made from."""

    channels: int = 1
    size: int = 28                      # height and width of the images: 28, 32 or 64
    classes: int = 10
    width: int = 16                     # channels of the first convolution; UNIT's is 96
    latent: int = 32                    # dimension of mu, sigma and h
    normalization: str = "group"        # "group", "batch" or "none"
    tap: str = "last"                   # the convolution that h is made from: "conv1", "conv2", ... or "last"
    features: str = "deep"              # or "pca": h from principal components of the images
    activation: str = "sigmoid"         # of h, or "linear"


# 71_losses: Every choice is a field

CHOICES = {
    "modulation": ("full", "pm1", "pm2", "none"), "kl": ("base", "conditional", "marginal", "simplified"),
    "consistency": ("l2", "l1", "printed"), "reduction": ("sum", "mean"), "classifier": ("joint", "decoupled"),
    "reads": ("all", "real", "drawn"), "updates": ("simultaneous", "alternating"),
    "optimizer_phi": ("sgd", "adam"), "optimizer_theta": ("sgd", "adam"), "normalization": ("group", "batch", "none"),
    "features": ("deep", "pca"), "activation": ("sigmoid", "linear"),
}


@dataclass(frozen=True)
class CDLMConfig(NetworkChoices, UpdateChoices, ReachChoices, LossChoices, Weights):
    """All settings of CDLM, as fields in five groups; the weights come first.

    Raises ValueError for a word that is not among ``CHOICES``, for a divergence that would be infinite, and for an
    inner loop without an update.
    """

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}")
        if self.kl == "conditional" and self.modulation == "full" and self.gamma2 == 0:
            raise ValueError("kl=conditional needs gamma2 > 0: without noise a code is a point, its divergence infinite")
        if min(self.inner_phi, self.inner_theta) < 1:
            raise ValueError("inner_phi and inner_theta must be at least 1")


# 71_losses: Codes by four maps

def transfer_code(own: Encoded, other: Encoded, eps: Tensor, modulation: str = "full",
                  gamma1: float = 1.0, gamma2: float = 0.1) -> Tensor:
    """Code of one domain under the influence of the other, (batch, latent), by one of the four maps; ``eps`` is normal noise."""
    if modulation == "full":
        return modulate(own.mu, own.sigma, other.h, eps, gamma1, gamma2)        # Eqs. 1-2
    if modulation == "pm1":
        return modulate_pm1(own.mu, own.sigma, other.sigma, eps)                # Eq. 11
    if modulation == "pm2":
        return modulate_pm2(own.mu, other.sigma, eps)                           # Eq. 15
    return reparameterize(own.mu, own.sigma, eps)


# 71_losses: Codes by four maps

def transfer_codes(s: Encoded, t: Encoded, eps: Tensor, modulation: str = "full",
                   gamma1: float = 1.0, gamma2: float = 0.1) -> Codes:
    """Lines 4-5 of Algorithm 1 for given noise ``eps``: (4, batch, latent), or (1, batch, latent) for one noise in all codes."""
    e_st, e_ts, e_s, e_t = eps.expand(4, -1, -1)
    return Codes(z_st=transfer_code(s, t, e_st, modulation, gamma1, gamma2),
                 z_ts=transfer_code(t, s, e_ts, modulation, gamma1, gamma2),
                 u_s=gamma1 * s.h + gamma2 * e_s, u_t=gamma1 * t.h + gamma2 * e_t)


# 71_losses: The divergence in four readings

def code_divergence(own: Encoded, other: Encoded, config: CDLMConfig) -> Tensor:
    """One divergence of Eq. 18 in nats, averaged over the batch: of the code before modulation, or as modulated; a scalar."""
    c = config
    if c.kl == "base" or c.modulation == "none":
        return kl_divergence(own.mu, own.sigma, c.reduction)
    if c.modulation == "full":
        return code_kl(own, other, c.gamma1, c.gamma2, c.kl, c.reduction)
    sigma = (own.sigma + other.sigma) / 2 if c.modulation == "pm1" else other.sigma
    return kl_divergence(own.mu, sigma, c.reduction)


# 71_losses: Consistency in three readings

def image_consistency(batch: DomainBatch, images: Generated, config: CDLMConfig) -> Tensor:
    """L_c of Eq. 20 in the reading of the config; a scalar. The printed one has no mean over pixels."""
    c, four = config, (images.x_hat_st, images.x_tilde_s, images.x_hat_ts, images.x_tilde_t)
    if c.consistency == "printed":
        return consistency_as_printed(batch.x_s, *four[:2], batch.x_t, *four[2:], c.beta1, c.beta2)
    return (consistency_loss if c.consistency == "l2" else consistency_l1)(*four, c.beta1, c.beta2, c.reduction)


# 71_losses: What the classifier reads

def images_to_read(x_s: Tensor, images: Generated, config: CDLMConfig) -> list[Tensor]:
    """What the task classifier learns from: images that show a labeled source image, (B, C, H, W) each."""
    drawn = [images.x_hat_st, images.x_tilde_s] if config.reads != "real" else []
    return ([x_s] if config.reads != "drawn" else []) + drawn


# 71_losses: All losses, and two objectives

def cdlm_losses(model: CDLM, batch: DomainBatch, s: Encoded, t: Encoded, images: Generated,
                strength: float) -> dict[str, Tensor]:
    """Line 7 of Algorithm 1: each loss as a scalar, before the weights lambda (those of Eq. 20 are part of L_c)."""
    c = model.config
    guess_s, guess_t = (model.discriminator(reverse_gradient(h, strength)) for h in (s.h, t.h))
    reads = images_to_read(batch.x_s, images, c)
    if c.classifier == "decoupled":
        reads = [x.detach() for x in reads]
    return {
        "rec": reconstruction_loss(images.x_hat_st, batch.x_s, c.reduction),
        "kl": code_divergence(s, t, c) + code_divergence(t, s, c),
        "adv": adversarial_loss(guess_s, guess_t),
        "consistency": image_consistency(batch, images, c),
        "task": sum(F.cross_entropy(model.classifier(x), batch.y_s) for x in reads) / len(reads),
    }


# 71_losses: All losses, and two objectives

def objectives(loss: dict[str, Tensor], config: CDLMConfig) -> tuple[Tensor, Tensor]:
    """What phi descends (Eq. 21) and what theta descends (Eq. 22), each with the task loss of the joint classifier."""
    phi = loss["adv"] + config.lambda1 * loss["kl"] + config.lambda2 * loss["rec"]
    theta = loss["rec"] + loss["consistency"]
    if config.consistency_reaches_encoder:
        phi = phi + loss["consistency"]
    return (phi + loss["task"] if config.task_reaches_encoder else phi,
            theta + loss["task"] if config.task_reaches_decoder else theta)


# 71_losses: The method

class CDLM(Method):
    """Encoder (phi), decoder (theta), task classifier (theta_T) and discriminator (Xi), and how they learn."""

    def __init__(self, config: CDLMConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or CDLMConfig()
        look = {"channels": c.channels, "width": c.width, "size": c.size, "normalization": c.normalization}
        self.encoder = Encoder(c.latent, **look, tap=c.tap, features=c.features, activation=c.activation)
        self.decoder = Decoder(c.latent, **look)
        self.classifier = TaskClassifier(**look, classes=c.classes)
        self.discriminator = Discriminator(c.latent)
        self.noise = (1 if c.shared_noise else 4, c.latent)

    def learners(self) -> list[Learner]:
        """Encoder, decoder, classifier and discriminator: SGD for phi, Adam for the rest, rates that fall linearly to 0."""
        c, rest = self.config, (self.config.optimizer_theta, self.config.lr_theta)
        parts = {"phi": (self.encoder, c.optimizer_phi, c.lr_phi), "theta": (self.decoder, *rest),
                 "theta_T": (self.classifier, *rest), "xi": (self.discriminator, *rest)}
        return [Learner(name, tuple(part.parameters()), lr, optimizer, c.momentum, linear_decay)
                for name, (part, optimizer, lr) in parts.items()]

    def rounds(self) -> tuple[tuple[str, ...], ...]:
        """All at once, or the inner loops of Algorithm 1: phi with the discriminator, then theta with the classifier."""
        if self.config.updates == "simultaneous":
            return (("phi", "theta", "theta_T", "xi"),)
        return (("phi", "xi"),) * self.config.inner_phi + (("theta", "theta_T"),) * self.config.inner_theta

    def strength(self, progress: float) -> float:
        """Strength of the gradient reversal after a share of training."""
        return reversal_strength(progress, self.config.reversal) if self.config.warm_up else self.config.reversal

    def forward(self, batch: DomainBatch, eps: Tensor, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """One iteration of Algorithm 1 in one pass; see ``fused_losses``."""
        return fused_losses(self, batch, eps, self.strength(progress))

    def prepare(self, source_images: Tensor, target_images: Tensor) -> None:
        """Fit the principal components, if h is made from them; both are bytes (N, C, H, W)."""
        if self.config.features == "pca":
            self.encoder.h.fit(normalize(torch.cat([source_images, target_images])))

    def translate(self, x: Tensor) -> Tensor:
        """Source-like images x_tilde of ``x``, (batch, C, H, W), drawn with a noise that is the same at every call."""
        h, generator = self.encoder(x).h, torch.Generator(x.device).manual_seed(0)
        return self.decoder(self.config.gamma1 * h + self.config.gamma2 * noise_like(h, generator))

    def logits(self, x: Tensor) -> Tensor:
        """Test mode: class logits (batch, classes) of target images, read from their translations."""
        return self.classifier(self.translate(x))


# 72_algorithm: As printed

def literal_losses(model: CDLM, batch: DomainBatch, eps: Tensor, strength: float) -> dict[str, Tensor]:
    """Lines 4-7 of Algorithm 1, line by line: each domain is encoded, each code decoded, each image read by itself."""
    c = model.config
    for network in (model.encoder, model.decoder, model.classifier):
        set_chunks(network, 1)
    s, t = model.encoder(batch.x_s), model.encoder(batch.x_t)
    codes = transfer_codes(s, t, eps, c.modulation, c.gamma1, c.gamma2)
    return cdlm_losses(model, batch, s, t, generate(model.decoder, codes), strength)


# 72_algorithm: As printed

def literal_gradients(model: CDLM, batch: DomainBatch, eps: Tensor, strength: float) -> dict[str, Tensor]:
    """Gradients of Eqs. 21 and 22 by their definition, put into ``.grad`` of all parameters; returns the losses, scalars.

    What ``fused_losses(...)[0].backward()`` has to agree with; for checking, and for reading beside the paper.
    """
    loss = literal_losses(model, batch, eps, strength)
    for_phi, for_theta = objectives(loss, model.config)
    parts = {"adv": model.discriminator, "task": model.classifier}
    set_gradients(for_phi, list(model.encoder.parameters()), retain_graph=True)
    set_gradients(for_theta, list(model.decoder.parameters()), retain_graph=True)
    for name, part in parts.items():
        set_gradients(loss[name], list(part.parameters()), retain_graph=True)
    return loss


# 72_algorithm: CDLM in one pass

def full(x: Tensor) -> Tensor:
    """What autocast left in bfloat16 as float32; sums over pixels need it. Other types stay as they are."""
    return x.float() if x.dtype == torch.bfloat16 else x


# 72_algorithm: CDLM in one pass

def encode_pair(encoder: Encoder, batch: DomainBatch) -> tuple[Encoded, Encoded]:
    """Both halves of a batch in one call of the encoder."""
    set_chunks(encoder, 2)
    s, t = zip(*(full(value).chunk(2) for value in encoder(torch.cat([batch.x_s, batch.x_t]))))
    return Encoded(*s), Encoded(*t)


# 72_algorithm: CDLM in one pass

def draw_all(decoder: Decoder, codes: Codes, every: bool = False) -> tuple[Generated, Generated, Generated]:
    """All generations in one pass of the decoder, three times: for whom they reach (``Reach``).

    The gradient goes on to z_st and u_s, which Eq. 21 and the task loss ask for, or to ``every`` one of the four codes.
    """
    reaching = 4 if every else 2
    set_chunks(decoder, reaching)
    drawn = seam(decoder, torch.cat([codes.z_st, codes.u_s, codes.z_ts, codes.u_t]), reaching * len(codes.z_st))
    return tuple(Generated(x_hat_st, x_hat_ts, x_tilde_s, x_tilde_t)
                 for x_hat_st, x_tilde_s, x_hat_ts, x_tilde_t in (full(view).chunk(4) for view in drawn))


# 72_algorithm: CDLM in one pass

def fused_losses(model: CDLM, batch: DomainBatch, eps: Tensor, strength: float) -> tuple[Tensor, dict[str, Tensor]]:
    """One objective whose gradient is that of Eq. 21 for phi and that of Eq. 22 for theta, and the losses by name."""
    c = model.config
    s, t = encode_pair(model.encoder, batch)
    codes = transfer_codes(s, t, eps, c.modulation, c.gamma1, c.gamma2)
    both, for_phi, for_theta = draw_all(model.decoder, codes, every=c.consistency_reaches_encoder)
    adv = adversarial_loss(*full(model.discriminator(reverse_gradient(torch.cat([s.h, t.h]), strength))).chunk(2))
    kl = code_divergence(s, t, c) + code_divergence(t, s, c)
    rec_phi, rec_theta = (reconstruction_loss(x.x_hat_st, batch.x_s, c.reduction) for x in (for_phi, for_theta))
    consistency = image_consistency(batch, both if c.consistency_reaches_encoder else for_theta, c)
    task = fused_task(model, batch, both, for_phi, for_theta)
    objective = adv + c.lambda1 * kl + c.lambda2 * rec_phi + rec_theta + consistency + task
    return objective, {"rec": rec_theta, "kl": kl, "adv": adv, "consistency": consistency, "task": task}


# 72_algorithm: CDLM in one pass

def fused_task(model: CDLM, batch: DomainBatch, both: Generated, for_phi: Generated, for_theta: Generated) -> Tensor:
    """Cross-entropy over all images that the classifier learns from, in one call; it reaches whom the config says."""
    c = model.config
    phi, theta = (c.classifier == "joint" and reached for reached in (c.task_reaches_encoder, c.task_reaches_decoder))
    images = both if phi and theta else for_phi if phi else for_theta
    reads = images_to_read(batch.x_s, images, c)
    if not (phi or theta):
        reads = [x.detach() for x in reads]
    set_chunks(model.classifier, len(reads))
    return F.cross_entropy(full(model.classifier(torch.cat(reads))), batch.y_s.repeat(len(reads)))
