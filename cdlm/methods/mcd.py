"""Maximum classifier discrepancy: two classifiers that disagree, and features that make them agree.

Generated from book/src/12_engine.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Method, Now, Round
from cdlm.model.networks import TaskClassifier, ungrouped
from cdlm.settings import Amount, Images, Settings, Span, Width

__all__ = ["MCD", "MCDConfig", "classifier_discrepancy", "mcd_step"]


# 12_engine: A different objective in each step: MCD

@dataclass(frozen=True)
class MCDConfig(Settings):
    """Settings of MCD.

    The first group is that of the authors' program for digits (Saito et al., 2018).
    """

    lr: Amount = 2e-4  # of Adam, for all three networks; they take batches of 128
    weight_decay: Amount = 5e-4
    inner: Annotated[int, Span(0, 1000)] = 4  # steps C in an iteration, their "num_k"

    weight: Amount = 1.0                # of the discrepancy; at 0 steps B and C are left out
    width: Width = 16                   # channels of the first convolution

    def conflict(self) -> str:
        """A width that cannot be normalized in groups."""
        return ungrouped(self.width, 1)


def classifier_discrepancy(logits: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference of two predictions by their logits (B, classes), a scalar."""
    return (logits.softmax(1) - other.softmax(1)).abs().mean()


class MCD(Method):
    """Features on which two classifiers agree that were trained to disagree on the target."""

    def __init__(self, config: MCDConfig | None = None, images: Images | None = None) -> None:
        super().__init__()
        self.config, self.images = config or MCDConfig(), images or Images()
        c, x = self.config, self.images
        one, other = (TaskClassifier(x.channels, c.width, x.classes, x.size).layers
                      for _ in range(2))
        self.generator, self.heads = one[:-3], nn.ModuleList([one[-3:], other[-3:]])

    def learners(self) -> list[Learner]:
        """Generator and heads, each by Adam with the same constant rate."""
        c, parts = self.config, {"G": self.generator, "C": self.heads}
        return [Learner(name, tuple(part.parameters()), c.lr, weight_decay=c.weight_decay)
                for name, part in parts.items()]

    def rounds(self) -> tuple[Round, ...]:
        """Steps A, B, and several times C."""
        a, b, c = Round("A", ("G", "C")), Round("B", ("C",)), Round("C", ("G",))
        return (a, b, *[c] * self.config.inner) if self.config.weight else (a,)

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of a step; see ``mcd_step``."""
        return mcd_step(self, batch, now.round)

    def features(self, x: Tensor) -> Tensor:
        """What both heads read of images (B, C, H, W) in [-1, 1], (B, numbers)."""
        return self.generator(x)

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) in [-1, 1]: both heads', added."""
        return sum(head(self.generator(x)) for head in self.heads)


def mcd_step(method: MCD, batch: DomainBatch, step: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Objective and losses of step "A", "B" or "C".

    "gap" is the discrepancy on the target before the heads pulled apart, "pulled" after it.
    """
    heads, weight = method.heads, method.config.weight
    if step == "C":
        h_t = method.generator(batch.x_t)
        pulled = classifier_discrepancy(*(head(h_t) for head in heads))
        return weight * pulled, {"pulled": pulled}
    with torch.set_grad_enabled(step == "A"):               # B holds the generator still
        h_s = method.generator(batch.x_s)
        h_t = method.generator(batch.x_t) if step == "B" else None
    task = sum(F.cross_entropy(head(h_s), batch.y_s) for head in heads)
    if step == "A":
        return task, {"task": task}
    gap = classifier_discrepancy(*(head(h_t) for head in heads))
    return task - weight * gap, {"gap": gap}
