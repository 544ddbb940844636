"""The ways to read one model: from images, codes, translations, features.

Generated from book/src/51_moments.md, book/src/76_evaluation.md by `make sync`: edit there,
not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cdlm.data.batches import normalize
from cdlm.data.domain import Split
from cdlm.methods.base import Method
from cdlm.methods.cdlm import transfer_codes
from cdlm.model.codes import Codes
from cdlm.model.networks import Encoded, Encoder
from cdlm.model.normalization import facing

__all__ = [
    "encode_images",
    "features_of",
    "in_batches",
    "pair_codes",
    "probe_h",
    "readouts",
    "translations",
]


# 51_moments: On a trained model

@torch.no_grad()
def encode_images(encoder: Encoder, images: Tensor, batch_size: int = 500,
                  domain: str = "target") -> Encoded:
    """What an encoder says of byte images (N, C, 28, 28) of a domain: mu, sigma and h,
    (N, latent) float64 each."""
    with facing(encoder, domain):
        parts = [encoder(normalize(part)) for part in images.split(batch_size)]
    return Encoded(*(torch.cat(values).double() for values in zip(*parts)))


# 76_evaluation: Four ways to read one model

@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], x: Tensor,
               batch_size: int = 500) -> Tensor:
    """``function`` of a large ``x`` (N, ...), computed in parts of ``batch_size`` and put
    together again, (N, ...)."""
    return torch.cat([function(part) for part in x.split(batch_size)])


def pair_codes(model: Method, s: Encoded, t: Encoded, generator: torch.Generator) -> Codes:
    """The four codes of pairs of encoded images, (N, latent) each, by the map and the weights
    of the model's config.

    Each code has its own noise, from a CPU ``generator``.
    """
    c = model.config
    eps = torch.randn(4, *s.mu.shape, generator=generator, dtype=s.mu.dtype).to(s.mu.device)
    return transfer_codes(s, t, eps, c.losses.modulation, c.weights.gamma1, c.weights.gamma2)


def translations(model: Method, source_images: Tensor, images: Tensor, seed: int = 0,
                 paths: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Target images as the classifier may see them, by path, (N, C, H, W) each, floats in
    [-1, 1].

    ``images`` are bytes (N, C, H, W). Each is paired at random with one of ``source_images``,
    bytes (M, C, H, W), which modulates it. Noise and pairs depend on ``seed``, N and M alone,
    and not on ``paths``. Raises ValueError for a path that is not one of ``model.paths``.
    """
    paths = model.paths if paths is None else paths
    if unknown := [path for path in paths if path not in model.paths]:
        known = ", ".join(model.paths)
        raise ValueError(f"{type(model).__name__} has no path {unknown[0]}; it has {known}")
    if not model.draws:
        return {path: normalize(images) for path in paths}
    generator = torch.Generator().manual_seed(seed)
    partners = source_images[torch.randint(len(source_images), (len(images),),
                                           generator=generator)]
    s, t = (encode_images(model.encoder, partners, domain="source"),
            encode_images(model.encoder, images))
    codes = pair_codes(model, s, t, generator)
    drawn = {"x_t": lambda: normalize(images),
             "x_hat_ts": lambda: in_batches(model.decoder, codes.z_ts.float()),
             "x_tilde_t": lambda: in_batches(model.decoder, codes.u_t.float())}
    return {path: drawn[path]() for path in paths}


def features_of(model: Method, images: Tensor, domain: str = "target") -> Tensor:
    """What a method compares domains in, (N, ...), of byte images (N, C, H, W) of a domain."""
    with facing(model, domain):
        return in_batches(lambda x: model.features(normalize(x)), images)


def probe_h(model: Method, source: Split, images: Tensor, count: int = 1000,
            seed: int = 0) -> Tensor:
    """Class log-probabilities (N, classes) of target ``images``, bytes, by a logistic
    regression on the features h.

    It is fitted to ``count`` random images of ``source`` (all, if there are fewer), on
    standardized features, and so reads h without any target label. Columns are the classes
    found, in order.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chosen = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[:count]
    seen, asked = (features_of(model, x, domain).flatten(1).double().cpu().numpy()
                   for x, domain in ((source.images[chosen], "source"), (images, "target")))
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(
        seen, source.labels[chosen].cpu().numpy())
    return torch.from_numpy(probe.predict_log_proba(asked))


def readouts(model: Method, source: Split, images: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Logits (N, classes) of byte ``images`` (N, C, H, W) by the model's paths, and by "h".

    The former are read by its own classifier, "h" by ``probe_h``. No target label is used.
    """
    seen = translations(model, source.images, images, seed)
    read = {name: in_batches(model.read, x) for name, x in seen.items()}
    return read | {"h": probe_h(model, source, images, seed=seed)}
