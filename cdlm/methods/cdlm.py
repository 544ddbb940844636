"""Cross-domain latent modulation: networks, objectives and who they reach.

Generated from book/src/71_losses.md, book/src/72_algorithm.md by `make sync`: edit there, not
here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch, normalize
from cdlm.methods.base import Learner, Method, Now, Round, linear_decay
from cdlm.model.codes import Codes, Generated, generate, noise_like
from cdlm.model.gradients import reversal_strength, reverse_gradient, seam, set_gradients
from cdlm.model.losses import (
    adversarial_loss,
    consistency_as_printed,
    consistency_l1,
    consistency_loss,
    kl_divergence,
    reconstruction_loss,
)
from cdlm.model.modulation import modulate, modulate_pm1, modulate_pm2, reparameterize
from cdlm.model.moments import code_kl
from cdlm.model.networks import (
    Decoder,
    Discriminator,
    Encoded,
    Encoder,
    PCAFeatures,
    TaskClassifier,
    networks_of,
    tap_place,
    ungrouped,
)
from cdlm.model.normalization import set_chunks
from cdlm.settings import Amount, Count, Images, Length, Momentum, Number, Settings, Width

__all__ = [
    "CDLM",
    "CDLMConfig",
    "CDLMNetworks",
    "LossChoices",
    "NetworkChoices",
    "ReachChoices",
    "UpdateChoices",
    "Weights",
    "cdlm_losses",
    "code_divergence",
    "column",
    "draw_all",
    "encode_pair",
    "fit_components",
    "full",
    "fused_losses",
    "fused_task",
    "image_consistency",
    "images_to_read",
    "literal_gradients",
    "literal_losses",
    "objective",
    "objectives",
    "point_code",
    "reach_table",
    "reaching",
    "reconstructions",
    "transfer_code",
    "transfer_codes",
]


# 71_losses: Every choice is a field

@dataclass(frozen=True)
class Weights(Settings):
    """Weights of the codes and of the losses, with the paper's values (Section 4)."""

    gamma1: Number = 1.0                # weight of the other domain's features, Eqs. 1-2
    gamma2: Number = 0.1                # weight of the noise, Eqs. 1-2
    lambda1: Amount = 1e-4              # weight of L_KL for phi, Eq. 21
    lambda2: Amount = 1e-4              # weight of L_Rec for phi, Eq. 21
    beta1: Amount = 0.1                 # source consistency, Eq. 20
    beta2: Amount = 0.01                # target consistency, Eq. 20


@dataclass(frozen=True)
class LossChoices(Settings):
    """How codes are made, and how losses are read."""

    # Eqs. 1-2, Eq. 11, Eq. 15, or a plain VAE
    modulation: Literal["full", "pm1", "pm2", "none"] = "full"
    # whose divergence Eq. 18 has
    kl: Literal["base", "conditional", "marginal", "simplified"] = "base"
    # Eq. 20 between images, or as printed, between likelihoods
    consistency: Literal["l2", "l1", "printed"] = "l2"
    reduction: Literal["sum", "mean"] = "sum"               # of losses over pixels and latents
    shared_noise: bool = False  # one noise for all four codes of a pair


@dataclass(frozen=True)
class ReachChoices(Settings):
    """Which loss reaches which network, and how strongly."""

    reversal: Number = 0.15             # greatest strength of the gradient reversal
    warm_up: bool = True                # whether the reversal grows from 0
    # decoupled, its loss trains nobody but itself
    classifier: Literal["joint", "decoupled"] = "joint"
    # what it learns from: x_s, or x_hat_st and x_tilde_s, or all
    reads: Literal["all", "real", "drawn"] = "all"
    task_reaches_encoder: bool = True   # whether L_task is a part of phi's objective
    task_reaches_decoder: bool = True   # and of theta's
    consistency_reaches_encoder: bool = False


@dataclass(frozen=True)
class UpdateChoices(Settings):
    """In which order the networks learn, and by which optimizers."""

    # or phi, then theta with all made anew
    updates: Literal["simultaneous", "alternating"] = "simultaneous"
    inner_phi: Count = 1                # updates of phi in one iteration, if alternating
    inner_theta: Count = 1              # updates of theta
    optimizer_phi: Literal["sgd", "adam"] = "sgd"           # "sgd" is with momentum
    optimizer_theta: Literal["sgd", "adam"] = "adam"        # also for theta_T and Xi
    lr_phi: Amount = 0.05
    lr_theta: Amount = 1e-3
    momentum: Momentum = 0.9


