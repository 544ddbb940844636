"""Source hypothesis transfer: a frozen classifier, and target features that suit it.

Generated from book/src/78_neighbors.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cdlm.data.batches import DomainBatch, normalize
from cdlm.methods.backbone import BackboneConfig, OnFeatures
from cdlm.methods.base import Learner, Now, linear_decay
from cdlm.methods.cdlm import full
from cdlm.methods.parts import prediction_entropy
from cdlm.settings import Amount, Images, Momentum, Share

__all__ = [
    "SHOT",
    "SHOTConfig",
    "cluster_labels",
    "labels_of_all",
    "negative_diversity",
    "target_losses",
]


# 78_neighbors: SHOT: without the source

@dataclass(frozen=True)
class SHOTConfig(BackboneConfig):
    """Settings of SHOT; the authors' program is that for digits (Liang et al., 2020).

    They train by SGD with rates that fall as (1 + 10 p)^-0.75 in each phase, normalize the
    classifier's weights, and take the source's weights that were best on its test images.
    """

    share: Momentum = 0.5  # of the training that is on the source; theirs are equal in epochs
    smoothing: Share = 0.1              # of the source's labels
    entropy: Amount = 1.0               # weight of the entropy, their "ent_par"
    diversity: Amount = 1.0             # and of the diversity, which they have on or off
    # of the own labels, "cls_par": theirs for digits; their program's default is 0.3
    own: Amount = 0.1


def negative_diversity(logits: Tensor) -> Tensor:
    """Minus the entropy in nats of the mean prediction by logits (B, classes), a scalar."""
    mean = logits.softmax(1).mean(0)
    return torch.xlogy(mean, mean).sum()


def cluster_labels(h: Tensor, p: Tensor) -> Tensor:
    """Labels (N,) by the nearest class center, from features (N, latent) and predicted
    probabilities (N, classes).

    Nearest is by angle, after a 1 was added to each feature vector.
    """
    f = F.normalize(F.pad(h, (0, 1), value=1.0), dim=1)
    for _ in range(2):
        centers = F.normalize(p.T @ f, dim=1)
        labels = (f @ centers.T).argmax(1)
        p = F.one_hot(labels, p.shape[1]).to(f.dtype)
    return labels


def in_each_phase(share: float) -> Callable[[float], float]:
    """A rate that falls linearly on the source, and again on the target."""
    def rate(progress: float) -> float:
        if progress < share:
            return linear_decay(progress / share)
        return linear_decay((progress - share) / (1 - share))
    return rate


def until(share: float) -> Callable[[float], float]:
    """A rate that falls linearly on the source, and is 0 on the target."""
    return lambda progress: linear_decay(progress / share) if progress < share else 0.0


class SHOT(OnFeatures):
    """First a classifier of the source, then target features that suit it."""

    def __init__(self, config: SHOTConfig | None = None, images: Images | None = None) -> None:
        super().__init__(config or SHOTConfig(), images)
        self.label_every = "epoch" if self.config.own else 0

    def learners(self) -> list[Learner]:
        """The encoder, in two phases, and the classifier, which stands still in the second."""
        share, (phi, theta) = self.config.share, super().learners()
        return [replace(phi, schedule=in_each_phase(share)),
                replace(theta, schedule=until(share))]

    def relabel(self, target_images: Tensor) -> Tensor:
        """A label for each target image, bytes (N, C, H, W), by the nearest class center."""
        return labels_of_all(self, target_images)

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of the phase, and all losses by name: 0 for those of the other
        one."""
        zero, c = batch.x_s.new_zeros(()), self.config
        found = dict.fromkeys(("task", "entropy", "diversity", "own"), zero)
        if now.progress < c.share:
            logits, = self.classify(*self.encode(batch.x_s))
            task = F.cross_entropy(logits, batch.y_s, label_smoothing=c.smoothing)
            return task, found | {"task": task}
        logits, = self.classify(*self.encode(batch.x_t))
        found |= target_losses(logits, batch.y_t_own if self.label_every else None)
        return (c.entropy * found["entropy"] + c.diversity * found["diversity"]
                + c.own * found["own"], found)


@torch.no_grad()
def labels_of_all(method: SHOT, images: Tensor) -> Tensor:
    """The label of the nearest class center for each of all target images, bytes (N, C, H,
    W): (N,)."""
    kind = method.classifier[0].weight.dtype
    h = torch.cat([full(method.features(normalize(part).to(kind)))
                   for part in images.split(1000)])
    return cluster_labels(h, full(method.classifier(h)).softmax(1))


def target_losses(logits: Tensor, own: Tensor | None) -> dict[str, Tensor]:
    """SHOT's losses on target logits (B, classes), with own labels (B,), -1 for none."""
    labels = logits.new_full((len(logits),), -1).long() if own is None else own
    each = F.cross_entropy(logits, labels.clamp_min(0), reduction="none")
    return {"entropy": prediction_entropy(logits), "diversity": negative_diversity(logits),
            "own": (each * (labels >= 0)).mean()}
