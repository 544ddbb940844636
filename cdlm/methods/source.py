"""Source-only training: the lower bound that adaptation has to beat.

Generated from book/src/10_domain_shift.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.nets import TaskClassifier

__all__ = ["SourceConfig", "SourceOnly"]


# 10_domain_shift: The method

@dataclass(frozen=True)
class SourceConfig:
    """Settings of source-only training."""

    channels: int = 1
    width: int = 16                 # channels of the first convolution
    lr: float = 1e-3                # step size of Adam


class SourceOnly(nn.Module):
    """A classifier trained on labeled source images; target images are handed to it and never used."""

    def __init__(self, config: SourceConfig | None = None) -> None:
        super().__init__()
        self.config = config or SourceConfig()
        self.classifier = TaskClassifier(self.config.channels, self.config.width)

    def configure(self, steps: int) -> None:
        """Create the optimizer; to be called once, before training for ``steps`` steps."""
        self.optimizer = torch.optim.Adam(self.parameters(), self.config.lr)

    def step(self, batch: DomainBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One update on the source half of the batch; returns its loss by name, detached."""
        loss = F.cross_entropy(self.classifier(batch.x_s), batch.y_s)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"task": loss.detach()}

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, 10) of images (B, C, 28, 28) in [-1, 1]."""
        return self.classifier(x)
