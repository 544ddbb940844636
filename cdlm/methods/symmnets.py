"""SymmNets-V2: a classifier with an answer for each class and domain.

Generated from book/src/78_neighbors.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cdlm.data.batches import DomainBatch
from cdlm.methods.backbone import BackboneConfig, OnFeatures
from cdlm.methods.base import Now, Round
from cdlm.model.gradients import reversal_strength
from cdlm.settings import Images, Number

__all__ = ["SymmNets", "SymmNetsConfig", "domain_discrimination", "halves_crossed"]


# 78_neighbors: SymmNets-V2: two classifiers side by side

@dataclass(frozen=True)
class SymmNetsConfig(BackboneConfig):
    """Settings of SymmNets-V2 (Zhang et al., 2020).

    The authors train by SGD with Nesterov's momentum and rates that fall as
    (1 + 10 p)^-0.75; their program has no digits.
    """

    weight: Number = 1.0                # of the target's part for the encoder, reached by
    #                                     the schedule of the reversal


def domain_discrimination(o_s: Tensor, o_t: Tensor, y_s: Tensor) -> Tensor:
    """Loss of 2K answers (B, 2K): source images are their class in the first half, target
    images anything in the second."""
    half = o_t.shape[1] // 2
    in_second = o_t[:, half:].logsumexp(1) - o_t.logsumexp(1)
    return F.cross_entropy(o_s, y_s) - in_second.mean()


def halves_crossed(o: Tensor) -> Tensor:
    """Cross-entropy of the halves of a softmax over logits (B, 2K) with each other, half of
    the sum of both, a scalar."""
    p, q = o.log_softmax(1).chunk(2, dim=1)
    return -(p.exp() * q + q.exp() * p).sum(1).mean() / 2


class SymmNets(OnFeatures):
    """A classifier with an answer for each class and domain, and features that make the two
    domains' answers agree."""

    def __init__(self, config: SymmNetsConfig | None = None,
                 images: Images | None = None) -> None:
        super().__init__(config or SymmNetsConfig(), images, halves=2)

    def rounds(self) -> tuple[Round, ...]:
        """First the classifier, then the encoder, on a pass of its own."""
        return Round("classifier", ("theta_T",)), Round("encoder", ("phi",))

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) in [-1, 1]: those of the target's
        half."""
        return self.classifier(self.features(x)).chunk(2, dim=1)[1]

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """What the learner of a round descends."""
        y, classes = batch.y_s, self.images.classes
        with torch.set_grad_enabled(now.round == "encoder"):
            h = self.encode(batch.x_s, batch.x_t)
        o_s, o_t = self.classify(*h)
        if now.round == "classifier":
            first, second = (F.cross_entropy(half, y) for half in o_s.chunk(2, dim=1))
            domain = domain_discrimination(o_s, o_t, y)
            return first + second + domain, {"task": first, "second": second, "domain": domain}
        confusion = (F.cross_entropy(o_s, y) + F.cross_entropy(o_s, y + classes)) / 2
        crossed = halves_crossed(o_t)
        weight = reversal_strength(now.progress, self.config.weight)
        return confusion + weight * crossed, {"confusion": confusion, "crossed": crossed}
