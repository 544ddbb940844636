"""AdaMatch: own labels, corrected for class shares and for how sure the source is.

Generated from book/src/78_neighbors.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cdlm.data.batches import DomainBatch
from cdlm.methods.backbone import BackboneConfig, OnFeatures
from cdlm.methods.base import Now
from cdlm.methods.parts import second_view
from cdlm.settings import Amount, Images, Share

__all__ = [
    "AdaMatch",
    "AdaMatchConfig",
    "adamatch_losses",
    "aligned",
    "matching_loss",
    "slow_start",
]


# 78_neighbors: AdaMatch: own labels, twice corrected

@dataclass(frozen=True)
class AdaMatchConfig(BackboneConfig):
    """Settings of AdaMatch (Berthelot et al., 2022).

    The authors train by SGD with a rate that falls by a cosine, take three times as many
    target images as source images, and measure a moving average of the weights.
    """

    self_training: Amount = 1.0         # greatest weight of the target's loss
    confidence: Share = 0.9             # tau, as a share of the source's confidence
    align: bool = True                  # whether predictions are corrected for class shares
    interpolate: bool = True            # whether the source's logits are mixed of two passes


def slow_start(progress: float) -> float:
    """Weight in [0, 1] that rises by a cosine over the first half of training."""
    return 0.5 - math.cos(min(math.pi, 2 * math.pi * progress)) / 2


def aligned(p_t: Tensor, p_s: Tensor) -> Tensor:
    """Target predictions (B, classes), each class times how much more often the source has
    it, made to sum to 1."""
    p = p_t * p_s.mean(0) / p_t.mean(0).clamp_min(1e-6)
    return p / p.sum(1, keepdim=True)


def matching_loss(g_again: Tensor, p_t: Tensor, threshold: Tensor | float) -> Tensor:
    """Cross-entropy of logits (B, classes) with soft labels (B, classes), counted as 0 where
    these are less sure than ``threshold``."""
    each = -(p_t * g_again.log_softmax(1)).sum(1)
    return (each * (p_t.max(1).values >= threshold)).mean()


class AdaMatch(OnFeatures):
    """A classifier that learns from its own, corrected answers on the target."""

    @classmethod
    def needs_second_view(cls, config: AdaMatchConfig) -> bool:
        """Whether, by these settings, each target image has to come twice, once changed
        strongly."""
        return config.self_training > 0

    def __init__(self, config: AdaMatchConfig | None = None,
                 images: Images | None = None) -> None:
        super().__init__(config or AdaMatchConfig(), images)
        self.noise = (2, self.images.classes) if self.config.interpolate else (0, 0)

    def source_logits(self, joint: Tensor, views: list[Tensor], eps: Tensor) -> Tensor:
        """Logits of all views of the source, mixed at random of those from a batch with the
        target, ``joint``, and those from one without."""
        if not self.config.interpolate:
            return joint
        alone, = self.classify(*self.encode(torch.cat(views)))
        share = torch.special.ndtr(eps[:len(views)]).flatten(0, 1)      # uniform in (0, 1)
        return share * joint + (1 - share) * alone

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """Task loss and loss on own labels; see ``adamatch_losses``."""
        found = adamatch_losses(self, batch, eps)
        weight = self.config.self_training * slow_start(now.progress)
        return found["task"] + weight * found["own"], found


def adamatch_losses(method: AdaMatch, batch: DomainBatch, eps: Tensor) -> dict[str, Tensor]:
    """By name, the task loss on all views of the source, and the loss on the second view of
    the target, 0 if that has no weight."""
    c, plain, size = method.config, batch.x_s_plain, len(batch.x_t)
    views = [batch.x_s] if plain is None else [plain, batch.x_s]
    target = [batch.x_t, second_view(batch)] if c.self_training else [batch.x_t]
    joint, = method.classify(*method.encode(torch.cat([*views, *target])))
    count = len(views)
    g_s = method.source_logits(joint[:count * size], views, eps)
    task = F.cross_entropy(g_s, batch.y_s.repeat(count))
    if not c.self_training:
        return {"task": task, "own": task.new_zeros(())}
    g_t, g_again = joint[count * size:].chunk(2)
    p_s, p_t = g_s[:size].softmax(1).detach(), g_t.softmax(1).detach()
    p_t = aligned(p_t, p_s) if c.align else p_t
    threshold = c.confidence * p_s.max(1).values.mean()
    return {"task": task, "own": matching_loss(g_again, p_t, threshold)}
