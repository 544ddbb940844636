"""Accuracy through each path of the model, per class and overall.

Generated from book/src/10_domain_shift.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cdlm.data.batches import normalize

__all__ = ["accuracy", "per_class_accuracy", "predict"]


# 10_domain_shift: The method

@torch.no_grad()
def predict(function: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 500) -> Tensor:
    """Labels (N,) where ``function``, from images in [-1, 1] to logits, is largest; ``images`` are bytes (N, C, 28, 28)."""
    return torch.cat([function(normalize(part)).argmax(1) for part in images.split(batch_size)])


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of labels (N,) that are predicted. Raises ValueError if the two differ in shape or are empty."""
    if predicted.shape != labels.shape or not len(labels):
        raise ValueError(f"{tuple(predicted.shape)} predictions for {tuple(labels.shape)} labels")
    return (predicted == labels).double().mean().item()


def per_class_accuracy(predicted: Tensor, labels: Tensor, classes: int = 10) -> Tensor:
    """Share predicted right among the images of each class, (classes,) float64; not a number for an absent class."""
    right = torch.bincount(labels[predicted == labels], minlength=classes)
    return right.double() / torch.bincount(labels, minlength=classes)
