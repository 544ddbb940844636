"""ILA-DA: a contrastive loss between source images and their probable neighbors in the target.

Generated from book/src/78_neighbors.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Now
from cdlm.methods.cdan import CDAN, CDANConfig
from cdlm.settings import Amount, Count, Images, Share

__all__ = [
    "ILADA",
    "ILADAConfig",
    "contrastive_loss",
    "neighbor_labels",
    "similarity",
    "trust",
]


# 78_neighbors: ILA-DA: neighbors across domains

@dataclass(frozen=True)
class ILADAConfig(CDANConfig):
    """Settings of ILA-DA with CDAN (Sharma et al., 2021).

    The authors train by SGD with a rate that falls as (1 + 0.001 step)^-0.75.
    """

    by_entropy: bool = False            # their adversary is CDAN without weights
    contrast: Amount = 1.0              # weight of the contrastive loss
    neighbors: Count = 3                # source images that label a target image, their k
    compared: Count = 3                 # similarities in the measure of trust, their m; ours
    kept: Share = 0.65  # of the target's images; theirs are 80 of 124
    start: Share = 0.16  # of the training before the contrast begins; theirs is 2000 of 12500


def similarity(h_s: Tensor, h_t: Tensor) -> Tensor:
    """Similarities (S, T) in (0, 1] of features (S, latent) and (T, latent)."""
    return 1 / (1 + torch.cdist(h_s, h_t))


def neighbor_labels(phi: Tensor, y_s: Tensor, k: int) -> Tensor:
    """Labels (T,) of target images: the most frequent one among the k most similar source
    images, by similarities (S, T)."""
    return y_s[phi.topk(min(k, len(phi)), dim=0).indices].mode(0).values


def trust(phi: Tensor, y_s: Tensor, y_t: Tensor, m: int) -> Tensor:
    """How much more similar target images are to their class than to others, (T,)."""
    same, m = y_s[:, None] == y_t, min(m, len(phi))
    inside, outside = (phi.masked_fill(left_out, 0).topk(m, dim=0).values.sum(0)
                       for left_out in (~same, same))
    return inside / outside.clamp_min(1e-6)


def contrastive_loss(phi: Tensor, y_s: Tensor, y_t: Tensor) -> Tensor:
    """Multi-sample contrastive loss by similarities (S, T), a scalar; 0 if no source image
    has target images of its class and of others."""
    same = y_s[:, None] == y_t
    used = same.any(1) & ~same.all(1)
    if not used.any():
        return 0 * phi.sum()
    own = phi[used].masked_fill(~same[used], -torch.inf).logsumexp(1)
    return (phi[used].logsumexp(1) - own).mean()


class ILADA(CDAN):
    """CDAN, and source images near the target images that are probably of their class."""

    sampler = "class-balanced"          # as theirs

    def __init__(self, config: ILADAConfig | None = None,
                 images: Images | None = None) -> None:
        super().__init__(config or ILADAConfig(), images)

    def contrast(self, h_s: Tensor, y_s: Tensor, h_t: Tensor) -> Tensor:
        """The contrastive loss with the most trusted target images."""
        c, phi = self.config, similarity(h_s, h_t)
        with torch.no_grad():
            y_t = neighbor_labels(phi, y_s, c.neighbors)
            trusted = trust(phi, y_s, y_t, c.compared)
            best = trusted.topk(max(1, round(c.kept * len(h_t)))).indices
        return contrastive_loss(phi[:, best], y_s, y_t[best])

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """CDAN's losses, and the contrast once it has begun."""
        h_s, h_t = self.encode(batch.x_s, batch.x_t)
        found = self.losses(batch, h_s, h_t, now.progress)
        objective, contrast = sum(found.values()), h_s.new_zeros(())
        if now.progress >= self.config.start:
            contrast = self.contrast(h_s, batch.y_s, h_t)
            objective = objective + self.config.contrast * contrast
        return objective, found | {"contrast": contrast}
