"""Accuracy through each path of the model, confusion, distances, maps of features, intervals.

Generated from book/src/10_domain_shift.md, book/src/50_moments.md, book/src/55_bound.md,
book/src/74_evaluation.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from cdlm.data.batches import normalize
from cdlm.data.domains import Split
from cdlm.discrepancy import a_distance
from cdlm.methods.base import Method
from cdlm.methods.cdlm import Codes, transfer_codes
from cdlm.modulation import modulate
from cdlm.moments import modulated_mean, modulated_sigma, simplified_mean, simplified_sigma
from cdlm.nets import Encoded, Encoder, facing

__all__ = [
    "Flip",
    "Interval",
    "QUANTILE_LEVELS",
    "VarianceParts",
    "a_distances",
    "accuracy",
    "class_flips",
    "confusion",
    "embed_tsne",
    "encode_images",
    "features_of",
    "in_batches",
    "jarque_bera",
    "mean_gaps",
    "measure_modulation",
    "pair_codes",
    "per_class_accuracy",
    "predict",
    "probe_h",
    "proxy_a_distance",
    "readouts",
    "regress",
    "rounded",
    "sampled_moments",
    "t_interval",
    "translations",
    "variance_parts",
]


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


# 50_moments: On a trained model

@torch.no_grad()
def encode_images(encoder: Encoder, images: Tensor, batch_size: int = 500, domain: str = "target") -> Encoded:
    """What an encoder says of byte images (N, C, 28, 28) of a domain: mu, sigma and h, (N, latent) float64 each."""
    with facing(encoder, domain):
        parts = [encoder(normalize(part)) for part in images.split(batch_size)]
    return Encoded(*(torch.cat(values).double() for values in zip(*parts)))


def jarque_bera(x: Tensor) -> Tensor:
    """Jarque-Bera statistic of normality for each column of ``x`` (N, columns), (columns,).

    It is 0 for skewness 0 and kurtosis 3. For normal columns it is nearly chi-squared with two degrees of
    freedom, so that it exceeds a value v with probability exp(-v / 2). Not a number for a constant column.
    """
    standard = (x - x.mean(0)) / x.std(0, correction=0)
    return len(x) / 6 * ((standard**3).mean(0) ** 2 + ((standard**4).mean(0) - 3) ** 2 / 4)


def regress(y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Slope of the regression of each column of ``y`` on the same column of ``x``, and their correlation.

    Both are (N, columns); returns (columns,) each. Not a number where a column is constant.
    """
    dx, dy = x - x.mean(0), y - y.mean(0)
    slope = (dx * dy).mean(0) / (dx**2).mean(0)
    return slope, slope * dx.square().mean(0).sqrt() / dy.square().mean(0).sqrt()


