"""What methods on features share: an encoder, a classifier, and how they learn.

Generated from book/src/78_neighbors.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cdlm.methods.base import Learner, Method, linear_decay
from cdlm.methods.cdlm import NetworkChoices, fit_components, full
from cdlm.model.networks import Encoder, ungrouped
from cdlm.model.normalization import set_chunks
from cdlm.settings import Amount, Images, Momentum, Settings

__all__ = ["BackboneConfig", "EncoderConfig", "OnFeatures"]


# 78_neighbors: Equal networks, other losses

@dataclass(frozen=True)
class EncoderConfig(Settings):
    """What all methods on features have in common: the encoder, and how it learns; defaults
    are those of ``PlainConfig``."""

    networks: NetworkChoices = NetworkChoices()
    lr_phi: Amount = 0.05               # of the encoder, by SGD with momentum
    momentum: Momentum = 0.9
    standardize: bool = False           # the encoder sees images of mean 0 and deviation 1

    def conflict(self) -> str:
        """A width that cannot be normalized in groups."""
        c = self.networks
        return ungrouped(c.width, 3) if c.normalization == "group" else ""


@dataclass(frozen=True)
class BackboneConfig(EncoderConfig):
    """The same with networks that read the features."""

    lr_theta: Amount = 1e-3             # of these, by Adam


def backbone(n: NetworkChoices, images: Images, halves: int,
             standardize: bool) -> tuple[Encoder, nn.Sequential]:
    """Encoder and classifier of ``Plain``; what makes codes of features is never trained."""
    encoder = Encoder(n.latent, images.channels, n.width, images.size, n.normalization, n.tap,
                      n.features, n.activation, standardize, n.trunk)
    for head in (encoder.mu, encoder.log_sigma):
        head.requires_grad_(False)
    return encoder, nn.Sequential(nn.Linear(n.latent, 128), nn.ReLU(),
                                  nn.Linear(128, halves * images.classes))


class OnFeatures(Method):
    """CDLM's encoder up to its features h, and a classifier that reads them; a subclass has
    the objective."""

    def __init__(self, config: EncoderConfig, images: Images | None = None, halves: int = 1):
        """``halves`` says how many times the classifier answers."""
        super().__init__()
        self.config, self.images = config, images or Images()
        self.encoder, self.classifier = backbone(config.networks, self.images, halves,
                                                 config.standardize)

    def readers(self) -> dict[str, nn.Module]:
        """The networks that read features, by the names of their learners."""
        return {"theta_T": self.classifier}

    def learners(self) -> list[Learner]:
        """As those of ``Plain``: SGD for the encoder, Adam for the rest, rates that fall
        linearly to 0."""
        c, parameters = self.config, self.encoder.parameters()
        encoder = tuple(p for p in parameters if p.requires_grad)
        return [Learner("phi", encoder, c.lr_phi, "sgd", c.momentum, linear_decay), *(
            Learner(name, tuple(part.parameters()), c.lr_theta, schedule=linear_decay)
            for name, part in self.readers().items())]

    def prepare(self, source_images: Tensor, target_images: Tensor) -> None:
        """Fit the principal components, if h is made from them; both are bytes (N, C,
        H, W)."""
        fit_components(self, source_images, target_images)

    def encode(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Features (B, latent) of several batches in one pass, each normalized as if it came
        alone."""
        set_chunks(self.encoder, len(images))
        return full(self.encoder(torch.cat(images)).h).chunk(len(images))

    def classify(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Logits (B, ...) of several batches of features in one pass."""
        return full(self.classifier(torch.cat(features))).chunk(len(features))

    def features(self, x: Tensor) -> Tensor:
        """Features h (B, latent) of images (B, C, H, W) in [-1, 1]."""
        return self.encoder(x).h

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) in [-1, 1]."""
        return self.classifier(self.features(x))