@dataclass(frozen=True)
class NetworkChoices(Settings):
    """Sizes and kinds of the networks, and what the features h are made from."""

    width: Width = 16                   # channels of the first convolution; UNIT's is 96
    latent: Length = 32                 # dimension of mu, sigma and h
    normalization: Literal["group", "batch", "none"] = "group"
    tap: str = "last"  # the convolution that h is made from: "conv1", "conv2", ... or "last"
    # h from the encoder, or from principal components
    features: Literal["deep", "pca"] = "deep"
    activation: Literal["sigmoid", "linear"] = "sigmoid"    # of h
    # four convolutions, or residual blocks; the decoder to match
    trunk: Literal["unit", "residual"] = "unit"


def point_code(config: CDLMConfig) -> str:
    """Why a config's divergence would be infinite, or of a negative deviation; else ""."""
    g, kl = config.weights, config.losses.kl
    wanting = {"conditional": "" if g.gamma2 > 0 else "gamma2 > 0",
               "marginal": "" if g.gamma1 or g.gamma2 else "gamma1 or gamma2 other than 0",
               "simplified": "" if g.gamma1 > 0 else "gamma1 > 0"}
    if config.losses.modulation != "full" or not wanting.get(kl):
        return ""
    return (f"kl={kl} needs {wanting[kl]}: "
            "without a deviation a code is a point, its divergence infinite")


@dataclass(frozen=True)
class CDLMConfig(Settings):
    """All settings of CDLM, in five groups.

    Raises ValueError for what the annotation of a field does not allow, and for what cannot be
    together.
    """

    weights: Weights = Weights()
    losses: LossChoices = LossChoices()
    reach: ReachChoices = ReachChoices()
    updates: UpdateChoices = UpdateChoices()
    networks: NetworkChoices = NetworkChoices()

    def conflict(self) -> str:
        """A tap that there is not, a width that cannot be normalized in groups,
        or a divergence that would be infinite."""
        c = self.networks
        try:
            tap_place(c.tap, c.features, 5)     # the most that any size of images has
        except ValueError as error:
            return str(error)
        uneven = ungrouped(c.width, 3) if c.normalization == "group" else ""
        return uneven or point_code(self)


# 71_losses: Codes by four maps

def transfer_code(own: Encoded, other: Encoded, eps: Tensor, modulation: str = "full",
                  gamma1: float = 1.0, gamma2: float = 0.1) -> Tensor:
    """Code of one domain under the influence of the other, (batch, latent), by one of the four
    maps; ``eps`` is normal noise."""
    if modulation == "full":
        return modulate(own.mu, own.sigma, other.h, eps, gamma1, gamma2)        # Eqs. 1-2
    if modulation == "pm1":
        return modulate_pm1(own.mu, own.sigma, other.sigma, eps)                # Eq. 11
    if modulation == "pm2":
        return modulate_pm2(own.mu, other.sigma, eps)                           # Eq. 15
    return reparameterize(own.mu, own.sigma, eps)


def transfer_codes(s: Encoded, t: Encoded, eps: Tensor, modulation: str = "full",
                   gamma1: float = 1.0, gamma2: float = 0.1) -> Codes:
    """Lines 4-5 of Algorithm 1 for given noise ``eps``: (4, batch, latent), or
    (1, batch, latent) for one noise in all codes."""
    e_st, e_ts, e_s, e_t = eps.expand(4, -1, -1)
    return Codes(z_st=transfer_code(s, t, e_st, modulation, gamma1, gamma2),
                 z_ts=transfer_code(t, s, e_ts, modulation, gamma1, gamma2),
                 u_s=gamma1 * s.h + gamma2 * e_s, u_t=gamma1 * t.h + gamma2 * e_t)


# 71_losses: The divergence in four readings

def code_divergence(own: Encoded, other: Encoded, config: CDLMConfig) -> Tensor:
    """One divergence of Eq. 18 in nats, averaged over the batch: of the code before
    modulation, or as modulated; a scalar."""
    c, g = config.losses, config.weights
    if c.kl == "base" or c.modulation == "none":
        return kl_divergence(own.mu, own.sigma, c.reduction)
    if c.modulation == "full":
        return code_kl(own, other, g.gamma1, g.gamma2, c.kl, c.reduction)
    sigma = (own.sigma + other.sigma) / 2 if c.modulation == "pm1" else other.sigma
    return kl_divergence(own.mu, sigma, c.reduction)


