"""CyCADA: two generators that undo each other, and a classifier of what they draw.

Generated from book/src/78b_neighbors_pixels.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.backbone import BackboneConfig, OnFeatures
from cdlm.methods.base import Now, Round
from cdlm.methods.cdlm import full
from cdlm.methods.generators import (
    ImagePool,
    PatchDiscriminator,
    Redrawer,
    fooling_loss,
    judging_loss,
    least_squares,
)
from cdlm.model.losses import adversarial_loss
from cdlm.model.networks import Discriminator, TaskClassifier
from cdlm.settings import Amount, Count, Images, Share

__all__ = [
    "CyCADA",
    "CyCADAConfig",
    "cycada_step",
    "drawing_losses",
    "judging_losses",
    "reading_losses",
]


# 78b_neighbors_pixels: CyCADA: there and back again

@dataclass(frozen=True)
class CyCADAConfig(BackboneConfig):
    """Settings of CyCADA (Hoffman et al., 2018); weights are those of the authors' program for
    digits.

    They train in stages, generators first, by Adam with rate 2e-4 and momentum 0.5 in batches
    of 100, then T on stored drawings, then a copy of it against the discriminator of logits
    with rate 1e-5; their paper adds all losses, and so do we, with rounds in one training.
    """

    to_target: Amount = 2.0             # lambda_t
    to_source: Amount = 1.0             # lambda_s
    cycle: Amount = 1.0                 # of L_cycle
    semantic: Amount = 1.0              # of L_sem
    trusted: Amount = 1.0               # loss of S up to which L_sem counts
    pool: Count = 50                    # drawings kept for D_t, and for D_s
    feature: Amount = 0.1  # of the adversary on logits; theirs by its rate, a tenth of T's
    start: Share = 0.5                  # of the training before it begins; ours
    sure: Share = 0.6                   # accuracy above which its discriminator is heeded
    hidden: Count = 500                 # units of it; theirs has two such layers


class CyCADA(OnFeatures):
    """A classifier of redrawn source images, whose generator can be gone back, and whose
    logits do not tell the domain."""

    def __init__(self, config: CyCADAConfig | None = None,
                 images: Images | None = None) -> None:
        super().__init__(config or CyCADAConfig(), images)
        c, n, x = self.config, self.config.networks, self.images
        look = {"channels": x.channels, "width": n.width, "normalization": n.normalization}
        self.to_target, self.to_source = Redrawer(**look), Redrawer(**look)
        self.judge_t, self.judge_s = PatchDiscriminator(**look), PatchDiscriminator(**look)
        self.pool_t, self.pool_s = (ImagePool(c.pool, x.channels, x.size, x.size)
                                    for _ in range(2))
        self.teacher = TaskClassifier(**look, classes=x.classes, size=x.size)
        self.discriminator = Discriminator(x.classes, c.hidden)
        self.noise = (1, 2)

    def readers(self) -> dict[str, nn.Module]:
        """Classifier T, generators, the source's classifier S, and who judges."""
        judges = nn.ModuleList([self.judge_t, self.judge_s, self.discriminator])
        return super().readers() | {
            "theta_G": nn.ModuleList([self.to_target, self.to_source]),
            "theta_S": self.teacher, "xi": judges}

    def rounds(self) -> tuple[Round, ...]:
        """Generators, then those who judge drawings and the source, then T."""
        return (Round("draw", ("theta_G",)), Round("judge", ("theta_S", "xi")),
                Round("read", ("phi", "theta_T")))

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """What the learners of a round descend; see ``cycada_step``."""
        return cycada_step(self, batch, eps, now)


def cycada_step(method: CyCADA, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
    """Objective and losses of the round "draw", "judge" or "read"."""
    if now.round == "draw":
        return drawing_losses(method, batch)
    with torch.no_grad():
        drawn = full(method.to_target(batch.x_s))
    if now.round == "judge":
        return judging_losses(method, batch, drawn, eps[0])
    return reading_losses(method, batch, drawn, now.progress)


def drawing_losses(method: CyCADA, batch: DomainBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """What the generators descend, and the losses by name."""
    c, x_s, x_t = method.config, batch.x_s, batch.x_t
    like_t, like_s = full(method.to_target(x_s)), full(method.to_source(x_t))
    with torch.no_grad():
        known, guessed = (full(method.teacher(x)) for x in (x_s, x_t))
        trusted = (F.cross_entropy(known, batch.y_s) <= c.trusted).to(x_s.dtype)
    labeled = (like_t, batch.y_s), (like_s, guessed.argmax(1))
    found = {
        "to target": least_squares(full(method.judge_t(like_t)), 1.0),
        "to source": least_squares(full(method.judge_s(like_s)), 1.0),
        "cycle": F.l1_loss(full(method.to_source(like_t)), x_s)
        + F.l1_loss(full(method.to_target(like_s)), x_t),
        "semantic": trusted * sum(F.cross_entropy(full(method.teacher(x)), y)
                                  for x, y in labeled)}
    return (c.to_target * found["to target"] + c.to_source * found["to source"]
            + c.cycle * found["cycle"] + c.semantic * found["semantic"], found)


def judging_losses(method: CyCADA, batch: DomainBatch, drawn: Tensor,
                   coins: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What S and those who judge descend, by target-like drawings (B, C, H, W) and coins (B,
    2) for the pools."""
    with torch.no_grad():
        like_s = full(method.to_source(batch.x_t))
        logits = method.classify(*method.encode(drawn, batch.x_t))
    pooled_t = method.pool_t.swap(drawn, coins[:, 0])
    pooled_s = method.pool_s.swap(like_s, coins[:, 1])
    found = {
        "judge target": judging_loss(full(method.judge_t(batch.x_t)),
                                     full(method.judge_t(pooled_t))),
        "judge source": judging_loss(full(method.judge_s(batch.x_s)),
                                     full(method.judge_s(pooled_s))),
        "source": F.cross_entropy(full(method.teacher(batch.x_s)), batch.y_s),
        "domain": adversarial_loss(*(full(method.discriminator(g)) for g in logits))}
    return sum(found.values()), found


def reading_losses(method: CyCADA, batch: DomainBatch, drawn: Tensor,
                   progress: float) -> tuple[Tensor, dict[str, Tensor]]:
    """What T descends, by target-like drawings (B, C, H, W)."""
    c = method.config
    g_d, g_t = method.classify(*method.encode(drawn, batch.x_t))
    guess_d, guess_t = (full(method.discriminator(g)) for g in (g_d.detach(), g_t))
    right = ((guess_d > 0).to(g_t.dtype).mean() + (guess_t <= 0).to(g_t.dtype).mean()) / 2
    heeded = (right > c.sure).to(g_t.dtype) if progress >= c.start else 0.0
    found = {"task": F.cross_entropy(g_d, batch.y_s),
             "feature": heeded * fooling_loss(guess_t)}
    return found["task"] + c.feature * found["feature"], found
