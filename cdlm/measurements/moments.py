"""The moments of modulated codes, as the theory predicts them and as stored runs have them.

Generated from book/src/51_moments.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cdlm.evaluation.readouts import encode_images
from cdlm.evaluation.statistics import QUANTILE_LEVELS, jarque_bera, regress, rounded
from cdlm.files import RunError
from cdlm.model.modulation import modulate
from cdlm.model.moments import (
    modulated_mean,
    modulated_sigma,
    simplified_mean,
    simplified_sigma,
)
from cdlm.model.networks import Encoded
from cdlm.provenance import provenance
from cdlm.runs.run import data_checksums, joined_record, load_run, same_data

__all__ = [
    "VarianceParts",
    "mean_gaps",
    "measure_modulation",
    "measure_moments",
    "predicted_moments",
    "sampled_moments",
    "variance_parts",
]


# 51_moments: On a trained model

def sampled_moments(own: Encoded, h_other: Tensor, gamma1: float, gamma2: float, draws: int,
                    generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean and deviation of codes drawn by ``modulate`` for each own image, (N, latent) each.

    Every one of the ``draws`` takes the feature of a random image of the other domain,
    ``h_other`` (M, latent), and a fresh noise.
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
    """Variance of a code over pairs of images, by its cause, (latent,) each; the three add up
    to the whole."""

    own: Tensor      # the own image's mean and deviation
    other: Tensor    # the other image's feature
    noise: Tensor


def variance_parts(own: Encoded, h_other: Tensor, gamma1: float = 1.0,
                   gamma2: float = 0.1) -> VarianceParts:
    """Variance of the modulated code of random pairs: own images (N, latent), other features
    (M, latent)."""
    centers = own.mu + gamma1 * own.sigma * h_other.mean(0)  # Eq. 3 for each own image
    scale = own.sigma.square().mean(0)
    spread = h_other.var(0, correction=0)
    return VarianceParts(centers.var(0, correction=0), scale * gamma1**2 * spread,
                         scale * gamma2**2)


def predicted_moments(s: Encoded, t: Encoded, gamma1: float,
                      gamma2: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Means and deviations, (N, latent) each, that Eqs. 3 to 6 predict for the codes z_st of
    the source images, with averages over all target images."""
    mu_h, sigma_h = t.h.mean(0), t.h.std(0, correction=0)
    means = {"eq_3": modulated_mean(s.mu, s.sigma, mu_h, gamma1),
             "eq_5": simplified_mean(s.mu, t.mu.mean(0), gamma1)}
    deviations = {"eq_4": modulated_sigma(s.sigma, sigma_h, gamma1, gamma2),
                  "eq_6": simplified_sigma(s.sigma, t.sigma.mean(0), gamma1)}
    return means, deviations


def mean_gaps(s: Encoded, t: Encoded, gamma1: float, generator: torch.Generator,
              pairs: int = 10_000) -> dict[str, Tensor]:
    """Distances between two means, before and after modulation: of the two domains, and root
    mean square of random pairs.

    ``features`` is the distance between the mean features of the two domains.
    """
    i, j = (torch.randint(len(side.mu), (pairs,), generator=generator) for side in (s, t))
    before = s.mu[i] - t.mu[j]                                          # (pairs, latent)
    after = before + gamma1 * (s.sigma[i] * t.h[j] - t.sigma[j] * s.h[i])
    domains = s.mu.mean(0) - t.mu.mean(0)
    moved = gamma1 * (s.sigma.mean(0) * t.h.mean(0) - t.sigma.mean(0) * s.h.mean(0))
    return {"domains_before": domains.norm(), "domains_after": (domains + moved).norm(),
            "pairs_before": before.square().sum(1).mean().sqrt(),
            "pairs_after": after.square().sum(1).mean().sqrt(),
            "features": (s.h.mean(0) - t.h.mean(0)).norm()}


def measure_modulation(s: Encoded, t: Encoded, gamma1: float, gamma2: float, draws: int = 4000,
                       seed: int = 0) -> dict:
    """Everything that Eqs. 3-6 assume or say of a trained encoder, for the code z_st, by name.

    ``s`` and ``t`` are all images of source and target. Lists are per coordinate, (latent,);
    ``h_quantiles`` is (levels, latent). Errors in means are in deviations of the code, errors
    in deviations are ratios.
    """
    generator = torch.Generator().manual_seed(seed)
    mean, deviation = sampled_moments(s, t.h, gamma1, gamma2, draws, generator)
    means, deviations = predicted_moments(s, t, gamma1, gamma2)
    slope, correlation = regress(t.h, t.mu)
    levels = torch.tensor(QUANTILE_LEVELS, dtype=t.h.dtype)
    found = {
        "mu_h": t.h.mean(0), "sigma_h": t.h.std(0, correction=0),
        "mu_t": t.mu.mean(0), "mu_t_deviation": t.mu.std(0, correction=0),
        "sigma_t": t.sigma.mean(0), "sigma_s": s.sigma.mean(0),
        "sigma_s_quantiles": s.sigma.flatten().quantile(levels),
        "slope": slope, "correlation": correlation, "jarque_bera": jarque_bera(t.h),
        "h_quantiles": t.h.quantile(levels, 0),
        "variance": variance_parts(s, t.h, gamma1, gamma2)._asdict(),
        "mean_error": {name: ((value - mean) / deviation).square().mean().sqrt()
                       for name, value in means.items()},
        "deviation_ratio": {name: (value / deviation).log().mean().exp()
                            for name, value in deviations.items()},
        "example": {"mean": mean[0], "deviation": deviation[0]}
        | {k: v[0] for k, v in (means | deviations).items()},
        "gap": mean_gaps(s, t, gamma1, generator),
    }
    return {name: rounded(value) for name, value in found.items()}


def measure_moments(folders: Iterable[Path], draws: int = 4000) -> dict:
    """A record of what Eqs. 3-6 assume, measured on the test images of stored runs of CDLM
    that differ in their seed only.

    Raises RunError for runs of another method, for runs that differ in more, and where the
    data have changed since.
    """
    folders = list(folders)
    joined = joined_record(folders)
    if joined["spec"]["method"] != "cdlm":
        raise RunError(
            f"moments are measured on runs of cdlm, not of {joined['spec']['method']}")
    trained = {run["seed"]: {name: run[name] for name in ("target_accuracy", "provenance")
                             if name in run}
               for run in joined["runs"]}
    measured = []
    for folder in folders:
        spec, model, source, target = load_run(folder)
        if not same_data(joined["runs"][0]["data"], data_checksums(source, target)):
            raise RunError(f"the data are not those that {folder} was trained on")
        s, t = (encode_images(model.encoder, domain.test.images, domain=side)
                for domain, side in ((source, "source"), (target, "target")))
        found = measure_modulation(s, t, model.config.weights.gamma1,
                                   model.config.weights.gamma2, draws)
        measured.append({"seed": spec.seed, "trained": trained[spec.seed], **found})
    return {"measured": "moments", "split": "test", "draws": draws,
            "data": joined["runs"][0]["data"], "spec": joined["spec"],
            "config": joined["config"], "provenance": provenance("cpu"),
            "runs": sorted(measured, key=lambda run: run["seed"])}