# 71_losses: Consistency in three readings

def image_consistency(batch: DomainBatch, images: Generated, config: CDLMConfig) -> Tensor:
    """L_c of Eq. 20 in the reading of the config; a scalar.

    The printed one has no mean over pixels.
    """
    four = images.x_hat_st, images.x_tilde_s, images.x_hat_ts, images.x_tilde_t
    betas = config.weights.beta1, config.weights.beta2
    if config.losses.consistency == "printed":
        return consistency_as_printed(batch.x_s, *four[:2], batch.x_t, *four[2:], *betas)
    compare = consistency_loss if config.losses.consistency == "l2" else consistency_l1
    return compare(*four, *betas, config.losses.reduction)


# 71_losses: What the classifier reads

def images_to_read(x_s: Tensor, images: Generated, config: CDLMConfig) -> list[Tensor]:
    """What the task classifier learns from: images that show a labeled source image,
    (B, C, H, W) each."""
    drawn = [images.x_hat_st, images.x_tilde_s] if config.reach.reads != "real" else []
    return ([x_s] if config.reach.reads != "drawn" else []) + drawn


# 71_losses: All losses, and two objectives

def cdlm_losses(model: CDLM, batch: DomainBatch, s: Encoded, t: Encoded, images: Generated,
                strength: float) -> dict[str, Tensor]:
    """Line 7 of Algorithm 1: each loss as a scalar, before the weights lambda (those of Eq. 20
    are part of L_c)."""
    c = model.config
    guess_s, guess_t = (model.discriminator(reverse_gradient(h, strength)) for h in (s.h, t.h))
    reads = images_to_read(batch.x_s, images, c)
    return {
        "rec": reconstruction_loss(images.x_hat_st, batch.x_s, c.losses.reduction),
        "kl": code_divergence(s, t, c) + code_divergence(t, s, c),
        "adv": adversarial_loss(guess_s, guess_t),
        "consistency": image_consistency(batch, images, c),
        "task": sum(F.cross_entropy(model.classifier(x), batch.y_s) for x in reads)
        / len(reads),
    }


def reach_table(config: CDLMConfig) -> dict[str, dict[str, float]]:
    """For each loss the learners that it reaches, with its weight for them: phi, theta,
    theta_T and xi.

    The adversarial loss is reversed on its way to phi, by a layer whose strength is another
    factor.
    """
    r, everybody = config.reach, ("phi", "theta", "theta_T")
    told = {"phi": r.task_reaches_encoder, "theta": r.task_reaches_decoder, "theta_T": True}
    if r.classifier == "decoupled" or r.reads == "real":
        told |= {"phi": False, "theta": False}
    return {
        "adv": {"phi": 1.0, "xi": 1.0},
        "kl": {"phi": config.weights.lambda1},
        "rec": {"phi": config.weights.lambda2, "theta": 1.0},
        "consistency": {"phi": 1.0, "theta": 1.0}
        if r.consistency_reaches_encoder else {"theta": 1.0},
        "task": {learner: 1.0 for learner in everybody if told[learner]},
    }


def column(table: dict[str, dict[str, float]], learner: str) -> dict[str, dict[str, float]]:
    """Of a table of who is reached the part of one learner."""
    return {name: {learner: row[learner]} for name, row in table.items() if learner in row}


def objective(losses: Mapping[str, Tensor | dict[str, Tensor]],
              table: dict[str, dict[str, float]]) -> Tensor:
    """What is descended: each loss of a table of who is reached times its weight, added row by
    row; a scalar.

    A loss whose weight is not the same for all that it reaches comes as a dict, with a scalar
    for each learner.
    """
    terms = []
    for name, row in table.items():
        parts = (losses[name]
                 if isinstance(losses[name], dict) else {next(iter(row)): losses[name]})
        terms += [row[learner] * part for learner, part in parts.items()]
    return sum(terms[1:], terms[0])


def objectives(losses: dict[str, Tensor], config: CDLMConfig) -> tuple[Tensor, Tensor]:
    """What phi descends (Eq. 21) and what theta descends (Eq. 22), each with the task loss of
    the joint classifier."""
    table = reach_table(config)
    return objective(losses, column(table, "phi")), objective(losses, column(table, "theta"))


# 71_losses: The method

