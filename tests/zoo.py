"""Small methods for the tests: each asks the engine for one thing that the book's own methods do not ask for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch, normalize
from cdlm.methods.base import Learner, Method, Now, Round


class Linear(Method):
    """A linear classifier of 28 x 28 images, in a precision of its own."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10, dtype=dtype)

    def learners(self) -> list[Learner]:
        return [Learner("layer", tuple(self.parameters()), 0.01)]

    def forward(self, batch: DomainBatch, eps: Tensor, now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        task = F.cross_entropy(self.logits(batch.x_s), batch.y_s)
        return task, {"task": task}

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def logits(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


class OwnLabels(Linear):
    """It also learns from its own labels of target images, given to those of an odd class; target batches are balanced by them."""

    sampler = "class-balanced"

    def __init__(self, dtype: torch.dtype = torch.float32, label_every: int | str = "epoch") -> None:
        super().__init__(dtype)
        self.label_every, self.asked = label_every, []

    def relabel(self, target_images: Tensor) -> Tensor:
        self.asked.append(self.training)
        found = self.logits(normalize(target_images).to(self.layer.weight.dtype)).argmax(1)
        return torch.where(found % 2 == 1, found, -1)

    def forward(self, batch: DomainBatch, eps: Tensor, now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        task, losses = super().forward(batch, eps, now)
        own = F.cross_entropy(self.logits(batch.x_t), batch.y_t_own.clamp_min(0), reduction="none")
        own = (own * (batch.y_t_own >= 0)).mean()
        return task + own, losses | {"own": own}


class Watching(Linear):
    """It notes every batch that it sees."""

    def __init__(self, sampler: str = "uniform") -> None:
        super().__init__()
        self.sampler, self.seen = sampler, []

    def forward(self, batch: DomainBatch, eps: Tensor, now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        self.seen.append(batch)
        return super().forward(batch, eps, now)


class InTurns(Method):
    """Two numbers with objectives of their own, one round each and the second one twice; it notes its rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.told = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0)), []

    def learners(self) -> list[Learner]:
        return [Learner(name, (getattr(self, name),), 0.1, "sgd", momentum=0.0) for name in "ab"]

    def rounds(self) -> tuple[Round, ...]:
        return Round("first", ("a",)), Round("second", ("b",)), Round("second", ("b",))

    def forward(self, batch: DomainBatch, eps: Tensor, now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        self.told.append(now)
        loss = self.a * self.b if now.round == "first" else self.b**2 / 2 + self.a
        return loss, {"both": loss, now.round: loss}
