"""Pieces that several methods share: a conditional discriminator, learning from sure predictions.

Generated from book/src/77_recipe.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch

__all__ = [
    "conditioned",
    "follow",
    "followers",
    "prediction_entropy",
    "ramp",
    "second_view",
    "self_training_loss",
]


# 77_recipe: Features with their classes

def conditioned(h: Tensor, logits: Tensor) -> Tensor:
    """Features (B, latent) times class probabilities, each with each: (B, latent * classes).

    What a discriminator reads that is to compare domains class by class. No gradient reaches
    the ``logits`` (B, classes).
    """
    p = logits.softmax(1).detach()
    return torch.einsum("bl,bc->blc", h, p).flatten(1)


def prediction_entropy(logits: Tensor) -> Tensor:
    """Mean entropy in nats of the predictions (B, classes); a scalar in [0, log classes]."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def ramp(progress: float) -> float:
    """Weight in [0, 1] that rises over the first half of training, slowly first, for what has
    to wait for good predictions."""
    return math.exp(-5 * (1 - min(1.0, 2 * progress)) ** 2)


def self_training_loss(logits_again: Tensor, logits: Tensor, confidence: float) -> Tensor:
    """Cross-entropy of ``logits_again`` (B, classes) with the surest classes of ``logits`` as
    labels, a scalar.

    Images whose largest probability is not above ``confidence`` count as 0. No gradient
    reaches ``logits``.
    """
    probability, label = logits.detach().softmax(1).max(1)
    return (F.cross_entropy(logits_again, label,
                            reduction="none") * (probability > confidence)).mean()


def second_view(batch: DomainBatch) -> Tensor:
    """Target images of a batch, changed strongly (B, C, H, W).

    Raises ValueError if there are none.
    """
    if batch.x_t_again is None:
        raise ValueError("self-training needs every target image a second time: "
                         "give the training a strong augmentation")
    return batch.x_t_again


# 77_recipe: From a slower teacher

def followers(*networks: nn.Module) -> nn.ModuleList:
    """Copies of networks, to follow them; no gradient trains these."""
    return nn.ModuleList(deepcopy(network).requires_grad_(False) for network in networks)


@torch.no_grad()
def follow(copies: Iterable[nn.Module], networks: Iterable[nn.Module], keep: float) -> None:
    """Let each weight of the copies keep a share ``keep`` of itself and take the rest from the
    network's; buffers become the network's."""
    for copy, network in zip(copies, networks, strict=True):
        for own, other in zip(copy.parameters(), network.parameters(), strict=True):
            own.lerp_(other, 1 - keep)
        for own, other in zip(copy.buffers(), network.buffers(), strict=True):
            own.copy_(other)