class CDLMNetworks(Method):
    """Encoder (phi), decoder (theta), task classifier (theta_T) and discriminator (Xi), and
    what they read, draw and answer."""

    paths = ("x_t", "x_hat_ts", "x_tilde_t")

    def __init__(self, config: CDLMConfig | None = None, images: Images | None = None) -> None:
        super().__init__()
        self.config, self.images = config or CDLMConfig(), images or Images()
        c, x = self.config.networks, self.images
        look = {"channels": x.channels, "width": c.width, "size": x.size,
                "normalization": c.normalization}
        self.encoder = Encoder(c.latent, **look, tap=c.tap, features=c.features,
                               activation=c.activation, trunk=c.trunk)
        self.decoder = networks_of(c.trunk)[1](c.latent, **look)
        self.classifier = TaskClassifier(**look, classes=x.classes)
        self.discriminator = Discriminator(c.latent)
        self.noise = (1 if self.config.losses.shared_noise else 4, c.latent)

    def features(self, x: Tensor) -> Tensor:
        """Features h (B, latent) of images (B, C, H, W) in [-1, 1]."""
        return self.encoder(x).h

    def read(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) as they are, drawn or not."""
        return self.classifier(x)

    def translate(self, x: Tensor) -> Tensor:
        """Source-like images x_tilde of ``x``, (batch, C, H, W), drawn with a noise that is
        the same at every call."""
        h, generator = self.encoder(x).h, torch.Generator(x.device).manual_seed(0)
        c = self.config.weights
        return self.decoder(c.gamma1 * h + c.gamma2 * noise_like(h, generator))

    def logits(self, x: Tensor) -> Tensor:
        """Test mode: class logits (batch, classes) of target images, read from their
        translations."""
        return self.classifier(self.translate(x))


def fit_components(network: nn.Module, *images: Tensor) -> None:
    """Fit all principal components in a network to images of all domains, bytes (N, C, H, W)
    each; without any, nothing is done."""
    for module in network.modules():
        if isinstance(module, PCAFeatures):
            module.fit(normalize(torch.cat(images)))


class CDLM(CDLMNetworks):
    """The networks of CDLM, and how they learn."""

    def learners(self) -> list[Learner]:
        """Encoder, decoder, classifier and discriminator: SGD for phi, Adam for the rest,
        rates that fall linearly to 0."""
        c = self.config.updates
        rest = (c.optimizer_theta, c.lr_theta)
        parts = {"phi": (self.encoder, c.optimizer_phi, c.lr_phi),
                 "theta": (self.decoder, *rest), "theta_T": (self.classifier, *rest),
                 "xi": (self.discriminator, *rest)}
        return [Learner(name, tuple(part.parameters()), lr, optimizer, c.momentum,
                        linear_decay) for name, (part, optimizer, lr) in parts.items()]

    def rounds(self) -> tuple[Round, ...]:
        """All at once, or the inner loops of Algorithm 1: phi with the discriminator, then
        theta with the classifier."""
        c = self.config.updates
        if c.updates == "simultaneous":
            return super().rounds()
        inner = Round("inference", ("phi", "xi")), Round("generation", ("theta", "theta_T"))
        return inner[:1] * c.inner_phi + inner[1:] * c.inner_theta

    def strength(self, progress: float) -> float:
        """Strength of the gradient reversal after a share of training."""
        c = self.config.reach
        return reversal_strength(progress, c.reversal) if c.warm_up else c.reversal

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """One iteration of Algorithm 1 in one pass; see ``fused_losses``."""
        return fused_losses(self, batch, eps, self.strength(now.progress))

    def prepare(self, source_images: Tensor, target_images: Tensor) -> None:
        """Fit the principal components, if h is made from them; both are bytes (N, C,
        H, W)."""
        fit_components(self, source_images, target_images)


# 72_algorithm: As printed

def literal_losses(model: CDLM, batch: DomainBatch, eps: Tensor,
                   strength: float) -> dict[str, Tensor]:
    """Lines 4-7 of Algorithm 1, line by line: each domain is encoded, each code decoded, each
    image read by itself."""
    c = model.config
    for network in (model.encoder, model.decoder, model.classifier):
        set_chunks(network, 1)
    s, t = model.encoder(batch.x_s), model.encoder(batch.x_t)
    codes = transfer_codes(s, t, eps, c.losses.modulation, c.weights.gamma1, c.weights.gamma2)
    return cdlm_losses(model, batch, s, t, generate(model.decoder, codes), strength)


def literal_gradients(model: CDLM, batch: DomainBatch, eps: Tensor,
                      strength: float) -> dict[str, Tensor]:
    """Gradients of Eqs. 21 and 22 by their definition, put into ``.grad`` of all parameters;
    returns the losses, scalars.

    What ``fused_losses(...)[0].backward()`` has to agree with; for checking, and for reading
    beside the paper.
    """
    loss, table = literal_losses(model, batch, eps, strength), reach_table(model.config)
    for learner in model.learners():
        set_gradients(objective(loss, column(table, learner.name)), list(learner.parameters),
                      retain_graph=True)
    return loss


# 72_algorithm: CDLM in one pass

def full(x: Tensor) -> Tensor:
    """What autocast left in bfloat16 as float32; sums over pixels need it.

    Other types stay as they are.
    """
    return x.float() if x.dtype == torch.bfloat16 else x


def encode_pair(encoder: Encoder, batch: DomainBatch) -> tuple[Encoded, Encoded]:
    """Both halves of a batch in one call of the encoder."""
    set_chunks(encoder, 2)
    s, t = zip(*(full(value).chunk(2) for value in encoder(torch.cat([batch.x_s, batch.x_t]))))
    return Encoded(*s), Encoded(*t)


def draw_all(decoder: Decoder, codes: Codes,
             every: bool = False) -> tuple[Generated, Generated, Generated]:
    """All generations in one pass of the decoder, three times: for whom they reach
    (``Reach``).

    The gradient goes on to z_st and u_s, which Eq. 21 and the task loss ask for, or to
    ``every`` one of the four codes.
    """
    reaching = 4 if every else 2
    set_chunks(decoder, reaching)
    drawn = seam(decoder, torch.cat([codes.z_st, codes.u_s, codes.z_ts, codes.u_t]),
                 reaching * len(codes.z_st))
    return tuple(Generated(x_hat_st, x_hat_ts, x_tilde_s, x_tilde_t)
                 for x_hat_st, x_tilde_s, x_hat_ts, x_tilde_t in (full(view).chunk(4)
                                                                  for view in drawn))


def reaching(row: Collection[str], both: Generated, for_phi: Generated,
             for_theta: Generated) -> Generated:
    """Of the views of all generations the one whose gradient goes to those of phi and theta
    that are in ``row``."""
    if "phi" in row:
        return both if "theta" in row else for_phi
    return for_theta if "theta" in row else Generated(*(x.detach() for x in for_theta))


def fused_losses(model: CDLM, batch: DomainBatch, eps: Tensor,
                 strength: float) -> tuple[Tensor, dict[str, Tensor]]:
    """One objective whose gradient is that of Eq. 21 for phi and that of Eq. 22 for theta, and
    the losses by name."""
    c, table = model.config, reach_table(model.config)
    s, t = encode_pair(model.encoder, batch)
    codes = transfer_codes(s, t, eps, c.losses.modulation, c.weights.gamma1, c.weights.gamma2)
    views = draw_all(model.decoder, codes, every="phi" in table["consistency"])
    adv = adversarial_loss(
        *full(model.discriminator(reverse_gradient(torch.cat([s.h, t.h]), strength))).chunk(2))
    kl = code_divergence(s, t, c) + code_divergence(t, s, c)
    rec = reconstructions(batch.x_s, views, c)
    consistency = image_consistency(batch, reaching(table["consistency"], *views), c)
    task = fused_task(model, batch, reaching(table["task"], *views))
    losses = {"rec": rec, "kl": kl, "adv": adv, "consistency": consistency, "task": task}
    return objective(losses, table), losses | {"rec": rec["theta"]}


def reconstructions(x_s: Tensor, views: Sequence[Generated],
                    config: CDLMConfig) -> dict[str, Tensor]:
    """L_Rec, once for each of phi and theta, which it reaches with different
    weights; scalars."""
    return {learner: reconstruction_loss(reaching((learner,), *views).x_hat_st, x_s,
                                         config.losses.reduction)
            for learner in ("phi", "theta")}


def fused_task(model: CDLM, batch: DomainBatch, images: Generated) -> Tensor:
    """Cross-entropy over all images that the classifier learns from, in one call; it reaches
    whoever drew ``images``."""
    reads = images_to_read(batch.x_s, images, model.config)
    set_chunks(model.classifier, len(reads))
    return F.cross_entropy(full(model.classifier(torch.cat(reads))),
                           batch.y_s.repeat(len(reads)))
