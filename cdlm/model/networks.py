"""Encoder with its three heads, decoder, discriminator, task classifier.

Generated from book/src/10_domain_shift.md, book/src/20_vae.md,
book/src/30_transfer_latent_space.md, book/src/35_adversary.md, book/src/70_networks.md by
`make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.model.normalization import ChunkedBatchNorm, DomainBatchNorm, standardized

__all__ = [
    "ConvTrunk",
    "Decoder",
    "Discriminator",
    "Encoded",
    "Encoder",
    "PCAFeatures",
    "ResidualBlock",
    "ResidualDecoder",
    "ResidualTrunk",
    "TaskClassifier",
    "conv_block",
    "deconv_block",
    "feature_activation",
    "halving_blocks",
    "halvings",
    "networks_of",
    "norm",
    "note_whether_fitted",
    "principal_components",
    "stage_widths",
    "tap_of_table5",
    "tap_place",
    "ungrouped",
]


# 10_domain_shift: The network

def ungrouped(width: int, doublings: int = 0) -> str:
    """Why convolutions of ``width`` channels and more, doubled so often, cannot be normalized
    in equal groups of about sixteen; "" if they can."""
    for channels in (width * 2**i for i in range(doublings + 1)):
        if channels % (groups := max(1, channels // 16)):
            return (f"{channels} channels cannot be normalized in {groups} equal groups; "
                    "choose a width that is a multiple of 16")
    return ""


def norm(channels: int, kind: str = "group") -> nn.Module:
    """Normalization of (B, channels, H, W) over groups of sixteen channels of one image, over
    the batch, or "none".

    "domain" is over the batch too, by each domain's own statistics. Only with these two does
    what an image becomes depend on the images beside it. Raises ValueError for other kinds,
    and for channels that cannot be grouped.
    """
    if kind == "group":
        if wrong := ungrouped(channels):
            raise ValueError(wrong)
        return nn.GroupNorm(max(1, channels // 16), channels)
    if kind == "none":
        return nn.Identity()
    if kind in ("batch", "domain"):
        return (ChunkedBatchNorm if kind == "batch" else DomainBatchNorm)(channels)
    raise ValueError(
        f'normalization is {kind!r}; it must be "group", "batch", "domain" or "none"')


def conv_block(c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0,
               normalization: str = "group") -> nn.Sequential:
    """Convolution, normalization, LeakyReLU with slope 0.01: (B, c_in, H, W) to
    (B, c_out, H', W')."""
    convolution = nn.Conv2d(c_in, c_out, kernel, stride, padding)
    return nn.Sequential(convolution, norm(c_out, normalization), nn.LeakyReLU(0.01))


def halvings(size: int) -> int:
    """How often images (B, C, size, size) are halved until their side is 7 or 8.

    Raises ValueError for other sizes.
    """
    if size not in (28, 32, 64):
        raise ValueError(
            f"size is {size}; the networks are made for images of 28, 32 and 64 pixels")
    return 3 if size == 64 else 2


def halving_blocks(channels: int, width: int, size: int = 28,
                   normalization: str = "group") -> list[nn.Sequential]:
    """Convolutions that halve images (B, channels, size, size) until their side is 7 or 8.

    The first one has ``width`` channels, each further one twice as many.
    """
    counts = [channels, *(width * 2**i for i in range(halvings(size)))]
    return [conv_block(a, b, 5, stride=2, padding=2, normalization=normalization)
            for a, b in pairwise(counts)]


class TaskClassifier(nn.Module):
    """Images (B, channels, size, size) in [-1, 1] to class logits (B, classes).

    Raises ValueError for other sizes.
    """

    def __init__(self, channels: int = 1, width: int = 16, classes: int = 10, size: int = 28,
                 normalization: str = "group") -> None:
        super().__init__()
        blocks = halving_blocks(channels, width, size, normalization)   # to (B, 2 width, 7, 7)
        numbers = width * 2 ** (len(blocks) - 1) * (size // 2 ** len(blocks)) ** 2
        self.layers = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(numbers, 128), nn.ReLU(),
                                    nn.Linear(128, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


# 20_vae: The networks

class ConvTrunk(nn.Sequential):
    """Convolutions that turn images (N, channels, size, size) in [-1, 1] into features h'
    (N, ``features``)."""

    def __init__(self, channels: int = 1, width: int = 16, size: int = 28,
                 normalization: str = "group") -> None:
        # (N, w, 14, 14), (N, 2w, 7, 7)
        halving = halving_blocks(channels, width, size, normalization)
        count, side = width * 2 ** len(halving), size // 2 ** len(halving)
        super().__init__(
            *halving,
            conv_block(count // 2, count, side, normalization=normalization),   # (N, 4w, 1, 1)
            conv_block(count, 8 * width, 1, normalization=normalization),       # (N, 8w, 1, 1)
            nn.Flatten(),                                                       # (N, 8w)
        )
        self.features = 8 * width
        self.sizes = ([width * 2**i * (size // 2 ** (i + 1)) ** 2 for i in range(len(halving))]
                      + [count, 8 * width])

    def activations(self, x: Tensor) -> list[Tensor]:
        """What each convolution makes of images, from the first to the last: (N, C, H, W),
        ``sizes`` numbers each."""
        found = []
        for block in list(self)[:-1]:
            x = block(x)
            found.append(x)
        return found


def deconv_block(c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0,
                 normalization: str = "group") -> nn.Sequential:
    """Transposed convolution, normalization, LeakyReLU: (N, c_in, H, W) to (N, c_out, H', W').

    H' = (H - 1) * stride - 2 * padding + kernel, and W' likewise.
    """
    convolution = nn.ConvTranspose2d(c_in, c_out, kernel, stride, padding)
    return nn.Sequential(convolution, norm(c_out, normalization), nn.LeakyReLU(0.01))


class Decoder(nn.Sequential):
    """Codes z (N, latent) to images (N, channels, size, size) in [-1, 1].

    Raises ValueError for other sizes.
    """

    def __init__(self, latent: int = 32, channels: int = 1, width: int = 16, size: int = 28,
                 normalization: str = "group") -> None:
        times = halvings(size)  # how often the side doubles
        counts = [width * 2**i for i in reversed(range(times + 1))]  # channels: 4w, 2w, w
        first = deconv_block(latent, counts[0], size // 2**times, normalization=normalization)
        doubling = [deconv_block(a, b, 4, 2, 1, normalization) for a, b in pairwise(counts)]
        super().__init__(
            nn.Unflatten(1, (latent, 1, 1)),                # (N, latent, 1, 1)
            first,                                          # (N, 4w, 7, 7)
            *doubling,                                      # (N, 2w, 14, 14), (N, w, 28, 28)
            nn.Conv2d(width, channels, 1),                  # (N, C, 28, 28)
            nn.Tanh(),
        )


# 30_transfer_latent_space: The map f: an encoder with three heads

class Encoded(NamedTuple):
    """What the encoder says of a batch of images, each (batch, latent)."""

    mu: Tensor       # mean of the code
    sigma: Tensor    # its standard deviation, > 0
    # feature in (0, 1), or any real with activation="linear", that modulates the other domain
    h: Tensor


class Encoder(nn.Module):
    """The map f of Definition 1: images to the parameters of their code and a feature.

    ``tap`` says which convolution h is read from, "conv1", "conv2", ... or "last"; with
    ``features="pca"`` it is read from the image, and ``encoder.h.fit(images)`` has to come
    first. With ``standardize`` each image is given mean 0 and deviation 1 before all else;
    ``trunk`` is "unit" or "residual". Raises ValueError for what there is not.
    """

    def __init__(self, latent: int = 32, channels: int = 1, width: int = 16, size: int = 28,
                 normalization: str = "group", tap: str = "last", features: str = "deep",
                 activation: str = "sigmoid", standardize: bool = False,
                 trunk: str = "unit") -> None:
        super().__init__()
        self.standardize = standardize
        self.trunk = networks_of(trunk)[0](channels, width, size, normalization)
        self.mu, self.log_sigma = (nn.Linear(self.trunk.features, latent) for _ in range(2))
        # the convolution that h is read from
        self.tap = tap_place(tap, features, len(self.trunk.sizes))
        wide = self.trunk.sizes[self.tap]
        self.h = (nn.Linear(wide, latent)
                  if features == "deep" else PCAFeatures(latent, channels, size))
        self.squash = feature_activation(activation)
        nn.init.zeros_(self.log_sigma.weight)

    def forward(self, x: Tensor) -> Encoded:
        """Encode images ``x`` (batch, channels, size, size) in [-1, 1]."""
        x = standardized(x) if self.standardize else x
        activations = self.trunk.activations(x)
        features = activations[-1].flatten(1)               # h', (batch, trunk.features)
        log_sigma = self.log_sigma(features).clamp(-6, 3)
        read = x if isinstance(self.h, PCAFeatures) else activations[self.tap]
        return Encoded(self.mu(features), log_sigma.exp(),
                       self.squash(self.h(read.flatten(1))))


# 35_adversary: Two clouds and a guesser

class Discriminator(nn.Module):
    """Two-layer perceptron $\\Xi$: features (batch, latent) to one logit each, (batch,);
    positive means source."""

    def __init__(self, latent: int = 32, hidden: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, h: Tensor) -> Tensor:
        return self.layers(h).squeeze(1)


# 70_networks: Three heads

def feature_activation(name: str) -> nn.Module:
    """What h passes through at the end: the paper's "sigmoid", or "linear" for nothing.

    Else ValueError.
    """
    if name not in ("sigmoid", "linear"):
        raise ValueError(f'activation is {name!r}; it must be "sigmoid" or "linear"')
    return nn.Sigmoid() if name == "sigmoid" else nn.Identity()


# 70_networks: Where h is read

def tap_place(tap: str, features: str = "deep", convolutions: int = 4) -> int:
    """Place, counted from zero, of the convolution that h is read from: "conv1" is 0, and
    "last" the last one.

    Raises ValueError if there is no such convolution, for ``features`` other than "deep" and
    "pca", and for a tap with "pca", which reads the image.
    """
    names = [f"conv{i + 1}" for i in range(convolutions)]
    if features not in ("deep", "pca"):
        raise ValueError(f'features is {features!r}; it must be "deep" or "pca"')
    if features == "pca" and tap != "last":
        raise ValueError(f'tap is {tap!r}, but features="pca" reads the image, '
                         'not a convolution; leave tap at "last"')
    if tap not in (*names, "last"):
        raise ValueError(f"tap is {tap!r}; it must be one of {', '.join(names)}, last")
    return convolutions - 1 if tap == "last" else names.index(tap)


def tap_of_table5(name: str, size: int = 28) -> str:
    """The tap that we read a column of the paper's Table 5 as, "Conv4", "Conv5" or "Convlast",
    counted from the end.

    Raises ValueError for other names, and for a ``size`` other than 28, 32 and 64.
    """
    columns = ("Conv4", "Conv5", "Convlast")
    if name not in columns:
        raise ValueError(f"{name!r} is not a column of Table 5: {', '.join(columns)}")
    return f"conv{halvings(size) + columns.index(name)}"


# 70_networks: Shallow features

def note_whether_fitted(module: nn.Module, _: object) -> None:
    """After weights were loaded: features whose scale is not zero have been fitted."""
    module.fitted = bool(module.scale.any())


def principal_components(x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d,), directions (count, d) and standard deviations (count,) along them of points
    (n, d), largest first.

    The entry of largest size in each direction is positive. Raises ValueError for points that
    vary in fewer directions.
    """
    mean = x.mean(0)
    most = min(len(x) - 1, x.shape[1])
    if most >= count:
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
            torch.manual_seed(0)  # the sketch of the matrix is random
            _, values, directions = torch.svd_lowrank(x - mean, q=min(most, 2 * count + 16),
                                                      niter=16)
        scale, directions = values[:count] / (len(x) - 1) ** 0.5, directions.T[:count]
    if most < count or scale[-1] <= 1e-6 * scale[0]:
        raise ValueError(
            f"{len(x)} points of {x.shape[1]} numbers do not vary in {count} directions")
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return mean, directions * largest.sign(), scale