def sampled_moments(own: Encoded, h_other: Tensor, gamma1: float, gamma2: float, draws: int,
                    generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean and deviation of codes drawn by ``modulate`` for each own image, (N, latent) each.

    Every one of the ``draws`` takes the feature of a random image of the other domain, ``h_other`` (M, latent),
    and a fresh noise.
    """
    total, squares = torch.zeros_like(own.mu), torch.zeros_like(own.mu)
    for _ in range(draws):
        chosen = torch.randint(len(h_other), (len(own.mu),), generator=generator)
        eps = torch.randn(own.mu.shape, generator=generator, dtype=own.mu.dtype)
        shift = modulate(own.mu, own.sigma, h_other[chosen], eps, gamma1, gamma2) - own.mu
        total, squares = total + shift, squares + shift**2
    mean = total / draws
    return own.mu + mean, (squares / draws - mean**2).sqrt()


class VarianceParts(NamedTuple):
    """Variance of a code over pairs of images, by its cause, (latent,) each; the three add up to the whole."""

    own: Tensor      # the own image's mean and deviation
    other: Tensor    # the other image's feature
    noise: Tensor


def variance_parts(own: Encoded, h_other: Tensor, gamma1: float = 1.0, gamma2: float = 0.1) -> VarianceParts:
    """Variance of the modulated code of random pairs: own images (N, latent), other features (M, latent)."""
    centers = own.mu + gamma1 * own.sigma * h_other.mean(0)             # Eq. 3 for each own image
    scale = own.sigma.square().mean(0)
    spread = h_other.var(0, correction=0)
    return VarianceParts(centers.var(0, correction=0), scale * gamma1**2 * spread, scale * gamma2**2)


QUANTILE_LEVELS = tuple(level / 40 for level in range(1, 40))


def measure_modulation(s: Encoded, t: Encoded, gamma1: float, gamma2: float, draws: int = 4000, seed: int = 0) -> dict:
    """Everything that Eqs. 3-6 assume or say of a trained encoder, for the code z_st, by name.

    ``s`` and ``t`` are all images of source and target. Lists are per coordinate, (latent,); ``h_quantiles`` is
    (levels, latent). Errors in means are in deviations of the code, errors in deviations are ratios.
    """
    generator = torch.Generator().manual_seed(seed)
    mean, deviation = sampled_moments(s, t.h, gamma1, gamma2, draws, generator)
    mu_h, sigma_h = t.h.mean(0), t.h.std(0, correction=0)
    slope, correlation = regress(t.h, t.mu)
    means = {"eq_3": modulated_mean(s.mu, s.sigma, mu_h, gamma1), "eq_5": simplified_mean(s.mu, t.mu.mean(0), gamma1)}
    deviations = {"eq_4": modulated_sigma(s.sigma, sigma_h, gamma1, gamma2),
                  "eq_6": simplified_sigma(s.sigma, t.sigma.mean(0), gamma1)}
    levels = torch.tensor(QUANTILE_LEVELS, dtype=t.h.dtype)
    found = {
        "mu_h": mu_h, "sigma_h": sigma_h, "mu_t": t.mu.mean(0), "mu_t_deviation": t.mu.std(0, correction=0),
        "sigma_t": t.sigma.mean(0), "sigma_s": s.sigma.mean(0), "sigma_s_quantiles": s.sigma.flatten().quantile(levels),
        "slope": slope, "correlation": correlation, "jarque_bera": jarque_bera(t.h), "h_quantiles": t.h.quantile(levels, 0),
        "variance": variance_parts(s, t.h, gamma1, gamma2)._asdict(),
        "mean_error": {name: ((value - mean) / deviation).square().mean().sqrt() for name, value in means.items()},
        "deviation_ratio": {name: (value / deviation).log().mean().exp() for name, value in deviations.items()},
        "example": {"mean": mean[0], "deviation": deviation[0]} | {k: v[0] for k, v in (means | deviations).items()},
        "gap": mean_gaps(s, t, gamma1, generator),
    }
    return {name: rounded(value) for name, value in found.items()}


def mean_gaps(s: Encoded, t: Encoded, gamma1: float, generator: torch.Generator, pairs: int = 10_000) -> dict[str, Tensor]:
    """Distances between two means, before and after modulation: of the two domains, and root mean square of random pairs.

    ``features`` is the distance between the mean features of the two domains.
    """
    i, j = (torch.randint(len(side.mu), (pairs,), generator=generator) for side in (s, t))
    before = s.mu[i] - t.mu[j]                                          # (pairs, latent)
    after = before + gamma1 * (s.sigma[i] * t.h[j] - t.sigma[j] * s.h[i])
    domains = s.mu.mean(0) - t.mu.mean(0)
    moved = gamma1 * (s.sigma.mean(0) * t.h.mean(0) - t.sigma.mean(0) * s.h.mean(0))
    return {"domains_before": domains.norm(), "domains_after": (domains + moved).norm(),
            "pairs_before": before.square().sum(1).mean().sqrt(), "pairs_after": after.square().sum(1).mean().sqrt(),
            "features": (s.h.mean(0) - t.h.mean(0)).norm()}


def rounded(value: Tensor | dict, digits: int = 6) -> float | list | dict:
    """A tensor as a number or nested lists, or a dictionary of such, to ``digits`` significant digits."""
    if isinstance(value, dict):
        return {name: rounded(part, digits) for name, part in value.items()}
    if value.dim():
        return [rounded(part, digits) for part in value]
    return float(f"{value.item():.{digits}g}")


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


# 74_evaluation: Four ways to read one model

@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], x: Tensor, batch_size: int = 500) -> Tensor:
    """``function`` of a large ``x`` (N, ...), computed in parts of ``batch_size`` and put together again, (N, ...)."""
    return torch.cat([function(part) for part in x.split(batch_size)])


def pair_codes(model: Method, s: Encoded, t: Encoded, generator: torch.Generator) -> Codes:
    """The four codes of pairs of encoded images, (N, latent) each, by the map and the weights of the model's config.

    Each code has its own noise, from a CPU ``generator``.
    """
    c = model.config
    eps = torch.randn(4, *s.mu.shape, generator=generator, dtype=s.mu.dtype).to(s.mu.device)
    return transfer_codes(s, t, eps, c.losses.modulation, c.weights.gamma1, c.weights.gamma2)


def translations(model: Method, source_images: Tensor, images: Tensor, seed: int = 0,
                 paths: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Target images as the classifier may see them, by path, (N, C, H, W) each, floats in [-1, 1].

    ``images`` are bytes (N, C, H, W). Each is paired at random with one of ``source_images``,
    bytes (M, C, H, W), which modulates it. Noise and pairs depend on ``seed``, N and M alone, and
    not on ``paths``. Raises ValueError for a path that is not one of ``model.paths``.
    """
    paths = model.paths if paths is None else paths
    if unknown := [path for path in paths if path not in model.paths]:
        known = ", ".join(model.paths)
        raise ValueError(f"{type(model).__name__} has no path {unknown[0]}; it has {known}")
    if not model.draws:
        return {path: normalize(images) for path in paths}
    generator = torch.Generator().manual_seed(seed)
    partners = source_images[torch.randint(len(source_images), (len(images),), generator=generator)]
    s, t = encode_images(model.encoder, partners, domain="source"), encode_images(model.encoder, images)
    codes = pair_codes(model, s, t, generator)
    drawn = {"x_t": lambda: normalize(images), "x_hat_ts": lambda: in_batches(model.decoder, codes.z_ts.float()),
             "x_tilde_t": lambda: in_batches(model.decoder, codes.u_t.float())}
    return {path: drawn[path]() for path in paths}


def features_of(model: Method, images: Tensor, domain: str = "target") -> Tensor:
    """What a method compares domains in, (N, ...), of byte images (N, C, H, W) of a domain."""
    with facing(model, domain):
        return in_batches(lambda x: model.features(normalize(x)), images)


def probe_h(model: Method, source: Split, images: Tensor, count: int = 1000,
            seed: int = 0) -> Tensor:
    """Class log-probabilities (N, classes) of target ``images``, bytes, by a logistic regression on the features h.

    It is fitted to ``count`` random images of ``source`` (all, if there are fewer), on standardized features, and so reads h
    without any target label. Columns are the classes found, in order.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chosen = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[:count]
    seen, asked = (features_of(model, x, domain).flatten(1).double().cpu().numpy()
                   for x, domain in ((source.images[chosen], "source"), (images, "target")))
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(seen, source.labels[chosen].cpu().numpy())
    return torch.from_numpy(probe.predict_log_proba(asked))


def readouts(model: Method, source: Split, images: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Logits (N, classes) of byte ``images`` (N, C, H, W) by the model's paths, and by "h".

    The former are read by its own classifier, "h" by ``probe_h``. No target label is used.
    """
    seen = translations(model, source.images, images, seed)
    read = {name: in_batches(model.read, x) for name, x in seen.items()}
    return read | {"h": probe_h(model, source, images, seed=seed)}


# 74_evaluation: Confusion: which classes

def confusion(predicted: Tensor, labels: Tensor, classes: int = 10) -> Tensor:
    """Counts (classes, classes): row i, column j has the images of class i that were predicted as j.

    Both arguments are (N,) integers in [0, classes). Raises ValueError for other shapes or values.
    """
    if predicted.shape != labels.shape or labels.dim() != 1:
        raise ValueError(f"{tuple(predicted.shape)} predictions for {tuple(labels.shape)} labels")
    if len(labels) and not all(0 <= x.min() and x.max() < classes for x in (predicted, labels)):
        raise ValueError(f"classes are not all in 0..{classes - 1}")
    return torch.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


class Flip(NamedTuple):
    """Images of class ``true`` that are ``seen`` as another: how many, and what share of their class."""

    true: int
    seen: int
    count: int
    share: float


def class_flips(counts: Tensor, least: int = 1) -> list[Flip]:
    """Entries off the diagonal of a confusion matrix with at least ``least`` images, most frequent first."""
    totals = counts.sum(1)
    found = [Flip(i, j, int(counts[i, j]), float(counts[i, j] / totals[i]))
             for i, j in (counts >= max(least, 1)).nonzero().tolist() if i != j]
    return sorted(found, key=lambda flip: (-flip.count, flip.true, flip.seen))


# 74_evaluation: How far apart the domains are now

def a_distances(model: Method, source_images: Tensor, target_images: Tensor, count: int = 400,
                kernel: str = "rbf", folds: int = 5, seed: int = 0) -> dict[str, float]:
    """Proxy A-distances between ``count`` random images of each domain: "pixels" and "h".

    Where a model draws, also of its "codes" z_st and z_ts. Images are bytes (N, C, H, W).
    ``seed`` draws images, pairs, noise and folds. 0 is chance, 2 is perfectly told apart; see
    ``proxy_a_distance``. Raises ValueError if a domain has fewer than ``count`` images.
    """
    if min(len(source_images), len(target_images)) < count:
        raise ValueError(f"{count} images asked, of {len(source_images)} and {len(target_images)}")
    generator = torch.Generator().manual_seed(seed)
    x_s, x_t = (x[torch.randperm(len(x), generator=generator)[:count]] for x in (source_images, target_images))
    h_s, h_t = features_of(model, x_s, "source"), features_of(model, x_t)
    pairs = {"pixels": (x_s, x_t), "h": (h_s, h_t)}
    if model.draws:
        s = encode_images(model.encoder, x_s, domain="source")
        t = encode_images(model.encoder, x_t)
        codes = pair_codes(model, s, t, generator)
        pairs["codes"] = codes.z_st, codes.z_ts
    return {name: proxy_a_distance(*pair, kernel, folds, seed=seed) for name, pair in pairs.items()}


# 74_evaluation: A map of the features, and what it cannot say

def embed_tsne(features: Tensor, seed: int = 0, perplexity: float = 30.0) -> Tensor:
    """t-SNE of features (N, ...) in the plane, (N, 2) float32, with fixed settings: PCA start, automatic rate, ``seed``.

    ``perplexity`` is about the number of neighbors that a point minds. Raises ValueError if it is not below N.
    """
    from sklearn.manifold import TSNE

    if not perplexity < len(features):
        raise ValueError(f"perplexity {perplexity} for {len(features)} points: it has to be smaller")
    machine = TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
    return torch.from_numpy(machine.fit_transform(features.detach().flatten(1).double().cpu().numpy())).float()


# 74_evaluation: How many seeds

class Interval(NamedTuple):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


def t_interval(values: Tensor, level: float = 0.95) -> Interval:
    """Student's interval for the mean of independent ``values`` (n,), n at least 2; for pairs, hand over differences."""
    if values.dim() != 1 or len(values) < 2:
        raise ValueError(f"values have the shape {tuple(values.shape)}; two numbers at least are needed")
    mean, deviation = values.double().mean().item(), values.double().std().item()
    reach = student.ppf((1 + level) / 2, len(values) - 1).item() * deviation / math.sqrt(len(values))
    return Interval(mean, mean - reach, mean + reach)
