"""Accuracy through each path of the model, per class and overall.

Generated from book/src/10_domain_shift.md, book/src/55_bound.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cdlm.data.batches import normalize
from cdlm.theory.bound import a_distance

__all__ = ["accuracy", "per_class_accuracy", "predict", "proxy_a_distance"]


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


# 55_bound: From the divergence to the A-distance

def proxy_a_distance(features_s: Tensor, features_t: Tensor, kernel: str = "linear", folds: int = 5,
                     clip: bool = False, seed: int = 0) -> float:
    """Proxy A-distance 2 (1 - 2 error) between two samples of equal size: about 0 at chance, 2 where all are told apart.

    ``features_s`` and ``features_t`` are (samples, ...) and are flattened. The error is that of a support vector
    machine with ``kernel`` "linear" or "rbf" on standardized features, cross-validated over ``folds`` that ``seed``
    deals out. By chance the value can be negative; ``clip`` makes it 0 then. Raises ValueError for samples of different
    shapes, or fewer of them than folds.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if features_s.shape != features_t.shape:
        raise ValueError(f"samples of different shapes: {tuple(features_s.shape)} and {tuple(features_t.shape)}")
    x = torch.cat([features_s, features_t]).detach().flatten(1).double().cpu().numpy()
    is_target = np.repeat([False, True], len(features_s))
    machine = make_pipeline(StandardScaler(), SVC(kernel=kernel))
    deal = StratifiedKFold(folds, shuffle=True, random_state=seed)
    error = float((cross_val_predict(machine, x, is_target, cv=deal) != is_target).mean())
    return max(a_distance(error), 0.0) if clip else a_distance(error)
