"""Minimum class confusion: target predictions that do not waver between two classes.

Generated from book/src/78_neighbors.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cdlm.data.batches import DomainBatch
from cdlm.methods.backbone import BackboneConfig, OnFeatures
from cdlm.methods.base import Now
from cdlm.methods.cdan import certainty_weights
from cdlm.settings import Amount, Images

__all__ = ["MCC", "MCCConfig", "class_confusion"]


# 78_neighbors: MCC: predictions that are not confused

@dataclass(frozen=True)
class MCCConfig(BackboneConfig):
    """Settings of minimum class confusion (Jin et al., 2020).

    The authors train by SGD with rates that fall as (1 + 10 p)^-0.75.
    """

    temperature: Amount = 2.5           # of the predictions, theirs for most of their tasks
    weight: Amount = 1.0                # of the confusion

    def conflict(self) -> str:
        """A temperature of 0, or what the networks cannot be."""
        return super().conflict() if self.temperature else "temperature must be above 0"


def class_confusion(logits: Tensor, temperature: float = 2.5) -> Tensor:
    """Share of the classes' correlation that is between different classes, a scalar in
    [0, 1]; ``logits`` are (B, classes).

    No gradient goes through the weights of the images. A class of which nothing is predicted
    counts as not confused.
    """
    logits = logits / temperature
    p, w = logits.softmax(1), certainty_weights(logits).detach()
    c = (w[:, None] * p).T @ p
    c = c / c.sum(1, keepdim=True).clamp_min(torch.finfo(c.dtype).tiny)
    return (c.sum() - c.trace()) / len(c)


class MCC(OnFeatures):
    """A classifier of the source that does not confuse classes on the target."""

    def __init__(self, config: MCCConfig | None = None, images: Images | None = None) -> None:
        super().__init__(config or MCCConfig(), images)

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """Task loss and confusion, with its weight."""
        g_s, g_t = self.classify(*self.encode(batch.x_s, batch.x_t))
        task = F.cross_entropy(g_s, batch.y_s)
        confusion = class_confusion(g_t, self.config.temperature)
        return task + self.config.weight * confusion, {"task": task, "confusion": confusion}