class PCAFeatures(nn.Module):
    """Whitened principal components of images: no gradient trains them, ``fit`` computes them
    once.

    Whitened means that over the images of the fit each of the (batch, latent) outputs has mean
    0 and variance 1.
    """

    def __init__(self, latent: int = 32, channels: int = 1, size: int = 28) -> None:
        super().__init__()
        pixels = channels * size**2
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("components", torch.zeros(latent, pixels))  # rows of length one
        self.register_buffer("scale", torch.zeros(latent))  # standard deviation along each
        self.fitted = False
        self.register_load_state_dict_post_hook(note_whether_fitted)

    @torch.no_grad()
    def fit(self, images: Tensor) -> PCAFeatures:
        """Find the directions in which images (N, channels, size, size) in [-1, 1] vary most;
        returns itself.

        Raises ValueError if the images vary in fewer than ``latent`` directions.
        """
        found = principal_components(images.flatten(1), len(self.scale))
        for buffer, value in zip((self.mean, self.components, self.scale), found):
            buffer.copy_(value)
        self.fitted = True
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Features (batch, latent) of images (batch, channels, size, size), or flattened.

        RuntimeError before a fit.
        """
        if not self.fitted:
            raise RuntimeError(
                "these PCA features are not fitted: call fit(images) before encoding")
        return (x.flatten(1) - self.mean) @ self.components.T / self.scale


# 70_networks: Residual blocks

class ResidualBlock(nn.Module):
    """Two kernels of 3 and a way around them: (N, c_in, H, W) to (N, c_out, H', W'), where H'
    is H / stride, rounded up."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1,
                 normalization: str = "group") -> None:
        super().__init__()
        self.residual = nn.Sequential(conv_block(c_in, c_out, 3, stride, 1, normalization),
                                      nn.Conv2d(c_out, c_out, 3, padding=1),
                                      norm(c_out, normalization))
        self.shortcut = nn.Identity() if stride == 1 and c_in == c_out else nn.Sequential(
            nn.Conv2d(c_in, c_out, 1, stride), norm(c_out, normalization))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.shortcut(x) + self.residual(x), 0.01)


