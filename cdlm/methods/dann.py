"""Domain-adversarial training: features that do not tell their domain.

Generated from book/src/35_adversary.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Method, Now
from cdlm.model.discrepancy import coral_distance, median_width, mmd_squared
from cdlm.model.gradients import reversal_strength, reverse_gradient
from cdlm.model.losses import adversarial_loss
from cdlm.model.networks import Discriminator, TaskClassifier, ungrouped
from cdlm.settings import Amount, Count, Images, Momentum, Number, Settings, Width

__all__ = ["DANN", "DANNConfig", "alignment_loss"]


# 35_adversary: Domain-adversarial training from scratch

@dataclass(frozen=True)
class DANNConfig(Settings):
    """Settings of domain-adversarial training.

    The first group is that of Ganin et al. (2016); the second is the book's.
    """

    weight: Number = 1.0        # greatest strength of the reversal, reached by their schedule
    hidden: Count = 100         # units of the discriminator
    lr: Amount = 0.01           # first step size
    momentum: Momentum = 0.9
    # the step size falls as (1 + 10 p)^-decay, p the share of training done
    decay: Amount = 0.75

    optimizer: Literal["sgd", "adam"] = "sgd"  # "sgd" with momentum as theirs, or "adam"
    # what is made small: DANN's, Deep CORAL's, or MMD
    alignment: Literal["adversarial", "coral", "mmd"] = "adversarial"
    width: Width = 16                   # channels of the first convolution

    def conflict(self) -> str:
        """A width that cannot be normalized in groups."""
        return ungrouped(self.width, 1)


def alignment_loss(model: DANN, h_s: Tensor, h_t: Tensor,
                   strength: float) -> tuple[Tensor, Tensor]:
    """Loss of the alignment of features (B, 128) by itself, and as it is added to the task's,
    with its ``strength``.

    The adversary's loss is added whole, since the discriminator learns from it at full rate;
    its gradient reaches the features reversed and times ``strength``. A distance is multiplied
    by ``strength``.
    """
    if model.config.alignment == "adversarial":
        guesses = (model.discriminator(reverse_gradient(h, strength)) for h in (h_s, h_t))
        gap = adversarial_loss(*guesses)
        return gap, gap
    gap = (coral_distance(h_s, h_t) if model.config.alignment == "coral"
           else mmd_squared(h_s, h_t, median_width(h_s, h_t)))
    return gap, strength * gap


class DANN(Method):
    """The classifier of source-only training, whose features are also made alike in both
    domains."""

    def __init__(self, config: DANNConfig | None = None, images: Images | None = None) -> None:
        super().__init__()
        self.config, self.images = config or DANNConfig(), images or Images()
        self.classifier = TaskClassifier(self.images.channels, self.config.width,
                                         self.images.classes, self.images.size)
        self.discriminator = Discriminator(self.classifier.layers[-1].in_features,
                                           self.config.hidden)

    def learners(self) -> list[Learner]:
        """Classifier and discriminator together, by one optimizer whose step size falls as
        theirs."""
        c = self.config
        return [Learner("both", tuple(self.parameters()), c.lr, c.optimizer, c.momentum,
                        lambda p: (1 + 10 * p) ** -c.decay)]

    def features(self, x: Tensor) -> Tensor:
        """What the last layer reads of images (B, C, 28, 28) in [-1, 1]: (B, 128), none
        negative."""
        return self.classifier.layers[:-1](x)

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """Objective of both networks; by name, the loss of the task and that of the alignment
        before its weight."""
        h_s, h_t = self.features(batch.x_s), self.features(batch.x_t)
        task = F.cross_entropy(self.classifier.layers[-1](h_s), batch.y_s)
        strength = reversal_strength(now.progress, self.config.weight)
        gap, pull = alignment_loss(self, h_s, h_t, strength)
        return task + pull, {"task": task, "gap": gap}

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) in [-1, 1]."""
        return self.classifier(x)
