"""How far apart the domains are in a model's features, and a map of them.

Generated from book/src/56_bound.md, book/src/76_evaluation.md by `make sync`: edit there, not
here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cdlm.evaluation.readouts import encode_images, features_of, pair_codes
from cdlm.methods.base import Method
from cdlm.model.discrepancy import a_distance

__all__ = ["a_distances", "embed_tsne", "proxy_a_distance"]


# 56_bound: From the divergence to the A-distance

def proxy_a_distance(features_s: Tensor, features_t: Tensor, kernel: str = "linear",
                     folds: int = 5, clip: bool = False, seed: int = 0) -> float:
    """Proxy A-distance 2 (1 - 2 error) between two samples of equal size: about 0 at chance, 2
    where all are told apart.

    ``features_s`` and ``features_t`` are (samples, ...) and are flattened. The error is that
    of a support vector machine with ``kernel`` "linear" or "rbf" on standardized features,
    cross-validated over ``folds`` that ``seed`` deals out. By chance the value can be
    negative; ``clip`` makes it 0 then. Raises ValueError for samples of different shapes, or
    fewer of them than folds.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if features_s.shape != features_t.shape:
        raise ValueError("samples of different shapes: "
                         f"{tuple(features_s.shape)} and {tuple(features_t.shape)}")
    x = torch.cat([features_s, features_t]).detach().flatten(1).double().cpu().numpy()
    is_target = np.repeat([False, True], len(features_s))
    machine = make_pipeline(StandardScaler(), SVC(kernel=kernel))
    deal = StratifiedKFold(folds, shuffle=True, random_state=seed)
    error = float((cross_val_predict(machine, x, is_target, cv=deal) != is_target).mean())
    return max(a_distance(error), 0.0) if clip else a_distance(error)


# 76_evaluation: How far apart the domains are now

def a_distances(model: Method, source_images: Tensor, target_images: Tensor, count: int = 400,
                kernel: str = "rbf", folds: int = 5, seed: int = 0) -> dict[str, float]:
    """Proxy A-distances between ``count`` random images of each domain: "pixels" and "h".

    Where a model draws, also of its "codes" z_st and z_ts. Images are bytes (N, C, H, W).
    ``seed`` draws images, pairs, noise and folds. 0 is chance, 2 is perfectly told apart; see
    ``proxy_a_distance``. Raises ValueError if a domain has fewer than ``count`` images.
    """
    if min(len(source_images), len(target_images)) < count:
        raise ValueError(
            f"{count} images asked, of {len(source_images)} and {len(target_images)}")
    generator = torch.Generator().manual_seed(seed)
    x_s, x_t = (x[torch.randperm(len(x), generator=generator)[:count]]
                for x in (source_images, target_images))
    h_s, h_t = features_of(model, x_s, "source"), features_of(model, x_t)
    pairs = {"pixels": (x_s, x_t), "h": (h_s, h_t)}
    if model.draws:
        s = encode_images(model.encoder, x_s, domain="source")
        t = encode_images(model.encoder, x_t)
        codes = pair_codes(model, s, t, generator)
        pairs["codes"] = codes.z_st, codes.z_ts
    return {name: proxy_a_distance(*pair, kernel, folds, seed=seed)
            for name, pair in pairs.items()}


# 76_evaluation: A map of the features, and what it cannot say

def embed_tsne(features: Tensor, seed: int = 0, perplexity: float = 30.0) -> Tensor:
    """t-SNE of features (N, ...) in the plane, (N, 2) float32, with fixed settings: PCA start,
    automatic rate, ``seed``.

    ``perplexity`` is about the number of neighbors that a point minds. Raises ValueError if it
    is not below N.
    """
    from sklearn.manifold import TSNE

    if not perplexity < len(features):
        raise ValueError(
            f"perplexity {perplexity} for {len(features)} points: it has to be smaller")
    machine = TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto",
                   random_state=seed)
    return torch.from_numpy(
        machine.fit_transform(features.detach().flatten(1).double().cpu().numpy())).float()
