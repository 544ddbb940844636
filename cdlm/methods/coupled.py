"""What methods that draw in the hands of two domains share: coupled networks, and how they learn.

Generated from book/src/78c_neighbors_codes.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from cdlm.methods.base import Learner, linear_decay
from cdlm.model.networks import ConvTrunk, Decoder, TaskClassifier, ungrouped
from cdlm.settings import Amount, Images, Length, Settings, Width

__all__ = [
    "Coupled",
    "CoupledDiscriminator",
    "CoupledEncoder",
    "DrawingConfig",
    "Reading",
    "by_adam",
    "coupled_decoder",
]


# 78c_neighbors_codes: Two networks that share most of themselves

class Coupled(nn.Module):
    """Two networks, for "source" and "target", of which only a few layers are their own."""

    def __init__(self, make: Callable[[], nn.Sequential], own: int) -> None:
        """Of the networks that ``make`` gives, the first ``own`` layers are each domain's, or
        with a negative number the last ones; the rest is shared."""
        super().__init__()
        networks = {domain: list(make()) for domain in ("source", "target")}
        first, part = own > 0, slice(own) if own > 0 else slice(own, None)
        self.own = nn.ModuleDict({domain: nn.Sequential(*layers[part])
                                  for domain, layers in networks.items()})
        rest = slice(own, None) if first else slice(own)
        self.shared = nn.Sequential(*networks["source"][rest])
        self.first = first

    def forward(self, x: Tensor, domain: str) -> Tensor:
        """What the network of a domain makes of ``x``."""
        if self.first:
            return self.shared(self.own[domain](x))
        return self.own[domain](self.shared(x))

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the networks of source and target make of the same ``x``."""
        if self.first:
            return self(x, "source"), self(x, "target")
        halfway = self.shared(x)        # computed once
        return self.own["source"](halfway), self.own["target"](halfway)


class CoupledEncoder(nn.Module):
    """Images (B, C, H, W) of a domain to mean and deviation of their codes, (B, latent) each;
    the first convolution is each domain's own."""

    def __init__(self, latent: int, images: Images, width: int) -> None:
        super().__init__()
        self.trunk = Coupled(lambda: ConvTrunk(images.channels, width, images.size), 1)
        self.mu, self.log_sigma = (nn.Linear(8 * width, latent) for _ in range(2))
        nn.init.zeros_(self.log_sigma.weight)

    def forward(self, x: Tensor, domain: str) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the codes of images of a domain."""
        features = self.trunk(x, domain)
        return self.mu(features), self.log_sigma(features).clamp(-6, 3).exp()


def coupled_decoder(latent: int, images: Images, width: int) -> Coupled:
    """Codes (B, latent) to images (B, C, H, W) of a domain; what doubles the side for the last
    time, and what comes after it, is each domain's own."""
    return Coupled(lambda: Decoder(latent, images.channels, width, images.size), -3)


class Reading(NamedTuple):
    """What a discriminator says of images."""

    h: Tensor           # features, (B, 128)
    real: Tensor        # logits, (B,); positive means real
    classes: Tensor     # logits, (B, classes)


class CoupledDiscriminator(nn.Module):
    """Images of a domain: real or drawn, and of which class? The first convolution is each
    domain's own."""

    def __init__(self, images: Images, width: int) -> None:
        super().__init__()
        self.body = Coupled(lambda: TaskClassifier(images.channels, width, images.classes,
                                                   images.size).layers[:-1], 1)
        self.real, self.classes = nn.Linear(128, 1), nn.Linear(128, images.classes)

    def forward(self, x: Tensor, domain: str) -> Reading:
        """Judge images (B, C, H, W) in [-1, 1]."""
        h = self.body(x, domain)
        return Reading(h, self.real(h).squeeze(1), self.classes(h))


@dataclass(frozen=True)
class DrawingConfig(Settings):
    """What the methods that draw have in common: sizes, and how they learn."""

    width: Width = 16                   # channels of the first convolution
    latent: Length = 32                 # of a code
    lr: Amount = 1e-3                   # first rate of Adam, for all networks

    def conflict(self) -> str:
        """A width that cannot be normalized in groups."""
        return ungrouped(self.width, 3)


def by_adam(lr: float, weight_decay: float = 0.0, **parts: nn.Module) -> list[Learner]:
    """A learner of each name for all parameters of a network, with rates that fall linearly
    to 0."""
    return [Learner(name, tuple(part.parameters()), lr, schedule=linear_decay,
                    weight_decay=weight_decay) for name, part in parts.items()]