def stage_widths(width: int, size: int) -> list[int]:
    """Channels at each side of a residual trunk, from half the image down to 4 pixels."""
    return [width * min(2**i, 4) for i in range(halvings(size) + 1)]


class ResidualTrunk(nn.Sequential):
    """What ConvTrunk is, made of residual blocks: images (N, channels, size, size) in [-1, 1]
    to features h' (N, ``features``)."""

    activations = ConvTrunk.activations

    def __init__(self, channels: int = 1, width: int = 16, size: int = 28,
                 normalization: str = "group") -> None:
        counts = stage_widths(width, size)
        halving = [ResidualBlock(a, b, 2, normalization) for a, b in pairwise(counts)]
        halving[-1] = nn.Sequential(halving[-1], nn.AdaptiveAvgPool2d(1))  # (N, 4w, 1, 1)
        super().__init__(conv_block(channels, width, 5, 2, 2, normalization),
                         ResidualBlock(width, width, 1, normalization), *halving, nn.Flatten())
        self.features = counts[-1]
        sides = [math.ceil(size / 2 ** (i + 1)) for i in range(len(halving))]
        self.sizes = [width * sides[0] ** 2,
                      *(c * side**2 for c, side in zip(counts, sides)), self.features]


class ResidualDecoder(nn.Sequential):
    """What Decoder is, the way back of ResidualTrunk: codes z (N, latent) to images
    (N, channels, size, size) in [-1, 1]."""

    def __init__(self, latent: int = 32, channels: int = 1, width: int = 16, size: int = 28,
                 normalization: str = "group") -> None:
        counts = stage_widths(width, size)[::-1]
        stages = [deconv_block(latent, counts[0], 4, normalization=normalization),
                  ResidualBlock(counts[0], counts[0], 1, normalization)]  # (N, 4w, 4, 4)
        for stage, (a, b) in enumerate(pairwise(counts)):
            kernel = 3 if size == 28 and stage == 0 else 4  # from 4 to 7 pixels, or double
            stages += [deconv_block(a, b, kernel, 2, 1, normalization),
                       ResidualBlock(b, b, 1, normalization)]
        super().__init__(nn.Unflatten(1, (latent, 1, 1)), *stages,
                         deconv_block(width, width, 4, 2, 1, normalization),
                         nn.Conv2d(width, channels, 1), nn.Tanh())


def networks_of(trunk: str) -> tuple[type[nn.Sequential], type[nn.Sequential]]:
    """A trunk and the decoder to match: "unit", the four convolutions, or "residual".

    Raises ValueError for other words.
    """
    known = {"unit": (ConvTrunk, Decoder), "residual": (ResidualTrunk, ResidualDecoder)}
    if trunk not in known:
        raise ValueError(f'trunk is {trunk!r}; it must be "unit" or "residual"')
    return known[trunk]
