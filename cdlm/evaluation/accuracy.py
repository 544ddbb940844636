"""What a classifier gets right, and which classes it takes for which.

Generated from book/src/10_domain_shift.md, book/src/76_evaluation.md by `make sync`: edit
there, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cdlm.data.batches import normalize

__all__ = ["Flip", "accuracy", "class_flips", "confusion", "per_class_accuracy", "predict"]


# 10_domain_shift: The method

@torch.no_grad()
def predict(function: Callable[[Tensor], Tensor], images: Tensor,
            batch_size: int = 500) -> Tensor:
    """Labels (N,) where ``function``, from images in [-1, 1] to logits, is largest; ``images``
    are bytes (N, C, 28, 28)."""
    return torch.cat([function(normalize(part)).argmax(1)
                      for part in images.split(batch_size)])


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of labels (N,) that are predicted.

    Raises ValueError if the two differ in shape or are empty.
    """
    if predicted.shape != labels.shape or not len(labels):
        raise ValueError(
            f"{tuple(predicted.shape)} predictions for {tuple(labels.shape)} labels")
    return (predicted == labels).double().mean().item()


def per_class_accuracy(predicted: Tensor, labels: Tensor, classes: int = 10) -> Tensor:
    """Share predicted right among the images of each class, (classes,) float64; not a number
    for an absent class."""
    right = torch.bincount(labels[predicted == labels], minlength=classes)
    return right.double() / torch.bincount(labels, minlength=classes)


# 76_evaluation: Confusion: which classes

def confusion(predicted: Tensor, labels: Tensor, classes: int = 10) -> Tensor:
    """Counts (classes, classes): row i, column j has the images of class i that were predicted
    as j.

    Both arguments are (N,) integers in [0, classes). Raises ValueError for other shapes or
    values.
    """
    if predicted.shape != labels.shape or labels.dim() != 1:
        raise ValueError(
            f"{tuple(predicted.shape)} predictions for {tuple(labels.shape)} labels")
    if len(labels) and not all(0 <= x.min() and x.max() < classes
                               for x in (predicted, labels)):
        raise ValueError(f"classes are not all in 0..{classes - 1}")
    return torch.bincount(labels * classes + predicted, minlength=classes**2).reshape(
        classes, classes)


class Flip(NamedTuple):
    """Images of class ``true`` that are ``seen`` as another: how many, and what share of their
    class."""

    true: int
    seen: int
    count: int
    share: float


def class_flips(counts: Tensor, least: int = 1) -> list[Flip]:
    """Entries off the diagonal of a confusion matrix with at least ``least`` images, most
    frequent first."""
    totals = counts.sum(1)
    found = [Flip(i, j, int(counts[i, j]), float(counts[i, j] / totals[i]))
             for i, j in (counts >= max(least, 1)).nonzero().tolist() if i != j]
    return sorted(found, key=lambda flip: (-flip.count, flip.true, flip.seen))
