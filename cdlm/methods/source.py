"""Source-only training: the lower bound that adaptation has to beat.

Generated from book/src/10_domain_shift.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Method, Now
from cdlm.model.networks import TaskClassifier, ungrouped
from cdlm.settings import Amount, Images, Settings, Width

__all__ = ["SourceConfig", "SourceOnly"]


# 10_domain_shift: The method

@dataclass(frozen=True)
class SourceConfig(Settings):
    """Settings of source-only training."""

    width: Width = 16               # channels of the first convolution
    lr: Amount = 1e-3               # step size of Adam

    def conflict(self) -> str:
        """A width that cannot be normalized in groups."""
        return ungrouped(self.width, 1)


class SourceOnly(Method):
    """A classifier trained on labeled source images; target images are handed to it and never
    used."""

    def __init__(self, config: SourceConfig | None = None,
                 images: Images | None = None) -> None:
        super().__init__()
        self.config, self.images = config or SourceConfig(), images or Images()
        self.classifier = TaskClassifier(self.images.channels, self.config.width,
                                         self.images.classes, self.images.size)

    def learners(self) -> list[Learner]:
        """The classifier, by Adam with a constant step size."""
        return [Learner("classifier", tuple(self.parameters()), self.config.lr)]

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy on the source half of the batch, as objective and by name."""
        task = F.cross_entropy(self.classifier(batch.x_s), batch.y_s)
        return task, {"task": task}

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) in [-1, 1]."""
        return self.classifier(x)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer reads of images (B, C, H, W) in [-1, 1], (B, 128)."""
        return self.classifier.layers[:-1](x)
