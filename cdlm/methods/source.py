"""Source-only training: the lower bound that adaptation has to beat.

Generated from book/src/10_domain_shift.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Method
from cdlm.nets import TaskClassifier

__all__ = ["SourceConfig", "SourceOnly"]


# 10_domain_shift: The method

@dataclass(frozen=True)
class SourceConfig:
    """Settings of source-only training."""

    channels: int = 1
    width: int = 16                 # channels of the first convolution
    lr: float = 1e-3                # step size of Adam
    size: int = 28                  # height and width of the images
    classes: int = 10


class SourceOnly(Method):
    """A classifier trained on labeled source images; target images are handed to it and never used."""

    def __init__(self, config: SourceConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SourceConfig()
        self.classifier = TaskClassifier(c.channels, c.width, c.classes, c.size)

    def learners(self) -> list[Learner]:
        """The classifier, by Adam with a constant step size."""
        return [Learner("classifier", tuple(self.parameters()), self.config.lr)]

    def forward(self, batch: DomainBatch, eps: Tensor, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy on the source half of the batch, as objective and by name."""
        task = F.cross_entropy(self.classifier(batch.x_s), batch.y_s)
        return task, {"task": task}

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) in [-1, 1]."""
        return self.classifier(x)
