"""Transferrable prototypical networks: class means that serve both domains.

Generated from book/src/78_neighbors.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.backbone import EncoderConfig, OnFeatures
from cdlm.methods.base import Now
from cdlm.settings import Amount, Images, Momentum, Share

__all__ = [
    "TPN",
    "TPNConfig",
    "agreement",
    "class_means",
    "nearness",
    "symmetric_divergence",
    "tpn_losses",
]


# 78_neighbors: TPN: class means that agree

@dataclass(frozen=True)
class TPNConfig(EncoderConfig):
    """Settings of transferrable prototypical networks (Pan et al., 2019), whose program for
    digits was not published."""

    general: Amount = 1.0               # weight of L_G, their alpha
    specific: Amount = 1.0              # of L_T, their beta
    confidence: Share = 0.6             # from which a guess is a label, theirs
    keep: Momentum = 0.9  # share of themselves that the means kept for tests keep; ours

    def conflict(self) -> str:
        """Features that do not learn: there is nothing else that could."""
        fixed = 'features="pca" leave nothing to learn' if (
            self.networks.features == "pca") else ""
        return fixed or super().conflict()


def class_means(h: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean of the features (N, latent) of each class, (classes, latent), and how many there
    are, (classes,); label -1 is none."""
    member = F.one_hot(labels.clamp_min(0), classes).to(h.dtype) * (labels >= 0)[:, None]
    counts = member.sum(0)
    return member.T @ h / counts.clamp_min(1)[:, None], counts


def nearness(h: Tensor, means: Tensor, there: Tensor | None = None) -> Tensor:
    """Logits (N, classes): minus the squared distances to the class means; classes that are
    not ``there`` (classes,) are far away."""
    found = -(h[:, None] - means).square().sum(2)
    return found if there is None else found.masked_fill(~there, -1e6)


def symmetric_divergence(g: Tensor, other: Tensor) -> Tensor:
    """Mean of both Kullback-Leibler divergences of two predictions by logits (N, classes), a
    scalar."""
    p, q = g.log_softmax(1), other.log_softmax(1)
    return ((p.exp() - q.exp()) * (p - q)).sum(1).mean() / 2


class TPN(OnFeatures):
    """Features whose class means serve both domains; there is no other classifier."""

    sampler = "class-balanced"          # so that no class of the source is missing

    def __init__(self, config: TPNConfig | None = None, images: Images | None = None) -> None:
        super().__init__(config or TPNConfig(), images)
        del self.classifier
        self.register_buffer("means", torch.zeros(self.images.classes,
                                                  self.config.networks.latent))

    def readers(self) -> dict[str, nn.Module]:
        """None."""
        return {}

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) in [-1, 1], by the means kept of
        the source."""
        return nearness(self.features(x), self.means)

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """L_S, L_G and L_T; see ``tpn_losses``."""
        found = tpn_losses(self, batch)
        return (found["task"] + self.config.general * found["general"]
                + self.config.specific * found["specific"], found)

    def note(self, means: Tensor, there: Tensor) -> None:
        """In training, let the means that are kept for tests follow those of a batch, of
        classes that are ``there``."""
        if self.training:
            kept = self.means.lerp(means.detach(), 1 - self.config.keep)
            self.means.copy_(torch.where(there[:, None], kept, self.means))


def tpn_losses(method: TPN, batch: DomainBatch) -> dict[str, Tensor]:
    """L_S, L_G and L_T of a batch, as "task", "general" and "specific"; the source's means
    are noted."""
    classes = method.images.classes
    h_s, h_t = method.encode(batch.x_s, batch.x_t)
    mu_s, n_s = class_means(h_s, batch.y_s, classes)
    method.note(mu_s, n_s > 0)
    g_s, g_t = nearness(torch.cat([h_s, h_t]), mu_s, n_s > 0).chunk(2)
    sure, guess = g_t.detach().softmax(1).max(1)
    own = torch.where(sure > method.config.confidence, guess, -1)
    general, specific = agreement(h_s, batch.y_s, h_t, own, classes)
    return {"task": F.cross_entropy(g_s, batch.y_s), "general": general, "specific": specific}


def agreement(h_s: Tensor, y_s: Tensor, h_t: Tensor, y_t: Tensor,
              classes: int) -> tuple[Tensor, Tensor]:
    """L_G and L_T of features (B, latent) with labels (B,), -1 for none; 0 where no class is
    in both domains."""
    h, y = torch.cat([h_s, h_t]), torch.cat([y_s, y_t])
    found = [class_means(*pair, classes) for pair in ((h_s, y_s), (h_t, y_t), (h, y))]
    (mu_s, n_s), (mu_t, n_t), (mu, _) = found
    both = (n_s > 0) & (n_t > 0)
    pairs = ((mu_s, mu_t), (mu_s, mu), (mu_t, mu))
    gaps = sum((a - b).square().sum(1) for a, b in pairs)
    general = (gaps * both).sum() / both.sum().clamp_min(1)
    specific = sum(symmetric_divergence(nearness(h, a, both), nearness(h, b, both))
                   for a, b in pairs) / len(pairs)
    return general, specific
